//! Printing results to stdout, and formatting numbers, durations and texts for people.
//!
//! Owns: what every command prints in the same way. Must not know: what a command does.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::pass::{PassOutcome, PassReport};

/// Prints one line of a result to stdout.
///
/// The error `BrokenPipe` ends a listing. A command whose result is more than its output passes the error to
/// [`ignore_broken_pipe`].
pub(super) fn print_line(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Prints a JSON document to stdout, on one line.
pub(super) fn print_json(value: &impl serde::Serialize) -> io::Result<()> {
    print_line(serde_json::to_string(value).map_err(io::Error::other)?)
}

/// Turns `BrokenPipe` into success. A closed stdout does not change the exit code of a finished pass.
pub(super) fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Whether results for a person are coloured: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub(super) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Escapes the characters of a text from the database that could send commands to a terminal or change the direction of
/// the text that follows.
pub(super) fn escape_for_terminal(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { escaped.extend(c.escape_unicode()) } else { escaped.push(c) }
    }
    escaped
}

/// Describes a finished pass in one line.
pub(super) fn describe_pass(report: &PassReport) -> String {
    let row = &report.row;
    let mut text = format!(
        "{} {} read, {} pushed, {} removed, {} rejected, {} in {:.1} s",
        thousands(row.rows_read),
        if row.rows_read == 1 { "row" } else { "rows" },
        thousands(row.pushed),
        thousands(row.removed),
        thousands(row.rejected),
        calls(row.calls),
        report.seconds
    );
    if report.outcome == PassOutcome::Rejected {
        text.push_str("; `imsync rejected` lists what is rejected");
    }
    text
}

/// A number of calls, such as "1 call" or "12,000 calls".
pub(super) fn calls(count: u64) -> String {
    format!("{} {}", thousands(count), if count == 1 { "call" } else { "calls" })
}

/// A number of accounts, such as "1 account" or "12,000 accounts".
pub(super) fn accounts(count: u64) -> String {
    format!("{} {}", thousands(count), if count == 1 { "account" } else { "accounts" })
}

/// A number with commas between groups of three digits.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time to the second, in UTC.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A duration in its two largest units, such as "2 h 1 min".
pub(super) fn duration(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded to whole seconds, never negative"
    )]
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0 if seconds > 0.0 => format!("{:.0} ms", seconds * 1000.0),
        0..=59 => format!("{whole} s"),
        60..=3599 => format!("{} min {} s", whole / 60, whole % 60),
        3600..=86399 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86400, whole % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_for_a_terminal() {
        assert_eq!(escape_for_terminal("Zürich 北京 👍🏽 'x' \"y\" \\"), "Zürich 北京 👍🏽 'x' \"y\" \\");
        assert_eq!(escape_for_terminal("a\u{1b}[2J\r\nb\u{9b}c"), "a\\u{1b}[2J\\u{d}\\u{a}b\\u{9b}c");
        assert_eq!(escape_for_terminal("\u{202e}evil\u{2066}"), "\\u{202e}evil\\u{2066}");
    }

    #[test]
    fn numbers_and_durations_are_formatted_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(10_000), "10,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!(duration(59.4), "59 s");
        assert_eq!(duration(61.0), "1 min 1 s");
        assert_eq!(duration(7260.0), "2 h 1 min");
        assert_eq!(duration(90_000.0), "1 d 1 h");
    }
}
