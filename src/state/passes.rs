//! The passes that changed something or failed, as `imsync status` lists them.
//!
//! Owns: the table `pass` and how many rows it keeps. Must not know: how a pass runs.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row as _;

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;

/// How many passes of each sync are kept.
const PASSES_KEPT: i64 = 500;

/// A pass as it is stored, and as JSON outputs show it.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct PassRow {
    /// `incremental`, `full` or `selected`.
    pub kind: String,
    /// `ok`, `rejected`, `failed`, `guard` or `interrupted`.
    pub outcome: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// Rows read from the table.
    pub rows_read: u64,
    /// Accounts whose desired values differed from the acknowledged ones.
    pub changed: u64,
    /// Accounts for which IM acknowledged a set.
    pub pushed: u64,
    /// Accounts for which IM acknowledged a removal.
    pub removed: u64,
    /// Accounts rejected in this pass.
    pub rejected: u64,
    /// Calls to IM, retries included.
    pub calls: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Accounts with a change that a full pass found and no incremental pass had seen.
    pub repaired: u64,
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl StateWriter {
    /// Adds a pass and deletes all but the newest 500.
    pub async fn add_pass(&self, pass: &PassRow) -> Result<(), StateError> {
        let PassRow {
            kind,
            outcome,
            started_at,
            finished_at,
            rows_read,
            changed,
            pushed,
            removed,
            rejected,
            calls,
            error,
            repaired,
        } = pass;
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO pass (sync_id, kind, outcome, started_at, finished_at, rows_read, changed, pushed, removed, rejected, calls, repaired, error) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(self.sync_id())
        .bind(kind)
        .bind(outcome)
        .bind(started_at)
        .bind(finished_at)
        .bind(signed(*rows_read))
        .bind(signed(*changed))
        .bind(signed(*pushed))
        .bind(signed(*removed))
        .bind(signed(*rejected))
        .bind(signed(*calls))
        .bind(signed(*repaired))
        .bind(error)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM pass WHERE sync_id = $1 AND id <= (SELECT id FROM pass WHERE sync_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)",
        )
        .bind(self.sync_id())
        .bind(PASSES_KEPT)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

impl State {
    /// The newest `limit` passes, newest first.
    pub async fn last_passes(&self, sync_id: i32, limit: i64) -> Result<Vec<PassRow>, StateError> {
        let rows = sqlx::query(
            "SELECT kind, outcome, started_at, finished_at, rows_read, changed, pushed, removed, rejected, calls, error, repaired \
             FROM pass WHERE sync_id = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(sync_id)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let count = |index: usize| -> Result<u64, sqlx::Error> {
                    Ok(u64::try_from(row.try_get::<i64, _>(index)?).unwrap_or(0))
                };
                Ok(PassRow {
                    kind: row.try_get(0)?,
                    outcome: row.try_get(1)?,
                    started_at: row.try_get(2)?,
                    finished_at: row.try_get(3)?,
                    rows_read: count(4)?,
                    changed: count(5)?,
                    pushed: count(6)?,
                    removed: count(7)?,
                    rejected: count(8)?,
                    calls: count(9)?,
                    error: row.try_get(10)?,
                    repaired: count(11)?,
                })
            })
            .collect()
    }
}
