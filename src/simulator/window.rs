//! A count of what happened within the last second.
//!
//! Owns: the sliding window. Must not know: what is counted.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(1);

/// Moments within the last second: later than a second ago, up to now.
#[derive(Debug, Default)]
pub(super) struct SlidingSecond {
    moments: VecDeque<Instant>,
}

impl SlidingSecond {
    /// Count `now`; gives how many there are in the second that ends now. Moments must not go backwards.
    pub(super) fn add(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.moments.push_back(now);
        self.moments.len()
    }

    /// Count `now` if that makes no more than `limit`.
    pub(super) fn add_below(&mut self, now: Instant, limit: usize) -> bool {
        self.forget(now);
        let room = self.moments.len() < limit;
        if room {
            self.moments.push_back(now);
        }
        room
    }

    fn forget(&mut self, now: Instant) {
        while self.moments.front().is_some_and(|moment| now.saturating_duration_since(*moment) >= WINDOW) {
            self.moments.pop_front();
        }
    }
}
