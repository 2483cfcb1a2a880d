//! Reads the transaction list: the clock, then the running, then the prepared transactions, each by its own statement.
//!
//! Owns: the statements over `pg_locks`, `pg_stat_activity` and `pg_prepared_xacts`. Must not know: how the list is used.
//!
//! The order makes the list exact. A transaction that is in neither list began after the clock was read, or ended before
//! the first row is read. One that is being prepared is in the running list, the prepared list, or both. A single
//! transaction for all three statements would read them from one cached snapshot of the statistics.

use std::time::Duration;

use sqlx::Row;

use super::error::SourceError;
use super::session::SourceSession;
use super::watermark::{
    NewestRows, PreparedTransaction, RunningTransaction, TransactionList, WatermarkKind, WatermarkPoint,
};
use crate::clock;
use crate::finding::Finding;

/// `extract` is exact: it returns a numeric with microseconds since `PostgreSQL` 14. `clock_timestamp` has no schema, so
/// that a test can set this clock.
const CLOCK: &str = "
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8,
       (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::int8,
       pg_catalog.pg_is_in_recovery(), pg_catalog.pg_backend_pid()";

/// On a standby, the time of the data is that of the last replayed commit, or of the checkpoint from which the standby
/// started. A managed server may deny either, and a privilege is checked before a statement runs, so each is a statement.
const REPLAYED: [&str; 2] = [
    "SELECT (extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::int8",
    "SELECT (extract(epoch FROM checkpoint_time) * 1000000)::int8 FROM pg_catalog.pg_control_checkpoint()",
];

/// A session that is not, or no longer, in `pg_stat_activity` is included: an entry too many only causes rows to be read
/// again, an entry too few loses a row.
const RUNNING: &str = "
SELECT lock.virtualxid, lock.pid, (extract(epoch FROM session.xact_start) * 1000000)::int8, session.application_name,
       session.pid IS NULL
FROM pg_catalog.pg_locks AS lock
LEFT JOIN pg_catalog.pg_stat_activity AS session ON session.pid = lock.pid
WHERE lock.locktype = 'virtualxid' AND lock.mode = 'ExclusiveLock' AND lock.granted
  AND lock.pid <> pg_catalog.pg_backend_pid()
  AND (session.pid IS NULL
    OR session.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))";

/// A prepared transaction holds a lock on its own id until it ends. Without that lock it has ended in the meantime.
const PREPARED: &str = "
SELECT lock.virtualtransaction, prepared.gid, (extract(epoch FROM prepared.prepared) * 1000000)::int8
FROM pg_catalog.pg_prepared_xacts AS prepared
JOIN pg_catalog.pg_locks AS lock ON lock.locktype = 'transactionid'
  AND lock.transactionid = prepared.transaction AND lock.mode = 'ExclusiveLock' AND lock.granted
WHERE prepared.database = current_database()";

/// The pause before sessions that are logging in are queried again. A login takes a few milliseconds; a session that
/// takes longer is included, whichever database it connects to.
const LOGIN_PAUSE: Duration = Duration::from_millis(10);
/// How often they are queried again.
const LOGIN_RETRIES: usize = 5;

/// The time up to which a standby shows the data.
async fn replayed(session: &mut SourceSession) -> Result<i64, SourceError> {
    for statement in REPLAYED {
        match session.row(sqlx::query(statement)).await {
            Ok(row) => {
                if let Some(replayed) = row.try_get(0)? {
                    return Ok(replayed);
                }
            }
            Err(error @ SourceError::Unreachable(_)) => return Err(error),
            // Denied, or missing on this engine.
            Err(_) => {}
        }
    }
    let message = "source.watermark_column cannot be used: this replica does not show up to which time its data is, because pg_last_xact_replay_timestamp() is NULL, missing or denied, and so is pg_control_checkpoint()";
    let remedy = "read from the primary (the writer endpoint), or remove watermark_column (every pass then compares the whole table)";
    Err(Finding::error("source.replica_clock", message).remedy(remedy).into())
}

/// Reads the transaction list. `newest_counters` is the statement for the rows with the
/// largest values of a counter.
pub(super) async fn list_transactions(
    session: &mut SourceSession,
    newest_counters: Option<&sqlx::SqlStr>,
) -> Result<TransactionList, SourceError> {
    let asked = clock::monotonic();
    let row = session.row(sqlx::query(CLOCK)).await?;
    let answered = clock::monotonic();
    session.check_pid(row.try_get(3)?)?;
    let (now, server_start, standby): (i64, i64, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let clock = if standby { replayed(session).await?.min(now) } else { now };
    // The time of the last replayed commit does not advance while the primary is idle.
    let read_between = (!standby).then_some((asked, answered));
    let mut newest: Vec<(i64, u16)> = Vec::new();
    let (kind, taken_at) = match newest_counters {
        None => (WatermarkKind::Timestamp, WatermarkPoint::At(clock)),
        Some(statement) => {
            for row in session.rows(sqlx::query(statement.clone())).await? {
                newest.push((row.try_get(0)?, u16::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default()));
            }
            let largest = newest.first().map(|row| row.0);
            (WatermarkKind::Counter, largest.map_or(WatermarkPoint::Beginning, WatermarkPoint::At))
        }
    };
    let mut transactions = TransactionList {
        kind,
        clock,
        taken_at,
        server_start,
        newest: NewestRows::new(newest),
        read_between,
        running: Vec::new(),
        prepared: Vec::new(),
    };
    if standby {
        // Its own sessions write nothing, and those of the primary are not visible here.
        return Ok(transactions);
    }
    let mut running = session.rows(sqlx::query(RUNNING)).await?;
    for _ in 0..LOGIN_RETRIES {
        // Sessions that are logging in, mostly to other databases. A moment later their database is known. The clock has
        // been read already, so a later list of running transactions is just as good.
        if !running.iter().any(|row| row.try_get::<bool, _>(4).unwrap_or(false)) {
            break;
        }
        tokio::time::sleep(LOGIN_PAUSE).await;
        running = session.rows(sqlx::query(RUNNING)).await?;
    }
    for row in running {
        transactions.running.push(RunningTransaction {
            id: row.try_get(0)?,
            pid: row.try_get(1)?,
            started: row.try_get(2)?,
            application: row.try_get(3)?,
        });
    }
    for row in session.rows(sqlx::query(PREPARED)).await? {
        transactions.prepared.push(PreparedTransaction {
            id: row.try_get(0)?,
            gid: row.try_get(1)?,
            prepared_at: row.try_get(2)?,
        });
    }
    Ok(transactions)
}
