//! The gauge `imsync_lag_seconds` of a leader.
//!
//! Owns: the moment up to which everything committed is in IM. Must not know: which passes count.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock;
use crate::metrics::Metrics;
use crate::state::sync_row::SyncRow;

/// How often the gauge is set between passes. Without that, a scrape would see the lag at the end of the last pass.
const REFRESH_INTERVAL: Duration = Duration::from_millis(500);

/// When the newest complete pass began: everything committed before then is in IM. Clones share the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct CurrentSince(Arc<Mutex<Option<Instant>>>);

impl CurrentSince {
    /// As the previous holder of the lease stored it, converted to the clock of this process.
    pub(super) fn from_row(row: &SyncRow) -> Self {
        let current = Self::default();
        if let Some(as_of) = row.current_as_of {
            let ago = (row.read_at - as_of).to_std().unwrap_or_default();
            if let Some(moment) = clock::monotonic().checked_sub(ago) {
                current.advance_to(moment);
            }
        }
        current
    }

    /// Never goes back: a full pass that ends began before the incremental passes that ran between its pages.
    pub(super) fn advance_to(&self, moment: Instant) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (*current).max(Some(moment));
    }

    /// Sets the gauge. Before the first complete pass there is no lag to show.
    pub(super) fn show(&self, metrics: &Metrics) {
        if let Some(lag) = self.lag() {
            metrics.show_lag(lag.as_secs_f64());
        }
    }

    /// The time since then; `None` before the first complete pass.
    pub(super) fn lag(&self) -> Option<Duration> {
        let current = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.map(|moment| moment.elapsed())
    }
}

/// Keeps the gauge up to date until it is dropped.
#[derive(Debug)]
pub(super) struct LagGauge(JoinHandle<()>);

impl LagGauge {
    pub(super) fn start(metrics: Arc<Metrics>, current: CurrentSince) -> Self {
        Self(tokio::spawn(async move {
            loop {
                current.show(&metrics);
                tokio::time::sleep(REFRESH_INTERVAL).await;
            }
        }))
    }
}

impl Drop for LagGauge {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_moment_never_goes_back() {
        let metrics = Metrics::new("users");
        let current = CurrentSince::default();
        current.show(&metrics);
        assert!(!metrics.render().contains("imsync_lag_seconds"), "nothing is known before the first pass");
        let long_ago = clock::monotonic();
        tokio::time::advance(Duration::from_mins(1)).await;
        current.advance_to(clock::monotonic());
        current.advance_to(long_ago);
        tokio::time::advance(Duration::from_secs(3)).await;
        current.show(&metrics);
        assert!(metrics.render().contains("imsync_lag_seconds 3\n"), "{}", metrics.render());
    }
}
