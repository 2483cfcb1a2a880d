//! The simulator's clocks. The vendor's time may differ from this machine's, and a test may set the difference.
//!
//! Owns: reading both clocks for the simulator, and the offset of its wall clock. Must not know: what is timed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use chrono::DateTime;
use tokio::time::Instant;

/// The vendor's wall clock.
#[derive(Debug)]
pub(super) struct VendorClock {
    /// Seconds added to the machine's wall clock.
    offset: AtomicI64,
}

impl VendorClock {
    pub(super) fn new(offset_seconds: i64) -> Self {
        Self { offset: AtomicI64::new(offset_seconds) }
    }

    pub(super) fn set_offset(&self, seconds: i64) {
        self.offset.store(seconds, Ordering::Relaxed);
    }

    /// The vendor's time in Unix seconds.
    #[expect(
        clippy::disallowed_methods,
        reason = "the simulator imports nothing from the crate; it reads clocks here only"
    )]
    pub(super) fn unix_seconds(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX).saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// The vendor's time as the header `Date` has it.
    pub(super) fn http_date(&self) -> String {
        DateTime::from_timestamp(self.unix_seconds(), 0).unwrap_or_default().format("%a, %d %b %Y %T GMT").to_string()
    }
}

/// Monotonic time. It is tokio's, so that a test can pause it.
#[expect(
    clippy::disallowed_methods,
    reason = "the simulator imports nothing from the crate; it reads clocks here only"
)]
pub(super) fn monotonic() -> Instant {
    Instant::now()
}
