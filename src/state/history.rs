//! The passes that did something or failed.
//!
//! Owns: the table `pass` and its trimming. Must not know: how a pass runs.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row as _;

use super::{State, StateError, StateWriter};

/// Passes that are kept of each sync.
const KEPT: i64 = 500;

/// A pass as it is stored and shown.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct PassRow {
    pub kind: String,
    pub outcome: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    pub rows_read: u64,
    pub changed: u64,
    pub pushed: u64,
    pub removed: u64,
    pub rejected: u64,
    pub calls: u64,
    pub error: Option<String>,
    pub repaired: u64,
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl StateWriter {
    /// Adds a pass and drops the oldest ones beyond what is kept.
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
        .bind(KEPT)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

impl State {
    /// The newest passes, newest first.
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
