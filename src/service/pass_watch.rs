//! Reports a running pass to readiness: that it has started, and each time it has recorded something. A source that
//! confirms that it still runs the statement of a page counts too: a page of a slow view takes minutes.
//!
//! Owns: a task that polls the progress of the pass. Must not know: what readiness makes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::readiness::Readiness;
use crate::pass::PassProgress;

/// How often the progress is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Watches one pass until it is dropped.
#[derive(Debug)]
pub(super) struct PassWatch(JoinHandle<()>);

impl PassWatch {
    /// Reports the start of the pass and watches its progress.
    pub(super) fn start(readiness: &Arc<Readiness>, progress: &Arc<PassProgress>) -> Self {
        readiness.pass_started();
        let (readiness, progress) = (readiness.clone(), progress.clone());
        Self(tokio::spawn(async move {
            let mut reported = 0;
            loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                let recorded = progress.recorded() + progress.source_confirmations();
                if recorded > reported {
                    reported = recorded;
                    readiness.pass_recorded_outcomes();
                }
            }
        }))
    }
}

impl Drop for PassWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
