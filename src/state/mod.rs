//! Our own tables: what is acknowledged, what is under way, what was refused, how far was read, who holds the lease.
//!
//! Owns: every statement on the state schema. Must not know: IM, the customer's table.
//! All statements name their tables without a schema: each connection's `search_path` is the state schema and nothing else.

use std::str::FromStr;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use crate::config;
use crate::quote::identifier;

pub mod account;
pub mod acknowledged;
pub mod history;
pub mod intent;
pub mod lease;
pub mod migrate;
pub mod record;
pub mod rejection;
pub mod removal;
pub mod sync;

pub use lease::{Lease, StateWriter};

/// What can go wrong with the state tables. Displays with the remedy, never with a password.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database is unreachable or broke off: try again later.
    #[error("the state database is unreachable: {0}")]
    Unreachable(String),
    /// Schema, binding or privileges: the sentence says what to do.
    #[error("{0}")]
    Unsuitable(String),
    /// Somebody else holds the lease by now; nothing was written.
    #[error("the lease on this sync was lost to another imsync; nothing was written")]
    LeaseLost,
    /// A deadlock or a serialization failure: the transaction was rolled back and can be repeated as it is.
    #[error("the state database rolled a transaction back: {0}")]
    Contended(String),
    /// Any other error of a statement.
    #[error("the state database refused a statement: {0}")]
    Refused(String),
}

impl From<sqlx::Error> for StateError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                let text = format!("{} (SQLSTATE {code})", database.message());
                match code.as_str() {
                    "42501" => Self::Unsuitable(format!(
                        "the state database does not allow it: {}; grant it to the role in [state] url, or run `imsync migrate` as an owner",
                        database.message()
                    )),
                    "3D000" | "28000" | "28P01" => Self::Unsuitable(format!(
                        "cannot log in to the state database: {}; check [state] url",
                        database.message()
                    )),
                    "40001" | "40P01" => Self::Contended(text),
                    _ if code.starts_with("08")
                        || code.starts_with("57P")
                        || code.starts_with("53")
                        || code == "25P03" =>
                    {
                        Self::Unreachable(text)
                    }
                    _ => Self::Refused(text),
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unreachable(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Whether a command may write to the state tables at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every transaction is read-only, whatever the code does.
    ReadOnly,
    ReadWrite,
}

/// An open state database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct State {
    pool: PgPool,
    options: PgConnectOptions,
    schema: String,
    name: String,
    access: Access,
}

/// Enough for two pages being recorded, a look-up and a status question at once.
const CONNECTIONS: u32 = 4;
/// A server that has not taken a connection by then is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A statement of ours that takes longer than this waits for something that will not come.
const STATEMENT_TIMEOUT: &str = "120s";

impl State {
    /// Connects. Does not look at the tables yet.
    pub async fn open(config: &config::Config, access: Access) -> Result<Self, StateError> {
        let options = connect_options(config)?;
        let schema = config.state.schema.clone();
        let search_path = identifier(&schema);
        // Asked once by itself: a pool would only say that it waited in vain.
        let first = connect(&options).await?;
        let _ = first.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_secs(15))
            .idle_timeout(Duration::from_mins(10))
            .after_connect(move |connection, _| {
                let search_path = search_path.clone();
                Box::pin(async move { prepare_session(connection, &search_path, access).await })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, schema, name: config.name.clone(), access })
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection outside the pool, with the same session settings.
    async fn own_connection(&self) -> Result<PgConnection, StateError> {
        let mut connection = connect(&self.options).await?;
        prepare_session(&mut connection, &identifier(&self.schema), self.access).await?;
        Ok(connection)
    }

    /// Closes all connections of the pool.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection, or within the time that a living server takes the reason why there is none.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StateError> {
    let asked = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await;
    Ok(asked.map_err(|_| StateError::Unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))??)
}

async fn prepare_session(connection: &mut PgConnection, search_path: &str, access: Access) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('search_path', $1, false), set_config('synchronous_commit', 'on', false), \
         set_config('TimeZone', 'UTC', false), set_config('statement_timeout', $2, false), \
         set_config('lock_timeout', '30s', false), set_config('jit', 'off', false), \
         set_config('default_transaction_isolation', 'read committed', false), \
         set_config('default_transaction_read_only', $3, false), \
         set_config('row_security', 'off', false)",
    )
    .bind(search_path)
    .bind(STATEMENT_TIMEOUT)
    .bind(if access == Access::ReadOnly { "on" } else { "off" })
    .execute(&mut *connection)
    .await?;
    Ok(())
}

fn connect_options(config: &config::Config) -> Result<PgConnectOptions, StateError> {
    let options = PgConnectOptions::from_str(config.state.url.0.expose_secret()).map_err(|_| {
        // The error could quote the URL with its password.
        StateError::Unsuitable("[state] url is not a Postgres URL; write postgres://user@host/database".to_owned())
    })?;
    let application: String = format!("imsync {}", config.name).chars().take(60).collect();
    Ok(options.application_name(&application).disable_statement_logging())
}

/// Runs several statements in one go, without parameters.
async fn run_script(connection: &mut PgConnection, script: String) -> Result<(), sqlx::Error> {
    // Only our own migrations and the quoted schema name come here.
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(script))).await?;
    Ok(())
}
