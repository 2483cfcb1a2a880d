//! The time from commit to IM, of many changes.
//!
//! Owns: quantiles. Must not know: how the changes are made.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "the tests measure wall-clock time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time from commit to IM of each new change, in ascending order.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn of(mut measured: Vec<Duration>) -> Self {
        measured.sort();
        Self(measured)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the rank of a few thousand values fits"
        )]
        let rank = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len());
        self.0[rank - 1]
    }
}
