//! Updates of the row of a sync: the watermark, the position of a full pass, the end of a pass, the last call.
//!
//! Owns: writing the columns of `sync` that a pass changes. Must not know: how their values are computed.
//!
//! Each update is one statement that names the lease epoch, so that a former holder of the lease changes nothing.

use serde_json::Value;

use super::error::StateError;
use super::writer::StateWriter;

/// What the end of a pass writes. `None` keeps a column as it is; `guard`, `full_pass_due` and `held_back_by` are
/// always written.
#[derive(Clone, Debug, Default)]
pub struct SyncUpdate {
    /// The durable watermark as text.
    pub watermark: Option<String>,
    /// The watermark tracker of the source.
    pub watermark_state: Option<Value>,
    /// The transaction that holds the watermark back; `None` clears the column.
    pub held_back_by: Option<Value>,
    /// How many seconds ago the complete incremental pass began.
    pub current_seconds_ago: Option<f64>,
    /// The tripped removal guard; `None` clears the column.
    pub guard: Option<Value>,
    /// Why a full pass is due; `None` clears the column.
    pub full_pass_due: Option<String>,
    /// A full pass ended now: its time is stored and its position deleted.
    pub full_pass_ended: bool,
    /// Mapping, filter and deleted column of the full pass that ended.
    pub mapping_fingerprint: Option<String>,
    /// The watermark column and time zone for which `watermark_state` is valid.
    pub watermark_fingerprint: Option<String>,
}

impl StateWriter {
    /// Stores the position of a full pass (`None` keeps it) and the progress that `imsync status` shows.
    ///
    /// It is a separate statement, outside the transaction of the outcomes: a position that lags behind only repeats
    /// comparisons.
    pub async fn save_progress(&self, position: Option<&Value>, running: Option<&Value>) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET full_pass_position = coalesce($3::text::jsonb, full_pass_position), running_pass = $4::text::jsonb \
             WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(position.map(Value::to_string))
        .bind(running.map(Value::to_string))
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Makes a full pass due for the reason `why`. It stays due over restarts until a full pass has ended.
    pub async fn save_full_pass_due(&self, why: &str) -> Result<(), StateError> {
        let done = sqlx::query("UPDATE sync SET full_pass_due = $3 WHERE id = $1 AND lease_epoch = $2")
            .bind(self.sync_id())
            .bind(self.epoch())
            .bind(why)
            .execute(self.pool())
            .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Stores a new watermark before the first page of the full pass that it belongs to, and makes that pass due for
    /// the reason `why_full`, in one statement. A watermark alone would claim that all rows below it had been read.
    pub async fn save_watermark(
        &self,
        watermark: &str,
        state: &Value,
        fingerprint: &str,
        why_full: &str,
    ) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET watermark = $3, watermark_state = $4::text::jsonb, watermark_fingerprint = $5, \
             full_pass_due = $6, full_pass_position = NULL WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(watermark)
        .bind(state.to_string())
        .bind(fingerprint)
        .bind(why_full)
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Writes the end of a pass, and clears `running_pass`. `current_as_of` never goes back.
    pub async fn update_sync(&self, update: &SyncUpdate) -> Result<(), StateError> {
        let SyncUpdate {
            watermark,
            watermark_state,
            held_back_by,
            current_seconds_ago,
            guard,
            full_pass_due,
            full_pass_ended,
            mapping_fingerprint,
            watermark_fingerprint,
        } = update;
        let done = sqlx::query(
            "UPDATE sync SET watermark = coalesce($3, watermark), \
             watermark_state = coalesce($4::text::jsonb, watermark_state), \
             held_back_by = $5::text::jsonb, \
             current_as_of = greatest(clock_timestamp() - make_interval(secs => $6), current_as_of), \
             guard = $7::text::jsonb, full_pass_due = $8, \
             full_pass_ended_at = CASE WHEN $9 THEN clock_timestamp() ELSE full_pass_ended_at END, \
             full_pass_position = CASE WHEN $9 THEN NULL ELSE full_pass_position END, \
             mapping_fingerprint = coalesce($10, mapping_fingerprint), \
             watermark_fingerprint = coalesce($11, watermark_fingerprint), running_pass = NULL \
             WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(watermark)
        .bind(watermark_state.as_ref().map(Value::to_string))
        .bind(held_back_by.as_ref().map(Value::to_string))
        .bind(current_seconds_ago)
        .bind(guard.as_ref().map(Value::to_string))
        .bind(full_pass_due)
        .bind(full_pass_ended)
        .bind(mapping_fingerprint)
        .bind(watermark_fingerprint)
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Stores at a clean shutdown how many seconds ago the last call to IM started, so that the next holder of the
    /// lease waits no longer than it must. `None`: there was no call under this lease. Then the time when the lease
    /// was taken is stored, unless an earlier time is stored already.
    pub async fn save_last_call(&self, seconds_ago: Option<f64>) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET last_call_at = coalesce(clock_timestamp() - make_interval(secs => $3), last_call_at, lease_taken_at) \
             WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(seconds_ago)
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }
}
