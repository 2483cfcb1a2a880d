//! Errors of the source, by what the operator or the daemon can do about them.
//!
//! Owns: the classes of PostgreSQL's error codes (manual, appendix A). Must not know: which statement failed.
//!
//! A message never contains a text of the server that may quote values, see `sqlstate`.

use sqlx::error::DatabaseError;

use crate::finding::{Finding, Findings};
use crate::postgres::{LoginFailure, login_failure_of};
use crate::sqlstate::{described, privilege_text};

/// An error of the source. The message names the table, column or key and the remedy, and never contains a password or a
/// value of a row.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The database cannot be reached, the connection was lost, or the server is busy: retry later with a new connection.
    #[error("the source database is unreachable: {0}")]
    Unreachable(String),
    /// The configuration, the table, a column, a type or a privilege has to be changed; the message says how.
    #[error("{0}")]
    Unsuitable(String),
    /// Like [`SourceError::Unsuitable`], with an id and a remedy for each problem.
    #[error("{0}")]
    Unmet(Findings),
    /// The table is not the one that was introspected: a new connection introspects it again.
    #[error("the source has changed while it was read: {0}")]
    Changed(String),
    /// An expression of the statement raises an error: the code with its meaning.
    #[error("the source database raises {0}; correct the row, source.filter or the view")]
    Raised(String),
    /// Any other error of a statement.
    #[error("the source database refused a statement: {0}")]
    Refused(String),
}

impl SourceError {
    /// The error as findings of `imsync check`.
    pub fn findings(&self) -> Findings {
        match self {
            Self::Unmet(findings) => findings.clone(),
            Self::Unreachable(_) => Finding::error("source.reachable", self.to_string()).into(),
            Self::Unsuitable(_) | Self::Changed(_) => Finding::error("source.suitable", self.to_string()).into(),
            Self::Raised(_) | Self::Refused(_) => Finding::error("source.statements", self.to_string()).into(),
        }
    }
}

impl From<Finding> for SourceError {
    fn from(finding: Finding) -> Self {
        Self::Unmet(finding.into())
    }
}

/// The message for a pooler that switches server sessions between statements.
pub(super) const POOLER_MESSAGE: &str = "source.url leads to a connection pooler in transaction mode, where the transaction list cannot be read; connect to PostgreSQL directly, or to a pool in session mode";

impl From<LoginFailure> for SourceError {
    fn from(failure: LoginFailure) -> Self {
        if failure.away {
            return Self::Unreachable(format!("{failure} (source.url)"));
        }
        let message = format!("cannot connect to the source database (source.url): {}", failure.sentence);
        Finding::error("source.reachable", message).remedy(failure.remedy).into()
    }
}

impl From<sqlx::Error> for SourceError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refused) => of_statement(refused.as_ref()),
            sqlx::Error::Configuration(reason) => Self::Unsuitable(format!("source.url is not valid: {reason}")),
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
                Self::Refused("a value of the answer has another type than expected".to_owned())
            }
            sqlx::Error::Io(reason) => Self::Unreachable(reason.to_string()),
            sqlx::Error::Protocol(_) => Self::Unreachable("the answer of the server is not understood".to_owned()),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// The error of a statement. What is no fault of the connection, the server, a name or a privilege was raised by an
/// expression.
fn of_statement(refused: &dyn DatabaseError) -> SourceError {
    let code = refused.code().unwrap_or_default();
    let meaning = described(&code);
    if let Some(failure) = login_failure_of(refused) {
        return failure.into();
    }
    match &*code {
        // A prepared statement is missing, or exists already: the server session is not the one that prepared it.
        "26000" | "42P05" => SourceError::Unsuitable(POOLER_MESSAGE.to_owned()),
        "42501" => {
            let reason = privilege_text(refused).unwrap_or(&meaning);
            SourceError::Unsuitable(format!("the role of source.url lacks a privilege: {reason}"))
        }
        "42P01" | "42703" | "3F000" => SourceError::Unsuitable(format!(
            "the source table has changed, or its view or source.filter names something that does not exist: {meaning}"
        )),
        code if is_unreachable(code) => SourceError::Unreachable(meaning),
        _ => SourceError::Raised(meaning),
    }
}

/// Connection errors, insufficient resources, operator intervention, system errors, an idle session, a lock that another
/// session holds, a conflict with recovery on a standby, a deadlock.
fn is_unreachable(code: &str) -> bool {
    ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
        || matches!(code, "25P03" | "55P03" | "40001" | "40P01")
}
