//! The transaction_list: clock, running and prepared transactions, each by a statement of its own and in that order.
//!
//! Owns: the statements over `pg_locks`, `pg_stat_activity` and `pg_prepared_xacts`. Must not know: what is done with them.
//!
//! The order is what makes it exact. A transaction that is in neither list began after the clock was read, or has ended
//! before the first row is read. One that is being prepared is in the running list, the prepared list, or both. One
//! transaction for all three would read the lists from one cached snapshot of the statistics.

use std::time::Duration;

use sqlx::Row;

use super::error::SourceError;
use super::session::SourceSession;
use super::watermark::{PreparedTransaction, RunningTransaction, TransactionList, WatermarkBound, WatermarkKind};
use crate::clock;

/// On a standby the clock of the data is the last replayed commit; where none was replayed since it started, the
/// checkpoint it started from. `extract` is exact: a numeric with microseconds since `PostgreSQL` 14.
const CLOCK: &str = "
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8,
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8,
       pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery() THEN
         (extract(epoch FROM coalesce(pg_last_xact_replay_timestamp(),
           (SELECT checkpoint_time FROM pg_control_checkpoint()))) * 1000000)::int8
       END,
       pg_backend_pid()";

/// A session that is not (or no longer) in `pg_stat_activity` counts: too many open cost a transactions, one too few a row.
const RUNNING: &str = "
SELECT held.virtualxid, held.pid, (extract(epoch FROM session.xact_start) * 1000000)::int8, session.application_name,
       session.pid IS NULL
FROM pg_catalog.pg_locks AS held
LEFT JOIN pg_catalog.pg_stat_activity AS session ON session.pid = held.pid
WHERE held.locktype = 'virtualxid' AND held.mode = 'ExclusiveLock' AND held.granted
  AND held.pid <> pg_backend_pid()
  AND (session.pid IS NULL
    OR session.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))";

/// A prepared transaction holds the lock on its own id until it ends; without that lock it has ended by now.
const PREPARED: &str = "
SELECT held.virtualtransaction, prepared.gid, (extract(epoch FROM prepared.prepared) * 1000000)::int8
FROM pg_catalog.pg_prepared_xacts AS prepared
JOIN pg_catalog.pg_locks AS held ON held.locktype = 'transactionid'
  AND held.transactionid = prepared.transaction AND held.mode = 'ExclusiveLock' AND held.granted
WHERE prepared.database = current_database()";

/// A log-in takes a few milliseconds. A session that takes longer is a member, wherever it logs in.
const LOGGING_IN: Duration = Duration::from_millis(10);
const LOGGING_IN_ASKS: usize = 5;

/// Takes a transaction list. `largest` is the statement for the largest value of a counter.
pub(super) async fn take(
    session: &mut SourceSession,
    largest: Option<&sqlx::SqlStr>,
) -> Result<TransactionList, SourceError> {
    let asked = clock::monotonic();
    let row = session.row(sqlx::query(CLOCK)).await?;
    let answered = clock::monotonic();
    session.still(row.try_get(4)?)?;
    let (now, server_start, standby): (i64, i64, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let clock = row.try_get::<Option<i64>, _>(3)?.map_or(now, |replayed| replayed.min(now));
    // What was replayed last stands still while the primary does.
    let between = (!standby).then_some((asked, answered));
    let (kind, candidate) = match largest {
        None => (WatermarkKind::Timestamp, WatermarkBound::At(clock)),
        Some(largest) => {
            let largest: Option<i64> = session.row(sqlx::query(largest.clone())).await?.try_get(0)?;
            (WatermarkKind::Counter, largest.map_or(WatermarkBound::Beginning, WatermarkBound::At))
        }
    };
    let mut transactions =
        TransactionList { kind, clock, candidate, server_start, between, running: Vec::new(), prepared: Vec::new() };
    if standby {
        // Its own sessions write nothing, and the primary's are not to be seen here.
        return Ok(transactions);
    }
    let mut running = session.rows(sqlx::query(RUNNING)).await?;
    for _ in 0..LOGGING_IN_ASKS {
        // Sessions that log in, mostly to other databases. Asked a moment later they are told apart; the clock has been
        // read already, so any later look at the running ones is as good.
        if !running.iter().any(|row| row.try_get::<bool, _>(4).unwrap_or(false)) {
            break;
        }
        tokio::time::sleep(LOGGING_IN).await;
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
