//! Reads the transaction list: the clock, then the running, then the prepared transactions, in one statement.
//!
//! Owns: the statement over `pg_locks`, `pg_stat_activity` and `pg_prepared_xacts`. Must not know: how the list is used, what
//! a fingerprint is made of.
//!
//! The order makes the list exact. A transaction that is in neither list began after the clock was read, or ended before
//! the first row is read. One that is being prepared is in the running list, the prepared list, or both. `docs/watermark.md`
//! says why one statement has this order.

use std::cmp::Reverse;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row, SqlSafeStr, SqlStr};

use super::error::SourceError;
use super::session::SourceSession;
use super::watermark::{
    NewestRows, PreparedTransaction, RunningTransaction, TransactionList, WatermarkKind, WatermarkPoint,
};
use crate::clock;
use crate::finding::Finding;

/// Each LATERAL item needs a value of the one before it, so it is evaluated after it (manual, 7.2.1.5): `running` the process
/// id that `began` has read together with the clock, and `prepared` the database that `running` returns. Neither `began`,
/// whose function is volatile and which has an OFFSET, nor an aggregate can be merged into the query around it.
///
/// `extract` is exact: it returns a numeric with microseconds since `PostgreSQL` 14. `clock_timestamp` and
/// `current_database` have no schema, so that a test can replace them.
///
/// A session that is not, or no longer, in `pg_stat_activity` is included: an entry too many only causes rows to be read
/// again, an entry too few loses a row. A prepared transaction holds a lock on its own id until it ends. Without that lock it
/// has ended in the meantime.
const LISTS: &str = "
FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS clock,
    (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::int8 AS server_start,
    pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.pg_backend_pid() AS pid OFFSET 0) AS began
CROSS JOIN LATERAL (
  SELECT current_database() AS database,
    coalesce(json_agg(json_build_array(lock.virtualxid, lock.pid, (extract(epoch FROM session.xact_start) * 1000000)::int8,
      session.application_name, session.pid IS NULL)), '[]')::text AS transactions
  FROM pg_catalog.pg_locks AS lock
  LEFT JOIN pg_catalog.pg_stat_activity AS session ON session.pid = lock.pid
  WHERE lock.locktype = 'virtualxid' AND lock.mode = 'ExclusiveLock' AND lock.granted AND lock.pid <> began.pid
    AND (session.pid IS NULL OR session.datid =
      (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))) AS running
CROSS JOIN LATERAL (
  SELECT coalesce(json_agg(json_build_array(lock.virtualtransaction, prepared.gid,
      (extract(epoch FROM prepared.prepared) * 1000000)::int8)), '[]')::text AS transactions
  FROM pg_catalog.pg_prepared_xacts AS prepared
  JOIN pg_catalog.pg_locks AS lock ON lock.locktype = 'transactionid'
    AND lock.transactionid = prepared.transaction AND lock.mode = 'ExclusiveLock' AND lock.granted
  WHERE prepared.database = running.database) AS prepared";

/// On a standby, the time of the data is that of the last replayed commit, or of the checkpoint from which the standby
/// started. A managed server may deny either, and a privilege is checked before a statement runs, so each is a statement.
const REPLAYED: [&str; 2] = [
    "SELECT (extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::int8",
    "SELECT (extract(epoch FROM checkpoint_time) * 1000000)::int8 FROM pg_catalog.pg_control_checkpoint()",
];

/// The pause before sessions that are logging in are queried again. A login takes a few milliseconds; a session that
/// takes longer is included, whichever database it connects to.
const LOGIN_PAUSE: Duration = Duration::from_millis(10);
/// How often they are queried again.
const LOGIN_RETRIES: usize = 5;

/// Virtual transaction id, process id, start, `application_name`, and whether the session is not in `pg_stat_activity`.
type ListedRunning = (String, i32, Option<i64>, Option<String>, bool);
/// Virtual transaction id, global identifier, time of the preparation.
type ListedPrepared = (String, String, i64);

/// The statement. `newest_counters` selects the rows with the largest values of a counter: they are as the snapshot of the
/// statement shows them, which is older than both lists. `fingerprint` is a scalar query over the system catalogs,
/// `FingerprintReader::query`.
///
/// It has no parameter, so the server plans it once for each session.
pub(super) fn list_statement(newest_counters: Option<&SqlStr>, fingerprint: &str) -> SqlStr {
    let newest = newest_counters.map_or("NULL::text".to_owned(), |newest| {
        format!(
            "(SELECT coalesce(json_agg(json_build_array(value, account)), '[]')::text FROM ({}) AS newest (value, account))",
            newest.as_str()
        )
    });
    AssertSqlSafe(format!(
        "SELECT began.clock, began.server_start, began.standby, began.pid, running.transactions, prepared.transactions, {newest}, ({fingerprint}){LISTS}"
    ))
    .into_sql_str()
}

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

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, SourceError> {
    // The error of the parser could quote a name.
    serde_json::from_str(text).map_err(|_| SourceError::Refused("the transaction list cannot be read".to_owned()))
}

/// One answer of the statement.
pub(super) struct Listed {
    pub(super) transactions: TransactionList,
    /// Text of the query that the statement was made with.
    pub(super) fingerprint: Option<String>,
    /// Sessions are logging in, mostly to other databases.
    pub(super) has_logins: bool,
}

/// Reads the transaction list and the fingerprint.
pub(super) async fn list_transactions(session: &mut SourceSession, statement: &SqlStr) -> Result<Listed, SourceError> {
    let mut listed = list_once(session, statement).await?;
    for _ in 0..LOGIN_RETRIES {
        if !listed.has_logins {
            break;
        }
        // A moment later their database is known.
        tokio::time::sleep(LOGIN_PAUSE).await;
        listed = list_once(session, statement).await?;
    }
    Ok(listed)
}

pub(super) async fn list_once(session: &mut SourceSession, statement: &SqlStr) -> Result<Listed, SourceError> {
    let asked = clock::monotonic();
    let row = session.row(sqlx::query(statement.clone())).await?;
    let answered = clock::monotonic();
    session.check_pid(row.try_get(3)?)?;
    let (now, server_start, standby): (i64, i64, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let clock = if standby { replayed(session).await?.min(now) } else { now };
    let (kind, taken_at, newest) = match row.try_get::<Option<&str>, _>(6)? {
        None => (WatermarkKind::Timestamp, WatermarkPoint::At(clock), Vec::new()),
        Some(newest) => {
            let mut newest: Vec<(i64, u16)> = parsed(newest)?;
            newest.sort_by_key(|(value, _)| Reverse(*value));
            let largest = newest.first().map_or(WatermarkPoint::Beginning, |row| WatermarkPoint::At(row.0));
            (WatermarkKind::Counter, largest, newest)
        }
    };
    let mut running: Vec<ListedRunning> = parsed(row.try_get(4)?)?;
    let mut prepared: Vec<ListedPrepared> = parsed(row.try_get(5)?)?;
    if standby {
        // Its own sessions write nothing, and those of the primary are not visible there.
        running.clear();
        prepared.clear();
    }
    let has_logins = running.iter().any(|(.., is_logging_in)| *is_logging_in);
    let transactions = TransactionList {
        kind,
        clock,
        taken_at,
        server_start,
        newest: NewestRows::new(newest),
        // The time of the last replayed commit does not advance while the primary is idle.
        read_between: (!standby).then_some((asked, answered)),
        running: running.into_iter().map(running_transaction).collect(),
        prepared: prepared.into_iter().map(prepared_transaction).collect(),
    };
    Ok(Listed { transactions, fingerprint: row.try_get(7)?, has_logins })
}

fn running_transaction((id, pid, started, application, _): ListedRunning) -> RunningTransaction {
    RunningTransaction { id, pid, started, application }
}

fn prepared_transaction((id, gid, prepared_at): ListedPrepared) -> PreparedTransaction {
    PreparedTransaction { id, gid, prepared_at }
}
