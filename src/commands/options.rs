//! Options that several commands share: the global options, and accounts given by ID.
//!
//! Owns: loading the configuration and starting the log as these options say. Must not know: the command line's syntax.

use std::path::PathBuf;
use std::sync::Arc;

use super::exit::CommandFailure;
use crate::config::{self, Config, LogFormat, LogLevel};
use crate::logging::{self, Verbosity};
use crate::model::Account;

/// The options that every command takes.
#[derive(Clone, Debug)]
pub struct GlobalOptions {
    /// The path of the configuration file; `None` means the documented search order.
    pub config: Option<PathBuf>,
    /// The verbosity flags.
    pub verbosity: Verbosity,
    /// The log format; `None` means the format of the configuration.
    pub log_format: Option<LogFormat>,
}

/// Whether a command runs until it is stopped. This decides the default log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// Logs at the configured level.
    Daemon,
    /// Prints a result, and logs warnings and errors only if the configured level is `info`.
    OneShot,
}

/// A valid configuration, and warnings about it.
#[derive(Debug)]
pub struct CheckedConfig {
    /// The configuration.
    pub config: Arc<Config>,
    /// Sentences about what is valid, but perhaps not intended.
    pub warnings: Vec<String>,
}

impl GlobalOptions {
    fn load_request(&self, needs_secret_key: bool) -> config::LoadRequest {
        config::LoadRequest {
            path: self.config.clone(),
            environment: config::Environment::of_process(),
            working_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            needs_secret_key,
        }
    }

    /// Starts logging for a command that reads no configuration.
    pub fn start_logging(&self) {
        logging::init(LogLevel::Info, self.log_format.unwrap_or(LogFormat::Auto), self.verbosity);
    }

    /// Loads and validates the configuration, and starts logging as it says.
    ///
    /// The failure has the exit code 2 and lists all problems of the configuration.
    pub fn load(&self, needs_secret_key: bool, kind: CommandKind) -> Result<Arc<Config>, CommandFailure> {
        let CheckedConfig { config, warnings } =
            self.load_unlogged(needs_secret_key, kind).map_err(CommandFailure::usage)?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }

    /// Like [`GlobalOptions::load`] with the secret key, for a command that prints problems and warnings itself.
    pub fn load_checked(&self, kind: CommandKind) -> Result<CheckedConfig, config::Problems> {
        self.load_unlogged(true, kind)
    }

    fn load_unlogged(&self, needs_secret_key: bool, kind: CommandKind) -> Result<CheckedConfig, config::Problems> {
        let config::LoadedConfig { config, warnings } = config::load(&self.load_request(needs_secret_key))?;
        let level = match (kind, config.log.level) {
            (CommandKind::OneShot, LogLevel::Info) => LogLevel::Warn,
            (_, level) => level,
        };
        logging::init(level, self.log_format.unwrap_or(config.log.format), self.verbosity);
        tracing::info!(file = %config.path.display(), "configuration read");
        Ok(CheckedConfig { config: Arc::new(config), warnings })
    }

    /// Loads the configuration again for a running daemon. The error lists all problems.
    pub fn reload(&self) -> Result<Config, String> {
        let loaded = config::load(&self.load_request(true)).map_err(|problems| problems.to_string())?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(loaded.config)
    }
}

/// The account that an argument names, as [`parse_accounts`] does.
pub(super) fn parse_account(config: &Config, id: &str) -> Result<Account, CommandFailure> {
    let named = parse_accounts(config, &[id.to_owned()]).pop();
    named
        .filter(|account| !account.as_str().is_empty())
        .ok_or_else(|| CommandFailure::usage("the ID of an account is empty"))
}

/// The accounts that `--account` names, sorted and without duplicates.
///
/// An ID is an IM account, or the text of the account column where it cannot be taken for an IM account.
pub(super) fn parse_accounts(config: &Config, ids: &[String]) -> Vec<Account> {
    let source = &config.source;
    let mut accounts: Vec<Account> = ids
        .iter()
        .map(|id| {
            let lacks_prefix = !source.account_prefix.is_empty() && !id.starts_with(&source.account_prefix);
            // The 32 digits of a uuid are a spelling of it too, so this is right for an IM account as well.
            let is_hex = source.account_format == config::AccountFormat::Hex;
            if lacks_prefix || is_hex { source.account_of(id) } else { Account::new(id.as_str()) }
        })
        .collect();
    accounts.sort();
    accounts.dedup();
    accounts
}
