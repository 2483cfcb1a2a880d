//! Deletes old rows of the history after a pass, or all of them when none is kept.
//!
//! Owns: when that is due, and how long it may take. Must not know: how rows are deleted.
//!
//! A pass waits for it, so that it takes its share of the database at no time when a pass needs it. What is left when the time
//! is over is deleted after the next passes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::clock::{self, Shutdown};
use crate::state::StateWriter;

/// What a short pass may be prolonged by.
const MIN_TIME: Duration = Duration::from_millis(100);
/// A long pass, which has added many rows, may be prolonged by its twentieth part, but by no more than this.
const MAX_TIME: Duration = Duration::from_secs(10);
/// The history is searched for old rows no more often than this, so that an idle poll is not dearer than it was.
const MIN_INTERVAL: Duration = Duration::from_mins(1);
/// And at least so often.
const MAX_INTERVAL: Duration = Duration::from_hours(1);

/// When the history is trimmed, and from where on.
#[derive(Debug)]
pub(super) struct HistoryTrim {
    keep: Option<Duration>,
    /// `None`: never again, because nothing is kept and nothing is left.
    due_at: Option<Instant>,
    /// The time of the last row that was deleted.
    after: Option<DateTime<Utc>>,
}

impl HistoryTrim {
    /// The first pass of each process trims. `keep`: how long a row is kept; `None`: no history is kept.
    pub(super) fn new(keep: Option<Duration>) -> Self {
        Self { keep, due_at: Some(clock::monotonic()), after: None }
    }

    /// Deletes old rows after a pass that took `pass`, for a bounded time. A pass does not fail because of this.
    pub(super) async fn trim(&mut self, writer: &StateWriter, shutdown: &Shutdown, pass: Duration) {
        if !self.is_due() {
            return;
        }
        let began = clock::monotonic();
        while began.elapsed() < allowed_time(pass) && !shutdown.requested() {
            match writer.trim_history(self.keep, self.after).await {
                Ok(trimmed) => {
                    self.after = trimmed.until;
                    if trimmed.is_done {
                        return self.note_done();
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "old rows of the history were not deleted; it is tried again later");
                    self.due_at = Some(clock::monotonic() + MIN_INTERVAL);
                    return;
                }
            }
        }
    }

    fn is_due(&self) -> bool {
        self.due_at.is_some_and(|due_at| due_at <= clock::monotonic())
    }

    /// Nothing is left to delete now. A row is kept too long by a hundredth part, or by a minute.
    fn note_done(&mut self) {
        let interval = self.keep.map(|keep| (keep / 100).clamp(MIN_INTERVAL, MAX_INTERVAL));
        self.due_at = interval.map(|interval| clock::monotonic() + interval);
    }
}

/// How long trimming may take after a pass that took so long.
fn allowed_time(pass: Duration) -> Duration {
    (pass / 20).clamp(MIN_TIME, MAX_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_pass_may_be_prolonged_noticeably() {
        let allowed = |seconds| allowed_time(Duration::from_secs(seconds)).as_millis();
        assert_eq!((allowed(0), allowed(2), allowed(60), allowed(36_000)), (100, 100, 3000, 10_000));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_due_at_once_and_after_a_hundredth_of_keep() {
        for (keep, minutes) in [(60, 1), (86_400, 14), (30 * 86_400, 60)] {
            let mut trim = HistoryTrim::new(Some(Duration::from_secs(keep)));
            assert!(trim.is_due());
            trim.note_done();
            tokio::time::advance(Duration::from_secs(60 * minutes - 1)).await;
            assert!(!trim.is_due(), "{keep}");
            tokio::time::advance(Duration::from_mins(1)).await;
            assert!(trim.is_due(), "{keep}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_history_it_is_not_due_again_once_all_is_deleted() {
        let mut trim = HistoryTrim::new(None);
        assert!(trim.is_due());
        trim.note_done();
        tokio::time::advance(Duration::from_hours(1000)).await;
        assert!(!trim.is_due());
    }
}
