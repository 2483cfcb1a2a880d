//! The progress of a pass on stderr: a bar on a terminal, a line every few seconds otherwise.
//!
//! Owns: the display. Must not know: how a pass works.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::{duration, thousands};
use crate::clock::Shutdown;
use crate::logging;
use crate::pass::{PassPhase, PassProgress};

/// The interval between two lines when stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between two updates of the bar.
const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// A task that shows the progress of a pass.
pub(super) struct ProgressDisplay {
    stop: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl ProgressDisplay {
    /// Starts the display.
    pub(super) fn start(progress: Arc<PassProgress>) -> Self {
        let stop = Shutdown::default();
        let task = if std::io::stderr().is_terminal() {
            tokio::spawn(show_bar(progress, stop.clone()))
        } else {
            tokio::spawn(print_lines(progress, stop.clone()))
        };
        Self { stop, task }
    }

    /// Removes the display from the screen.
    pub(super) async fn stop(self) {
        self.stop.request();
        // The task ends at once. If it panicked, only the display is lost, not the pass.
        let _ = self.task.await;
    }
}

async fn show_bar(progress: Arc<PassProgress>, stop: Shutdown) {
    let bar = logging::progress_bars().add(ProgressBar::no_length());
    let with_total = "{bar:30} {percent:>3}%  {human_pos} of {human_len} rows  {per_sec}  {eta} left  {msg}";
    let style =
        |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style("{spinner} {human_pos} rows  {per_sec}  {msg}"));
    let mut has_total = false;
    while !stop.requested() {
        let (done, total) = (PassProgress::get(&progress.done), PassProgress::get(&progress.total));
        if total > 0 {
            if !has_total {
                bar.set_style(style(with_total));
                has_total = true;
            }
            // The total is the planner's estimate, and it can be too low.
            bar.set_length(total.max(done));
        }
        bar.set_position(done);
        bar.set_message(counts(&progress));
        stop.sleep(BAR_INTERVAL).await;
    }
    bar.finish_and_clear();
}

async fn print_lines(progress: Arc<PassProgress>, stop: Shutdown) {
    loop {
        stop.sleep(LINE_INTERVAL).await;
        if stop.requested() {
            return;
        }
        let (done, total) = (PassProgress::get(&progress.done), PassProgress::get(&progress.total));
        let of_total = if total > 0 { format!(" of about {}", thousands(total.max(done))) } else { String::new() };
        let eta = progress.running()["eta_seconds"].as_f64();
        let left = eta.map(|eta| format!(", about {} left", duration(eta))).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "an approximate rate for people")]
        let rate = done as f64 / progress.started.elapsed().as_secs_f64().max(0.001);
        eprintln!("{} rows{of_total}, {rate:.0} rows/s{left}; {}", thousands(done), counts(&progress));
    }
}

/// The numbers of pushed, removed and rejected accounts, and the phase of the pass.
fn counts(progress: &PassProgress) -> String {
    // Writing to a String cannot fail.
    let mut text = format!("{} pushed", thousands(PassProgress::get(&progress.pushed)));
    let removed = PassProgress::get(&progress.removed);
    if removed > 0 {
        let _ = write!(text, ", {} removed", thousands(removed));
    }
    let rejected = PassProgress::get(&progress.rejected);
    if rejected > 0 {
        let _ = write!(text, ", {} rejected", thousands(rejected));
    }
    if let Some(seconds) = progress.waiting_seconds() {
        let _ = write!(text, "; the source has been running one statement for {seconds} s");
    }
    if progress.phase() != PassPhase::ReadingTable {
        let _ = write!(text, " ({})", progress.phase().label());
    }
    text
}
