//! Stderr, shared between log lines and progress bars.
//!
//! Owns: the bars of this process. Must not know: what they show.

use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;

static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// The progress bars of this process, on stderr; hidden where stderr is no terminal. A bar that is added here makes way
/// for log lines. Whoever suspends them must not log meanwhile: the line would wait for the end of the suspension.
pub fn bars() -> &'static MultiProgress {
    BARS.get_or_init(MultiProgress::new)
}

/// Writes each line whole, above the bars.
pub(super) struct Stderr;

pub(super) fn stderr() -> Stderr {
    Stderr
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        above(BARS.get(), || io::stderr().lock().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the bars off the screen, writes, draws them again below.
pub(super) fn above(bars: Option<&MultiProgress>, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match bars {
        // `suspend` panics when the terminal is gone; `clear` tells it beforehand.
        Some(bars) if !bars.is_hidden() && bars.clear().is_ok() => bars.suspend(write),
        _ => write(),
    }
}
