//! Creating databases on any PostgreSQL server.
//!
//! Owns: the check of a name and `CREATE DATABASE`. Must not know: whether the server is a private one.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::error::ClusterError;

/// Creates a database as a copy of `template` and returns its URL. `server` is the URL of another database of the same
/// server, with a role that may create databases.
///
/// # Errors
/// [`ClusterError::Name`] if a name would need quoting; [`ClusterError::Refused`] if the server cannot be reached or
/// refuses the statement.
pub async fn create_database(server: &str, name: &str, template: &str) -> Result<String, ClusterError> {
    for name in [name, template] {
        if !is_plain_name(name) {
            return Err(ClusterError::Name(name.to_owned()));
        }
    }
    let mut url = url::Url::parse(server).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    let mut connection = PgConnection::connect(url.as_str()).await?;
    // Copying files takes a third of the time of writing every page to the log, which PostgreSQL 15 does by default.
    let strategy = if connection.server_version_num() >= Some(150_000) { "STRATEGY file_copy" } else { "" };
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}"))).await?;
    connection.close().await?;
    url.set_path(name);
    Ok(url.into())
}

/// Whether a name is valid without quotes: lower-case letters, digits and underscores, beginning with a letter, at most
/// 63 bytes.
fn is_plain_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
