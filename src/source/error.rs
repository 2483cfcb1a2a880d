//! Errors of the source, by what the operator or the daemon can do about them.
//!
//! Owns: the classes of PostgreSQL's error codes (manual, appendix A). Must not know: which statement failed.

/// An error of the source. The message names the table, column or key and the remedy, and never contains a password.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The database cannot be reached, the connection was lost, or the server is busy: retry later with a new connection.
    #[error("the source database is unreachable: {0}")]
    Unreachable(String),
    /// The configuration, the table, a column, a type or a privilege has to be changed; the message says how.
    #[error("{0}")]
    Unsuitable(String),
    /// Any other error of a statement.
    #[error("the source database refused a statement: {0}")]
    Refused(String),
}

/// The message for a pooler that switches server sessions between statements.
pub(super) const POOLER_MESSAGE: &str = "source.url leads to a connection pooler in transaction mode, where the transaction list cannot be read; connect to PostgreSQL directly, or to a pool in session mode";

impl From<sqlx::Error> for SourceError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(refused) = &error else {
            return match error {
                sqlx::Error::Configuration(reason) => Self::Unsuitable(format!("source.url is not valid: {reason}")),
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. } => Self::Refused(error.to_string()),
                sqlx::Error::Io(reason) => Self::Unreachable(reason.to_string()),
                other => Self::Unreachable(other.to_string()),
            };
        };
        from_sqlstate(&refused.code().unwrap_or_default(), refused.message())
    }
}

/// The error for a SQLSTATE code and the server's message.
pub(super) fn from_sqlstate(code: &str, message: &str) -> SourceError {
    match code {
        "57014" => SourceError::Unreachable(format!("a statement timed out and was canceled ({message})")),
        "55P03" => SourceError::Unreachable(format!("another session holds a lock on the table ({message})")),
        "28000" | "28P01" => {
            SourceError::Unsuitable(format!("the source database rejects the login of source.url: {message}"))
        }
        // A prepared statement is missing, or exists already: the server session is not the one that prepared it.
        "26000" | "42P05" => SourceError::Unsuitable(POOLER_MESSAGE.to_owned()),
        "3D000" => SourceError::Unsuitable(format!("the database of source.url does not exist: {message}")),
        "42501" => SourceError::Unsuitable(format!("the role of source.url lacks a privilege: {message}")),
        "42P01" | "42703" | "3F000" => SourceError::Unsuitable(format!("the source table has changed: {message}")),
        // A standby cancels statements that conflict with recovery; a deadlock is resolved by the server.
        "40001" | "40P01" => SourceError::Unreachable(message.to_owned()),
        // Connection errors, insufficient resources, operator intervention, system errors; an idle session timeout.
        code if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "25P03" => {
            SourceError::Unreachable(message.to_owned())
        }
        _ => SourceError::Refused(format!("{message} ({code})")),
    }
}
