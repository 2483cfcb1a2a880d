//! The status document: what `status --json` prints and `/status` serves, from the state tables alone.
//!
//! Owns: its fields. Must not know: how it is laid out for people.

use serde_json::{Value, json};

use crate::state::{State, StateError};

/// Passes shown.
const PASSES: i64 = 10;

/// The document of this sync. Before first use all of it is empty.
pub async fn document(state: &State) -> Result<Value, StateError> {
    let schema_version = state.schema_version().await?;
    let Some(row) = state.sync_row().await? else {
        return Ok(json!({
            "name": state.name(),
            "watermark": null,
            "lag_seconds": null,
            "held_back_by": null,
            "accounts": 0,
            "rejected": 0,
            "in_doubt": 0,
            "guard": null,
            "schema_version": schema_version,
            "lease": null,
            "running": null,
            "full_pass_due": null,
            "last_passes": [],
        }));
    };
    let accounts = state.count_accounts(row.id).await?;
    let rejected = state.count_rejected(row.id, None).await?;
    let held = state.lease_is_held().await?;
    let passes = state.last_passes(row.id, PASSES).await?;
    let lag = row.current_as_of.map(|as_of| {
        #[expect(clippy::cast_precision_loss, reason = "seconds with their thousandths")]
        let millis = (row.read_at - as_of).num_milliseconds().max(0) as f64;
        millis / 1000.0
    });
    Ok(json!({
        "name": state.name(),
        "watermark": row.watermark,
        "lag_seconds": lag,
        "held_back_by": row.held_back_by,
        "accounts": accounts.known,
        "rejected": rejected,
        "in_doubt": accounts.in_doubt,
        "guard": row.guard,
        "schema_version": schema_version,
        "lease": held.then(|| json!({ "holder": row.holder, "since": row.lease_taken_at })),
        "running": if held { row.running } else { None },
        "full_pass_due": row.full_pass_due,
        "last_passes": passes,
    }))
}
