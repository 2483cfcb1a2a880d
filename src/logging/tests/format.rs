//! Tests of the text format and the JSON format.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use chrono::DateTime;
use tracing::{debug, error, info, info_span, warn};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::capture::{LogCapture, text_lines, without_time};
use crate::logging::format::{json_layer, text_layer};
use crate::logging::setup::Verbosity;
use crate::model::LogLevel;

#[test]
fn a_text_line_has_time_level_message_and_fields() {
    let lines = text_lines(LogLevel::Info, Verbosity::AsConfigured, || {
        info!(kind = "incremental", pushed = 12, "pass finished");
        warn!(reason = "the database is unreachable", empty = "", account = ?"u 1", "trying again");
        error!("no fields");
        info!(message = %"message first or last", ok = true);
    });
    assert_eq!(
        lines.iter().map(|line| without_time(line)).collect::<Vec<_>>(),
        [
            " INFO pass finished kind=incremental pushed=12",
            r#" WARN trying again reason="the database is unreachable" empty="" account="u 1""#,
            "ERROR no fields",
            " INFO message first or last ok=true",
        ]
    );
}

#[test]
fn a_debug_line_names_its_module_and_the_fields_of_its_spans() {
    let lines = text_lines(LogLevel::Debug, Verbosity::AsConfigured, || {
        let _pass = info_span!("pass", pass = 7).entered();
        let _page = info_span!("page", from = "a b").entered();
        debug!(rows = 5, "page read");
    });
    assert_eq!(
        lines.iter().map(|line| without_time(line)).collect::<Vec<_>>(),
        [r#"DEBUG imsync::logging::tests::format: page read rows=5 pass=7 from="a b""#]
    );
}

#[test]
fn an_event_is_one_line_without_control_characters() {
    let lines = text_lines(LogLevel::Info, Verbosity::AsConfigured, || {
        let text = "one\ntwo\x1b[2J\r\u{9b}";
        info!(plain = text, shown = %"x\ny", debugged = ?text, "{text}");
    });
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains(char::is_control), "{:?}", lines[0]);
    assert!(lines[0].contains(r"one\ntwo\u{1b}[2J\r\u{9b}"), "{}", lines[0]);
}

#[test]
fn colours_appear_only_when_they_are_enabled() {
    let capture = LogCapture::default();
    let subscriber = Registry::default().with(text_layer(capture.writer(), true));
    tracing::subscriber::with_default(subscriber, || warn!(rows = 5, "slow"));
    let plain = text_lines(LogLevel::Info, Verbosity::AsConfigured, || warn!(rows = 5, "slow"));
    assert!(capture.text().contains("\x1b[33m WARN\x1b[0m slow rows=5"), "{:?}", capture.text());
    assert!(!plain[0].contains('\x1b'));
}

#[test]
fn json_is_one_object_per_line_with_flat_fields() {
    let capture = LogCapture::default();
    let subscriber = Registry::default().with(json_layer(capture.writer()));
    tracing::subscriber::with_default(subscriber, || info!(kind = "full", pushed = 12, "pass\nfinished"));
    let lines = capture.lines();
    assert_eq!(lines.len(), 1);
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "pass\nfinished");
    assert_eq!(line["kind"], "full");
    assert_eq!(line["pushed"], 12);
    assert_eq!(line["target"], "imsync::logging::tests::format");
    DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}
