//! The commands, one a file: arguments in, exit code out.
//!
//! Owns: what a command prints and how it ends. Must not know: clap, SQL, HTTP bodies.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{self, Config, LogFormat, LogLevel};
use crate::logging::{self, Verbosity};
use crate::model::Account;
use crate::pass::{PassError, PassOutcome, PassReport};
use crate::service::connect::ConnectError;
use crate::source::SourceError;
use crate::state::StateError;

pub mod backfill;
pub mod check;
pub mod demo;
pub mod migrate;
pub mod preview;
pub mod rejected;
pub mod run;
pub mod simulate;
pub mod status;

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Could not finish: what only the database or IM can tell, or it was interrupted.
    Failed = 1,
    /// Wrong usage or configuration, before anything was touched.
    Usage = 2,
    /// Finished, and rejections stand.
    Rejected = 3,
}

/// Why a command ends without having done its work: an exit code and what to print.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn failed(message: impl Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string() }
    }

    pub fn usage(message: impl Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // Whoever read the listing has seen enough.
            return Self { exit: Exit::Done, message: String::new() };
        }
        Self::failed(error)
    }
}

macro_rules! failed_from {
    ($($error:ty),+) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::failed(error)
            }
        }
    )+};
}
failed_from!(ConnectError, PassError, SourceError, StateError);

pub type CommandResult = Result<Exit, Failure>;

/// The options that every command takes.
#[derive(Clone, Debug)]
pub struct Global {
    pub config: Option<PathBuf>,
    pub verbosity: Verbosity,
    pub log_format: Option<LogFormat>,
}

/// How much a command says of itself by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// The daemon: what the configuration says.
    Daemon,
    /// A command with a result of its own: warnings and errors.
    OneShot,
}

impl Global {
    fn request(&self, needs_secret_key: bool) -> config::Request {
        config::Request {
            path: self.config.clone(),
            environment: config::Environment::of_process(),
            working_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            needs_secret_key,
        }
    }

    /// Logging for a command that reads no configuration.
    pub fn start_logging(&self) {
        logging::init(LogLevel::Info, self.log_format.unwrap_or(LogFormat::Auto), self.verbosity);
    }

    /// Reads and checks the configuration and starts logging as it says.
    pub fn load(&self, needs_secret_key: bool, voice: Voice) -> Result<Arc<Config>, Failure> {
        let loaded = config::load(&self.request(needs_secret_key)).map_err(Failure::usage)?;
        let config = loaded.config;
        let level = match (voice, config.log.level) {
            (Voice::OneShot, LogLevel::Info) => LogLevel::Warn,
            (_, level) => level,
        };
        logging::init(level, self.log_format.unwrap_or(config.log.format), self.verbosity);
        tracing::info!(file = %config.path.display(), "configuration read");
        for notice in &loaded.notices {
            tracing::warn!("{notice}");
        }
        Ok(Arc::new(config))
    }

    /// Reads the configuration again for a running daemon.
    pub fn reload(&self) -> Result<Config, String> {
        let loaded = config::load(&self.request(true)).map_err(|problems| problems.to_string())?;
        for notice in &loaded.notices {
            tracing::warn!("{notice}");
        }
        Ok(loaded.config)
    }
}

/// Prints a line of a result to stdout.
pub fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// A text of the table's as it may stand on a line of a terminal: what could steer it, or turn the direction of what
/// follows, is written out.
pub fn harmless(text: &str) -> String {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// Prints a JSON document to stdout, on one line.
pub fn say_json(value: &impl serde::Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value).map_err(io::Error::other)?;
    say(text)
}

/// Whether a result could be printed; that nobody reads it any more does not change how the work ended.
pub fn printed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The exit code of a pass.
pub fn exit_of(ending: PassOutcome) -> Exit {
    match ending {
        PassOutcome::Ok => Exit::Done,
        PassOutcome::Rejected => Exit::Rejected,
        PassOutcome::Failed | PassOutcome::Guard | PassOutcome::Interrupted => Exit::Failed,
    }
}

/// A pass in one sentence for people.
pub fn sentence(report: &PassReport) -> String {
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
    if report.ending == PassOutcome::Rejected {
        text.push_str("; rejections stand, `imsync rejected` lists them");
    }
    text
}

/// "1 call", "12,000 calls".
pub fn calls(count: u64) -> String {
    format!("{} {}", thousands(count), if count == 1 { "call" } else { "calls" })
}

/// A number with its thousands apart.
pub fn thousands(number: u64) -> String {
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

/// A duration as people say it, in its two largest units.
pub fn duration(seconds: f64) -> String {
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

/// The accounts that people named: IM accounts, or texts of the account column where that is unambiguous.
pub fn accounts_named(config: &Config, ids: &[String]) -> Vec<Account> {
    let source = &config.source;
    let mut accounts: Vec<Account> = ids
        .iter()
        .map(|id| {
            let without_prefix = !source.account_prefix.is_empty() && !id.starts_with(&source.account_prefix);
            let hyphenated = source.account_format == config::AccountFormat::Hex && id.contains('-');
            if without_prefix || hyphenated { source.account_of(id) } else { Account::new(id.as_str()) }
        })
        .collect();
    accounts.sort();
    accounts.dedup();
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_table_cannot_steer_a_terminal() {
        assert_eq!(harmless("Zürich 北京 👍🏽 'x' \"y\" \\"), "Zürich 北京 👍🏽 'x' \"y\" \\");
        assert_eq!(harmless("a\u{1b}[2J\r\nb\u{9b}c"), "a\\u{1b}[2J\\u{d}\\u{a}b\\u{9b}c");
        assert_eq!(harmless("\u{202e}evil\u{2066}"), "\\u{202e}evil\\u{2066}");
    }

    #[test]
    fn numbers_and_times_read_well() {
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
