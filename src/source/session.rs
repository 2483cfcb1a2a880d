//! The connection to the source, set up so that texts and plans depend on the data alone.
//!
//! Owns: connection options, session settings, time limits of statements. Must not know: the table.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Executor, Postgres, Row, SqlStr};
use tokio::task::JoinHandle;

use super::activity::SourceActivity;
use super::column_text::RowForm;
use super::error::{POOLER_MESSAGE, SourceError};
use crate::config::Config;
use crate::finding::Finding;
use crate::model::Rows;
use crate::postgres::{self, Connector, ProbedSession};

/// `statement_timeout`. A page without an index sorts the whole table, which may take minutes.
const STATEMENT_TIMEOUT: &str = "5min";
/// `statement_timeout` of a statement whose answer is only advice for the operator.
const ADVICE_TIMEOUT: &str = "5s";
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
    // PostgreSQL 17. It would end the session in the middle of a page.
    ("transaction_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
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
    connector: Connector,
    activity: SourceActivity,
    /// A page that is being read ahead. It has the connection.
    ahead: Option<ReadAhead>,
    /// A page that was read ahead; no rows if that failed.
    read: Option<(PageQuery, Option<Rows>)>,
}

/// The statement of a page with its parameters.
#[derive(Clone, Debug)]
pub(super) struct PageQuery {
    pub(super) statement: SqlStr,
    pub(super) parameters: Vec<Option<String>>,
}

impl PartialEq for PageQuery {
    fn eq(&self, other: &Self) -> bool {
        self.statement.as_str() == other.statement.as_str() && self.parameters == other.parameters
    }
}

/// A page that is being read ahead.
#[derive(Debug)]
struct ReadAhead {
    query: PageQuery,
    task: AbortOnDrop,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<(Option<PgConnection>, Option<Rows>)>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads a page, decoding its rows one by one as they arrive.
async fn read_rows(
    connection: &mut PgConnection,
    query: &PageQuery,
    form: &RowForm,
) -> Result<Result<Rows, SourceError>, sqlx::Error> {
    let (mut rows, mut number, mut decoded) = (Rows::default(), String::new(), Ok(()));
    let bind = |statement: Query<'static, Postgres, PgArguments>, parameter: &Option<String>| {
        statement.bind(parameter.clone())
    };
    let mut answer = query.parameters.iter().fold(sqlx::query(query.statement.clone()), bind).fetch(connection);
    while let Some(row) = answer.try_next().await? {
        // After an error the rest of the answer is still read, so that the connection stays usable.
        if decoded.is_ok() {
            decoded = form.decode(&row, &mut rows, &mut number);
        }
    }
    Ok(decoded.map(|()| rows))
}

/// Waits for the answer of a statement as long as the server runs it. The outer error: the connection is lost.
async fn answer_of<T>(
    connection: &mut PgConnection,
    connector: &Connector,
    activity: &SourceActivity,
    statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<Result<T, sqlx::Error>, sqlx::Error> {
    let running = activity.begin();
    let answer = postgres::while_running(connector, statement(connection), || running.confirm());
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message)))
    })
}

fn pooler_found() -> SourceError {
    Finding::error("source.pooler", POOLER_MESSAGE).into()
}

/// A second connection that is not set up.
#[derive(Debug)]
pub(super) struct IdleSession(SourceSession);

impl IdleSession {
    /// Applies the session settings.
    pub(super) async fn set_up(self) -> Result<SourceSession, SourceError> {
        let Self(mut session) = self;
        session.apply_settings().await?;
        Ok(session)
    }
}

/// Closes a second connection that nobody needs.
pub(super) async fn close_idle(session: Option<IdleSession>) {
    if let Some(IdleSession(session)) = session {
        session.close().await;
    }
}

impl SourceSession {
    /// Opens a session, and a second one that is idle; `None` where the server permits only one.
    pub(super) async fn open(config: &Config) -> Result<(Self, Option<IdleSession>), SourceError> {
        let source = &config.source;
        Self::open_with(Connector::new(&source.url, source.url_file.as_ref(), &config.application_name())).await
    }

    /// As [`SourceSession::open`], without a configuration.
    pub(super) async fn open_with(connector: Connector) -> Result<(Self, Option<IdleSession>), SourceError> {
        let mut connection = connector.connect().await?;
        // A pooler in transaction mode runs each statement in another server session: the settings are lost, and the
        // transaction list would contain our own session or lack another one.
        let ProbedSession { pid, second } = postgres::session_pid(&mut connection, &connector).await?;
        let pid = pid.ok_or_else(pooler_found)?;
        let of = |connection, pid, connector: &Connector| Self {
            connection: Some(connection),
            pid,
            connector: connector.clone(),
            activity: SourceActivity::default(),
            ahead: None,
            read: None,
        };
        let second = second.map(|(connection, pid)| IdleSession(of(connection, pid, &connector)));
        let mut session = of(connection, pid, &connector);
        session.apply_settings().await?;
        Ok((session, second))
    }

    /// Closes the connection.
    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            postgres::close(connection).await;
        }
    }

    async fn apply_settings(&mut self) -> Result<(), SourceError> {
        let row = self.row(sqlx::query("SELECT pg_catalog.current_setting('server_version_num')::int4, pg_catalog.current_setting('server_version')")).await?;
        let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        if number < 140_000 {
            let message = format!("the source is PostgreSQL {version}; imsync requires PostgreSQL 14 or newer");
            return Err(Finding::error("source.version", message).remedy("upgrade the server").into());
        }
        let (names, values): (Vec<&str>, Vec<&str>) = SETTINGS.iter().copied().unzip();
        // A setting that this version does not have is left out.
        let set = "SELECT pg_catalog.set_config(name, value, false) FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS setting (name, value) WHERE pg_catalog.current_setting(name, true) IS NOT NULL";
        self.rows(sqlx::query(set).bind(names).bind(values)).await?;
        Ok(())
    }

    /// Fails when `pid`, as the server reports it now, is not that of the session that was set up.
    pub(super) fn check_pid(&self, pid: i32) -> Result<(), SourceError> {
        if pid == self.pid { Ok(()) } else { Err(pooler_found()) }
    }

    /// The statement that runs, for other tasks.
    pub(super) fn activity(&self) -> SourceActivity {
        self.activity.clone()
    }

    /// All rows of one statement, run in autocommit.
    pub(super) async fn rows(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, SourceError> {
        let rows = self.answer(query).await.map_err(SourceError::from);
        if matches!(rows, Err(SourceError::Unreachable(_))) {
            self.connection = None;
        }
        rows
    }

    /// The rows of a page, decoded one by one as they arrive. Those that were read ahead are not read again.
    pub(super) async fn page(&mut self, query: &PageQuery, form: &RowForm) -> Result<Rows, SourceError> {
        if let Some(rows) = self.take_ahead(query).await {
            return Ok(rows);
        }
        let rows = self.run(async |connection: &mut PgConnection| read_rows(connection, query, form).await).await;
        let rows = rows.map_err(SourceError::from).flatten();
        if matches!(rows, Err(SourceError::Unreachable(_))) {
            self.connection = None;
        }
        rows
    }

    /// Begins to read a page that is asked for next. Other statements wait until it is read.
    pub(super) fn read_ahead(&mut self, query: PageQuery, form: &RowForm) {
        let Some(mut connection) = self.connection.take() else { return };
        let (activity, connector, form) = (self.activity.clone(), self.connector.clone(), form.clone());
        let asked = query.clone();
        let task = tokio::spawn(async move {
            let read = async |connection: &mut PgConnection| read_rows(connection, &query, &form).await;
            match answer_of(&mut connection, &connector, &activity, read).await {
                Ok(Ok(Ok(rows))) => (Some(connection), Some(rows)),
                // Read again, to find out what is wrong.
                Ok(Ok(Err(_)) | Err(_)) => (Some(connection), None),
                Err(_) => (None, None),
            }
        });
        self.ahead = Some(ReadAhead { query: asked, task: AbortOnDrop(task) });
    }

    /// Forgets what was read ahead: other rows are read and compared now, so it is older than they are.
    pub(super) async fn forget_ahead(&mut self) {
        self.finish_ahead().await;
        self.read = None;
    }

    /// The rows of the page if they were read ahead.
    async fn take_ahead(&mut self, query: &PageQuery) -> Option<Rows> {
        self.finish_ahead().await;
        let (asked, rows) = self.read.take()?;
        rows.filter(|_| asked == *query)
    }

    /// Waits until the page is read, and takes the connection back.
    async fn finish_ahead(&mut self) {
        let Some(ahead) = &mut self.ahead else { return };
        let (connection, rows) = (&mut ahead.task.0).await.unwrap_or((None, None));
        self.connection = connection;
        self.read = self.ahead.take().map(|ahead| (ahead.query, rows));
    }

    /// The rows of a statement whose answer is only advice for the operator; `None` when it fails or takes longer than
    /// five seconds. It decides nothing: if the connection is lost, the next statement reports that.
    pub(super) async fn advice(&mut self, query: Query<'_, Postgres, PgArguments>) -> Option<Vec<PgRow>> {
        self.within_advice_timeout(query)
            .await
            .inspect_err(|error| {
                let code = error.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
                let code = code.as_deref().unwrap_or("none");
                tracing::debug!(code, "a question that only serves advice was not answered");
            })
            .ok()
    }

    /// Like [`SourceSession::advice`], with the error. After the time limit, the connection stays usable.
    pub(super) async fn advice_or_error(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, SourceError> {
        self.within_advice_timeout(query).await.map_err(SourceError::from)
    }

    async fn within_advice_timeout(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let lost = |error: SourceError| sqlx::Error::Io(std::io::Error::other(error.to_string()));
        self.set_statement_timeout(ADVICE_TIMEOUT).await.map_err(lost)?;
        let answer = self.answer(query).await;
        if self.set_statement_timeout(STATEMENT_TIMEOUT).await.is_err() {
            // A page must not run with the short limit.
            self.connection = None;
        }
        answer
    }

    async fn set_statement_timeout(&mut self, limit: &str) -> Result<(), SourceError> {
        self.set("statement_timeout", limit).await
    }

    /// Changes a setting of the session.
    pub(super) async fn set(&mut self, name: &str, value: &str) -> Result<(), SourceError> {
        let set = sqlx::query("SELECT pg_catalog.set_config($1, $2, false)");
        self.rows(set.bind(name.to_owned()).bind(value.to_owned())).await.map(|_| ())
    }

    async fn answer(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, sqlx::Error> {
        self.run(async |connection: &mut PgConnection| query.fetch_all(connection).await).await
    }

    /// Waits for an answer as long as the server runs the statement.
    async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.finish_ahead().await;
        let Some(connection) = self.connection.as_mut() else {
            return Err(sqlx::Error::Io(std::io::Error::other("the connection was lost")));
        };
        match answer_of(connection, &self.connector, &self.activity, statement).await {
            Ok(answer) => answer,
            Err(lost) => {
                self.connection = None;
                Err(lost)
            }
        }
    }

    /// The row of a statement that returns exactly one.
    pub(super) async fn row(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<PgRow, SourceError> {
        self.rows(query).await?.pop().ok_or_else(|| SourceError::Refused("a statement returned no row".to_owned()))
    }

    /// Prepares a statement without running it, which checks its syntax and its names. Returns its number of parameters.
    pub(super) async fn count_parameters(&mut self, sql: SqlStr) -> Result<usize, sqlx::Error> {
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
