//! One at a time: the lease is a session advisory lock on the state database, and an epoch that every write checks.
//!
//! Owns: taking, keeping and losing the lease; the [`StateWriter`], which cannot be had without it.
//! Must not know: what is written under it.
//!
//! Source: Postgres manual, 13.3.5 (advisory locks) and 20.11 (`idle_session_timeout`).

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Connection, PgConnection, PgTransaction, Row as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{State, StateError};
use crate::clock::{self, Heartbeat};
use crate::crash;
use crate::model::AttributeNames;

/// The lease's session is asked this often whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(1);
/// A ping that takes longer than this is lost, and no call may start without one answered within it.
pub const PING_FRESH: Duration = Duration::from_secs(3);

/// How long work under way may go on after the lease was lost; no call to IM starts in it.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Who held the lease when it could not be had.
#[derive(Clone, Debug)]
pub struct Holder {
    pub holder: Option<String>,
    pub since: Option<DateTime<Utc>>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.holder, self.since) {
            (Some(holder), Some(since)) => {
                write!(f, "{holder}, since {}", since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            }
            (Some(holder), None) => f.write_str(holder),
            (None, _) => f.write_str("another imsync that has just started"),
        }
    }
}

/// The lease, kept alive by a task of its own until it is dropped, released or lost.
#[derive(Debug)]
pub struct Lease {
    heartbeat: Heartbeat,
    release: Option<oneshot::Sender<()>>,
    keeper: JoinHandle<()>,
    /// When the last call of the previous holder started, on the state server's clock: seconds ago, if known.
    pub last_call_seconds_ago: Option<f64>,
}

/// The right to write under one epoch. Every writing transaction starts with [`StateWriter::begin`].
#[derive(Clone, Debug)]
pub struct StateWriter {
    pool: PgPool,
    sync_id: i32,
    epoch: i64,
    generation: i32,
    names: AttributeNames,
}

impl State {
    /// Takes the lease if nobody holds it, and raises the epoch.
    pub async fn take_lease(&self, sync_id: i32, me: &str) -> Result<Result<(Lease, StateWriter), Holder>, StateError> {
        let mut connection = self.own_connection().await?;
        // A stopped or unplugged holder loses the lock: the server ends a session that is silent for 4 s.
        sqlx::query(
            "SELECT set_config('idle_session_timeout', '4s', false), set_config('tcp_keepalives_idle', '1', false), \
             set_config('tcp_keepalives_interval', '1', false), set_config('tcp_keepalives_count', '3', false), \
             set_config('tcp_user_timeout', '4000', false)",
        )
        .execute(&mut connection)
        .await?;
        let asked = clock::monotonic();
        let taken: bool =
            sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('imsync lease ' || $1 || ' ' || $2, 0))")
                .bind(self.schema())
                .bind(self.name())
                .fetch_one(&mut connection)
                .await?;
        if !taken {
            let row = sqlx::query("SELECT holder, lease_taken_at FROM sync WHERE id = $1")
                .bind(sync_id)
                .fetch_optional(&mut connection)
                .await?;
            let (holder, since) = match row {
                Some(row) => (row.try_get("holder")?, row.try_get("lease_taken_at")?),
                None => (None, None),
            };
            return Ok(Err(Holder { holder, since }));
        }
        crash::point("lease: the lock is held");
        let (row, last_call_seconds_ago) = raise_epoch(&mut connection, sync_id, me).await?;
        crash::point("lease: the epoch rose");
        let names: Vec<String> = row.try_get("attribute_names")?;
        let writer = StateWriter {
            pool: self.pool().clone(),
            sync_id,
            epoch: row.try_get("epoch")?,
            generation: row.try_get("generation")?,
            names: names.into_iter().map(Arc::from).collect(),
        };
        let heartbeat = Heartbeat::default();
        heartbeat.beat(asked);
        let (release, released) = oneshot::channel();
        let keeper = tokio::spawn(keep(connection, heartbeat.clone(), released));
        Ok(Ok((Lease { heartbeat, release: Some(release), keeper, last_call_seconds_ago }, writer)))
    }
}

impl State {
    /// Somebody holds the lease at this moment.
    pub async fn lease_is_held(&self) -> Result<bool, StateError> {
        // How a bigint key is shown in pg_locks: Postgres manual, 54.12.
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND ((classid::bigint << 32) | objid::bigint) = hashtextextended('imsync lease ' || $1 || ' ' || $2, 0))",
        )
        .bind(self.schema())
        .bind(self.name())
        .fetch_one(self.pool())
        .await?)
    }
}

async fn raise_epoch(
    connection: &mut PgConnection,
    sync_id: i32,
    me: &str,
) -> Result<(PgRow, Option<f64>), StateError> {
    let mut transaction = connection.begin().await?;
    // Waits for transactions of the former holder that read the row FOR SHARE: they end before the epoch rises, or not at all.
    let before: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM clock_timestamp() - last_call_at)::float8 FROM sync WHERE id = $1 FOR UPDATE",
    )
    .bind(sync_id)
    .fetch_one(&mut *transaction)
    .await?;
    let row = sqlx::query(
        "UPDATE sync SET epoch = epoch + 1, holder = $2, lease_taken_at = clock_timestamp(), last_call_at = NULL, running = NULL \
         WHERE id = $1 RETURNING epoch, generation, attribute_names",
    )
    .bind(sync_id)
    .bind(me)
    .fetch_one(&mut *transaction)
    .await?;
    crash::point("lease: the epoch rose, not committed");
    transaction.commit().await?;
    Ok((row, before))
}

/// Pings the session until the lease is released or the session fails.
async fn keep(mut connection: PgConnection, heartbeat: Heartbeat, mut released: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut released => break,
            () = tokio::time::sleep(PING_EVERY) => {}
        }
        let asked = clock::monotonic();
        let ping = sqlx::query("SELECT 1").execute(&mut connection);
        match tokio::time::timeout(PING_FRESH, ping).await {
            Ok(Ok(_)) => heartbeat.beat(asked),
            Ok(Err(error)) => {
                tracing::warn!(error = %StateError::from(error), "lost the session that holds the lease");
                heartbeat.stop();
                return;
            }
            Err(_) => {
                tracing::warn!("the session that holds the lease has not answered for 3 s");
                heartbeat.stop();
                return;
            }
        }
    }
    heartbeat.stop();
    // Closing the session frees the lock; if it cannot be closed in order, the server notices the end of the connection.
    let _ = connection.close().await;
}

impl Lease {
    /// Beats with every answered ping; calls to IM start only while it is fresh (see [`PING_FRESH`]).
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// The session answered within [`PING_FRESH`].
    pub fn held(&self) -> bool {
        !self.keeper.is_finished() && self.heartbeat.fresh(PING_FRESH)
    }

    /// The future's output, unless the lease is lost: then what is under way gets a moment to end by itself (it finds out
    /// at its next write) and is given up. A state server that vanished without a word would keep it waiting for ever.
    pub async fn while_held<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let lost = async {
            while self.held() {
                tokio::time::sleep(PING_EVERY).await;
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            biased;
            output = future => Some(output),
            () = lost => None,
        }
    }

    /// Gives the lease back and waits until its session is closed.
    pub async fn release(mut self) {
        if let Some(release) = self.release.take() {
            let _ = release.send(());
        }
        // The keeper ends by itself after the release, but for a server that does not answer any more.
        let _ = tokio::time::timeout(PING_FRESH, &mut self.keeper).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heartbeat.stop();
        // Ends the session with its connection.
        self.keeper.abort();
    }
}

impl StateWriter {
    /// Begins a transaction that rolls back if another holder has taken the lease since.
    pub async fn begin(&self) -> Result<PgTransaction<'static>, StateError> {
        let mut transaction = self.pool.begin().await?;
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM sync WHERE id = $1 FOR SHARE")
            .bind(self.sync_id)
            .fetch_optional(&mut *transaction)
            .await?;
        if epoch == Some(self.epoch) { Ok(transaction) } else { Err(StateError::LeaseLost) }
    }

    /// A single statement that names its epoch has touched its one row; else the epoch was over.
    pub(super) fn expect_one(affected: u64) -> Result<(), StateError> {
        if affected == 1 { Ok(()) } else { Err(StateError::LeaseLost) }
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub fn sync_id(&self) -> i32 {
        self.sync_id
    }

    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn set_generation(&mut self, generation: i32) {
        self.generation = generation;
    }

    /// Attribute names by attribute.
    pub fn names(&self) -> &AttributeNames {
        &self.names
    }

    pub(super) fn set_names(&mut self, names: AttributeNames) {
        self.names = names;
    }
}
