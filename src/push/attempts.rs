//! The attempts of one call, and the pause before the next one.
//!
//! Owns: the backoff. Must not know: what the call carries, why an attempt failed.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause before the first retry. The limit doubles with each further retry.
const BACKOFF_BASE: Duration = Duration::from_millis(200);
/// The longest pause before any retry.
const BACKOFF_CAP: Duration = Duration::from_secs(10);
/// Added to the pause after a "slow down", because the vendor counts calls by the second.
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// The attempts of a call so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    /// When the first attempt started. `retry_for` counts from here.
    pub first_at: Option<Instant>,
    /// When the last attempt started.
    pub last_at: Option<Instant>,
    pub count: u32,
    /// The pause before the next attempt.
    pub pause: Duration,
    /// The call is not retried, unless IM answers "slow down".
    pub single_attempt: bool,
    /// When a batch was split because IM did not answer it although it answered others. The call carries one of its parts.
    pub split_at: Option<Instant>,
    /// IM may have applied one of the attempts.
    pub may_be_applied: bool,
}

impl Attempts {
    /// An attempt starts.
    pub(super) fn record_start(&mut self, at: Instant) {
        self.first_at.get_or_insert(at);
        self.last_at = Some(at);
        self.count += 1;
    }

    /// The pause before the next attempt; `None` when the attempts have run out.
    ///
    /// The pause grows exponentially and has full jitter, so that batches that failed together are not retried
    /// together. It ends with `retry_for` at the latest, so that the last attempt starts as late as it may. A
    /// `retry_after` longer than what is left of `retry_for` ends the attempts.
    pub(super) fn next_pause(
        &self,
        retry_for: Duration,
        throttled: bool,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let spent = self.first_at.map_or(Duration::ZERO, |first| first.elapsed());
        let left =
            retry_for.checked_sub(spent).filter(|left| !left.is_zero() && (throttled || !self.single_attempt))?;
        let retry_after = retry_after.unwrap_or_default();
        if retry_after > left {
            return None;
        }
        let doublings = self.count.saturating_sub(1).min(16);
        let longest = (BACKOFF_BASE * 2_u32.pow(doublings)).min(BACKOFF_CAP);
        let jitter = longest.mul_f64(rand::random_range(0.0..=1.0));
        let pause = if throttled { jitter + THROTTLED_PAUSE } else { jitter };
        Some(pause.min(left).max(retry_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    const RETRY_FOR: Duration = Duration::from_mins(1);

    fn started(count: u32) -> Attempts {
        let mut attempts = Attempts::default();
        for _ in 0..count {
            attempts.record_start(monotonic());
        }
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_is_bounded_and_the_bound_doubles() {
        for (count, bound) in [(1, 200), (2, 400), (4, 1600), (7, 10_000), (100, 10_000)] {
            for _ in 0..50 {
                let pause = started(count).next_pause(RETRY_FOR, false, None).expect("time is left");
                assert!(pause <= Duration::from_millis(bound), "{pause:?} after {count} attempts");
                let pause = started(count).next_pause(RETRY_FOR, true, None).expect("time is left");
                assert!(pause >= THROTTLED_PAUSE, "{pause:?} after {count} attempts");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_when_retry_for_is_over() {
        let attempts = started(3);
        tokio::time::advance(Duration::from_millis(59_990)).await;
        let pause = attempts.next_pause(RETRY_FOR, true, None);
        assert_eq!(pause, Some(Duration::from_millis(10)), "the last attempt starts at the end");
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(attempts.next_pause(RETRY_FOR, true, None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_kept_or_ends_the_attempts() {
        let asked = Duration::from_secs(20);
        assert_eq!(started(1).next_pause(RETRY_FOR, false, Some(asked)), Some(asked));
        assert_eq!(started(1).next_pause(RETRY_FOR, false, Some(RETRY_FOR * 2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_attempt_is_retried_only_when_throttled() {
        let mut attempts = Attempts { single_attempt: true, ..Attempts::default() };
        attempts.record_start(monotonic());
        assert_eq!(attempts.next_pause(RETRY_FOR, false, None), None);
        assert!(attempts.next_pause(RETRY_FOR, true, None).is_some());
    }
}
