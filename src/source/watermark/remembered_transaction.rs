//! An open transaction, as it is remembered from list to list.
//!
//! Owns: the stored form of one transaction, and the report of the one that holds the watermark back.
//! Must not know: which transactions continue others (see `matching`).

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::point::WatermarkPoint;
use super::transaction_list::{PreparedTransaction, RunningTransaction};

/// The transaction that holds the watermark back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBackBy {
    /// The server process of a running transaction.
    pub pid: Option<i32>,
    /// The global transaction identifier of a prepared transaction.
    pub prepared: Option<String>,
    /// Its `application_name`, where that is known.
    pub application: Option<String>,
    /// The database clock of the first list that contained it.
    pub since: DateTime<Utc>,
}

/// The transaction in words, without the time: `the transaction of pid 4711 (psql)`. The log and `imsync status` use it.
impl fmt::Display for HeldBackBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.prepared) {
            (Some(pid), _) => {
                let application = self.application.as_deref().unwrap_or("unknown application");
                write!(f, "the transaction of pid {pid} ({application})")
            }
            (None, Some(gid)) => write!(f, "the prepared transaction \"{gid}\""),
            (None, None) => f.write_str("an open transaction"),
        }
    }
}

/// A transaction that was open in the last transaction list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RememberedTransaction {
    pub(super) id: String,
    /// The rows that it writes carry no smaller watermark than this.
    pub(super) started_after: WatermarkPoint,
    /// It was, or may have been, open in the first list of the sync. When the last such transaction has ended, a full
    /// pass is due.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) initial: bool,
    /// It was open in the first list and its start is not visible: no bound finds its rows, only that full pass does.
    /// A `started_after` at the beginning does not mean the same, because the counter of an empty table has it too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) unbounded: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<i32>,
    #[serde(rename = "gid", default, skip_serializing_if = "Option::is_none")]
    pub(super) prepared: Option<String>,
    #[serde(rename = "app", default, skip_serializing_if = "Option::is_none")]
    pub(super) application: Option<String>,
    /// The clock of the first list that contained it.
    pub(super) since: i64,
    /// In this list and this many minus one further lists, it may turn out to be the continuation of a transaction that
    /// is no longer listed: it is prepared, and its id was not seen running.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) may_continue_for: u8,
}

impl RememberedTransaction {
    /// A running transaction that is listed for the first time, by a list with the clock `since`.
    pub(super) fn from_running(running: &RunningTransaction, started_after: WatermarkPoint, since: i64) -> Self {
        Self {
            id: running.id.clone(),
            started_after,
            initial: false,
            unbounded: false,
            pid: Some(running.pid),
            prepared: None,
            application: running.application_name(),
            since,
            may_continue_for: 0,
        }
    }

    /// A prepared transaction that is listed for the first time, by a list with the clock `since`.
    pub(super) fn from_prepared(prepared: &PreparedTransaction, started_after: WatermarkPoint, since: i64) -> Self {
        Self {
            id: prepared.id.clone(),
            started_after,
            initial: false,
            unbounded: false,
            pid: None,
            prepared: Some(prepared.gid.clone()),
            application: None,
            since,
            may_continue_for: 0,
        }
    }

    /// The report of this transaction as the one that holds the watermark back; `None` if `since` is out of range.
    pub(super) fn held_back_by(&self) -> Option<HeldBackBy> {
        Some(HeldBackBy {
            pid: if self.prepared.is_some() { None } else { self.pid },
            prepared: self.prepared.clone(),
            application: self.application.clone(),
            since: DateTime::from_timestamp_micros(self.since)?,
        })
    }
}

/// The smallest `started_after` of these transactions, those without a bound left out.
pub(super) fn lowest_started_after<'a>(
    transactions: impl IntoIterator<Item = &'a RememberedTransaction>,
) -> Option<WatermarkPoint> {
    let bounded = transactions.into_iter().filter(|transaction| !transaction.unbounded);
    bounded.map(|transaction| transaction.started_after).min()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(count: &u8) -> bool {
    *count == 0
}
