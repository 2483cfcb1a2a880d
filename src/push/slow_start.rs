//! The slow start of a pass: one call in flight until IM has answered for an account.
//!
//! Owns: whether the pass has left the slow start, which delivery may send during it. Must not know: calls, batches,
//! answers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{MutexGuard, watch};
use tokio::time::Instant;

use crate::clock::monotonic;

/// An IM that refuses every call says so within this time, as far as it is near. From here on, others start beside the
/// first call. With a latency of half a second, the pass would otherwise lose half a second of calls, which no later second
/// may make up for.
const FIRST_ANSWER_TIME: Duration = Duration::from_millis(60);

/// Until IM has answered for an account of the pass, one delivery sends, with one call in flight.
///
/// Wrong credentials, an attribute name that the app does not define, or an outage then cost the calls of one batch and
/// not of `max_in_flight` batches. A first call that is slow lets some others start: as many as are early calls.
#[derive(Debug)]
pub(super) struct SlowStart {
    phase: watch::Sender<SlowStartPhase>,
    leader: tokio::sync::Mutex<()>,
    last_success: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlowStartPhase {
    /// No call has started.
    Waiting,
    /// The first call has started, and none has been answered.
    Started {
        at: Instant,
        /// So many calls may still start before the first answer.
        early_calls: usize,
    },
    /// All deliveries may send, with as many calls as the limits allow.
    Open,
}

impl SlowStart {
    pub(super) fn new() -> Self {
        Self {
            phase: watch::Sender::new(SlowStartPhase::Waiting),
            leader: tokio::sync::Mutex::default(),
            last_success: Mutex::default(),
        }
    }

    /// All deliveries may send, with as many calls as the limits allow.
    pub(super) fn is_open(&self) -> bool {
        *self.phase.borrow() == SlowStartPhase::Open
    }

    pub(super) async fn wait_until_open(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = phase.wait_for(|phase| *phase == SlowStartPhase::Open).await;
    }

    /// Waits for the right to send during the slow start; `None` when the slow start ends first.
    pub(super) async fn wait_to_lead(&self) -> Option<MutexGuard<'_, ()>> {
        tokio::select! {
            biased;
            () = self.wait_until_open() => None,
            leader = self.leader.lock() => Some(leader),
        }
    }

    /// A call for an account has started. `early_calls`: so many others may start if it gets no answer in a short time; 0
    /// where IM did not answer the last call of all.
    pub(super) fn note_started(&self, at: Instant, early_calls: usize) {
        self.phase.send_if_modified(|phase| {
            let first = *phase == SlowStartPhase::Waiting;
            if first {
                *phase = SlowStartPhase::Started { at, early_calls };
            }
            first
        });
    }

    /// A call has ended. Unless it was a success, no other one starts before there is one.
    pub(super) fn note_first_answer(&self) {
        self.phase.send_if_modified(|phase| match phase {
            SlowStartPhase::Started { early_calls, .. } => std::mem::take(early_calls) > 0,
            SlowStartPhase::Waiting | SlowStartPhase::Open => false,
        });
    }

    /// Waits until a further call may start although none has been answered.
    pub(super) async fn wait_for_early_call(&self) {
        let mut phase = self.phase.subscribe();
        loop {
            let due = match *phase.borrow_and_update() {
                SlowStartPhase::Started { at, early_calls: 1.. } => Some(at + FIRST_ANSWER_TIME),
                SlowStartPhase::Started { .. } | SlowStartPhase::Waiting | SlowStartPhase::Open => None,
            };
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = phase.changed() => {}
                () = sleep => return,
            }
        }
    }

    /// Whether a further call may start although none has been answered. It then counts as started.
    pub(super) fn take_early_call(&self) -> bool {
        self.phase.send_if_modified(|phase| match phase {
            SlowStartPhase::Started { at, early_calls } if at.elapsed() >= FIRST_ANSWER_TIME && *early_calls > 0 => {
                *early_calls -= 1;
                true
            }
            SlowStartPhase::Started { .. } | SlowStartPhase::Waiting | SlowStartPhase::Open => false,
        })
    }

    /// IM accepted something, or refused a single account for a reason that lies in the account. Ends the slow start.
    pub(super) fn record_success(&self) {
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner) = Some(monotonic());
        self.phase.send_if_modified(|phase| std::mem::replace(phase, SlowStartPhase::Open) != SlowStartPhase::Open);
    }

    /// The time of the last success in this pass, if there was one.
    pub(super) fn last_success(&self) -> Option<Instant> {
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts again: IM may have become unreachable in the middle of the pass, so batches that have not been sent wait
    /// until one batch succeeds.
    pub(super) fn close(&self) {
        self.phase.send_if_modified(|phase| std::mem::replace(phase, SlowStartPhase::Waiting) == SlowStartPhase::Open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether another call may start within this time.
    async fn may_start_within(slow_start: &SlowStart, millis: u64) -> bool {
        tokio::time::timeout(Duration::from_millis(millis), slow_start.wait_for_early_call()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_answer_lets_some_calls_start() {
        let slow_start = SlowStart::new();
        assert!(!may_start_within(&slow_start, 10_000).await, "no call has started");
        slow_start.note_started(monotonic(), 2);
        assert!(!slow_start.take_early_call() && !may_start_within(&slow_start, 59).await);
        assert!(may_start_within(&slow_start, 1).await);
        assert!(slow_start.take_early_call() && slow_start.take_early_call() && !slow_start.take_early_call());
        assert!(!may_start_within(&slow_start, 10_000).await, "it had two early calls");
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_answer_that_is_no_success_lets_none_start() {
        let slow_start = SlowStart::new();
        slow_start.note_started(monotonic(), 47);
        slow_start.note_first_answer();
        slow_start.note_started(monotonic(), 47);
        assert!(!may_start_within(&slow_start, 10_000).await);
        slow_start.record_success();
        slow_start.close();
        slow_start.note_started(monotonic(), 0);
        assert!(!may_start_within(&slow_start, 10_000).await && !slow_start.take_early_call());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_the_slow_start_for_all_who_wait() {
        let slow_start = SlowStart::new();
        let leader = slow_start.wait_to_lead().await;
        assert!(leader.is_some() && !slow_start.is_open());
        let (second, ()) = tokio::join!(slow_start.wait_to_lead(), async { slow_start.record_success() });
        assert!(second.is_none(), "the slow start is over");
        assert_eq!(slow_start.last_success(), Some(monotonic()));
        assert!(slow_start.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_slow_start_keeps_the_last_success() {
        let slow_start = SlowStart::new();
        slow_start.record_success();
        slow_start.close();
        assert!(!slow_start.is_open() && slow_start.last_success().is_some());
        assert!(slow_start.wait_to_lead().await.is_some());
    }
}
