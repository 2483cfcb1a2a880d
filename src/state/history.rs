//! The history of what was sent: a row for every attribute, written with its outcome and deleted by age.
//!
//! Owns: writing and trimming the table `history`. Must not know: whether and how long a history is kept, how it is listed.
//!
//! The rows are part of the transaction that records the outcomes. So the history holds a call exactly when the state knows
//! how it ended. What an intent stands for that was left over has no row: its values were never stored.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::copy_format::{CopyData, pg_micros};
use super::error::StateError;
use super::writer::StateWriter;
use crate::crash;
use crate::model::{Account, AttributeIndex};

/// Rows that one statement deletes. It takes about 20 ms.
const TRIM_ROWS: u32 = 5_000;
/// The size of a row in the format of COPY, roughly.
const ROW_BYTES: usize = 150;

/// The pass that sends something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendingPass {
    /// `incremental`, `full` or `selected`.
    pub kind: &'static str,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// What one delivery has sent.
#[derive(Debug)]
pub struct HistoryRecord {
    /// The pass that has sent it.
    pub pass: SendingPass,
    /// A row for each attribute, those of an account side by side.
    pub rows: Vec<NewHistoryRow>,
}

/// One attribute that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHistoryRow {
    /// The IM account.
    pub account: Account,
    /// The attribute.
    pub attribute: AttributeIndex,
    /// The value that IM had acknowledged before; `None` for none, and when the outcome of an earlier call was unknown.
    pub old: Option<Arc<str>>,
    /// The value that was set; `None` for a removal.
    pub new: Option<Arc<str>>,
    /// How it ended.
    pub outcome: SentOutcome,
}

/// How a call with an attribute ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentOutcome {
    /// IM confirmed it.
    Acknowledged,
    /// IM refused it.
    Rejected,
    /// The outcome is unknown, or an earlier call may still be applied after it. It is sent again.
    InDoubt,
}

impl SentOutcome {
    /// The word of the table and of the JSON objects.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Rejected => "rejected",
            Self::InDoubt => "in_doubt",
        }
    }
}

impl HistoryRecord {
    /// Nothing yet.
    pub fn by(pass: SendingPass) -> Self {
        Self { pass, rows: Vec::new() }
    }
}

/// Adds a row for each attribute within a transaction of the writer. All of them have the time of the statement.
pub(super) async fn write_history(
    connection: &mut PgConnection,
    writer: &StateWriter,
    record: &HistoryRecord,
) -> Result<(), StateError> {
    let HistoryRecord { pass: SendingPass { kind, started_at }, rows } = record;
    if rows.is_empty() {
        return Ok(());
    }
    // In the order of the index, so that rows side by side touch the same pages.
    let mut rows: Vec<&NewHistoryRow> = rows.iter().collect();
    rows.sort_by(|one, other| one.account.cmp(&other.account));
    let mut data = CopyData::with_capacity(ROW_BYTES * rows.len());
    for NewHistoryRow { account, attribute, old, new, outcome } in rows {
        let name = writer.names().get(attribute.index()).map_or("", |name| &**name);
        data.begin_row(8);
        data.field(Some(&pg_micros(*started_at).to_be_bytes()));
        data.field(Some(&writer.sync_id().to_be_bytes()));
        data.field(Some(account.as_str().as_bytes()));
        data.field(Some(name.as_bytes()));
        data.field(old.as_ref().map(|value| value.as_bytes()));
        data.field(new.as_ref().map(|value| value.as_bytes()));
        data.field(Some(kind.as_bytes()));
        data.field(Some(outcome.label().as_bytes()));
    }
    let statement = "COPY history (pass_started_at, sync_id, account, attribute, old_value, new_value, pass_kind, outcome) \
         FROM STDIN (FORMAT binary)";
    data.copy(connection, statement).await
}

/// Deletes the oldest rows of sync `$1` that are older than `$3` seconds, or all if that is NULL. `$4`: the time of the last
/// row that was deleted; the entries before it are dead, and there may be millions of them until the next VACUUM.
pub(super) const TRIM: &str = "\
    WITH lease AS (SELECT id FROM sync WHERE id = $1 AND lease_epoch = $2 FOR SHARE), \
    gone AS (DELETE FROM history WHERE EXISTS (SELECT FROM lease) AND ctid = ANY (ARRAY( \
      SELECT ctid FROM history WHERE sync_id = $1 AND at >= coalesce($4, '-infinity') \
      AND at < coalesce(statement_timestamp() - make_interval(secs => $3), 'infinity') ORDER BY at LIMIT $5)) RETURNING at) \
    SELECT count(*), max(at) FROM gone";

/// What one step of trimming did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryTrimmed {
    /// The time of the last row that was deleted, from where the next step goes on; `None` if there was none.
    pub until: Option<DateTime<Utc>>,
    /// Nothing is left to delete.
    pub is_done: bool,
}

impl StateWriter {
    /// Deletes the next rows of this sync that are older than `keep`, or whatever their age if it is `None`. `after`: where
    /// the last step ended. Deletes nothing when another process has the lease.
    pub async fn trim_history(
        &self,
        keep: Option<Duration>,
        after: Option<DateTime<Utc>>,
    ) -> Result<HistoryTrimmed, StateError> {
        let (rows, until): (i64, Option<DateTime<Utc>>) = sqlx::query_as(TRIM)
            .bind(self.sync_id())
            .bind(self.epoch())
            .bind(keep.map(|keep| keep.as_secs_f64()))
            .bind(after)
            .bind(i64::from(TRIM_ROWS))
            .fetch_one(self.pool())
            .await?;
        crash::point("history: old rows are deleted");
        Ok(HistoryTrimmed { until: until.or(after), is_done: rows < i64::from(TRIM_ROWS) })
    }
}

#[cfg(test)]
mod tests;
