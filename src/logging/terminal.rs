//! Stderr, shared between log lines and progress bars.
//!
//! Owns: the progress bars of this process. Must not know: what the bars show.

use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;

static PROGRESS_BARS: OnceLock<MultiProgress> = OnceLock::new();

/// The progress bars of this process, on stderr. They are hidden when stderr is not a terminal.
///
/// Log lines are written above the bars that are added here. Code that suspends the bars must not log during that time:
/// the log line would wait for the end of the suspension.
pub fn progress_bars() -> &'static MultiProgress {
    PROGRESS_BARS.get_or_init(MultiProgress::new)
}

/// Writes whole lines to stderr, above the progress bars.
pub(super) struct StderrWriter;

/// A writer for one log line.
pub(super) fn stderr() -> StderrWriter {
    StderrWriter
}

impl Write for StderrWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write_above(PROGRESS_BARS.get(), || io::stderr().lock().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Clears the progress bars from the screen, writes, and draws them again below.
pub(super) fn write_above(bars: Option<&MultiProgress>, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match bars {
        // `suspend` panics when the terminal has gone away. `clear` returns an error in that case.
        Some(bars) if !bars.is_hidden() && bars.clear().is_ok() => bars.suspend(write),
        _ => write(),
    }
}
