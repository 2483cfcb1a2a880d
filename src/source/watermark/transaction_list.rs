//! The words of the watermark: bounds, and what one look at the source sees.
//!
//! Owns: plain data. Must not know: how it is read, what follows from it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A point in the watermark column's order. Microseconds since the Unix epoch for a timestamp, the value for a bigint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WatermarkBound {
    /// Before everything.
    #[serde(rename = "beginning")]
    Beginning,
    #[serde(rename = "at")]
    At(i64),
}

impl WatermarkBound {
    /// The bound `by` lower, for a slack or a step of the clock.
    #[must_use]
    pub fn less(self, by: i64) -> Self {
        match self {
            Self::Beginning => Self::Beginning,
            Self::At(value) => Self::At(value.saturating_sub(by)),
        }
    }
}

/// What a watermark column counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatermarkKind {
    /// Bounds are times: the candidate is the clock, and a transaction's start bounds its rows.
    Timestamp,
    /// Bounds are values of a sequence: the candidate is the largest value, and a transaction's start says nothing.
    Counter,
}

/// One look at the source: what a transaction list is made of.
#[derive(Clone, Debug)]
pub struct TransactionList {
    /// What `candidate` counts in.
    pub kind: WatermarkKind,
    /// The database clock before the lists were read, microseconds since the Unix epoch.
    pub clock: i64,
    /// The candidate for `read_from`: the clock, or the largest value of a bigint watermark; the beginning for an empty table.
    pub candidate: WatermarkBound,
    /// Our monotonic clock before `clock` was asked for and after it was answered. `None` where `clock` is none: on a
    /// standby it is the time of the last replayed commit.
    pub between: Option<(Instant, Instant)>,
    /// `pg_postmaster_start_time()`: virtual ids mean nothing across a restart.
    pub server_start: i64,
    pub running: Vec<RunningTransaction>,
    pub prepared: Vec<PreparedTransaction>,
}

/// A session in a transaction.
#[derive(Clone, Debug)]
pub struct RunningTransaction {
    /// Virtual transaction id.
    pub id: String,
    pub pid: i32,
    /// Microseconds since the Unix epoch; `None` where the role may not see it.
    pub started: Option<i64>,
    pub application: Option<String>,
}

impl RunningTransaction {
    /// What it calls itself, if anything.
    pub(super) fn named(&self) -> Option<String> {
        self.application.clone().filter(|name| !name.is_empty())
    }
}

/// A prepared transaction of the source's database.
#[derive(Clone, Debug)]
pub struct PreparedTransaction {
    /// The virtual id under which it ran; `-1/xid` after a server restart.
    pub id: String,
    pub gid: String,
    pub prepared_at: i64,
}

/// Who holds the watermark back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBackBy {
    pub pid: Option<i32>,
    /// The gid of a prepared transaction.
    pub prepared: Option<String>,
    pub application: Option<String>,
    /// Since when we have seen it.
    pub since: DateTime<Utc>,
}
