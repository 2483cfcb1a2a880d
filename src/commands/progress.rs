//! The progress of a pass or of a verification on stderr: a bar on a terminal, a line every few seconds otherwise.
//!
//! Owns: the display. Must not know: how a pass or a verification works.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::output::{duration, thousands};
use crate::clock::Shutdown;
use crate::logging;
use crate::pass::verify::VerifyProgress;
use crate::pass::{PassPhase, PassProgress};

/// The interval between two lines when stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between two updates of the bar.
const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// Something whose progress can be shown.
pub(super) trait Progress: Send + Sync + 'static {
    /// What is counted.
    fn unit(&self) -> &'static str;
    /// How much is done, and of how much, about; 0 if that is unknown.
    fn position(&self) -> (u64, u64);
    /// When it began.
    fn started(&self) -> Instant;
    /// What else there is to say.
    fn note(&self) -> String;
}

impl Progress for PassProgress {
    fn unit(&self) -> &'static str {
        "rows"
    }

    fn position(&self) -> (u64, u64) {
        (Self::get(&self.done), Self::get(&self.total))
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn note(&self) -> String {
        counts(self)
    }
}

impl Progress for VerifyProgress {
    fn unit(&self) -> &'static str {
        "accounts"
    }

    fn position(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn note(&self) -> String {
        format!("{} differ", thousands(self.drifted.load(Ordering::Relaxed)))
    }
}

/// A task that shows the progress.
pub(super) struct ProgressDisplay {
    stop: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl ProgressDisplay {
    /// Starts the display.
    pub(super) fn start(progress: Arc<impl Progress>) -> Self {
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

async fn show_bar(progress: Arc<impl Progress>, stop: Shutdown) {
    let bar = logging::progress_bars().add(ProgressBar::no_length());
    let unit = progress.unit();
    let with_total = format!(
        "{{bar:30}} {{percent:>3}}%  {{human_pos}} of {{human_len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}"
    );
    let style =
        |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style(&format!("{{spinner}} {{human_pos}} {unit}  {{per_sec}}  {{msg}}")));
    let mut has_total = false;
    while !stop.requested() {
        let (done, total) = progress.position();
        if total > 0 {
            if !has_total {
                bar.set_style(style(&with_total));
                has_total = true;
            }
            // The total is the planner's estimate, and it can be too low.
            bar.set_length(total.max(done));
        }
        bar.set_position(done);
        bar.set_message(progress.note());
        stop.sleep(BAR_INTERVAL).await;
    }
    bar.finish_and_clear();
}

async fn print_lines(progress: Arc<impl Progress>, stop: Shutdown) {
    loop {
        stop.sleep(LINE_INTERVAL).await;
        if stop.requested() {
            return;
        }
        let (done, total) = progress.position();
        let of_total = if total > 0 { format!(" of about {}", thousands(total.max(done))) } else { String::new() };
        #[expect(clippy::cast_precision_loss, reason = "approximate numbers for people")]
        let (rate, left) =
            (done as f64 / progress.started().elapsed().as_secs_f64().max(0.001), total.saturating_sub(done) as f64);
        let is_known = total > 0 && rate > 0.0;
        let left = if is_known { format!(", about {} left", duration(left / rate)) } else { String::new() };
        let unit = progress.unit();
        eprintln!("{} {unit}{of_total}, {rate:.0} {unit}/s{left}; {}", thousands(done), progress.note());
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
