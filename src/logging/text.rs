//! The text format of an event: time, level, message, `key=value` pairs.
//!
//! Owns: layout, quoting, escaping. Must not know: where a line is written.

use std::fmt::{self, Write as _};

use chrono::SecondsFormat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::clock;

/// The current time in UTC, in the format of RFC 3339 with milliseconds.
pub(super) struct UtcTime;

impl FormatTime for UtcTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&clock::now_utc().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// `2026-01-31T08:15:00.250Z  INFO pass finished kind=incremental pushed=12`
///
/// DEBUG and TRACE lines also name the module that logged the event. Control characters are escaped, so that an event
/// is exactly one line and cannot send escape sequences to a terminal.
pub(super) struct TextFormatter;

impl<S, N> FormatEvent<S, N> for TextFormatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        const DIM: &str = "\x1b[2m";
        const RESET: &str = "\x1b[0m";
        let level = *event.metadata().level();
        if out.has_ansi_escapes() {
            out.write_str(DIM)?;
            UtcTime.format_time(&mut out)?;
            write!(out, "{RESET} {}{level:>5}{RESET} ", colour(level))?;
        } else {
            UtcTime.format_time(&mut out)?;
            write!(out, " {level:>5} ")?;
        }
        if level >= Level::DEBUG {
            let target = event.metadata().target();
            if out.has_ansi_escapes() {
                write!(out, "{DIM}{target}:{RESET} ")?;
            } else {
                write!(out, "{target}: ")?;
            }
        }
        write_event(context, &mut out, event)?;
        out.write_char('\n')
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Writes the message and the fields of the event, then the fields of the enclosing spans, outermost span first.
pub(super) fn write_event<S, N>(context: &FmtContext<'_, S, N>, out: &mut Writer<'_>, event: &Event<'_>) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    // Two passes over the fields, because the message is not always the first of them.
    let mut message = MessageVisitor { out: &mut *out, result: Ok(()) };
    event.record(&mut message);
    message.result?;
    let mut fields = PairVisitor { out: &mut *out, first: false, result: Ok(()) };
    event.record(&mut fields);
    fields.result?;
    for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
        let extensions = span.extensions();
        if let Some(fields) = extensions.get::<FormattedFields<N>>()
            && !fields.is_empty()
        {
            write!(out, " {fields}")?;
        }
    }
    Ok(())
}

/// Formats the fields of a span as `key=value` pairs.
pub(super) struct SpanFields;

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = PairVisitor { out: &mut out, first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

/// The name of the field that holds the message of an event.
const MESSAGE: &str = "message";

/// Writes the message and skips all other fields.
struct MessageVisitor<'a, 'w> {
    out: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl Visit for MessageVisitor<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE && self.result.is_ok() {
            self.result = write!(EscapingWriter(self.out), "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE && self.result.is_ok() {
            self.result = EscapingWriter(self.out).write_str(value);
        }
    }
}

/// Writes every field except the message as a `key=value` pair.
struct PairVisitor<'a, 'w> {
    out: &'a mut Writer<'w>,
    /// True before the first pair, which needs no separating space.
    first: bool,
    result: fmt::Result,
}

impl PairVisitor<'_, '_> {
    fn write_pair(&mut self, field: &Field, text: &str) {
        if field.name() == MESSAGE || self.result.is_err() {
            return;
        }
        let space = if self.first { "" } else { " " };
        self.first = false;
        self.result = write!(self.out, "{space}{}=", field.name()).and_then(|()| {
            // The Debug form of a string is quoted already and must not be quoted again.
            let quote = text.is_empty() || (text.contains(char::is_whitespace) && !text.starts_with('"'));
            if quote { write!(self.out, "{text:?}") } else { EscapingWriter(self.out).write_str(text) }
        });
    }
}

impl Visit for PairVisitor<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write_pair(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write_pair(field, value);
    }
}

/// Escapes the control characters of the text that is written through it.
pub(super) struct EscapingWriter<'a, W>(pub(super) &'a mut W);

impl<W: fmt::Write> fmt::Write for EscapingWriter<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            let (clean, tail) = rest.split_at(at);
            self.0.write_str(clean)?;
            let control = tail.chars().next().map_or(0, char::len_utf8);
            write!(self.0, "{}", tail[..control].escape_debug())?;
            rest = &tail[control..];
        }
        self.0.write_str(rest)
    }
}
