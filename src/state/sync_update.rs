//! Updates of the row of a sync: the watermark, the position of a full pass, the end of a pass, the last call.
//!
//! Owns: writing the columns of `sync` that a pass changes. Must not know: how their values are computed.
//!
//! Each update is one statement that names the lease epoch, so that a former holder of the lease changes nothing.

use serde_json::Value;

use super::error::StateError;
use super::writer::StateWriter;

/// A request for a full pass. It stays due over restarts until a full pass that began after it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullPassRequest {
    /// Its number. Positions and completed passes refer to the number, because two requests can have the same reason.
    pub number: i64,
    /// Why the pass is due.
    pub why: String,
}

/// What the end of a pass writes. `None` keeps a column as it is; `guard`, `full_pass_due`, `held_back_by` and
/// `running_pass` are always written.
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
    /// The number of the newest request for a full pass.
    pub full_pass_request: i64,
    /// The full pass that goes on when this pass has ended; `None` clears the column.
    pub running_pass: Option<Value>,
    /// A full pass ended now: its time is stored and its position deleted.
    pub full_pass_ended: bool,
    /// What the full pass that ended found that no incremental pass had seen; `None` if it did not count. Only stored with
    /// `full_pass_ended`.
    pub full_pass_repairs: Option<Value>,
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

    /// Makes a full pass due.
    pub async fn save_full_pass_due(&self, request: &FullPassRequest) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET full_pass_due = $3, full_pass_request = $4 WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(&request.why)
        .bind(request.number)
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Stores the fingerprint of the source at first use, or when it has new parts.
    pub async fn save_source_fingerprint(&self, fingerprint: &Value) -> Result<(), StateError> {
        let done =
            sqlx::query("UPDATE sync SET source_fingerprint = $3::text::jsonb WHERE id = $1 AND lease_epoch = $2")
                .bind(self.sync_id())
                .bind(self.epoch())
                .bind(fingerprint.to_string())
                .execute(self.pool())
                .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Stores the fingerprint of a source that has changed, makes a full pass due, and forgets the watermark where it has
    /// no meaning any more, in one statement. The fingerprint alone would claim that what is stored belongs to it.
    pub async fn save_source_change(
        &self,
        fingerprint: &Value,
        request: &FullPassRequest,
        forget_watermark: bool,
    ) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET source_fingerprint = $3::text::jsonb, full_pass_due = $4, full_pass_request = $5, \
             full_pass_position = NULL, watermark = CASE WHEN $6 THEN NULL ELSE watermark END, \
             watermark_state = CASE WHEN $6 THEN NULL ELSE watermark_state END, \
             held_back_by = CASE WHEN $6 THEN NULL ELSE held_back_by END \
             WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(fingerprint.to_string())
        .bind(&request.why)
        .bind(request.number)
        .bind(forget_watermark)
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Stores a new watermark before the first page of the full pass that it belongs to, and makes that pass due, in one
    /// statement. A watermark alone would claim that all rows below it had been read.
    pub async fn save_watermark(
        &self,
        watermark: &str,
        state: &Value,
        fingerprint: &str,
        request: &FullPassRequest,
    ) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET watermark = $3, watermark_state = $4::text::jsonb, watermark_fingerprint = $5, \
             full_pass_due = $6, full_pass_request = $7, full_pass_position = NULL WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(watermark)
        .bind(state.to_string())
        .bind(fingerprint)
        .bind(&request.why)
        .bind(request.number)
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Writes the end of a pass. `current_as_of` never goes back.
    pub async fn update_sync(&self, update: &SyncUpdate) -> Result<(), StateError> {
        let SyncUpdate {
            watermark,
            watermark_state,
            held_back_by,
            current_seconds_ago,
            guard,
            full_pass_due,
            full_pass_request,
            running_pass,
            full_pass_ended,
            full_pass_repairs,
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
             full_pass_repairs = CASE WHEN $9 THEN coalesce($13::text::jsonb, full_pass_repairs) ELSE full_pass_repairs END, \
             full_pass_repairs_so_far = CASE WHEN $9 THEN NULL ELSE full_pass_repairs_so_far END, \
             mapping_fingerprint = coalesce($10, mapping_fingerprint), \
             watermark_fingerprint = coalesce($11, watermark_fingerprint), \
             full_pass_request = $12, running_pass = $14::text::jsonb \
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
        .bind(full_pass_request)
        .bind(full_pass_repairs.as_ref().map(Value::to_string))
        .bind(running_pass.as_ref().map(Value::to_string))
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Stores what a full pass under way has found that no incremental pass had seen.
    pub async fn save_repairs_so_far(&self, so_far: &Value) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET full_pass_repairs_so_far = $3::text::jsonb WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(so_far.to_string())
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Stores what the webhook of the alerts has accepted.
    pub async fn save_alerts(&self, alerts: &Value) -> Result<(), StateError> {
        let done = sqlx::query("UPDATE sync SET alerts = $3::text::jsonb WHERE id = $1 AND lease_epoch = $2")
            .bind(self.sync_id())
            .bind(self.epoch())
            .bind(alerts.to_string())
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
