//! What can go wrong with the source, and which of it passes by itself.
//!
//! Owns: the classes of `PostgreSQL`'s error codes (manual, appendix A). Must not know: which statement was run.

/// What can go wrong with the source. Displays with table, column or key and the remedy; never with a password.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The database is unreachable or broke off: try again later, with a new connection.
    #[error("the source database is unreachable: {0}")]
    Unreachable(String),
    /// Table, column, type or privilege: the sentence names it and says what to do.
    #[error("{0}")]
    Unsuitable(String),
    /// Any other error of a statement.
    #[error("the source database refused a statement: {0}")]
    Refused(String),
}

/// Said of a pooler that changes the server session between statements.
pub(super) const POOLED: &str = "source.url leads to a connection pooler in transaction mode, where running transactions cannot be told apart; connect to PostgreSQL itself, or to a pool in session mode";

impl From<sqlx::Error> for SourceError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(refused) = &error else {
            return match error {
                sqlx::Error::Configuration(reason) => Self::Unsuitable(format!("source.url cannot be used: {reason}")),
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. } => Self::Refused(error.to_string()),
                sqlx::Error::Io(reason) => Self::Unreachable(reason.to_string()),
                other => Self::Unreachable(other.to_string()),
            };
        };
        let code = refused.code().unwrap_or_default();
        let message = refused.message();
        match &*code {
            "57014" => Self::Unreachable(format!("a statement took too long and was cancelled ({message})")),
            "55P03" => Self::Unreachable(format!("another session holds a lock on the table ({message})")),
            "28000" | "28P01" => {
                Self::Unsuitable(format!("the source database refuses the login of source.url: {message}"))
            }
            // A prepared statement that is not there, or there already: another session than the one it was made in.
            "26000" | "42P05" => Self::Unsuitable(POOLED.to_owned()),
            "3D000" => Self::Unsuitable(format!("source.url names a database that is not there: {message}")),
            "42501" => Self::Unsuitable(format!("the role of source.url may not read this: {message}")),
            "42P01" | "42703" | "3F000" => Self::Unsuitable(format!("the source table has changed: {message}")),
            // A standby cancels statements that are in the way of the replay; a deadlock resolves by itself.
            "40001" | "40P01" => Self::Unreachable(message.to_owned()),
            // Connection, resources, operator intervention; an idle session that was ended.
            code if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "25P03" => {
                Self::Unreachable(message.to_owned())
            }
            _ => Self::Refused(format!("{message} ({code})")),
        }
    }
}
