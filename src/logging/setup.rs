//! Starting the logging of this process, the level filter, and changing the level later.
//!
//! Owns: the one active subscriber; how the configured level and the verbosity flags combine; the limit on other
//! crates. Must not know: how an event is formatted.
//!
//! Other crates log warnings and errors only, at every verbosity. Below that level they may print URLs that contain a
//! UserSig, or SQL statements that contain the text of a filter. No environment variable changes this.

use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing::subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use super::format::{ResolvedFormat, journald_layer, json_layer, resolve, stderr_shows_colours, text_layer};
use super::journal::{self, JournalSocket};
use super::terminal;
use crate::model::{LogFormat, LogLevel};

/// The verbosity flags of the command line. They take precedence over the level of the configuration file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// No flag: the level of the configuration file.
    #[default]
    AsConfigured,
    /// `-q`: warnings and errors; errors only if the configuration file says so.
    Quiet,
    /// `-v`: the level DEBUG.
    Debug,
    /// `-vv`: the level TRACE.
    Trace,
}

/// The filter of the active subscriber, and the flags that still apply when the configured level changes.
struct ActiveFilter {
    reload: reload::Handle<Targets, Registry>,
    verbosity: Verbosity,
}

static ACTIVE: OnceLock<ActiveFilter> = OnceLock::new();

/// Starts logging. Only the first call in a process has an effect.
///
/// A command that has no configuration, or could not read it, passes default values.
pub fn init(level: LogLevel, format: LogFormat, verbosity: Verbosity) {
    ACTIVE.get_or_init(|| {
        let (filter, reload) = reload::Layer::new(level_filter(level, verbosity));
        let registry = Registry::default().with(filter);
        // This fails only when the process has a subscriber already: in a test that installed its own.
        let _ = match resolve(format, journal::stderr_is_journal) {
            ResolvedFormat::Text => {
                subscriber::set_global_default(registry.with(text_layer(terminal::stderr, stderr_shows_colours())))
            }
            ResolvedFormat::Json => subscriber::set_global_default(registry.with(json_layer(terminal::stderr))),
            ResolvedFormat::Journald => {
                subscriber::set_global_default(registry.with(journald_layer(JournalSocket::system())))
            }
        };
        ActiveFilter { reload, verbosity }
    });
}

/// Changes the configured level of a running process, after a reload of the configuration. The verbosity flags of the
/// command line still take precedence. Without [`init`], this has no effect.
pub fn set_level(level: LogLevel) {
    if let Some(active) = ACTIVE.get() {
        // This fails only when the subscriber no longer exists, and then there is no level to change.
        let _ = active.reload.reload(level_filter(level, active.verbosity));
    }
}

/// The filter for the configured level and the verbosity flags.
pub(super) fn level_filter(configured: LogLevel, verbosity: Verbosity) -> Targets {
    let configured = match configured {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let level = match verbosity {
        Verbosity::AsConfigured => configured,
        Verbosity::Quiet => configured.min(LevelFilter::WARN),
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("imsync", level)
        // sqlx warns about a slow statement and prints the whole statement.
        .with_target("sqlx::query", LevelFilter::OFF)
        // It also logs the notices of the server, in which a function may quote values.
        .with_target("sqlx::postgres::notice", LevelFilter::OFF)
}
