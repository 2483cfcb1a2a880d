//! Shows that a pass waits for one long statement of the source, such as a page of a slow view.
//!
//! Owns: a task beside a pass that tells readiness, log, `status` and the progress display. Must not know: the statement,
//! the steps of a pass.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::engine::Engine;
use super::progress::PassProgress;
use super::report::PassKind;
use crate::clock;
use crate::source::{Source, SourceActivity};
use crate::state::StateWriter;

/// How often the statement is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often the state tables show it.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// A statement that takes so long is logged, and again after each of these.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Watches the long statements of one pass until it is dropped.
#[derive(Debug)]
pub struct LongReadWatch(JoinHandle<()>);

impl Engine {
    /// Watches the long statements of a pass that begins now.
    pub fn watch_long_reads(&self, progress: &Arc<PassProgress>) -> LongReadWatch {
        let watcher = Watcher {
            activity: self.reader.source.activity(),
            writer: Some(self.writer.clone()),
            progress: progress.clone(),
            saved: None,
            logged: Duration::ZERO,
        };
        LongReadWatch(tokio::spawn(watcher.run()))
    }
}

impl LongReadWatch {
    /// Watches the statements of a dry run, which are only logged.
    pub fn of_dry_run(source: &Source) -> Self {
        let watcher = Watcher {
            activity: source.activity(),
            writer: None,
            progress: Arc::new(PassProgress::new(PassKind::Full)),
            saved: None,
            logged: Duration::ZERO,
        };
        Self(tokio::spawn(watcher.run()))
    }
}

impl Drop for LongReadWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Watcher {
    activity: SourceActivity,
    /// `None` for a dry run.
    writer: Option<StateWriter>,
    progress: Arc<PassProgress>,
    saved: Option<Instant>,
    /// How long the statement that runs had taken when it was logged last.
    logged: Duration,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let running = self.activity.confirmed_for();
            self.progress.note_source_statement(running);
            let Some(running) = running else {
                self.logged = Duration::ZERO;
                continue;
            };
            self.log(running);
            if self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_INTERVAL) {
                self.saved = Some(clock::monotonic());
                self.save().await;
            }
        }
    }

    fn log(&mut self, running: Duration) {
        if running >= self.logged + LOG_INTERVAL {
            self.logged = running;
            let (seconds, phase) = (running.as_secs(), self.progress.phase().label());
            if self.writer.is_none() {
                // A command that only prints its result does not show lines of lower levels.
                tracing::warn!("the source has been running one statement for {seconds} s");
                return;
            }
            let rows = PassProgress::get(&self.progress.done);
            tracing::info!(
                pass = self.progress.kind.label(),
                rows,
                "the source has been running one statement for {seconds} s ({phase}): a slow view, or a missing index"
            );
        }
    }

    /// What cannot be stored is only not shown. The pass finds out by itself why.
    async fn save(&self) {
        let Some(writer) = &self.writer else { return };
        let open = self.progress.open().await;
        if *open {
            let _ = writer.save_progress(None, Some(&self.progress.running())).await;
        }
    }
}
