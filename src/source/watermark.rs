//! The watermark: members, fences, floors, unread. Pure arithmetic over readings of the source.
//!
//! Owns: what may not have been read yet. Must not know: SQL, connections.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A point in the watermark column's order. Microseconds since the Unix epoch for a timestamp, the value for a bigint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Bound {
    /// Before everything.
    Beginning,
    At(i64),
}

/// One look at the source: what a fence is made of.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The database clock before the lists were read, microseconds since the Unix epoch.
    pub clock: i64,
    /// The candidate for `unread`: the clock, or the largest value of a bigint watermark; `None` for an empty table.
    pub candidate: Bound,
    /// `pg_postmaster_start_time()`: virtual ids mean nothing across a restart.
    pub server_start: i64,
    pub running: Vec<Running>,
    pub prepared: Vec<Prepared>,
}

/// A session in a transaction.
#[derive(Clone, Debug)]
pub struct Running {
    /// Virtual transaction id.
    pub id: String,
    pub pid: i32,
    /// Microseconds since the Unix epoch; `None` where the role may not see it.
    pub started: Option<i64>,
    pub application: Option<String>,
}

/// A prepared transaction of the source's database.
#[derive(Clone, Debug)]
pub struct Prepared {
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

/// The durable form, stored as JSON in the sync row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {}

/// What may not have been read yet, carried from fence to fence.
#[derive(Clone, Debug)]
pub struct Tracker {}

impl Tracker {
    /// The first fence of a sync: every member's floor is the beginning (or its start, where that may be seen).
    /// `unread` becomes this reading's candidate.
    pub fn begin(_reading: &Reading) -> Self {
        unimplemented!()
    }

    pub fn restore(_saved: Saved) -> Self {
        unimplemented!()
    }

    pub fn save(&self) -> Saved {
        unimplemented!()
    }

    /// Takes the next fence: `unread` is lowered to the floors of the members that have ended, new members get their floors.
    /// Must be called with every reading, of failed passes too. Read from [`Tracker::unread`] afterwards.
    pub fn observe(&mut self, _reading: &Reading) {
        unimplemented!()
    }

    /// Everything dated before it is recorded (slack not subtracted).
    pub fn unread(&self) -> Bound {
        unimplemented!()
    }

    /// All that the pass read from `unread` on is recorded: `unread` rises to the candidate of the last fence observed.
    pub fn complete(&mut self) {
        unimplemented!()
    }

    /// The lowest of `unread` and the floors still open; what is shown as the watermark.
    pub fn durable(&self) -> Bound {
        unimplemented!()
    }

    /// The oldest open member, when it holds the durable watermark below `unread`.
    pub fn held_back_by(&self) -> Option<HeldBackBy> {
        unimplemented!()
    }

    /// The last member of the very first fence has ended, and nobody has taken note of it yet: a full pass is due.
    pub fn first_fence_cleared(&self) -> bool {
        unimplemented!()
    }

    /// The full pass that [`Tracker::first_fence_cleared`] asks for has been written down as due.
    pub fn note_first_fence(&mut self) {
        unimplemented!()
    }

    /// A bigint watermark whose largest value fell below an earlier candidate: a full pass is due.
    pub fn fell(&self) -> bool {
        unimplemented!()
    }
}
