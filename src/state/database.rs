//! Connections to the state database: the pool, and the session settings that every statement relies on.
//!
//! Owns: [`State`], its connections and their settings. Must not know: the tables.
//!
//! No statement qualifies a table with a schema: `search_path` of each session is the state schema and nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgConnection};

use super::error::{POOLER_MESSAGE, StateError};
use super::pool::{STATEMENT_TIMEOUT, StatePool};
use super::range_scans::RangeScans;
use super::read_only::ensure_writable;
use crate::config::Config;
use crate::finding::Finding;
use crate::postgres::{self, Connector, ProbedSession};
use crate::quote::identifier;

/// Enough for two pages that are being recorded, one look-up and one status query at the same time.
const CONNECTIONS: u32 = 4;
/// Enough for [`Access::Status`], whose statements follow each other.
const STATUS_CONNECTIONS: u32 = 2;
/// How long to wait for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);
/// The pool closes a connection that has been idle for so long.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// `statement_timeout` for [`Access::Status`]. `/status` reads five rows, with one statement for each.
const STATUS_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// `lock_timeout` of each session.
const LOCK_TIMEOUT: &str = "30s";
/// A transaction of a holder of the lease keeps the next holder waiting, so the server ends the session of one that is
/// suspended or unplugged within a transaction as soon as that of the lease. A writer waits for nothing but the server within
/// a transaction. The transaction that creates the tables waits until the source has been examined; no lease exists then.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "4s";

/// Whether the sessions of a command may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every transaction is read-only (`default_transaction_read_only`), so that a bug cannot write either.
    ReadOnly,
    /// Read-only, and a statement is cancelled after seconds: somebody waits for the status.
    Status,
    /// Transactions may write.
    ReadWrite,
}

/// The state database of one sync. Cheap to clone.
#[derive(Clone, Debug)]
pub struct State {
    pool: StatePool,
    connector: Connector,
    schema: String,
    name: String,
    access: Access,
    /// The first connection, as it was opened, until somebody needs one outside the pool.
    spare: Arc<Mutex<Option<PgConnection>>>,
    range_scans: Arc<RangeScans>,
}

/// Whether a pooler in transaction mode may be behind the URL of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolerProbe {
    /// It is to be found out.
    Needed,
    /// Another connection by the same URL has shown that there is none.
    Done,
}

impl State {
    /// Connects with the settings of `[state]`. Does not read the tables.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsuitable`] for a URL that is not PostgreSQL's or leads to a pooler in transaction mode, and for a
    /// login that is refused,
    /// [`StateError::Unreachable`] when the server does not answer within ten seconds.
    pub async fn open(config: &Config, access: Access) -> Result<Self, StateError> {
        Self::open_probed(config, access, PoolerProbe::Needed).await
    }

    /// As [`State::open`]; the pooler is only looked for where that is needed.
    ///
    /// # Errors
    ///
    /// Those of [`State::open`].
    pub async fn open_probed(config: &Config, access: Access, probe: PoolerProbe) -> Result<Self, StateError> {
        let connector = Connector::new(&config.state.url, config.state.url_file.as_ref(), &config.application_name());
        Self::open_with(connector, (&config.state.schema, &config.name), access, probe).await
    }

    /// [`State::open`] without a configuration. `of`: the schema and the name of the sync.
    pub(super) async fn open_with(
        connector: Connector,
        (schema, name): (&str, &str),
        access: Access,
        probe: PoolerProbe,
    ) -> Result<Self, StateError> {
        // The pool would only report that it timed out. This connection reports the reason.
        let mut first = connector.connect().await?;
        if probe == PoolerProbe::Needed {
            let ProbedSession { pid, second } = postgres::session_pid(&mut first, &connector).await?;
            if let Some((second, _)) = second {
                postgres::close(second).await;
            }
            if pid.is_none() {
                postgres::close(first).await;
                return Err(Finding::error("state.pooler", POOLER_MESSAGE).into());
            }
        }
        let spare = if access == Access::ReadWrite {
            ensure_writable(&mut first).await?;
            Some(first)
        } else {
            postgres::close(first).await;
            None
        };
        let search_path = identifier(schema);
        let pool = PgPoolOptions::new()
            .max_connections(if access == Access::Status { STATUS_CONNECTIONS } else { CONNECTIONS })
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .after_connect(move |connection, _| {
                let search_path = search_path.clone();
                Box::pin(async move { apply_settings(connection, &search_path, access, SettingScope::Session).await })
            })
            .connect_lazy_with(connector.options());
        Ok(Self {
            pool: StatePool::new(pool, connector.clone()),
            connector,
            schema: schema.to_owned(),
            name: name.to_owned(),
            access,
            spare: Arc::new(Mutex::new(spare)),
            range_scans: Arc::default(),
        })
    }

    /// The pool, for statements outside the lease.
    pub(super) fn pool(&self) -> &StatePool {
        &self.pool
    }

    /// When a page of accounts is read by range.
    pub(super) fn range_scans(&self) -> &RangeScans {
        &self.range_scans
    }

    /// Opens the connections of the pool that the start of a pass needs. If that fails, the next statement reports why.
    pub async fn open_pool(&self) {
        let open = async {
            let (one, other) = tokio::join!(self.pool.acquire(), self.pool.acquire());
            for mut connection in [one, other].into_iter().flatten() {
                connection.return_to_pool().await;
            }
        };
        let _ = tokio::time::timeout(postgres::CONNECT_TIMEOUT, open).await;
    }

    /// The name of the state schema, unquoted.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The name of the sync.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection outside the pool without any session settings: the first one, if nobody has it.
    pub(super) async fn spare_connection(&self) -> Result<PgConnection, StateError> {
        match self.take_spare() {
            Some(connection) => Ok(connection),
            None => self.plain_connection().await,
        }
    }

    /// Keeps a connection for [`State::spare_connection`]. Its session settings are those with which it was opened.
    pub(super) fn keep_spare(&self, connection: PgConnection) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    fn take_spare(&self) -> Option<PgConnection> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A connection outside the pool without any session settings.
    pub(super) async fn plain_connection(&self) -> Result<PgConnection, StateError> {
        Ok(self.connector.connect().await?)
    }

    /// A connection outside the pool with the same session settings.
    pub(super) async fn dedicated_connection(&self) -> Result<PgConnection, StateError> {
        if let Some(mut connection) = self.take_spare()
            && apply_settings(&mut connection, &identifier(&self.schema), self.access, SettingScope::Session)
                .await
                .is_ok()
        {
            return Ok(connection);
        }
        // There is none, or it was lost since.
        let mut connection = self.connector.connect().await?;
        apply_settings(&mut connection, &identifier(&self.schema), self.access, SettingScope::Session).await?;
        Ok(connection)
    }

    /// Closes all connections of the pool.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// How long settings are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SettingScope {
    Session,
    /// Until the transaction that has begun ends.
    Transaction,
}

/// Applies the settings on which the statements depend.
pub(super) async fn apply_settings(
    connection: &mut PgConnection,
    search_path: &str,
    access: Access,
    scope: SettingScope,
) -> Result<(), sqlx::Error> {
    let statement_timeout = if access == Access::Status { STATUS_STATEMENT_TIMEOUT } else { STATEMENT_TIMEOUT };
    // Without bitmap scans, because until the first ANALYZE one with a sort looks cheaper than the order of the key.
    sqlx::query(
        "SELECT set_config('search_path', $1, $5), set_config('synchronous_commit', 'on', $5), \
         set_config('TimeZone', 'UTC', $5), set_config('bytea_output', 'hex', $5), set_config('statement_timeout', $2, $5), \
         set_config('lock_timeout', $3, $5), set_config('jit', 'off', $5), set_config('enable_bitmapscan', 'off', $5), \
         set_config('default_transaction_isolation', 'read committed', $5), \
         CASE WHEN $4 THEN set_config('default_transaction_read_only', 'on', $5) END, \
         set_config('idle_in_transaction_session_timeout', $6, $5), \
         set_config('row_security', 'off', $5), \
         CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN set_config('transaction_timeout', '0', $5) END",
    )
    .bind(search_path)
    .bind(format!("{}s", statement_timeout.as_secs()))
    .bind(LOCK_TIMEOUT)
    // What a provider or an administrator has made read-only stays so, also when that happens in an open session.
    .bind(access != Access::ReadWrite)
    .bind(scope == SettingScope::Transaction)
    .bind(match scope {
        SettingScope::Session => IDLE_IN_TRANSACTION_TIMEOUT,
        SettingScope::Transaction => "0",
    })
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Runs several statements without parameters in one round trip. Only migrations and quoted schema names come here.
pub(super) async fn run_script(connection: &mut PgConnection, script: String) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(script))).await?;
    Ok(())
}
