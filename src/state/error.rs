//! The errors of the state database.
//!
//! Owns: [`StateError`] and the classification of SQLSTATE codes. Must not know: which statement failed.
//!
//! Source of the codes: PostgreSQL manual, appendix A.

/// Why a statement on the state tables failed. The text says what to do about it and never contains a password.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database cannot be reached or closed the connection. Try again later.
    #[error("the state database is unreachable: {0}")]
    Unreachable(String),
    /// The schema, the binding or a privilege does not fit. The sentence says how to fix it.
    #[error("{0}")]
    Unsuitable(String),
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
    /// A JSON column of the table `sync` that cannot be read back.
    pub(super) fn unreadable_column(column: &str, error: &serde_json::Error) -> Self {
        Self::Refused(format!("column sync.{column} does not hold what imsync wrote: {error}"))
    }
}

impl From<sqlx::Error> for StateError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => from_sqlstate(&database.code().unwrap_or_default(), database.message()),
            sqlx::Error::Io(reason) => Self::Unreachable(reason.to_string()),
            sqlx::Error::PoolTimedOut => Self::Unreachable("no connection within 15 s".to_owned()),
            sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unreachable(error.to_string())
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

pub(super) fn from_sqlstate(code: &str, message: &str) -> StateError {
    let text = format!("{message} (SQLSTATE {code})");
    match code {
        // insufficient_privilege
        "42501" => StateError::Unsuitable(format!(
            "the state database denies access: {message}; grant the privilege to the role in [state] url, or run `imsync migrate` as the owner of the schema"
        )),
        // invalid_catalog_name, invalid_authorization_specification, invalid_password
        "3D000" | "28000" | "28P01" => {
            StateError::Unsuitable(format!("cannot log in to the state database: {message}; check [state] url"))
        }
        // A prepared statement is missing, or exists already: the server session is not the one that prepared it.
        "26000" | "42P05" => StateError::Unsuitable(POOLER_MESSAGE.to_owned()),
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => StateError::Contended(text),
        // Connection exceptions, operator intervention, insufficient resources, idle_in_transaction_session_timeout
        _ if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") || code == "25P03" => {
            StateError::Unreachable(text)
        }
        _ => StateError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{StateError, from_sqlstate};

    #[test]
    fn each_class_of_codes_has_its_error() {
        for code in ["42501", "3D000", "28000", "28P01"] {
            assert!(matches!(from_sqlstate(code, "m"), StateError::Unsuitable(_)), "{code}");
        }
        for code in ["40001", "40P01"] {
            assert!(matches!(from_sqlstate(code, "m"), StateError::Contended(_)), "{code}");
        }
        for code in ["08006", "57P01", "53300", "25P03"] {
            assert!(matches!(from_sqlstate(code, "m"), StateError::Unreachable(_)), "{code}");
        }
        let other = from_sqlstate("23505", "duplicate key");
        assert_eq!(other.to_string(), "the state database refused a statement: duplicate key (SQLSTATE 23505)");
    }
}
