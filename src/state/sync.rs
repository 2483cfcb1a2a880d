//! The sync row: what a sync is bound to, how far it has read, and the fingerprints of what it was compared with.
//!
//! Owns: the table `sync`, lease columns aside. Must not know: what the fingerprints are made of.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgTransaction, Row as _};

use super::{State, StateError, StateWriter};
use crate::crash;
use crate::model::{AttributeIndex, AttributeNames};

/// What a sync is bound to at first use; resolved names, not spellings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub table: String,
    pub account_column: String,
    pub account_prefix: String,
    pub account_format: String,
    pub sdk_app_id: u32,
    pub service: String,
}

impl Binding {
    /// The keys in which two bindings differ: key, bound value, configured value.
    fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let Self { table, account_column, account_prefix, account_format, sdk_app_id, service } = self;
        [
            ("source.table", table.clone(), other.table.clone()),
            ("source.account_column", account_column.clone(), other.account_column.clone()),
            ("source.account_prefix", account_prefix.clone(), other.account_prefix.clone()),
            ("source.account_format", account_format.clone(), other.account_format.clone()),
            ("im.sdk_app_id", sdk_app_id.to_string(), other.sdk_app_id.to_string()),
            ("im.service", service.clone(), other.service.clone()),
        ]
        .into_iter()
        .filter(|(_, bound, configured)| bound != configured)
        .collect()
    }
}

/// The sync row as read.
#[derive(Clone, Debug)]
pub struct SyncRow {
    pub id: i32,
    pub binding: Binding,
    pub attribute_names: AttributeNames,
    pub generation: i32,
    pub state_server: Option<String>,
    pub mapping_fingerprint: Option<String>,
    pub watermark_fingerprint: Option<String>,
    pub watermark: Option<String>,
    pub watermark_state: Option<Value>,
    pub held_back_by: Option<Value>,
    pub current_as_of: Option<DateTime<Utc>>,
    pub full_pass_due: Option<String>,
    pub full_pass_position: Option<Value>,
    pub full_pass_ended_at: Option<DateTime<Utc>>,
    pub guard: Option<Value>,
    pub running: Option<Value>,
    pub last_call_at: Option<DateTime<Utc>>,
    pub holder: Option<String>,
    pub lease_taken_at: Option<DateTime<Utc>>,
    /// The state server's clock when the row was read.
    pub read_at: DateTime<Utc>,
}

const COLUMNS: &str = "SELECT id, binding::text, attribute_names, generation, state_server, mapping_fingerprint, \
    watermark_fingerprint, watermark, watermark_state::text, held_back_by::text, current_as_of, full_pass_due, \
    full_pass_position::text, full_pass_ended_at, guard::text, running::text, last_call_at, holder, lease_taken_at, \
    clock_timestamp() AS read_at FROM sync WHERE name = $1";

fn json(row: &PgRow, column: &str) -> Result<Option<Value>, StateError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| StateError::Refused(format!("column sync.{column} does not hold what imsync wrote: {error}")))
}

impl SyncRow {
    fn from_row(row: &PgRow) -> Result<Self, StateError> {
        let names: Vec<String> = row.try_get("attribute_names")?;
        let binding = json(row, "binding")?.unwrap_or_default();
        Ok(Self {
            id: row.try_get("id")?,
            binding: serde_json::from_value(binding).map_err(|error| {
                StateError::Refused(format!("column sync.binding does not hold what imsync wrote: {error}"))
            })?,
            attribute_names: names.into_iter().map(Arc::from).collect(),
            generation: row.try_get("generation")?,
            state_server: row.try_get("state_server")?,
            mapping_fingerprint: row.try_get("mapping_fingerprint")?,
            watermark_fingerprint: row.try_get("watermark_fingerprint")?,
            watermark: row.try_get("watermark")?,
            watermark_state: json(row, "watermark_state")?,
            held_back_by: json(row, "held_back_by")?,
            current_as_of: row.try_get("current_as_of")?,
            full_pass_due: row.try_get("full_pass_due")?,
            full_pass_position: json(row, "full_pass_position")?,
            full_pass_ended_at: row.try_get("full_pass_ended_at")?,
            guard: json(row, "guard")?,
            running: json(row, "running")?,
            last_call_at: row.try_get("last_call_at")?,
            holder: row.try_get("holder")?,
            lease_taken_at: row.try_get("lease_taken_at")?,
            read_at: row.try_get("read_at")?,
        })
    }

    /// Refuses a configuration that is bound elsewhere, with the remedies.
    pub fn check_binding(&self, name: &str, configured: &Binding) -> Result<(), StateError> {
        let differences = self.binding.differences(configured);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Self::bound_elsewhere(name, &differences))
    }

    /// Refuses a rebinding that changes more than the app.
    pub fn check_only_app_differs(&self, name: &str, configured: &Binding) -> Result<(), StateError> {
        let mut differences = self.binding.differences(configured);
        differences.retain(|(key, ..)| !key.starts_with("im."));
        if differences.is_empty() { Ok(()) } else { Err(Self::bound_elsewhere(name, &differences)) }
    }

    fn bound_elsewhere(name: &str, differences: &[(&'static str, String, String)]) -> StateError {
        let list: Vec<String> = differences
            .iter()
            .map(|(key, bound, configured)| format!("{key} was \"{bound}\" and is now \"{configured}\""))
            .collect();
        let only_app = differences.iter().all(|(key, ..)| key.starts_with("im."));
        let remedy = if only_app {
            "set it back, choose another `name` for a sync of its own, or run `imsync migrate --rebind` to accept the other app (every acknowledged value then counts as unknown)"
        } else {
            "set it back, or choose another `name` for a sync of its own"
        };
        StateError::Unsuitable(format!(
            "the sync \"{name}\" is bound to something else: {}. To mend it, {remedy}",
            list.join("; ")
        ))
    }
}

impl State {
    /// The sync row of this name; `None` before first use, also when there are no state tables.
    pub async fn sync_row(&self) -> Result<Option<SyncRow>, StateError> {
        if self.version_that_we_take().await?.is_none() {
            return Ok(None);
        }
        let row = sqlx::query(COLUMNS).bind(&self.name).fetch_optional(&self.pool).await?;
        row.as_ref().map(SyncRow::from_row).transpose()
    }

    /// The row of this name, created with this binding at first use.
    pub async fn bind(&self, binding: &Binding) -> Result<SyncRow, StateError> {
        let json = serde_json::to_string(binding).map_err(|error| StateError::Refused(error.to_string()))?;
        sqlx::query("INSERT INTO sync (name, binding) VALUES ($1, $2::text::jsonb) ON CONFLICT (name) DO NOTHING")
            .bind(&self.name)
            .bind(json)
            .execute(&self.pool)
            .await?;
        crash::point("start: the sync row is there");
        let row = self.sync_row().await?.ok_or(StateError::LeaseLost)?;
        row.check_binding(&self.name, binding)?;
        Ok(row)
    }

    /// Which server this is: system identifier and timeline (a restored backup or a promoted standby shows another).
    pub async fn server_identity(&self) -> Result<String, StateError> {
        // On a standby there is no current WAL position; nothing is written there anyway.
        Ok(sqlx::query_scalar(
            "SELECT (SELECT system_identifier::text FROM pg_control_system()) || ':' || \
             CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
        )
        .fetch_one(&self.pool)
        .await?)
    }
}

/// What the end of a pass writes into the sync row. `None` leaves a column as it is, but for `guard` and `full_pass_due`.
#[derive(Clone, Debug, Default)]
pub struct SyncUpdate {
    pub watermark: Option<String>,
    pub watermark_state: Option<Value>,
    pub held_back_by: Option<Value>,
    /// Seconds ago at which the complete incremental pass began.
    pub current_seconds_ago: Option<f64>,
    pub guard: Option<Value>,
    pub full_pass_due: Option<String>,
    /// A full pass ended: its time is now, its position is dropped.
    pub full_pass_ended: bool,
    pub mapping_fingerprint: Option<String>,
    pub watermark_fingerprint: Option<String>,
}

/// The attributes of these names in a sync's list, and the list with the new ones appended: names never move.
pub fn append_names(known: &[Arc<str>], wanted: &[Arc<str>]) -> (Vec<Arc<str>>, Vec<AttributeIndex>) {
    let mut names = known.to_vec();
    let mut attributes = Vec::with_capacity(wanted.len());
    for name in wanted {
        let index = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.clone());
            names.len() - 1
        });
        attributes.push(AttributeIndex(u16::try_from(index).unwrap_or(u16::MAX)));
    }
    (names, attributes)
}

impl StateWriter {
    /// The attributes of these names, appended to the sync's list where they are new. Returns all names by attribute and the attributes.
    pub async fn attribute_indexes(&mut self, wanted: &[Arc<str>]) -> Result<Vec<AttributeIndex>, StateError> {
        let (names, attributes) = append_names(self.names(), wanted);
        if names.len() > super::intent::MAX_ATTRIBUTE_NAMES {
            return Err(StateError::Unsuitable(format!(
                "this sync has used {} attribute names over time, {} is the most; choose another `name` to begin a fresh sync",
                names.len(),
                super::intent::MAX_ATTRIBUTE_NAMES
            )));
        }
        if names.len() > self.names().len() {
            let texts: Vec<&str> = names.iter().map(|name| &**name).collect();
            let done = sqlx::query("UPDATE sync SET attribute_names = $3 WHERE id = $1 AND epoch = $2")
                .bind(self.sync_id())
                .bind(self.epoch())
                .bind(&texts)
                .execute(self.pool())
                .await?;
            Self::expect_one(done.rows_affected())?;
            crash::point("start: the attributes have attributes");
            self.set_names(names.into());
        }
        Ok(attributes)
    }

    /// Distrusts everything acknowledged so far: IM or the state is not the one it was. A full pass falls due.
    pub async fn begin_generation(&mut self, server: &str, why: &str) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        self.forget_rejections(&mut transaction).await?;
        let generation: i32 = sqlx::query_scalar(
            "UPDATE sync SET generation = generation + 1, state_server = $2, full_pass_due = $3, full_pass_position = NULL \
             WHERE id = $1 RETURNING generation",
        )
        .bind(self.sync_id())
        .bind(server)
        .bind(why)
        .fetch_one(&mut *transaction)
        .await?;
        self.end_raising(transaction, generation).await
    }

    /// What another app, or a state of other times, refused says nothing of this one.
    async fn forget_rejections(&self, connection: &mut PgConnection) -> Result<(), StateError> {
        sqlx::query("DELETE FROM rejection WHERE sync_id = $1").bind(self.sync_id()).execute(connection).await?;
        Ok(())
    }

    /// Binds the sync to another app and distrusts everything acknowledged, in one transaction.
    pub async fn rebind(&mut self, binding: &Binding) -> Result<(), StateError> {
        let json = serde_json::to_string(binding).map_err(|error| StateError::Refused(error.to_string()))?;
        let mut transaction = self.begin().await?;
        self.forget_rejections(&mut transaction).await?;
        // What was removed in the other app says nothing of this one.
        self.forget_removals_in(&mut transaction).await?;
        let generation: i32 = sqlx::query_scalar(
            "UPDATE sync SET binding = $2::text::jsonb, generation = generation + 1, \
             full_pass_due = 'the sync was bound to another app', full_pass_position = NULL \
             WHERE id = $1 RETURNING generation",
        )
        .bind(self.sync_id())
        .bind(json)
        .fetch_one(&mut *transaction)
        .await?;
        self.end_raising(transaction, generation).await
    }

    async fn end_raising(&mut self, transaction: PgTransaction<'static>, generation: i32) -> Result<(), StateError> {
        crash::point("generation: raised, not committed");
        transaction.commit().await?;
        crash::point("generation: raised");
        self.set_generation(generation);
        Ok(())
    }

    /// Remembers the state server at first use.
    pub async fn remember_server(&self, server: &str) -> Result<(), StateError> {
        let done = sqlx::query("UPDATE sync SET state_server = $3 WHERE id = $1 AND epoch = $2")
            .bind(self.sync_id())
            .bind(self.epoch())
            .bind(server)
            .execute(self.pool())
            .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Where a full pass goes on, and what `status` shows of the pass under way. One short statement, not in the
    /// transaction of the outcomes: a position that lags behind only repeats comparisons.
    pub async fn save_progress(&self, position: Option<&Value>, running: Option<&Value>) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET full_pass_position = coalesce($3::text::jsonb, full_pass_position), running = $4::text::jsonb \
             WHERE id = $1 AND epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(position.map(Value::to_string))
        .bind(running.map(Value::to_string))
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// A full pass is due for this reason until one that answers it has ended, over restarts too.
    pub async fn remember_full_pass_due(&self, why: &str) -> Result<(), StateError> {
        let done = sqlx::query("UPDATE sync SET full_pass_due = $3 WHERE id = $1 AND epoch = $2")
            .bind(self.sync_id())
            .bind(self.epoch())
            .bind(why)
            .execute(self.pool())
            .await?;
        Self::expect_one(done.rows_affected())
    }

    /// A new watermark, before the first page of the full pass that it begins with. Until that pass has ended it is
    /// due, in the same statement: a watermark alone would claim that everything before it was read.
    pub async fn save_watermark(
        &self,
        watermark: &str,
        state: &Value,
        fingerprint: &str,
        why_full: &str,
    ) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET watermark = $3, watermark_state = $4::text::jsonb, watermark_fingerprint = $5, \
             full_pass_due = $6, full_pass_position = NULL WHERE id = $1 AND epoch = $2",
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

    /// What the end of a pass changes in the sync row.
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
             watermark_fingerprint = coalesce($11, watermark_fingerprint), running = NULL \
             WHERE id = $1 AND epoch = $2",
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

    /// At a clean end: seconds since the last call to IM started, for the next holder's pace.
    pub async fn save_last_call(&self, seconds_ago: Option<f64>) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET last_call_at = coalesce(clock_timestamp() - make_interval(secs => $3), last_call_at, lease_taken_at) \
             WHERE id = $1 AND epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(seconds_ago)
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }
}
