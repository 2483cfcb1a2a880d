//! The lease: a session advisory lock on the state database, so that one process at a time writes for a sync.
//!
//! Owns: taking, keeping, checking and releasing the lease. Must not know: what is written under it.
//!
//! The lock disappears with its session and needs no clocks that agree. A task pings the session once a second. The
//! epoch, which rises each time the lease is taken, rolls back every write of a former holder.
//!
//! Source: PostgreSQL manual, 13.3.5 (advisory locks) and 20.11 (`idle_session_timeout`).

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::call_budget::{BudgetMember, CallBudget};
use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::call_share::CallShare;
use crate::clock::{self, Heartbeat, LEASE_VALID_FOR};
use crate::crash;

/// Interval of the pings on the lease's session. A ping that takes longer than [`LEASE_VALID_FOR`] (3 s) counts as
/// lost, 1 s before the server ends a silent session, so that this process stops calling before another one can take
/// the lease.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long a new holder waits for transactions of the former one before it ends their sessions.
const BLOCKED_LIMIT: Duration = Duration::from_millis(300);
/// How long running work may continue after the lease was lost. No call to IM starts during this time.
const LOST_LEASE_GRACE: Duration = Duration::from_secs(10);

/// Who holds the lease that this process could not take.
#[derive(Clone, Debug)]
pub struct LeaseHolder {
    /// Command, process id and host; `None` when the holder has not written it yet.
    pub holder: Option<String>,
    /// When it took the lease.
    pub since: Option<DateTime<Utc>>,
}

impl fmt::Display for LeaseHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.holder, self.since) {
            (Some(holder), Some(since)) => {
                write!(f, "{holder}, since {}", since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            }
            (Some(holder), None) => f.write_str(holder),
            (None, _) => f.write_str("another imsync that has just started"),
        }
    }
}

/// The lease. A task keeps it until it is released, dropped or lost.
#[derive(Debug)]
pub struct Lease {
    heartbeat: Heartbeat,
    release: Option<oneshot::Sender<()>>,
    join: mpsc::Sender<CallBudget>,
    keeper: JoinHandle<()>,
    /// When this process took it. No earlier holder starts a call from here on.
    pub taken_at: Instant,
    /// What the earlier holders have called, as of then.
    pub earlier_calls: EarlierCalls,
}

/// What is known of the calls of earlier holders of a lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EarlierCalls {
    /// There was no earlier holder.
    None,
    /// The last call started so many seconds ago, by the clock of the state server.
    SecondsAgo(f64),
    /// The last holder did not store the time: it was killed, or lost the state database.
    Unknown,
}

/// A session that does not have the lease yet. A standby tries again and again on one.
#[derive(Debug)]
pub struct LeaseSession(PgConnection);

/// The result of one try.
#[derive(Debug)]
pub enum LeaseTry {
    /// This process has the lease now.
    Taken(Lease, Box<StateWriter>),
    /// Another process has it. The session is for the next try, which must begin within 4 s.
    HeldBy(LeaseHolder, LeaseSession),
}

impl State {
    /// Opens a session for [`State::try_lease`].
    pub async fn lease_session(&self) -> Result<LeaseSession, StateError> {
        let opened = async {
            let mut connection = self.dedicated_connection().await?;
            limit_silence(&mut connection).await?;
            Ok(LeaseSession(connection))
        };
        self.pool().while_running(opened).await
    }

    /// Takes the lease and increments the epoch. Returns the holder instead when another process has the lease.
    ///
    /// `holder_id` is what `imsync status` and other processes show as the holder. The session is closed by an error.
    pub async fn try_lease(
        &self,
        session: LeaseSession,
        sync_id: i32,
        holder_id: &str,
    ) -> Result<LeaseTry, StateError> {
        self.pool().while_running(self.try_lease_on(session, sync_id, holder_id)).await
    }

    /// [`State::try_lease`] once, on a session of its own.
    pub async fn take_lease(
        &self,
        sync_id: i32,
        holder_id: &str,
    ) -> Result<Result<(Lease, StateWriter), LeaseHolder>, StateError> {
        let session = self.lease_session().await?;
        Ok(match self.try_lease(session, sync_id, holder_id).await? {
            LeaseTry::Taken(lease, writer) => Ok((lease, *writer)),
            LeaseTry::HeldBy(holder, _) => Err(holder),
        })
    }

    async fn try_lease_on(
        &self,
        LeaseSession(mut connection): LeaseSession,
        sync_id: i32,
        holder_id: &str,
    ) -> Result<LeaseTry, StateError> {
        let asked = clock::monotonic();
        let (taken, pid): (bool, i32) = sqlx::query_as(
            "SELECT pg_try_advisory_lock(hashtextextended('imsync lease ' || $1 || ' ' || $2, 0)), pg_backend_pid()",
        )
        .bind(self.schema())
        .bind(self.name())
        .fetch_one(&mut connection)
        .await?;
        if !taken {
            let holder = read_holder(&mut connection, sync_id).await?;
            return Ok(LeaseTry::HeldBy(holder, LeaseSession(connection)));
        }
        crash::point("lease: the lock is acquired");
        let (row, earlier_calls) = tokio::select! {
            biased;
            incremented = increment_epoch(&mut connection, sync_id, holder_id) => incremented?,
            () = end_blocking_sessions(self, pid) => return Err(StateError::LeaseLost),
        };
        crash::point("lease: the epoch is incremented");
        let writer = StateWriter::from_row(self.pool().clone(), &row)?;
        let heartbeat = Heartbeat::default();
        heartbeat.beat(asked);
        let (release, released) = oneshot::channel();
        let (join, joining) = mpsc::channel(1);
        let keeper = tokio::spawn(keep_alive(connection, sync_id, heartbeat.clone(), released, joining));
        let lease =
            Lease { heartbeat, release: Some(release), join, keeper, taken_at: clock::monotonic(), earlier_calls };
        Ok(LeaseTry::Taken(lease, Box::new(writer)))
    }

    /// Whether any process holds the lease now.
    pub async fn lease_is_held(&self) -> Result<bool, StateError> {
        // How pg_locks shows a bigint key: PostgreSQL manual, 54.12.
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

/// The server ends the session after 4 s of silence, so that a holder that is suspended or unplugged loses the lock.
async fn limit_silence(connection: &mut PgConnection) -> Result<(), StateError> {
    sqlx::query(
        "SELECT set_config('idle_session_timeout', '4s', false), set_config('tcp_keepalives_idle', '1', false), \
         set_config('tcp_keepalives_interval', '1', false), set_config('tcp_keepalives_count', '3', false), \
         set_config('tcp_user_timeout', '4000', false)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn read_holder(connection: &mut PgConnection, sync_id: i32) -> Result<LeaseHolder, StateError> {
    let row = sqlx::query("SELECT lease_holder, lease_taken_at FROM sync WHERE id = $1")
        .bind(sync_id)
        .fetch_optional(connection)
        .await?;
    Ok(match row {
        Some(row) => LeaseHolder { holder: row.try_get("lease_holder")?, since: row.try_get("lease_taken_at")? },
        None => LeaseHolder { holder: None, since: None },
    })
}

/// Ends the sessions of the former holder that keep this session waiting, as long as it waits. The former holder has lost the
/// lease, so what they write would be rolled back. The server ends an idle transaction by itself, but not one that waits for the
/// rest of a COPY from a process that was suspended or whose network vanished. Never returns.
async fn end_blocking_sessions(state: &State, waiting: i32) {
    loop {
        tokio::time::sleep(BLOCKED_LIMIT).await;
        let ended = sqlx::query_scalar::<_, i64>(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids($1)) \
             AND application_name = current_setting('application_name') AND usename = current_user",
        )
        .bind(waiting)
        .fetch_one(state.pool())
        .await;
        match ended {
            Ok(0) => {}
            Ok(ended) => {
                tracing::warn!("ended {ended} sessions of the former holder of the lease, which did not go on");
            }
            Err(error) => tracing::debug!(%error, "the sessions of the former holder were not ended"),
        }
    }
}

/// Returns the updated row and what earlier holders have called.
async fn increment_epoch(
    connection: &mut PgConnection,
    sync_id: i32,
    holder_id: &str,
) -> Result<(PgRow, EarlierCalls), StateError> {
    let mut transaction = connection.begin().await?;
    // Waits for transactions of the previous holder, which hold the row FOR SHARE. Later ones see the new epoch and
    // roll back.
    let (epoch, seconds_ago): (i64, Option<f64>) = sqlx::query_as(
        "SELECT lease_epoch, extract(epoch FROM clock_timestamp() - last_call_at)::float8 FROM sync WHERE id = $1 FOR UPDATE",
    )
    .bind(sync_id)
    .fetch_one(&mut *transaction)
    .await?;
    let row = sqlx::query(
        "UPDATE sync SET lease_epoch = lease_epoch + 1, lease_holder = $2, lease_taken_at = clock_timestamp(), \
         last_call_at = NULL, running_pass = NULL WHERE id = $1 RETURNING id, lease_epoch, generation, attribute_names, digest_key",
    )
    .bind(sync_id)
    .bind(holder_id)
    .fetch_one(&mut *transaction)
    .await?;
    crash::point("lease: the epoch is incremented, not committed");
    transaction.commit().await?;
    let earlier_calls = match seconds_ago {
        Some(seconds_ago) => EarlierCalls::SecondsAgo(seconds_ago),
        None if epoch == 0 => EarlierCalls::None,
        None => EarlierCalls::Unknown,
    };
    Ok((row, earlier_calls))
}

/// Pings the session until the lease is released or the session fails.
async fn keep_alive(
    mut connection: PgConnection,
    sync_id: i32,
    heartbeat: Heartbeat,
    mut released: oneshot::Receiver<()>,
    mut joining: mpsc::Receiver<CallBudget>,
) {
    let mut member: Option<BudgetMember> = None;
    loop {
        let mut joins = None;
        tokio::select! {
            _ = &mut released => break,
            Some(budget) = joining.recv() => joins = Some(budget),
            () = tokio::time::sleep(PING_INTERVAL) => {}
        }
        let asked = clock::monotonic();
        let ping = async {
            match (&mut member, joins) {
                (Some(member), _) => return member.tick(&mut connection, || heartbeat.beat(asked)).await,
                (None, Some(budget)) => member = Some(BudgetMember::join(&mut connection, budget, sync_id).await?),
                (None, None) => {
                    sqlx::query("SELECT 1").execute(&mut connection).await?;
                }
            }
            heartbeat.beat(asked);
            Ok::<(), StateError>(())
        };
        match tokio::time::timeout(LEASE_VALID_FOR, ping).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the session that holds the lease failed");
                heartbeat.stop();
                return;
            }
            Err(_) => {
                tracing::warn!("the session that holds the lease has not answered for {} s", LEASE_VALID_FOR.as_secs());
                heartbeat.stop();
                return;
            }
        }
    }
    heartbeat.stop();
    // Closing the session frees the lock. If the close fails, the server notices the end of the connection.
    let _ = connection.close().await;
}

impl Lease {
    /// Beats with every answered ping. A call to IM starts only while it is at most [`LEASE_VALID_FOR`] old.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Takes part in the call rate of the app, as long as the lease is held. The share is 0 until the other leaders are known.
    pub fn share_calls(&self, sdk_app_id: u32, calls_per_second: u32) -> CallShare {
        let share = CallShare::new(0);
        // If the keeper has ended, the lease is lost, and no call starts any more.
        let _ = self.join.try_send(CallBudget { sdk_app_id, calls_per_second, share: share.clone() });
        share
    }

    /// Whether the session answered a ping within [`LEASE_VALID_FOR`].
    pub fn is_held(&self) -> bool {
        !self.keeper.is_finished() && self.heartbeat.beat_within(LEASE_VALID_FOR)
    }

    /// Runs the future; returns `None` when the lease was lost.
    ///
    /// A future that runs when the lease is lost has ten seconds to end: its next write fails with
    /// [`StateError::LeaseLost`]. Then it is dropped, because a write to a server that has vanished might never return.
    pub async fn while_held<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let lost = async {
            while self.is_held() {
                tokio::time::sleep(PING_INTERVAL).await;
            }
            tokio::time::sleep(LOST_LEASE_GRACE).await;
        };
        tokio::select! {
            biased;
            output = future => Some(output),
            () = lost => None,
        }
    }

    /// Releases the lease and waits until its session is closed, at most [`LEASE_VALID_FOR`].
    pub async fn release(mut self) {
        if let Some(release) = self.release.take() {
            let _ = release.send(());
        }
        // The time limit is for a server that no longer answers.
        let _ = tokio::time::timeout(LEASE_VALID_FOR, &mut self.keeper).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heartbeat.stop();
        // Drops the connection, which ends the session.
        self.keeper.abort();
    }
}
