//! The push stage: batches changes, keeps the rate_limiter, retries, splits a failing batch, tells the outcome of every attribute.
//!
//! Owns: everything between a list of changes and their outcomes. Must not know: SQL, rows, the mapping.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock::{Heartbeat, Shutdown};
use crate::im::{Client, Code, Command};
use crate::metrics::Metrics;
use crate::model::{Account, AttributeIndex, AttributeNames, MAX_USERS_PER_CALL};

mod attempt;
mod batch;
mod call;
mod carry;
mod decide;
mod delivery;
mod disposition;
mod outcomes;
mod rate_limit;
mod refusal_stats;
mod sample;
mod session;

use call::{CallSender, ImTransport};
use rate_limit::RateLimiter;
use session::ProbeAccount;
pub use session::PushSession;

/// The limits that a pusher keeps.
#[derive(Clone, Debug)]
pub struct PushLimits {
    pub users_per_call: usize,
    /// For each vendor command.
    pub calls_per_second: u32,
    pub max_in_flight: usize,
    pub retry_for: Duration,
    /// So long after it was sent a call of unknown outcome may still land.
    pub late_write_window: Duration,
    pub max_rejected_share: f64,
}

/// Why a pass must stop although not everything was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum StopReason {
    /// No call succeeded within `retry_for`.
    Unreachable { message: String },
    /// A code of the credentials class: the message says what to mend.
    Credentials { code: Code, message: String },
    /// One code hits every account: a configuration error. Nobody was rejected for it.
    Systemic { code: Code, attribute: Option<String>, message: String },
    /// More than `max_rejected_share` of the pass was refused with one code.
    TooManyRejected { code: Code, message: String },
    /// The lease's last ping is too old: no call may start.
    LeaseLost,
    /// Somebody asked for a stop: no new call starts, those in flight have ended.
    Shutdown,
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable { message }
            | Self::Credentials { message, .. }
            | Self::Systemic { message, .. }
            | Self::TooManyRejected { message, .. } => f.write_str(message),
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
    pub attribute: AttributeIndex,
    pub value: Box<str>,
}

/// Whether changes count when it is decided if rows or the app are at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOrigin {
    New,
    /// An outcome that is not known, looked into: one account that always times out must not pass for an absent IM.
    UnknownOutcome,
    /// A doubt that stood alone before and had no answer: in a call of its own.
    Unresponsive,
    /// Another try of something that stands rejected: never counts.
    RejectionRetry,
}

impl ChangeOrigin {
    /// An outcome that is not known, looked into.
    fn is_doubt(self) -> bool {
        matches!(self, Self::UnknownOutcome | Self::Unresponsive)
    }
}

/// Keeps the rate_limiter of one app across passes. One a process.
#[derive(Debug)]
pub struct Pusher {
    exchange: CallSender,
    limits: PushLimits,
    metrics: Arc<Metrics>,
    lease: Heartbeat,
    shutdown: Shutdown,
    /// By vendor command, see [`Pusher::rate_limiter`].
    rate_limiters: [RateLimiter; 5],
    in_flight: Semaphore,
    /// Shared by all passes: a value acknowledged in one must not be sent again in another once it is outdated.
    probe_account: ProbeAccount,
}

impl Pusher {
    /// `lease`: no call starts unless it was fresh within 3 s. `shutdown`: after it no new call starts.
    pub fn new(
        client: Arc<Client>,
        limits: PushLimits,
        metrics: Arc<Metrics>,
        lease: Heartbeat,
        shutdown: Shutdown,
    ) -> Self {
        Self::with(client, limits, metrics, lease, shutdown)
    }

    fn with(
        caller: Arc<dyn ImTransport>,
        mut limits: PushLimits,
        metrics: Arc<Metrics>,
        lease: Heartbeat,
        shutdown: Shutdown,
    ) -> Self {
        limits.users_per_call = limits.users_per_call.clamp(1, MAX_USERS_PER_CALL);
        Self {
            exchange: CallSender::new(caller, Arc::clone(&metrics)),
            probe_account: ProbeAccount::default(),
            rate_limiters: std::array::from_fn(|_| RateLimiter::new(limits.calls_per_second)),
            in_flight: Semaphore::new(limits.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            limits,
            metrics,
            lease,
            shutdown,
        }
    }

    /// No call before this moment (another process may have called until just now).
    pub fn hold_until(&self, moment: Instant) {
        for rate_limiter in &self.rate_limiters {
            rate_limiter.hold_until(moment);
        }
    }

    /// When the last call was started, if one was.
    pub fn last_call(&self) -> Option<Instant> {
        self.rate_limiters.iter().filter_map(RateLimiter::last).max()
    }

    /// The bookkeeping of one pass. `urgent`: its calls go before those of others that wait for the limit.
    pub fn begin_pass(self: &Arc<Self>, names: AttributeNames, urgent: bool) -> PushSession {
        self.show_rate();
        PushSession::new(Arc::clone(self), names, urgent)
    }

    /// Some account with an acknowledged value, where none is known yet. To be offered before the first call of the pass
    /// in which it was looked up.
    pub fn offer_probe(&self, probe: Probe) {
        self.probe_account.adopt(|| Some(probe));
    }

    /// A value is known that can be sent again, so none needs to be looked up.
    pub fn has_probe(&self) -> bool {
        self.probe_account.known()
    }

    fn rate_limiter(&self, command: Command) -> &RateLimiter {
        &self.rate_limiters[match command {
            Command::SetAttr => 0,
            Command::GetAttr => 1,
            Command::RemoveAttr => 2,
            Command::SetAttrName => 3,
            Command::GetAttrName => 4,
        }]
    }

    fn show_rate(&self) {
        self.metrics.rate_limit.set(self.rate_limiter(Command::SetAttr).rate());
    }
}

#[cfg(test)]
mod tests;
