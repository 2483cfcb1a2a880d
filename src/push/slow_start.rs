//! The slow start of a pass: one call in flight until IM has answered for an account.
//!
//! Owns: whether the pass has left the slow start, which delivery may send during it. Must not know: calls, batches,
//! answers.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{MutexGuard, watch};
use tokio::time::Instant;

use crate::clock::monotonic;

/// Until IM has answered for an account of the pass, one delivery sends, with one call in flight.
///
/// Wrong credentials, an attribute name that the app does not define, or an outage then cost the calls of one batch and
/// not of `max_in_flight` batches.
#[derive(Debug, Default)]
pub(super) struct SlowStart {
    open: watch::Sender<bool>,
    leader: tokio::sync::Mutex<()>,
    last_success: Mutex<Option<Instant>>,
}

impl SlowStart {
    /// All deliveries may send, with as many calls as the limits allow.
    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    pub(super) async fn wait_until_open(&self) {
        let mut open = self.open.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = open.wait_for(|open| *open).await;
    }

    /// Waits for the right to send during the slow start; `None` when the slow start ends first.
    pub(super) async fn wait_to_lead(&self) -> Option<MutexGuard<'_, ()>> {
        tokio::select! {
            biased;
            () = self.wait_until_open() => None,
            leader = self.leader.lock() => Some(leader),
        }
    }

    /// IM accepted something, or refused a single account for a reason that lies in the account. Ends the slow start.
    pub(super) fn record_success(&self) {
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner) = Some(monotonic());
        self.open.send_if_modified(|open| !std::mem::replace(open, true));
    }

    /// The time of the last success in this pass, if there was one.
    pub(super) fn last_success(&self) -> Option<Instant> {
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts again: IM may have become unreachable in the middle of the pass, so batches that have not been sent wait
    /// until one batch succeeds.
    pub(super) fn close(&self) {
        self.open.send_if_modified(|open| std::mem::replace(open, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_the_slow_start_for_all_who_wait() {
        let slow_start = SlowStart::default();
        let leader = slow_start.wait_to_lead().await;
        assert!(leader.is_some() && !slow_start.is_open());
        let (second, ()) = tokio::join!(slow_start.wait_to_lead(), async { slow_start.record_success() });
        assert!(second.is_none(), "the slow start is over");
        assert_eq!(slow_start.last_success(), Some(monotonic()));
        assert!(slow_start.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_slow_start_keeps_the_last_success() {
        let slow_start = SlowStart::default();
        slow_start.record_success();
        slow_start.close();
        assert!(!slow_start.is_open() && slow_start.last_success().is_some());
        assert!(slow_start.wait_to_lead().await.is_some());
    }
}
