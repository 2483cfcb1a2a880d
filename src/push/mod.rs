//! The push stage: batches changes, keeps the pace, retries, splits a failing batch, tells the fate of every attribute.
//!
//! Owns: everything between a list of changes and their outcomes. Must not know: SQL, rows, the mapping.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Heartbeat, Shutdown};
use crate::im::{Client, Code};
use crate::metrics::Metrics;
use crate::model::{Account, Change, Names, Outcome, Slot};

/// The limits that a pusher keeps.
#[derive(Clone, Debug)]
pub struct Limits {
    pub users_per_call: usize,
    /// For each vendor command.
    pub calls_per_second: u32,
    pub max_in_flight: usize,
    pub retry_for: Duration,
    pub max_rejected_share: f64,
}

/// Why a pass must stop although not everything was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// No call succeeded within `retry_for`.
    Away { sentence: String },
    /// A code of the credentials class: the sentence says what to mend.
    Credentials { code: Code, sentence: String },
    /// One code hits every account: a configuration error. Nobody was rejected for it.
    Systemic { code: Code, attribute: Option<String>, sentence: String },
    /// More than `max_rejected_share` of the pass was refused with one code.
    TooManyRejected { code: Code, sentence: String },
    /// The lease's last ping is too old: no call may start.
    LeaseLost,
    /// Somebody asked for a stop: no new call starts, those in flight have ended.
    Shutdown,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away { sentence }
            | Self::Credentials { sentence, .. }
            | Self::Systemic { sentence, .. }
            | Self::TooManyRejected { sentence, .. } => f.write_str(sentence),
            Self::LeaseLost => {
                f.write_str("the lease on this sync was lost: the state database has not answered for 3 s")
            }
            Self::Shutdown => f.write_str("stopped on request"),
        }
    }
}

/// An acknowledged value, to be sent again when it must be decided whether rows or the app are at fault.
#[derive(Clone, Debug)]
pub struct Probe {
    pub account: Account,
    pub slot: Slot,
    pub value: Box<str>,
}

/// Whether changes count when it is decided if rows or the app are at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Fresh,
    /// Another try of something that stands rejected: never counts.
    KnownRejection,
}

/// Keeps the pace of one app across passes. One a process.
#[derive(Debug)]
pub struct Pusher {}

impl Pusher {
    /// `lease`: no call starts unless it was fresh within 3 s. `shutdown`: after it no new call starts.
    pub fn new(
        _client: Arc<Client>,
        _limits: Limits,
        _metrics: Arc<Metrics>,
        _lease: Heartbeat,
        _shutdown: Shutdown,
    ) -> Self {
        unimplemented!()
    }

    /// No call before this moment (another process may have called until just now).
    pub fn hold_until(&self, _moment: Instant) {
        unimplemented!()
    }

    /// When the last call was started, if one was.
    pub fn last_call(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// The bookkeeping of one pass. `probe`: some account with an acknowledged value, if there is one.
    pub fn begin_pass(self: &Arc<Self>, _names: Names, _probe: Option<Probe>) -> Session {
        unimplemented!()
    }
}

/// One pass's deliveries. Several may be under way at once; the caller sees to it that no account is in two of them.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Sends the changes (sets first, then removals) and tells the fate of every attribute of every account, in the order given.
    /// After a stop the rest comes back as not sent.
    pub async fn deliver(&self, _changes: Vec<Change>, _freshness: Freshness) -> Vec<Outcome> {
        unimplemented!()
    }

    /// Why the pass must stop, once that is known.
    pub fn stopped(&self) -> Option<Stop> {
        unimplemented!()
    }

    /// The caller stops the pass for reasons of its own: no new call starts.
    pub fn halt(&self) {
        unimplemented!()
    }

    /// Calls started in this pass, retries and probes included.
    pub fn calls(&self) -> u64 {
        unimplemented!()
    }
}
