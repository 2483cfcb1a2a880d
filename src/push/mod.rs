//! The push stage: batches changes, keeps the pace, retries, splits a failing batch, tells the fate of every attribute.
//!
//! Owns: everything between a list of changes and their outcomes. Must not know: SQL, rows, the mapping.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock::{Heartbeat, Shutdown};
use crate::im::{ApiCommand, Client, Code};
use crate::metrics::Metrics;
use crate::model::{Account, MAX_USERS_PER_CALL, Names, Slot};

mod attempt;
mod batch;
mod carry;
mod decide;
mod delivery;
mod exchange;
mod ledger;
mod pace;
mod sample;
mod session;
mod tally;
mod verdict;

use exchange::{Caller, Exchange};
use pace::Pace;
pub use session::Session;
use session::Witness;

/// The limits that a pusher keeps.
#[derive(Clone, Debug)]
pub struct Limits {
    pub users_per_call: usize,
    /// For each vendor command.
    pub calls_per_second: u32,
    pub max_in_flight: usize,
    pub retry_for: Duration,
    /// So long after it was sent a call of unknown outcome may still land.
    pub ghosts: Duration,
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
            Self::LeaseLost => f.write_str(
                "the lease on this sync was lost: its session with the state database has ended or does not answer",
            ),
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
    /// An outcome that is not known, looked into: one account that always times out must not pass for an absent IM.
    Doubt,
    /// A doubt that stood alone before and had no answer: in a call of its own.
    Silent,
    /// Another try of something that stands rejected: never counts.
    KnownRejection,
}

impl Freshness {
    /// An outcome that is not known, looked into.
    fn is_doubt(self) -> bool {
        matches!(self, Self::Doubt | Self::Silent)
    }
}

/// Keeps the pace of one app across passes. One a process.
#[derive(Debug)]
pub struct Pusher {
    exchange: Exchange,
    limits: Limits,
    metrics: Arc<Metrics>,
    lease: Heartbeat,
    shutdown: Shutdown,
    /// By vendor command, see [`Pusher::pace`].
    paces: [Pace; 5],
    in_flight: Semaphore,
    /// Shared by all passes: a value acknowledged in one must not be sent again in another once it is outdated.
    witness: Witness,
}

impl Pusher {
    /// `lease`: no call starts unless it was fresh within 3 s. `shutdown`: after it no new call starts.
    pub fn new(
        client: Arc<Client>,
        limits: Limits,
        metrics: Arc<Metrics>,
        lease: Heartbeat,
        shutdown: Shutdown,
    ) -> Self {
        Self::with(client, limits, metrics, lease, shutdown)
    }

    fn with(
        caller: Arc<dyn Caller>,
        mut limits: Limits,
        metrics: Arc<Metrics>,
        lease: Heartbeat,
        shutdown: Shutdown,
    ) -> Self {
        limits.users_per_call = limits.users_per_call.clamp(1, MAX_USERS_PER_CALL);
        Self {
            exchange: Exchange::new(caller, Arc::clone(&metrics)),
            witness: Witness::default(),
            paces: std::array::from_fn(|_| Pace::new(limits.calls_per_second)),
            in_flight: Semaphore::new(limits.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            limits,
            metrics,
            lease,
            shutdown,
        }
    }

    /// No call before this moment (another process may have called until just now).
    pub fn hold_until(&self, moment: Instant) {
        for pace in &self.paces {
            pace.hold_until(moment);
        }
    }

    /// When the last call was started, if one was.
    pub fn last_call(&self) -> Option<Instant> {
        self.paces.iter().filter_map(Pace::last).max()
    }

    /// The bookkeeping of one pass. `urgent`: its calls go before those of others that wait for the limit.
    pub fn begin_pass(self: &Arc<Self>, names: Names, urgent: bool) -> Session {
        self.show_rate();
        Session::new(Arc::clone(self), names, urgent)
    }

    /// Some account with an acknowledged value, where none is known yet. To be offered before the first call of the pass
    /// in which it was looked up.
    pub fn offer_probe(&self, probe: Probe) {
        self.witness.adopt(|| Some(probe));
    }

    /// A value is known that can be sent again, so none needs to be looked up.
    pub fn has_probe(&self) -> bool {
        self.witness.known()
    }

    fn pace(&self, command: ApiCommand) -> &Pace {
        &self.paces[match command {
            ApiCommand::SetAttr => 0,
            ApiCommand::GetAttr => 1,
            ApiCommand::RemoveAttr => 2,
            ApiCommand::SetAttrName => 3,
            ApiCommand::GetAttrName => 4,
        }]
    }

    fn show_rate(&self) {
        self.metrics.rate_limit.set(self.pace(ApiCommand::SetAttr).rate());
    }
}

#[cfg(test)]
mod tests;
