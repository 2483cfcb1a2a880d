//! The connection to the source, set up so that texts and plans depend on the data alone.
//!
//! Owns: connection options, session settings, timeouts, the check for a pooler. Must not know: the table.

use std::str::FromStr;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, Executor, Postgres, Row};

use super::error::{POOLER_MESSAGE, SourceError, of_login};
use crate::config::PgUrl;

/// The maximum time for a connection, its TLS handshake and its login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// `statement_timeout`. A page without an index sorts the whole table, which may take minutes.
const STATEMENT_TIMEOUT: &str = "5min";
/// The maximum time for an answer. Longer than `statement_timeout`, so that it only expires when the server is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(330);

/// Session settings (manual, chapter 20.11). The first ones determine the text of a value: the defaults of a role or a
/// database must not make every account look changed. The others limit the load on the database and detect a lost
/// connection.
const SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("client_encoding", "UTF8"),
    ("quote_all_identifiers", "off"),
    // Both can affect a view or the filter.
    ("xmlbinary", "base64"),
    ("transform_null_equals", "off"),
    // A notice of a function may quote values, and the driver would log it.
    ("client_min_messages", "error"),
    ("standard_conforming_strings", "on"),
    // Rows hidden by a policy are an error, instead of looking deleted.
    ("row_security", "off"),
    ("statement_timeout", STATEMENT_TIMEOUT),
    ("lock_timeout", "10s"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
    ("jit", "off"),
    // A generic plan does not take the keyset position into account.
    ("plan_cache_mode", "force_custom_plan"),
    // Keepalives of the server: it closes the connection of a lost client within two minutes.
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "15"),
    ("tcp_keepalives_count", "4"),
];

/// An open connection. It is closed for good after an error of the connection itself.
#[derive(Debug)]
pub(super) struct SourceSession {
    connection: Option<PgConnection>,
    /// The process id of the server process when the session was set up.
    pid: i32,
}

fn connection_lost() -> SourceError {
    SourceError::Unreachable("the connection was lost".to_owned())
}

fn pooler_found() -> SourceError {
    SourceError::Unsuitable(POOLER_MESSAGE.to_owned())
}

/// Uses the simple query protocol, because a prepared statement would be missing in the next session of a pooler.
async fn backend_pid(connection: &mut PgConnection, sql: &'static str) -> Result<i32, SourceError> {
    let rows = tokio::time::timeout(CONNECT_TIMEOUT, connection.fetch_one(sqlx::raw_sql(sql))).await;
    Ok(rows
        .map_err(|_| SourceError::Unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))??
        .try_get(0)?)
}

impl SourceSession {
    pub(super) async fn open(url: &PgUrl, application_name: &str) -> Result<Self, SourceError> {
        let options = options(url, application_name)?;
        let mut session = Self { connection: Some(connect(&options).await?), pid: 0 };
        session.refuse_pooler(&options).await?;
        session.apply_settings().await?;
        Ok(session)
    }

    async fn apply_settings(&mut self) -> Result<(), SourceError> {
        let row = self.row(sqlx::query("SELECT pg_catalog.current_setting('server_version_num')::int4, pg_catalog.current_setting('server_version')")).await?;
        let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        if number < 140_000 {
            return Err(SourceError::Unsuitable(format!(
                "the source is PostgreSQL {version}; imsync requires PostgreSQL 14 or newer"
            )));
        }
        let (names, values): (Vec<&str>, Vec<&str>) = SETTINGS.iter().copied().unzip();
        let set = "SELECT pg_catalog.set_config(name, value, false) FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS setting (name, value)";
        self.rows(sqlx::query(set).bind(names).bind(values)).await?;
        Ok(())
    }

    /// A pooler in transaction mode runs each statement in another server session: the settings are lost, and the
    /// transaction list would contain our own session or lack another one. A second connection that is busy for a
    /// moment makes the pooler switch the server session of this one, then or once both are idle again.
    async fn refuse_pooler(&mut self, options: &PgConnectOptions) -> Result<(), SourceError> {
        let Some(own) = self.connection.as_mut() else { return Err(connection_lost()) };
        // Without a second connection, for example because of a connection limit, there is nothing to compare with.
        let Ok(mut second) = connect(options).await else { return Ok(()) };
        let first = backend_pid(own, "SELECT pg_catalog.pg_backend_pid()").await?;
        let (busy, idle) = tokio::join!(
            backend_pid(&mut second, "SELECT pg_catalog.pg_backend_pid() FROM pg_catalog.pg_sleep(0.02)"),
            backend_pid(own, "SELECT pg_catalog.pg_backend_pid()")
        );
        let mut moved = busy.is_ok_and(|busy| busy == first) || idle? != first;
        for _ in 0..3 {
            moved |= backend_pid(own, "SELECT pg_catalog.pg_backend_pid()").await? != first;
        }
        // An error while closing does not matter.
        let _ = second.close().await;
        self.pid = first;
        if moved { Err(pooler_found()) } else { Ok(()) }
    }

    /// Fails when `pid`, as the server reports it now, is not that of the session that was set up.
    pub(super) fn check_pid(&self, pid: i32) -> Result<(), SourceError> {
        if pid == self.pid { Ok(()) } else { Err(pooler_found()) }
    }

    /// All rows of one statement, run in autocommit.
    pub(super) async fn rows(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, SourceError> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(connection_lost());
        };
        let rows = match tokio::time::timeout(ANSWER_TIMEOUT, query.fetch_all(connection)).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(SourceError::Unreachable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        };
        if matches!(rows, Err(SourceError::Unreachable(_))) {
            self.connection = None;
        }
        rows
    }

    /// The row of a statement that returns exactly one.
    pub(super) async fn row(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<PgRow, SourceError> {
        self.rows(query).await?.pop().ok_or_else(|| SourceError::Refused("a statement returned no row".to_owned()))
    }

    /// Prepares a statement without running it, which checks its syntax and its names. Returns its number of parameters.
    pub(super) async fn count_parameters(&mut self, sql: sqlx::SqlStr) -> Result<usize, sqlx::Error> {
        use sqlx::{Either, Statement};
        let Some(connection) = self.connection.as_mut() else {
            return Err(sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()));
        };
        let statement = connection.prepare(sql).await?;
        Ok(match statement.parameters() {
            Some(Either::Left(types)) => types.len(),
            Some(Either::Right(count)) => count,
            None => 0,
        })
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, SourceError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(connection) => connection.map_err(of_login),
        Err(_) => Err(SourceError::Unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

fn options(url: &PgUrl, application_name: &str) -> Result<PgConnectOptions, SourceError> {
    let options = PgConnectOptions::from_str(url.0.expose_secret()).map_err(SourceError::from)?;
    Ok(options.application_name(application_name).extra_float_digits(None).disable_statement_logging())
}
