//! The simulator's own clocks: the vendor's time is not ours, and a test may set it wrong.
//!
//! Owns: reading the two clocks for the simulator, and how far its wall clock is off. Must not know: what is timed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use tokio::time::Instant;

/// The vendor's clocks.
#[derive(Debug)]
pub(super) struct Clock {
    /// Seconds added to the machine's wall clock.
    offset: AtomicI64,
}

impl Clock {
    pub(super) fn new(offset_seconds: i64) -> Self {
        Self { offset: AtomicI64::new(offset_seconds) }
    }

    pub(super) fn set_offset(&self, seconds: i64) {
        self.offset.store(seconds, Ordering::Relaxed);
    }

    /// Unix seconds as the vendor sees them.
    #[expect(clippy::disallowed_methods, reason = "the simulator is an island and reads its own clocks, here alone")]
    pub(super) fn unix_seconds(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX).saturating_add(self.offset.load(Ordering::Relaxed))
    }
}

/// Monotonic time (tokio's, so that a test can pause it).
#[expect(clippy::disallowed_methods, reason = "the simulator is an island and reads its own clocks, here alone")]
pub(super) fn monotonic() -> Instant {
    Instant::now()
}
