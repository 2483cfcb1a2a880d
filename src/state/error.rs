//! The errors of the state database.
//!
//! Owns: [`StateError`] and the classification of SQLSTATE codes. Must not know: which statement failed.
//!
//! Source of the codes: PostgreSQL manual, appendix A.

use sqlx::error::DatabaseError;

use crate::finding::{Finding, Findings};
use crate::postgres::{LoginFailure, login_failure_of};
use crate::sqlstate::{described, login_text, privilege_text};

/// Why a statement on the state tables failed. The text says what to do about it and never contains a password.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database cannot be reached or closed the connection. Try again later.
    #[error("the state database is unreachable: {0}")]
    Unreachable(String),
    /// The schema, the binding or a privilege does not fit. The sentence says how to fix it.
    #[error("{0}")]
    Unsuitable(String),
    /// Like [`StateError::Unsuitable`], with an id and a remedy for each problem.
    #[error("{0}")]
    Unmet(Findings),
    /// Another process has taken the lease. Nothing was written.
    #[error("the lease on this sync was lost to another imsync; nothing was written")]
    LeaseLost,
    /// A deadlock or a serialization failure. The transaction was rolled back and can be repeated unchanged.
    #[error("the state database rolled a transaction back: {0}")]
    Contended(String),
    /// Any other error of a statement.
    #[error("the state database refused a statement: {0}")]
    Refused(String),
}

/// The message for a pooler that switches server sessions between transactions.
pub(super) const POOLER_MESSAGE: &str = "[state] url leads to a connection pooler in transaction mode, which keeps neither the lock of the lease nor the search path; connect to PostgreSQL directly, or to a pool in session mode (without [state] url, this is source.url)";

impl StateError {
    /// The error as findings of `imsync check`.
    pub fn findings(&self) -> Findings {
        match self {
            Self::Unmet(findings) => findings.clone(),
            Self::Unreachable(_) => Finding::error("state.reachable", self.to_string()).into(),
            Self::Unsuitable(_) => Finding::error("state.suitable", self.to_string()).into(),
            Self::LeaseLost | Self::Contended(_) | Self::Refused(_) => {
                Finding::error("state.statements", self.to_string()).into()
            }
        }
    }

    /// A JSON column of the table `sync` that cannot be read back. The place of the fault is shown, not the text there.
    pub(super) fn unreadable_column(column: &str, error: &serde_json::Error) -> Self {
        Self::Refused(format!(
            "column sync.{column} does not hold what imsync wrote (line {}, column {})",
            error.line(),
            error.column()
        ))
    }
}

impl From<LoginFailure> for StateError {
    fn from(failure: LoginFailure) -> Self {
        if failure.away {
            return Self::Unreachable(format!("{failure} (state.url, without it source.url)"));
        }
        let message =
            format!("cannot connect to the state database (state.url, without it source.url): {}", failure.sentence);
        Finding::error("state.reachable", message).remedy(failure.remedy).into()
    }
}

impl From<Finding> for StateError {
    fn from(finding: Finding) -> Self {
        Self::Unmet(finding.into())
    }
}

impl From<sqlx::Error> for StateError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refused) => of_database(refused.as_ref()),
            sqlx::Error::Protocol(_) => Self::Unreachable("the answer of the server is not understood".to_owned()),
            sqlx::Error::Io(reason) => Self::Unreachable(reason.to_string()),
            sqlx::Error::PoolTimedOut => Self::Unreachable("no connection within 15 s".to_owned()),
            sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unreachable(error.to_string())
            }
            sqlx::Error::ColumnDecode { index, .. } => {
                Self::Refused(format!("column {index} of an answer has another type than expected"))
            }
            sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
                Self::Refused("a value of a statement has another type than expected".to_owned())
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// The server's text is shown where it cannot quote a value: for a login, and for a privilege.
fn of_database(refused: &dyn DatabaseError) -> StateError {
    if let Some(failure) = login_failure_of(refused) {
        return failure.into();
    }
    let code = refused.code().unwrap_or_default();
    let text = match &*code {
        "42501" => privilege_text(refused),
        code if is_unreachable(code) => login_text(refused),
        _ => None,
    };
    // The names of a table and of a constraint are imsync's own.
    let names = [Some(""), refused.table(), refused.constraint()].into_iter().flatten();
    let places = names.collect::<Vec<_>>().join(", ");
    from_sqlstate(&code, text, &places)
}

/// Connection exceptions, operator intervention, insufficient resources, `idle_in_transaction_session_timeout`.
fn is_unreachable(code: &str) -> bool {
    ["08", "57P", "53"].iter().any(|class| code.starts_with(class)) || code == "25P03"
}

/// `text`: the server's text, where it may be shown. `places`: names of a table or a constraint.
fn from_sqlstate(code: &str, text: Option<&str>, places: &str) -> StateError {
    let meaning = described(code);
    let reason = text.map_or_else(|| format!("{meaning}{places}"), |text| format!("{text} (SQLSTATE {code})"));
    match code {
        // insufficient_privilege
        "42501" => StateError::Unsuitable(format!(
            "the state database denies access: {}; grant the privilege to the role in [state] url (`imsync check` prints the statement), or run `imsync migrate` as the owner of the schema",
            text.unwrap_or(&meaning)
        )),
        // read_only_sql_transaction
        "25006" => Finding::error("state.writable", "the state cannot be written: transactions are read-only")
            .remedy("run `imsync check`; after a failover, [state] url has to lead to the primary")
            .into(),
        // A prepared statement is missing, or exists already: the server session is not the one that prepared it.
        "26000" | "42P05" => StateError::Unsuitable(POOLER_MESSAGE.to_owned()),
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => StateError::Contended(reason),
        code if is_unreachable(code) => StateError::Unreachable(reason),
        _ => StateError::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::{StateError, from_sqlstate};

    #[test]
    fn each_class_of_codes_has_its_error() {
        assert!(matches!(from_sqlstate("42501", Some("m"), ""), StateError::Unsuitable(_)));
        for code in ["40001", "40P01"] {
            assert!(matches!(from_sqlstate(code, None, ""), StateError::Contended(_)), "{code}");
        }
        for code in ["08006", "57P01", "53300", "25P03"] {
            assert!(matches!(from_sqlstate(code, None, ""), StateError::Unreachable(_)), "{code}");
        }
        let other = from_sqlstate("23505", None, ", account, account_pkey");
        assert_eq!(
            other.to_string(),
            "the state database refused a statement: 23505 (a constraint is violated), account, account_pkey"
        );
    }
}
