//! The statement that the source runs at this moment, seen from other tasks.
//!
//! Owns: since when it runs, and when the server last confirmed that. Must not know: the statement, who asks.
//!
//! A page of a slow view takes minutes. What shows progress meanwhile has to tell it from a server that has vanished.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::postgres::{CHECK_INTERVAL, CONNECT_TIMEOUT};

/// A confirmation is valid until the next one has had its time.
const CONFIRMED_FOR: Duration = CHECK_INTERVAL.saturating_add(CONNECT_TIMEOUT);

/// What one connection to the source does. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SourceActivity(Arc<Mutex<Option<RunningStatement>>>);

#[derive(Clone, Copy, Debug)]
struct RunningStatement {
    since: Instant,
    confirmed: Option<Instant>,
}

/// A statement that runs until this value is dropped.
#[derive(Debug)]
pub(super) struct StatementGuard(SourceActivity);

impl SourceActivity {
    /// For how long the server has been running the statement, if one takes long and the server has confirmed lately
    /// that it still runs.
    pub fn confirmed_for(&self) -> Option<Duration> {
        let running = (*self.running())?;
        running.confirmed.filter(|confirmed| confirmed.elapsed() <= CONFIRMED_FOR)?;
        Some(running.since.elapsed())
    }

    /// A statement is sent now.
    pub(super) fn begin(&self) -> StatementGuard {
        *self.running() = Some(RunningStatement { since: clock::monotonic(), confirmed: None });
        StatementGuard(self.clone())
    }

    fn running(&self) -> MutexGuard<'_, Option<RunningStatement>> {
        // Each change is a plain assignment, so a panic cannot leave a change half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatementGuard {
    /// The server has confirmed that the statement runs.
    pub(super) fn confirm(&self) {
        if let Some(running) = &mut *self.0.running() {
            running.confirmed = Some(clock::monotonic());
        }
    }
}

impl Drop for StatementGuard {
    fn drop(&mut self) {
        *self.0.running() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_confirmed_statement_counts_and_only_for_a_while() {
        let activity = SourceActivity::default();
        let running = activity.begin();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(activity.confirmed_for(), None, "the server has not said anything yet");
        running.confirm();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(activity.confirmed_for(), Some(Duration::from_secs(15)));
        tokio::time::advance(CONFIRMED_FOR).await;
        assert_eq!(activity.confirmed_for(), None, "the server may have vanished since");
        running.confirm();
        drop(running);
        assert_eq!(activity.confirmed_for(), None, "the statement has ended");
    }
}
