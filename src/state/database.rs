//! Connections to the state database: the pool, and the session settings that every statement relies on.
//!
//! Owns: [`State`], its connections and their settings. Must not know: the tables.
//!
//! No statement qualifies a table with a schema: `search_path` of each session is the state schema and nothing else.

use std::str::FromStr;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use super::error::StateError;
use crate::config::Config;
use crate::quote::identifier;

/// Enough for two pages that are being recorded, one look-up and one status query at the same time.
const CONNECTIONS: u32 = 4;
/// How long to wait for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);
/// The pool closes a connection that has been idle for so long.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// How long to wait for a connection and its login. A server that takes longer counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// `statement_timeout` of each session. The slowest statement (a count over ten million accounts) takes seconds.
const STATEMENT_TIMEOUT: &str = "120s";
/// `lock_timeout` of each session.
const LOCK_TIMEOUT: &str = "30s";

/// Whether the sessions of a command may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every transaction is read-only (`default_transaction_read_only`), so that a bug cannot write either.
    ReadOnly,
    /// Transactions may write.
    ReadWrite,
}

/// The state database of one sync. Cheap to clone.
#[derive(Clone, Debug)]
pub struct State {
    pool: PgPool,
    options: PgConnectOptions,
    schema: String,
    name: String,
    access: Access,
}

impl State {
    /// Connects with the settings of `[state]`. Does not read the tables.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsuitable`] for a URL that is not PostgreSQL's or a login that is refused,
    /// [`StateError::Unreachable`] when the server does not answer within ten seconds.
    pub async fn open(config: &Config, access: Access) -> Result<Self, StateError> {
        Self::open_with(connect_options(config)?, &config.state.schema, &config.name, access).await
    }

    /// [`State::open`] without a configuration: for the sync `name` in this schema.
    pub(super) async fn open_with(
        options: PgConnectOptions,
        schema: &str,
        name: &str,
        access: Access,
    ) -> Result<Self, StateError> {
        // The pool would only report that it timed out. This connection reports the reason.
        let first = connect(&options).await?;
        let _ = first.close().await;
        let search_path = identifier(schema);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .after_connect(move |connection, _| {
                let search_path = search_path.clone();
                Box::pin(async move { set_up_session(connection, &search_path, access).await })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, schema: schema.to_owned(), name: name.to_owned(), access })
    }

    /// The pool, for statements outside the lease.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The name of the state schema, unquoted.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The name of the sync.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection outside the pool with the same session settings.
    pub(super) async fn dedicated_connection(&self) -> Result<PgConnection, StateError> {
        let mut connection = connect(&self.options).await?;
        set_up_session(&mut connection, &identifier(&self.schema), self.access).await?;
        Ok(connection)
    }

    /// Closes all connections of the pool.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StateError> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await;
    Ok(connected
        .map_err(|_| StateError::Unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))??)
}

async fn set_up_session(connection: &mut PgConnection, search_path: &str, access: Access) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('search_path', $1, false), set_config('synchronous_commit', 'on', false), \
         set_config('TimeZone', 'UTC', false), set_config('bytea_output', 'hex', false), set_config('statement_timeout', $2, false), \
         set_config('lock_timeout', $3, false), set_config('jit', 'off', false), \
         set_config('default_transaction_isolation', 'read committed', false), \
         set_config('default_transaction_read_only', $4, false), \
         set_config('row_security', 'off', false)",
    )
    .bind(search_path)
    .bind(STATEMENT_TIMEOUT)
    .bind(LOCK_TIMEOUT)
    .bind(if access == Access::ReadOnly { "on" } else { "off" })
    .execute(&mut *connection)
    .await?;
    Ok(())
}

fn connect_options(config: &Config) -> Result<PgConnectOptions, StateError> {
    let options = PgConnectOptions::from_str(config.state.url.0.expose_secret()).map_err(|_| {
        // The parser's own message could quote the URL with its password.
        StateError::Unsuitable("[state] url is not a PostgreSQL URL; write postgres://user@host/database".to_owned())
    })?;
    Ok(options.application_name(&config.application_name()).disable_statement_logging())
}

/// Runs several statements without parameters in one round trip. Only migrations and quoted schema names come here.
pub(super) async fn run_script(connection: &mut PgConnection, script: String) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(script))).await?;
    Ok(())
}
