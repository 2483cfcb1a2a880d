//! What the deliveries of one pass share.
//!
//! Owns: the reason to stop, the slow start, the counts and calls of the pass. Must not know: deliveries, batches,
//! answers.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use super::probe::ProbeSource;
use super::pusher::Pusher;
use super::refusal_stats::RefusalStats;
use super::slow_start::SlowStart;
use super::stop::StopReason;
use super::unusable_commands::UnusableCommands;
use crate::clock::monotonic;
use crate::model::AttributeNames;

/// A call that has had no answer for so long does not keep other batches waiting during the slow start.
const SECOND_LEAD_DELAY: Duration = Duration::from_secs(1);

/// The pushes of one pass. Several deliveries may run at once; the caller makes sure that no account is in two of them.
#[derive(Debug)]
pub struct PushSession {
    pub(super) pusher: Arc<Pusher>,
    pub(super) names: AttributeNames,
    /// Calls of this pass start before those of other passes that wait for the rate limit.
    pub(super) urgent: bool,
    pub(super) slow_start: SlowStart,
    /// The attribute names that the app defines, read when IM first refuses an attribute as not valid; `None` where
    /// they could not be read.
    pub(super) app_names: OnceCell<Option<Vec<String>>>,
    pub(super) probes: Arc<dyn ProbeSource>,
    /// Held while a probe finds out what is at fault.
    pub(super) fault_check: tokio::sync::Mutex<()>,
    /// Commands of the service of accounts that are refused in this pass, and are not tried again.
    pub(super) unusable_commands: UnusableCommands,
    /// Whether harmless content was sent after the first refusal by a gateway.
    pub(super) gateway_checked: AtomicBool,
    stats: Mutex<RefusalStats>,
    stop: watch::Sender<Option<StopReason>>,
    /// Why the pass fails if IM accepts nothing until its end.
    unanswered: Mutex<Option<StopReason>>,
    calls: AtomicU64,
    /// When IM last answered a read of this pass.
    last_read: Mutex<Option<Instant>>,
}

impl Pusher {
    /// Begins a pass. `names`: the sync's attribute names by index. `urgent`: calls of the pass start before those of
    /// other passes that wait for the rate limit. `probes`: where the pass takes its probes.
    pub fn begin_pass(
        self: &Arc<Self>,
        names: AttributeNames,
        urgent: bool,
        probes: Arc<dyn ProbeSource>,
    ) -> PushSession {
        self.publish_rate();
        PushSession {
            stats: Mutex::new(RefusalStats::new(self.limits.max_rejected_share, names.len())),
            pusher: Arc::clone(self),
            names,
            urgent,
            probes,
            slow_start: SlowStart::new(),
            app_names: OnceCell::new(),
            fault_check: tokio::sync::Mutex::new(()),
            unusable_commands: UnusableCommands::default(),
            gateway_checked: AtomicBool::new(false),
            stop: watch::Sender::new(None),
            unanswered: Mutex::default(),
            calls: AtomicU64::new(0),
            last_read: Mutex::default(),
        }
    }
}

impl PushSession {
    /// Why the pass has stopped, if it has.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.stop.borrow().clone()
    }

    /// Why IM counts as unreachable: a batch ran out of attempts, and IM has answered nothing in the whole pass.
    pub fn unreachable_reason(&self) -> Option<StopReason> {
        let reason = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reason.filter(|_| !self.im_answered())
    }

    /// IM has accepted a call of this pass, has refused a single account for a reason that lies in the account, or has
    /// answered a read.
    pub fn im_answered(&self) -> bool {
        self.slow_start.last_success().is_some() || self.last_read().is_some()
    }

    /// When IM last answered a read of this pass, if it did.
    pub(super) fn last_read(&self) -> Option<Instant> {
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_read_answered(&self) {
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = Some(monotonic());
    }

    /// How many calls may start beside the first one of the pass before IM has answered one: those of half a second, as far
    /// as IM has answered the last call of the pass before.
    pub(super) fn early_calls(&self) -> usize {
        if self.pusher.last_answers.last_change_failed() {
            return 0;
        }
        let half_a_second = usize::try_from(self.pusher.limits.calls_per_second / 2).unwrap_or(usize::MAX);
        half_a_second.min(self.pusher.limits.max_in_flight)
    }

    /// Whether a second batch may be sent during the slow start although one that was sent at `sent_at` has no answer: IM
    /// has answered other calls meanwhile, so the accounts of that batch may be the reason.
    pub(super) fn may_lead_again(&self, sent_at: Instant) -> bool {
        sent_at.elapsed() >= SECOND_LEAD_DELAY && self.answered_since(sent_at)
    }

    /// Whether IM has answered a call that sets or removes attributes since then, in whichever pass.
    pub(super) fn change_answered_since(&self, moment: Instant) -> bool {
        self.pusher.last_answers.change_since(moment)
    }

    /// Whether IM has accepted something of this pass within this time.
    pub fn answered_within(&self, time: Duration) -> bool {
        self.slow_start.last_success().is_some_and(|last| last.elapsed() < time)
    }

    /// Whether IM has answered a call since then, in whichever pass.
    pub fn answered_since(&self, moment: Instant) -> bool {
        self.pusher.last_answers.any_since(moment)
    }

    /// Calls started in this pass, retries and probes included.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Stops this pass as a shutdown does: no new call starts, calls in flight end.
    pub fn halt(&self) {
        self.stop(StopReason::Shutdown);
    }

    /// Stops the pass. Only the first reason is kept.
    pub(super) fn stop(&self, reason: StopReason) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            if first {
                *stop = Some(reason);
            }
            first
        });
    }

    /// No new call may start. Also notices a requested shutdown.
    pub(super) fn has_stopped(&self) -> bool {
        if self.stop.borrow().is_some() {
            return true;
        }
        let shutdown = self.pusher.shutdown.requested();
        if shutdown {
            self.stop(StopReason::Shutdown);
        }
        shutdown
    }

    /// The output of the future; `None` when the pass stops first.
    pub async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            // The sender lives in `self`, so the channel cannot close while this waits.
            _ = stop.wait_for(Option::is_some) => None,
            () = self.pusher.shutdown.wait() => {
                self.stop(StopReason::Shutdown);
                None
            }
            output = future => Some(output),
        }
    }

    /// A batch ran out of attempts: the pass fails for this reason if IM accepts nothing until its end.
    pub(super) fn note_unanswered(&self, reason: StopReason) {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, RefusalStats> {
        // The counts only grow, so those that a panic left in the middle of an update are still usable.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
