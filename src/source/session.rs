//! One connection to the source, set up so that texts and plans depend on nothing but the data.
//!
//! Owns: the connection's options, its settings, its deadlines, the check for a pooler. Must not know: the table.

use std::str::FromStr;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, Executor, Postgres, Row};

use super::error::{POOLED, SourceError};
use crate::config::PgUrl;

/// The longest wait for a connection, its TLS and its login.
const CONNECT: Duration = Duration::from_secs(10);
/// What the server lets a statement take. A page without an index sorts the whole table, which may take minutes.
const STATEMENT_TIMEOUT: &str = "5min";
/// What we wait for an answer. Longer than the server's own limit: who runs into this one has lost the server.
const ANSWER: Duration = Duration::from_secs(330);
/// Bytes of an `application_name` that the server keeps (manual, chapter 20.8: `NAMEDATALEN` less one).
const APPLICATION_NAME_BYTES: usize = 63;

/// Chapter 20.11 of the manual. First whatever changes a value's text: a role's or a database's defaults must not make
/// everybody look changed. The rest protects the database from us, and us from a stuck session.
const SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("client_encoding", "UTF8"),
    ("quote_all_identifiers", "off"),
    // Both can be part of a view or of the filter.
    ("xmlbinary", "base64"),
    ("transform_null_equals", "off"),
    ("standard_conforming_strings", "on"),
    // Rows hidden by a policy are an error, instead of looking gone.
    ("row_security", "off"),
    ("statement_timeout", STATEMENT_TIMEOUT),
    ("lock_timeout", "10s"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
    ("jit", "off"),
    // A generic plan does not know how far along a keyset is.
    ("plan_cache_mode", "force_custom_plan"),
    // The server's side of the connection: it forgets a client that is gone within two minutes.
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "15"),
    ("tcp_keepalives_count", "4"),
];

/// An open connection. After a failure of the connection itself it stays closed: connect anew.
#[derive(Debug)]
pub(super) struct SourceSession {
    connection: Option<PgConnection>,
    /// The server's process, as it was when the session was set up.
    pid: i32,
}

fn lost() -> SourceError {
    SourceError::Unreachable("the connection was lost".to_owned())
}

fn pooled() -> SourceError {
    SourceError::Unsuitable(POOLED.to_owned())
}

/// By the simple protocol: a prepared statement would be missing in the session that a pooler gives next.
async fn pid(connection: &mut PgConnection, sql: &'static str) -> Result<i32, SourceError> {
    let rows = tokio::time::timeout(CONNECT, connection.fetch_one(sqlx::raw_sql(sql))).await;
    Ok(rows.map_err(|_| SourceError::Unreachable(format!("no answer within {} s", CONNECT.as_secs())))??.try_get(0)?)
}

impl SourceSession {
    pub(super) async fn open(url: &PgUrl, name: &str) -> Result<Self, SourceError> {
        let options = options(url, name)?;
        let mut session = Self { connection: Some(connect(&options).await?), pid: 0 };
        session.refuse_pooler(&options).await?;
        session.set_up().await?;
        Ok(session)
    }

    async fn set_up(&mut self) -> Result<(), SourceError> {
        let row = self.row(sqlx::query("SELECT pg_catalog.current_setting('server_version_num')::int4, pg_catalog.current_setting('server_version')")).await?;
        let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        if number < 140_000 {
            return Err(SourceError::Unsuitable(format!(
                "the source is PostgreSQL {version}; imsync needs PostgreSQL 14 or newer"
            )));
        }
        let (names, values): (Vec<&str>, Vec<&str>) = SETTINGS.iter().copied().unzip();
        let set = "SELECT pg_catalog.set_config(name, value, false) FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS setting (name, value)";
        self.rows(sqlx::query(set).bind(names).bind(values)).await?;
        Ok(())
    }

    /// A pooler in transaction mode gives each statement another server session: the settings are lost, and the transaction list
    /// would count our own session, or leave another's out. A second connection that is busy for a moment makes it
    /// take another one for ours, then or when both are free again, whichever it prefers.
    async fn refuse_pooler(&mut self, options: &PgConnectOptions) -> Result<(), SourceError> {
        let Some(own) = self.connection.as_mut() else { return Err(lost()) };
        // Without a second connection (a role's limit, for one) there is nothing to compare with.
        let Ok(mut second) = connect(options).await else { return Ok(()) };
        let first = pid(own, "SELECT pg_catalog.pg_backend_pid()").await?;
        let (busy, beside) = tokio::join!(
            pid(&mut second, "SELECT pg_catalog.pg_backend_pid() FROM pg_catalog.pg_sleep(0.02)"),
            pid(own, "SELECT pg_catalog.pg_backend_pid()")
        );
        let mut moved = busy.is_ok_and(|busy| busy == first) || beside? != first;
        for _ in 0..3 {
            moved |= pid(own, "SELECT pg_catalog.pg_backend_pid()").await? != first;
        }
        // Its end is no concern of ours.
        let _ = second.close().await;
        self.pid = first;
        if moved { Err(pooled()) } else { Ok(()) }
    }

    /// The session is the one that was set up; `pid` is what the server says it is now.
    pub(super) fn still(&self, pid: i32) -> Result<(), SourceError> {
        if pid == self.pid { Ok(()) } else { Err(pooled()) }
    }

    /// All rows of one statement, in autocommit.
    pub(super) async fn rows(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, SourceError> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(lost());
        };
        let rows = match tokio::time::timeout(ANSWER, query.fetch_all(connection)).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(SourceError::Unreachable(format!("no answer within {} s", ANSWER.as_secs()))),
        };
        if matches!(rows, Err(SourceError::Unreachable(_))) {
            self.connection = None;
        }
        rows
    }

    /// The one row of a statement that always has one.
    pub(super) async fn row(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<PgRow, SourceError> {
        self.rows(query).await?.pop().ok_or_else(|| SourceError::Refused("a statement answered no row".to_owned()))
    }

    /// Parses and plans nothing, but resolves every name: the number of parameters that the statement takes.
    pub(super) async fn prepare(&mut self, sql: sqlx::SqlStr) -> Result<usize, sqlx::Error> {
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
    match tokio::time::timeout(CONNECT, PgConnection::connect_with(options)).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(SourceError::Unreachable(format!("no connection within {} s", CONNECT.as_secs()))),
    }
}

fn options(url: &PgUrl, name: &str) -> Result<PgConnectOptions, SourceError> {
    let options = PgConnectOptions::from_str(url.0.expose_secret()).map_err(SourceError::from)?;
    Ok(options.application_name(&application_name(name)).extra_float_digits(None).disable_statement_logging())
}

fn application_name(name: &str) -> String {
    let mut shown = format!("imsync {name}");
    let mut end = shown.len().min(APPLICATION_NAME_BYTES);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    shown.truncate(end);
    shown
}

#[cfg(test)]
mod tests {
    use super::application_name;

    #[test]
    fn an_application_name_fits_what_the_server_keeps() {
        assert_eq!(application_name("users"), "imsync users");
        let long = application_name(&"ü".repeat(40));
        assert!(long.len() <= 63 && long.ends_with('ü'), "{long}");
    }
}
