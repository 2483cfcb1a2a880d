//! Tests of log lines and progress bars on one terminal.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io;
use std::sync::{Arc, Mutex};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, TermLike};

use crate::logging::terminal::write_above;

/// A terminal that records what is written to it.
#[derive(Clone, Debug, Default)]
struct RecordingTerminal(Arc<Mutex<Vec<String>>>);

impl RecordingTerminal {
    fn record(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }
}

impl TermLike for RecordingTerminal {
    fn width(&self) -> u16 {
        80
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.record(text);
        Ok(())
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.record(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        self.record("<cleared>");
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_line_is_written_above_the_progress_bar() {
    let screen = RecordingTerminal::default();
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
    let bar = bars.add(ProgressBar::new(10));
    bar.set_position(3);
    bar.tick();
    let drawn = screen.0.lock().unwrap().len();
    assert!(drawn > 0, "the bar is on the screen");

    let write = || {
        screen.record("the log line");
        Ok(())
    };
    write_above(Some(&bars), write).unwrap();

    let records = screen.0.lock().unwrap().split_off(drawn);
    let line = records.iter().position(|record| record == "the log line").unwrap();
    assert!(records[..line].iter().any(|record| record == "<cleared>"), "{records:?}");
    assert!(records[line + 1..].iter().any(|record| record.contains("3/10")), "{records:?}");
}
