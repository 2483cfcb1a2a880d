//! The log formats: text, JSON, and entries of the systemd journal.
//!
//! Owns: the choice of the format, and the layer that writes it. Must not know: levels and filters.
//!
//! A failed write of a log line is not reported. The report would go to the place that has just failed, and a full disk
//! or a closed pipe behind stderr must not end the daemon.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;

use super::journal::JournalFormatter;
use super::text::{SpanFields, TextFormatter, UtcTime};
use crate::model::LogFormat;

/// A log format after `auto` has been resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResolvedFormat {
    Text,
    Json,
    Journald,
}

/// Resolves `auto`: entries of the journal when stderr is connected to it, text otherwise.
pub(super) fn resolve(format: LogFormat, stderr_is_journal: impl FnOnce() -> bool) -> ResolvedFormat {
    match format {
        LogFormat::Auto if stderr_is_journal() => ResolvedFormat::Journald,
        LogFormat::Auto | LogFormat::Text => ResolvedFormat::Text,
        LogFormat::Json => ResolvedFormat::Json,
        LogFormat::Journald => ResolvedFormat::Journald,
    }
}

/// True when stderr is a terminal that can show colours, and `NO_COLOR` (<https://no-color.org>) is not set.
pub(super) fn stderr_shows_colours() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes each event as one line of text.
pub(super) fn text_layer<S, W>(writer: W, colours: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer()
        .event_format(TextFormatter)
        .fmt_fields(SpanFields)
        .with_ansi(colours)
        .with_writer(writer)
        .log_internal_errors(false)
}

/// Writes each event as one JSON object on a line: `timestamp`, `level`, `target`, `message`, and the event's fields.
pub(super) fn json_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_timer(UtcTime)
        .with_writer(writer)
        .log_internal_errors(false)
}

/// Writes each event as one entry in the journal's native protocol.
pub(super) fn journald_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer()
        .event_format(JournalFormatter)
        .fmt_fields(SpanFields)
        .with_ansi(false)
        .with_writer(writer)
        .log_internal_errors(false)
}
