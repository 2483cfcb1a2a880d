//! The checked configuration: data only, it builds nothing and connects to nothing.
//!
//! Owns: every key of `imsync.toml` and of the environment, its default, its range, its error message.
//! Must not know: databases, HTTP, what a command does with it.
//!
//! The way of a file: [`load()`] finds and reads it, `document` parses it with its lines, `sections` and `attributes` ask
//! it for each key, `keys` has the rules, `checks` applies them, `secrets` looks elsewhere where a secret is meant.
//! Problems pile up in the document and come out together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::{Account, Region, Service};
pub use crate::model::{LogFormat, LogLevel};

mod attributes;
mod checks;
mod document;
pub mod durations;
pub mod environment;
mod keys;
mod load;
mod nearest;
mod postgres_url;
mod problems;
mod reload;
mod secrets;
mod sections;
mod syntax;
mod table_name;
#[cfg(test)]
mod tests;
mod unknown;

pub use environment::Environment;
pub use load::{Loaded, Request, load, parse};
pub use problems::{Problem, Problems};
pub use reload::differs_in_fixed_keys;
pub use table_name::{TableName, parse_table_name};

/// A configuration that passed every check that file, environment and arguments allow.
///
/// `Debug` never shows a secret: secrets are [`SecretString`], URLs are [`PgUrl`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read from; errors of later stages name it.
    pub path: PathBuf,
    /// Names this sync in the state tables.
    pub name: String,
    pub source: Source,
    pub state: State,
    pub im: Im,
    pub attributes: Vec<Attribute>,
    pub removal: Removal,
    pub schedule: Schedule,
    pub http: Http,
    pub alerts: Alerts,
    pub history: History,
    pub log: Log,
}

/// Bytes of an `application_name` that PostgreSQL keeps.
const APPLICATION_NAME_BYTES: usize = 63;

impl Config {
    /// The `application_name` of every session of this sync, on the source and on the state database: `imsync <name>`,
    /// cut at a character boundary to the 63 bytes that the server keeps (PostgreSQL manual, chapter 20.8: `NAMEDATALEN`
    /// less one).
    pub fn application_name(&self) -> String {
        let mut application = format!("imsync {}", self.name);
        application.truncate(application.floor_char_boundary(APPLICATION_NAME_BYTES));
        application
    }
}

/// A Postgres URL. It may hold a password, so it shows itself without one.
#[derive(Clone)]
pub struct PgUrl(pub SecretString);

#[derive(Clone, Debug)]
pub struct Source {
    pub url: PgUrl,
    /// As written: `table` or `schema.table`, quoted parts allowed.
    pub table: String,
    pub account_column: String,
    pub account_prefix: String,
    pub account_format: AccountFormat,
    pub watermark_column: Option<String>,
    pub watermark_timezone: String,
    pub watermark_grace: Duration,
    pub deleted_column: Option<String>,
    pub filter: Option<String>,
    pub page_size: u32,
}

impl Source {
    /// The parts of `table`. A loaded configuration always has a name that can be read.
    pub fn table_name(&self) -> Result<TableName, String> {
        parse_table_name(&self.table)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountFormat {
    Text,
    /// A uuid without its hyphens.
    Hex,
}

#[derive(Clone, Debug)]
pub struct State {
    /// The source's URL unless one of its own is given.
    pub url: PgUrl,
    pub schema: String,
    pub migrate: bool,
}

#[derive(Clone, Debug)]
pub struct Im {
    pub endpoint: Endpoint,
    pub service: Service,
    pub sdk_app_id: u32,
    pub identifier: String,
    /// `None` only for commands that do not call IM.
    pub secret_key: Option<SecretString>,
    pub usersig_lifetime: Duration,
    pub users_per_call: usize,
    /// For each vendor command.
    pub calls_per_second: u32,
    pub max_in_flight: usize,
    pub timeout: Duration,
    pub retry_for: Duration,
    pub max_rejected_share: f64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Region(Region),
    /// A proxy or the simulator: scheme, host, port, an optional path.
    BaseUrl(url::Url),
}

/// One attribute of the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub column: String,
    pub values: Option<BTreeMap<String, String>>,
    pub unlisted: Unlisted,
    pub too_long: TooLong,
    pub null: Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    Reject,
    Send,
    Keep,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    Reject,
    Truncate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Null {
    Remove,
    Keep,
}

#[derive(Clone, Debug)]
pub struct Removal {
    pub gone: KeepOrRemove,
    pub unmapped: KeepOrRemove,
    pub max_share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepOrRemove {
    Keep,
    Remove,
}

/// `None` in a duration means "never".
#[derive(Clone, Debug)]
pub struct Schedule {
    pub interval: Duration,
    pub notify_channel: Option<String>,
    pub full_every: Option<Duration>,
    pub rejected_retry: Duration,
    pub verify_every: Option<Duration>,
    pub verify_sample: u32,
}

#[derive(Clone, Debug)]
pub struct Http {
    pub listen: Option<SocketAddr>,
    pub public: bool,
    pub show_accounts: bool,
}

#[derive(Clone, Debug)]
pub struct Alerts {
    pub webhook: Option<SecretString>,
}

#[derive(Clone, Debug)]
pub struct History {
    /// `None`: nothing is kept.
    pub keep: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

impl Source {
    /// The IM account of a row: the configured prefix, then the account column's text in the configured format.
    ///
    /// `hex` drops the text's hyphens; those of the prefix stay. The length is not looked at here.
    pub fn account_of(&self, text: &str) -> Account {
        match (self.account_format, self.account_prefix.as_str()) {
            (AccountFormat::Text, "") => Account::new(text),
            (AccountFormat::Text, prefix) => Account::new([prefix, text].concat()),
            (AccountFormat::Hex, prefix) => Account::new([prefix, &text.replace('-', "")].concat()),
        }
    }
}
