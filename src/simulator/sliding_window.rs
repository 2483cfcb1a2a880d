//! A sliding window of one second, for rate limits and peak rates.
//!
//! Owns: counting events within the last second. Must not know: what the events are.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(1);

/// The times of the events within the last second. An event that is exactly one second old is outside.
#[derive(Debug, Default)]
pub(super) struct SlidingWindow {
    times: VecDeque<Instant>,
}

impl SlidingWindow {
    /// Adds an event at `now` and returns the number of events in the window. `now` must not go backwards.
    pub(super) fn add(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.times.push_back(now);
        self.times.len()
    }

    /// Adds an event at `now` unless the window already has `limit` events. Returns whether it was added.
    pub(super) fn try_add(&mut self, now: Instant, limit: usize) -> bool {
        self.expire(now);
        let has_capacity = self.times.len() < limit;
        if has_capacity {
            self.times.push_back(now);
        }
        has_capacity
    }

    fn expire(&mut self, now: Instant) {
        while self.times.front().is_some_and(|time| now.saturating_duration_since(*time) >= WINDOW) {
            self.times.pop_front();
        }
    }
}
