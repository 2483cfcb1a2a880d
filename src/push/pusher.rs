//! What all passes share when they push to one app.
//!
//! Owns: the limits, the rate limiters of the vendor's commands, the calls in flight, the last read.
//! Must not know: passes, deliveries, answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::last_answers::LastAnswers;
use super::rate_limit::{RateCut, RateLimiter};
use super::send_once::{CallSender, ImTransport};
use super::unusable_commands::CommandFaults;
use crate::call_share::CallShare;
use crate::clock::{Heartbeat, Shutdown, monotonic};
use crate::im::{ApiCommand, Client, Code};
use crate::metrics::Metrics;
use crate::model::{ImAccountType, MAX_USERS_PER_CALL, UnknownAccounts};

/// One of so many calls in flight may be for an account that IM did not answer for before.
const UNRESPONSIVE_SHARE: usize = 8;

/// The limits of a pusher.
#[derive(Clone, Debug)]
pub struct PushLimits {
    /// At most so many accounts in a call. Values outside of 1 to [`MAX_USERS_PER_CALL`] count as the nearest of these.
    pub users_per_call: usize,
    /// For each of the vendor's commands.
    pub calls_per_second: u32,
    /// The part of `calls_per_second` that this process may use.
    pub call_share: CallShare,
    /// At most so many calls wait for an answer at once, at least 1.
    pub max_in_flight: usize,
    /// How long a call is retried, from the start of its first attempt.
    pub retry_for: Duration,
    /// The share of the accounts of a pass, from 0 to 1, that IM may refuse with one code.
    pub max_rejected_share: f64,
    /// What happens to accounts that Chat does not know.
    pub unknown_accounts: UnknownAccounts,
    /// The service of accounts knows `UserIDs` only.
    pub account_type: ImAccountType,
}

/// Pushes to one app. A process has one pusher, which keeps the limits across passes.
#[derive(Debug)]
pub struct Pusher {
    pub(super) sender: CallSender,
    pub(super) limits: PushLimits,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lease: Heartbeat,
    pub(super) shutdown: Shutdown,
    pub(super) rate_limiters: RateLimiters,
    pub(super) in_flight: Semaphore,
    /// When IM was last read to see whether it answers, and whether it did. Shared by all passes.
    pub(super) last_read: tokio::sync::Mutex<Option<(Instant, bool)>>,
    pub(super) last_answers: LastAnswers,
    /// A call has started.
    pub(super) has_called: watch::Sender<bool>,
    /// Calls for accounts that IM did not answer for before. They must not use up the calls in flight.
    pub(super) unresponsive: Semaphore,
    /// The faults of the service of accounts. Each is logged once until its command works again.
    pub(super) command_faults: CommandFaults,
}

/// A rate limiter for each of the vendor's commands.
#[derive(Debug)]
pub(super) struct RateLimiters([RateLimiter; 7]);

impl RateLimiters {
    pub(super) fn of(&self, command: ApiCommand) -> &RateLimiter {
        &self.0[match command {
            ApiCommand::SetAttr => 0,
            ApiCommand::GetAttr => 1,
            ApiCommand::RemoveAttr => 2,
            ApiCommand::SetAttrName => 3,
            ApiCommand::GetAttrName => 4,
            ApiCommand::AccountCheck => 5,
            ApiCommand::AccountImport => 6,
        }]
    }

    pub(super) fn all(&self) -> &[RateLimiter] {
        &self.0
    }
}

impl Pusher {
    /// `lease`: no call starts unless the lease was confirmed within
    /// [`LEASE_VALID_FOR`](crate::clock::LEASE_VALID_FOR). `shutdown`: no new call starts after it.
    pub fn new(
        client: Arc<Client>,
        limits: PushLimits,
        metrics: Arc<Metrics>,
        lease: Heartbeat,
        shutdown: Shutdown,
    ) -> Self {
        Self::with_transport(client, limits, metrics, lease, shutdown)
    }

    /// A pusher whose calls go to another transport than the client.
    pub(super) fn with_transport(
        transport: Arc<dyn ImTransport>,
        mut limits: PushLimits,
        metrics: Arc<Metrics>,
        lease: Heartbeat,
        shutdown: Shutdown,
    ) -> Self {
        limits.users_per_call = limits.users_per_call.clamp(1, MAX_USERS_PER_CALL);
        Self {
            sender: CallSender::new(transport, Arc::clone(&metrics)),
            last_read: tokio::sync::Mutex::default(),
            last_answers: LastAnswers::default(),
            has_called: watch::Sender::new(false),
            command_faults: CommandFaults::default(),
            unresponsive: Semaphore::new((limits.max_in_flight / UNRESPONSIVE_SHARE).clamp(1, Semaphore::MAX_PERMITS)),
            rate_limiters: RateLimiters(std::array::from_fn(|_| {
                RateLimiter::of_share(limits.calls_per_second, limits.call_share.clone())
            })),
            in_flight: Semaphore::new(limits.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            limits,
            metrics,
            lease,
            shutdown,
        }
    }

    /// No call starts before this moment. The previous holder of the lease may have made calls until just now.
    pub fn hold_until(&self, moment: Instant) {
        for rate_limiter in self.rate_limiters.all() {
            rate_limiter.hold_until(moment);
        }
    }

    /// Waits for the first call of this process.
    pub async fn wait_for_first_call(&self) {
        let mut has_called = self.has_called.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = has_called.wait_for(|has_called| *has_called).await;
    }

    /// When the last call started; `None` before the first one.
    pub fn last_call(&self) -> Option<Instant> {
        self.rate_limiters.all().iter().filter_map(RateLimiter::last_call).max()
    }

    /// Updates the metric of the rate in force.
    pub(super) fn publish_rate(&self) {
        self.metrics.rate_limit.set(self.rate_limiters.of(ApiCommand::SetAttr).rate());
    }

    /// IM asked for fewer calls of this command, or of all commands where the code is about the whole app. `started`:
    /// when the call started that was answered so.
    pub(super) fn slow_down(&self, command: ApiCommand, code: Code, started: Option<Instant>) {
        let started = started.unwrap_or_else(monotonic);
        let rate_limiters = if code.limits_whole_app() {
            self.rate_limiters.all()
        } else {
            std::slice::from_ref(self.rate_limiters.of(command))
        };
        for rate_limiter in rate_limiters {
            let Some(RateCut { rate, is_notable }) = rate_limiter.slow_down(started) else { continue };
            let command = command.label();
            if is_notable {
                tracing::warn!("IM asks for fewer calls ({code}): {command} is limited to {rate:.1} calls per second");
            } else {
                tracing::debug!(%code, command, rate, "the rate was lowered near the limit that is already known");
            }
        }
        self.publish_rate();
    }
}
