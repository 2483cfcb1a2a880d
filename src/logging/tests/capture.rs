//! Captured log output, shared by the tests of logging.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::logging::format::text_layer;
use crate::logging::setup::{Verbosity, level_filter};
use crate::model::LogLevel;

/// Collects what a subscriber writes.
#[derive(Clone, Debug, Default)]
pub(super) struct LogCapture(Arc<Mutex<Vec<u8>>>);

impl LogCapture {
    /// Everything written so far.
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines written so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// A `MakeWriter` for this capture.
    pub(super) fn writer(&self) -> impl Fn() -> Self + use<> {
        let capture = self.clone();
        move || capture.clone()
    }
}

impl Write for LogCapture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text lines that `log_events` produces at this level and verbosity.
pub(super) fn text_lines(level: LogLevel, verbosity: Verbosity, log_events: impl FnOnce()) -> Vec<String> {
    let capture = LogCapture::default();
    let subscriber = Registry::default().with(level_filter(level, verbosity)).with(text_layer(capture.writer(), false));
    tracing::subscriber::with_default(subscriber, log_events);
    capture.lines()
}

/// A text line without its timestamp. Panics when the timestamp is not valid.
pub(super) fn without_time(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-01-31T08:15:00.250Z".len(), "{time}");
    DateTime::parse_from_rfc3339(time).unwrap();
    rest
}
