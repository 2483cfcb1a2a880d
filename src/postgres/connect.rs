//! Opening one connection, and asking a server which one it is.
//!
//! Owns: the time limit of a connection, and the driver's options for a URL. Must not know: where a URL comes from.

use std::io;
use std::str::FromStr as _;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions as _, Connection, Executor, Row};

use super::url::PgUrl;

/// The maximum time for a connection, its TLS handshake and its login, and for an answer to a question of this module. A
/// server that takes longer counts as unreachable.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The driver's options for a URL. They read `~/.pgpass`, so they are made for each connection.
///
/// # Errors
/// When the driver does not understand the URL.
pub(super) fn options(url: &PgUrl, application_name: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(url.0.expose_secret())?;
    Ok(options.application_name(application_name).extra_float_digits(None).disable_statement_logging())
}

/// Opens a connection within [`CONNECT_TIMEOUT`].
///
/// # Errors
/// Those of the driver; [`sqlx::Error::Io`] when there is no answer in time.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    within_connect_timeout(Box::pin(PgConnection::connect_with(options))).await
}

/// Closes a connection. An error while closing does not matter.
pub(super) async fn close(connection: PgConnection) {
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.close()).await;
}

async fn within_connect_timeout<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(CONNECT_TIMEOUT, answer).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)))
    })
}

/// Uses the simple query protocol, because a prepared statement would be missing in the next session of a pooler.
pub(super) async fn ask(connection: &mut PgConnection, sql: &'static str) -> Result<PgRow, sqlx::Error> {
    within_connect_timeout(connection.fetch_one(sqlx::raw_sql(sql))).await
}

/// Whether two URLs lead to the same running server and the same database.
///
/// # Errors
/// When one of them cannot be reached, or its role may not read the identity.
pub async fn lead_to_same_server(one: &PgUrl, other: &PgUrl) -> Result<bool, sqlx::Error> {
    let (one, other) = tokio::try_join!(running_server(one), running_server(other))?;
    Ok(one == other)
}

async fn running_server(url: &PgUrl) -> Result<String, sqlx::Error> {
    let mut connection = connect(&options(url, "imsync")?).await?;
    let row = ask(
        &mut connection,
        "SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) || ' ' || \
         extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text || ' ' || \
         (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
    );
    let identity = row.await?.try_get(0)?;
    close(connection).await;
    Ok(identity)
}
