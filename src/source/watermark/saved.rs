//! The stored form of the watermark: JSON in the `sync` row of the state.
//!
//! Owns: its keys and its version. Must not know: where it is stored, how it changes.

use serde::{Deserialize, Serialize};

use super::newest_rows::NewestRows;
use super::point::{WatermarkKind, WatermarkPoint};
use super::remembered_transaction::{RememberedTransaction, is_false};

/// The version that this release writes.
pub(super) const SAVED_VERSION: u32 = 1;

/// Everything that the next transaction list is compared with.
///
/// Unknown keys are ignored, so that an older release can read what a newer one wrote. Another version is an error.
/// Keys with default values are left out, because this is written with every pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedWatermark {
    #[serde(rename = "v", deserialize_with = "known_version")]
    pub(super) version: u32,
    pub(super) kind: WatermarkKind,
    /// Every row below this bound is recorded, those of open transactions aside.
    pub(super) read_from: WatermarkPoint,
    /// `TransactionList::clock` of the last list.
    pub(super) clock: i64,
    /// `TransactionList::taken_at` of the last list, lowered by what the clock has been set back since.
    pub(super) taken_at: WatermarkPoint,
    /// `TransactionList::server_start` of the last list.
    #[serde(rename = "start")]
    pub(super) server_start: i64,
    /// Since its start, the server was seen to list a transaction under one id while it ran and after it was prepared.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) keeps_virtual_ids: bool,
    /// The full pass that is due once all transactions of the first list have ended is not recorded as due yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) initial_pending: bool,
    /// `TransactionList::newest` of the last list.
    #[serde(default, skip_serializing_if = "NewestRows::is_empty")]
    pub(super) newest: NewestRows,
    /// A counter was set back, and the full pass that is due then is not recorded as due yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) counter_decreased: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) open: Vec<RememberedTransaction>,
}

fn known_version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(deserializer)?;
    if version == SAVED_VERSION {
        Ok(version)
    } else {
        Err(serde::de::Error::custom(format!(
            "the stored watermark has version {version}, this release reads version {SAVED_VERSION}"
        )))
    }
}
