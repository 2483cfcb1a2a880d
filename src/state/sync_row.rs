//! The row of a sync in the table `sync`: reading it, and creating it at first use.
//!
//! Owns: [`SyncRow`]. Must not know: what the JSON columns and the fingerprints are made of.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::binding::Binding;
use super::database::State;
use super::error::StateError;
use super::migrate::LATEST_VERSION;
use crate::crash;
use crate::diff::DigestKey;
use crate::model::AttributeNames;

/// The row of a sync at the moment `read_at`. The comments of `migrations/0001_state.sql` explain each column.
#[derive(Clone, Debug)]
pub struct SyncRow {
    /// Identifies the sync in the other tables.
    pub id: i32,
    /// What the sync is bound to.
    pub binding: Binding,
    /// The attribute names in the order of `AttributeIndex`.
    pub attribute_names: AttributeNames,
    /// Acknowledged values of a lower generation count as unknown.
    pub generation: i32,
    /// The key of the digests.
    pub digest_key: DigestKey,
    /// The state server at its last use, as [`State::server_identity`] names it.
    pub state_server: Option<String>,
    /// Mapping, filter and deleted column of the last full pass.
    pub mapping_fingerprint: Option<String>,
    /// The watermark column and time zone for which `watermark_state` is valid.
    pub watermark_fingerprint: Option<String>,
    /// The durable watermark as text.
    pub watermark: Option<String>,
    /// The saved watermark tracker of the source.
    pub watermark_state: Option<Value>,
    /// The transaction that holds the watermark back.
    pub held_back_by: Option<Value>,
    /// When the newest complete incremental pass began.
    pub current_as_of: Option<DateTime<Utc>>,
    /// Why a full pass is due.
    pub full_pass_due: Option<String>,
    /// The number of the newest request for a full pass.
    pub full_pass_request: i64,
    /// Where an interrupted full pass resumes.
    pub full_pass_position: Option<Value>,
    /// What the watermark and the acknowledged values depend on in the source; `None` before its first use.
    pub source_fingerprint: Option<Value>,
    /// When the last full pass ended.
    pub full_pass_ended_at: Option<DateTime<Utc>>,
    /// What the last full pass found that no incremental pass had seen.
    pub full_pass_repairs: Option<Value>,
    /// The same of a full pass that has not ended.
    pub full_pass_repairs_so_far: Option<Value>,
    /// What the last verification found.
    pub verification: Option<Value>,
    /// What the webhook of the alerts has accepted.
    pub alerts: Option<Value>,
    /// The removal guard while it is tripped.
    pub guard: Option<Value>,
    /// The account up to which all rejections are due again after an edit of the mapping; `None` when that is done.
    pub retry_rejections_after: Option<String>,
    /// Rejections of an earlier generation are still to be deleted.
    pub delete_rejections: bool,
    /// The running pass and its progress. Stale when nobody holds the lease.
    pub running_pass: Option<Value>,
    /// Who took the lease last.
    pub lease_holder: Option<String>,
    /// When the lease was taken.
    pub lease_taken_at: Option<DateTime<Utc>>,
    /// The clock of the state server when the row was read.
    pub read_at: DateTime<Utc>,
}

// The tables may be older than this release: then they have no key, and every stored digest differs.
const SELECT: &str = "SELECT id, binding::text, attribute_names, generation, state_server, mapping_fingerprint, \
    watermark_fingerprint, watermark, watermark_state::text, held_back_by::text, current_as_of, full_pass_due, \
    full_pass_position::text, full_pass_ended_at, guard::text, running_pass::text, lease_holder, lease_taken_at, \
    clock_timestamp() AS read_at, coalesce((to_jsonb(sync)->>'full_pass_request')::bigint, 0) AS full_pass_request, \
    to_jsonb(sync)->>'source_fingerprint' AS source_fingerprint, \
    to_jsonb(sync)->>'full_pass_repairs' AS full_pass_repairs, \
    to_jsonb(sync)->>'full_pass_repairs_so_far' AS full_pass_repairs_so_far, \
    to_jsonb(sync)->>'verification' AS verification, \
    to_jsonb(sync)->>'alerts' AS alerts, \
    to_jsonb(sync)->>'retry_rejections_after' AS retry_rejections_after, \
    coalesce((to_jsonb(sync)->>'delete_rejections')::boolean, false) AS delete_rejections, \
    decode(substr(to_jsonb(sync)->>'digest_key', 3), 'hex') AS digest_key FROM sync WHERE name = $1";

fn json(row: &PgRow, column: &str) -> Result<Option<Value>, StateError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| StateError::unreadable_column(column, &error))
}

impl SyncRow {
    fn from_row(row: &PgRow) -> Result<Self, StateError> {
        let names: Vec<String> = row.try_get("attribute_names")?;
        let binding: String = row.try_get("binding")?;
        Ok(Self {
            id: row.try_get("id")?,
            binding: serde_json::from_str(&binding)
                .map_err(|error| StateError::unreadable_column("binding", &error))?,
            attribute_names: names.into_iter().map(Arc::from).collect(),
            generation: row.try_get("generation")?,
            digest_key: DigestKey::new(row.try_get::<Option<&[u8]>, _>("digest_key")?.unwrap_or_default()),
            state_server: row.try_get("state_server")?,
            mapping_fingerprint: row.try_get("mapping_fingerprint")?,
            watermark_fingerprint: row.try_get("watermark_fingerprint")?,
            watermark: row.try_get("watermark")?,
            watermark_state: json(row, "watermark_state")?,
            held_back_by: json(row, "held_back_by")?,
            current_as_of: row.try_get("current_as_of")?,
            full_pass_due: row.try_get("full_pass_due")?,
            full_pass_request: row.try_get("full_pass_request")?,
            full_pass_position: json(row, "full_pass_position")?,
            source_fingerprint: json(row, "source_fingerprint")?,
            full_pass_ended_at: row.try_get("full_pass_ended_at")?,
            full_pass_repairs: json(row, "full_pass_repairs")?,
            full_pass_repairs_so_far: json(row, "full_pass_repairs_so_far")?,
            verification: json(row, "verification")?,
            alerts: json(row, "alerts")?,
            guard: json(row, "guard")?,
            retry_rejections_after: row.try_get("retry_rejections_after")?,
            delete_rejections: row.try_get("delete_rejections")?,
            running_pass: json(row, "running_pass")?,
            lease_holder: row.try_get("lease_holder")?,
            lease_taken_at: row.try_get("lease_taken_at")?,
            read_at: row.try_get("read_at")?,
        })
    }
}

impl State {
    /// The row of this sync; `None` before first use, also when the state tables do not exist.
    pub async fn sync_row(&self) -> Result<Option<SyncRow>, StateError> {
        match self.supported_schema_version().await? {
            None => return Ok(None),
            Some(version) if version < LATEST_VERSION => {
                return Err(StateError::Unsuitable(format!(
                    "schema \"{}\" is at version {version}, this binary needs version {LATEST_VERSION}: run `imsync migrate`, or \
                     start `imsync run`, which upgrades it",
                    self.schema()
                )));
            }
            Some(_) => {}
        }
        self.read_sync_row().await
    }

    async fn read_sync_row(&self) -> Result<Option<SyncRow>, StateError> {
        let row = sqlx::query(SELECT).bind(self.name()).fetch_optional(self.pool()).await?;
        row.as_ref().map(SyncRow::from_row).transpose()
    }

    fn check_bound(&self, row: Option<SyncRow>, binding: &Binding) -> Result<SyncRow, StateError> {
        let row = row.ok_or(StateError::LeaseLost)?;
        row.binding.check(self.name(), binding)?;
        Ok(row)
    }

    /// The row of this sync, which is created with this binding at first use. The version of the tables was checked just now.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsuitable`] when the sync is bound to something else.
    pub async fn bind(&self, binding: &Binding) -> Result<SyncRow, StateError> {
        let json = serde_json::to_string(binding).map_err(|error| StateError::Refused(error.to_string()))?;
        sqlx::query("INSERT INTO sync (name, binding) VALUES ($1, $2::text::jsonb) ON CONFLICT (name) DO NOTHING")
            .bind(self.name())
            .bind(json)
            .execute(self.pool())
            .await?;
        crash::point("start: the sync row exists");
        self.check_bound(self.read_sync_row().await?, binding)
    }

    /// The row of this sync, which exists.
    ///
    /// # Errors
    ///
    /// [`StateError::Unsuitable`] when the sync is bound to something else.
    pub async fn bound_row(&self, binding: &Binding) -> Result<SyncRow, StateError> {
        self.check_bound(self.sync_row().await?, binding)
    }
}
