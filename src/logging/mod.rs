//! Log lines: which are written, in which form, and to where. Always to stderr; stdout is for results.
//!
//! Owns: level, filter, formats. Must not know: what is worth logging.
//!
//! Of other crates only warnings are shown, at every verbosity: what they print below that may hold URLs with a
//! UserSig, or statements with what people wrote into a filter. No environment variable opens them.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, reload};

use crate::model::{LogFormat, LogLevel};

mod journal;
mod line;
mod terminal;

#[cfg(test)]
mod tests;

pub use terminal::bars;

/// The flags that go before the file's level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// The file's level.
    #[default]
    AsConfigured,
    /// `-q`: warnings and errors.
    Quiet,
    /// `-v`
    Debug,
    /// `-vv`
    Trace,
}

/// The running filter and what it must not forget when the level changes.
struct Running {
    filter: reload::Handle<Targets, Registry>,
    verbosity: Verbosity,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// Starts logging. With defaults where no configuration could be read. Only the first call of a process has an effect.
pub fn init(level: LogLevel, format: LogFormat, verbosity: Verbosity) {
    RUNNING.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(targets(level, verbosity));
        let registry = Registry::default().with(filter);
        // An error means that somebody else listens to this process already: a test with a subscriber of its own.
        let _ = match resolved(format, journal::is_stderr) {
            Format::Text => subscriber::set_global_default(registry.with(text(terminal::stderr, colours()))),
            Format::Json => subscriber::set_global_default(registry.with(json(terminal::stderr))),
            Format::Journald => subscriber::set_global_default(registry.with(journald(journal::Socket::system()))),
        };
        Running { filter: handle, verbosity }
    });
}

/// Changes the file's level while running (a reload of the configuration). The flags still go before it.
pub fn set_level(level: LogLevel) {
    if let Some(running) = RUNNING.get() {
        // Fails only when nobody logs any more.
        let _ = running.filter.reload(targets(level, running.verbosity));
    }
}

fn targets(level: LogLevel, verbosity: Verbosity) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let level = match verbosity {
        Verbosity::AsConfigured => level,
        Verbosity::Quiet => level.min(LevelFilter::WARN),
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("imsync", level)
        // Its warning about a slow statement prints the whole statement.
        .with_target("sqlx::query", LevelFilter::OFF)
}

/// A format with nothing left to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Journald,
}

fn resolved(format: LogFormat, stderr_is_journal: impl FnOnce() -> bool) -> Format {
    match format {
        LogFormat::Auto if stderr_is_journal() => Format::Journald,
        LogFormat::Auto | LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Journald => Format::Journald,
    }
}

/// On a terminal that knows them, unless the person does not desired any (<https://no-color.org>).
fn colours() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

// A failing write is not reported anywhere: the place for the report is the one that failed, and a full disk or a
// closed pipe behind stderr must not end the daemon.

fn text<S, W>(writer: W, colours: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer()
        .event_format(line::Text)
        .fmt_fields(line::Pairs)
        .with_ansi(colours)
        .with_writer(writer)
        .log_internal_errors(false)
}

/// One object a line: `timestamp`, `level`, `target`, `message` and the event's fields beside them.
fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_timer(line::Utc)
        .with_writer(writer)
        .log_internal_errors(false)
}

fn journald<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer()
        .event_format(journal::Entry)
        .fmt_fields(line::Pairs)
        .with_ansi(false)
        .with_writer(writer)
        .log_internal_errors(false)
}
