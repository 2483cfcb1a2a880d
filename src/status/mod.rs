//! The status document: what `imsync status --json` prints and `/status` serves.
//!
//! Owns: its fields, read from the state tables alone. Must not know: how it is laid out on a terminal.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::pass::FoundRepairs;
use crate::pass::verify::StoredVerification;
use crate::state::sync_row::SyncRow;
use crate::state::{State, StateError};

/// How many passes the document lists.
const PASSES_SHOWN: i64 = 10;

/// The document of this sync. Before first use its numbers are 0 and everything else is null.
///
/// # Errors
///
/// When the state database cannot be read or its schema is newer than this binary.
pub async fn document(state: &State) -> Result<Value, StateError> {
    let schema_version = state.schema_version().await?;
    let Some(row) = state.sync_row().await? else {
        return Ok(unused_sync(state.name(), schema_version));
    };
    let counts = state.account_counts(row.id).await?;
    let lease_is_held = state.lease_is_held().await?;
    let passes = state.last_passes(row.id, PASSES_SHOWN).await?;
    let lag_seconds = row.current_as_of.map(|as_of| seconds_between(as_of, row.read_at));
    let full_pass = row.full_pass_ended_at.map(|ended| {
        let FoundRepairs { repaired, examples } = FoundRepairs::stored(row.full_pass_repairs.as_ref());
        json!({ "finished_at": ended, "repaired": repaired, "examples": examples })
    });
    let verification = StoredVerification::read(row.verification.as_ref()).map(|stored| {
        json!({
            "finished_at": stored.ended_at,
            "sample": stored.sample,
            "checked": stored.checked,
            "drifted": stored.drifted_now(),
            "repaired": stored.repaired,
            "attributes": stored.attributes,
            "examples": stored.examples,
        })
    });
    let SyncRow { watermark, held_back_by, guard, alerts, lease_holder, .. } = row;
    let SyncRow { lease_taken_at, running_pass, full_pass_due, .. } = row;
    Ok(json!({
        "name": state.name(),
        "watermark": watermark,
        "lag_seconds": lag_seconds,
        "held_back_by": held_back_by,
        "accounts": counts.known,
        "rejected": counts.rejected,
        "in_doubt": counts.in_doubt,
        "guard": guard,
        "full_pass": full_pass,
        "verification": verification,
        "alerts": alerts,
        "schema_version": schema_version,
        "lease": lease_is_held.then(|| json!({ "holder": lease_holder, "since": lease_taken_at })),
        // A killed process leaves its progress in the row.
        "running": if lease_is_held { running_pass } else { None },
        "full_pass_due": full_pass_due,
        "last_passes": passes,
    }))
}

/// The document of a sync that has no row yet.
fn unused_sync(name: &str, schema_version: Option<i32>) -> Value {
    json!({
        "name": name,
        "watermark": null,
        "lag_seconds": null,
        "held_back_by": null,
        "accounts": 0,
        "rejected": 0,
        "in_doubt": 0,
        "guard": null,
        "full_pass": null,
        "verification": null,
        "alerts": null,
        "schema_version": schema_version,
        "lease": null,
        "running": null,
        "full_pass_due": null,
        "last_passes": [],
    })
}

fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a double for 285,000 years")]
    let millis = (to - from).num_milliseconds().max(0) as f64;
    millis / 1000.0
}
