//! The types of a checked configuration: one struct per section of `imsync.toml`.
//!
//! Owns: plain data and what follows from it alone. Must not know: TOML, files, the rules that a value has passed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::table_name::{TableName, parse_table_name};
use super::uuid_text::{are_uuid_digits, uuid_digits, uuid_spellings};
use crate::model::{Account, ImAccountType, LogFormat, LogLevel, Region, Service, UnknownAccounts};
use crate::postgres::{PgUrl, UrlFile};
use crate::secret_file::SecretFile;

/// A configuration that passed every check that needs only the file, the environment and the arguments.
///
/// `Debug` never shows a secret: secrets are [`SecretString`], database URLs are [`PgUrl`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from. Errors of later stages name it.
    pub path: PathBuf,
    /// The name of this sync in the state tables, 1 to 63 bytes.
    pub name: String,
    /// `[source]`: the table with the users.
    pub source: SourceConfig,
    /// `[state]`: the state tables.
    pub state: StateConfig,
    /// `[im]`: the IM app and how fast it is called.
    pub im: ImConfig,
    /// `[attributes]`: one entry for each attribute, in the order of their names; 1 to 10.
    pub attributes: Vec<AttributeConfig>,
    /// `[removal]`: when attributes are removed from IM.
    pub removal: RemovalConfig,
    /// `[schedule]`: when the daemon runs a pass.
    pub schedule: ScheduleConfig,
    /// `[http]`: the HTTP server of the daemon.
    pub http: HttpConfig,
    /// `[alerts]`: the webhook.
    pub alerts: AlertsConfig,
    /// `[history]`: how long sent values are kept.
    pub history: HistoryConfig,
    /// `[log]`: level and format.
    pub log: LogConfig,
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

/// The `[source]` section.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The database with the table.
    pub url: PgUrl,
    /// The file of `url`, where it comes from one. Connections use the URL of it that is in force.
    pub url_file: Option<UrlFile>,
    /// As written in the file: `table` or `schema.table`; parts may be in double quotes.
    pub table: String,
    /// The column that identifies an account, as stored in the catalog (no quotes, no case folding).
    pub account_column: String,
    /// Text that precedes the column's text in the account, at most 31 bytes.
    pub account_prefix: String,
    /// How the column's text is written in the account.
    pub account_format: AccountFormat,
    /// The column that increases with every change of a row. `None`: every pass compares the whole table.
    pub watermark_column: Option<String>,
    /// The time zone of a watermark column of type `timestamp`; a name of `pg_timezone_names`.
    pub watermark_timezone: String,
    /// How far the clock of a writer may be behind, 1 s to 1 day.
    pub watermark_grace: Duration,
    /// The column that marks a row as deleted: not null, or true for a boolean.
    pub deleted_column: Option<String>,
    /// An SQL condition. A row for which it is not true counts as deleted.
    pub filter: Option<String>,
    /// Rows in one page, 1 to 100,000.
    pub page_size: u32,
}

impl SourceConfig {
    /// The parsed form of `table`. A loaded configuration always has a valid name, so this fails only for data that
    /// was built by hand.
    pub fn table_name(&self) -> Result<TableName, String> {
        parse_table_name(&self.table)
    }

    /// The IM account of a row: the configured prefix, then the account column's text in the configured format.
    ///
    /// `hex` writes the 32 digits of a uuid, whatever its spelling. A text that spells no uuid stays as it is, so that its
    /// row can be named: [`SourceConfig::is_in_format`] tells them apart. The length is not checked here.
    pub fn account_of(&self, text: &str) -> Account {
        Account::new(&*self.account_text(text))
    }

    /// The text of [`SourceConfig::account_of`].
    pub fn account_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let digits = match self.account_format {
            AccountFormat::Text => None,
            AccountFormat::Hex => uuid_digits(text),
        };
        match (digits, self.account_prefix.as_str()) {
            (None, "") => Cow::Borrowed(text),
            (Some(digits), "") => Cow::Owned(digits),
            (digits, prefix) => Cow::Owned([prefix, digits.as_deref().unwrap_or(text)].concat()),
        }
    }

    /// The account has the configured format: with `hex`, it is that of a uuid.
    pub fn is_in_format(&self, account: &str) -> bool {
        match self.account_format {
            AccountFormat::Text => true,
            AccountFormat::Hex => account.strip_prefix(self.account_prefix.as_str()).is_some_and(are_uuid_digits),
        }
    }

    /// The texts of the account column that [`SourceConfig::account_of`] turns into this account. With `hex` over a text
    /// column these are all spellings of a uuid; otherwise there is at most one.
    pub fn texts_of(&self, account: &Account) -> Vec<String> {
        let Some(text) = account.as_str().strip_prefix(self.account_prefix.as_str()) else { return Vec::new() };
        match self.account_format {
            AccountFormat::Text => vec![text.to_owned()],
            AccountFormat::Hex if are_uuid_digits(text) => uuid_spellings(text),
            AccountFormat::Hex if uuid_digits(text).is_none() => vec![text.to_owned()],
            AccountFormat::Hex => Vec::new(),
        }
    }
}

/// How the account column's text becomes part of the account (`source.account_format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountFormat {
    /// Unchanged.
    Text,
    /// A uuid, in a uuid or a text column, as its 32 digits in lower case: 32 bytes instead of 36.
    Hex,
}

/// The `[state]` section.
#[derive(Clone, Debug)]
pub struct StateConfig {
    /// The database of the state tables. The source's URL, unless the section has its own.
    pub url: PgUrl,
    /// The file of `url`, where it comes from one. Connections use the URL of it that is in force.
    pub url_file: Option<UrlFile>,
    /// The schema of the state tables, 1 to 63 bytes.
    pub schema: String,
    /// Whether `run` and `backfill` upgrade an old schema. If false, they refuse to start on one.
    pub migrate: bool,
}

/// The `[im]` section.
#[derive(Clone, Debug)]
pub struct ImConfig {
    /// The server that receives the calls.
    pub address: ImAddress,
    /// The vendor's push service that holds the attributes.
    pub service: Service,
    /// What the accounts are. `RegistrationIDs` only with `timpush`.
    pub account_type: ImAccountType,
    /// What happens to an account that Chat does not know.
    pub unknown_accounts: UnknownAccounts,
    /// The app's id, `SDKAppID` in the vendor's console.
    pub sdk_app_id: u32,
    /// The UserID of an administrator of the app, at most 32 bytes.
    pub identifier: String,
    /// The app's secret key. `None` only for commands that do not call IM.
    pub secret_key: Option<SecretString>,
    /// The file of `secret_key`, where it comes from one.
    pub secret_key_file: Option<SecretFile>,
    /// How long a UserSig is valid, 1 minute to 365 days.
    pub usersig_lifetime: Duration,
    /// Users in one call, 1 to 100.
    pub users_per_call: usize,
    /// Calls per second for each vendor command, 1 to 100.
    pub calls_per_second: u32,
    /// Calls that may wait for a response at the same time, 1 to 1000.
    pub max_in_flight: usize,
    /// The limit for one call, from connecting to the last byte of the response; 1 s to 1 hour.
    pub timeout: Duration,
    /// How long one batch is retried before the pass continues without it, 1 s to 1 day.
    pub retry_for: Duration,
    /// The share of a pass, 0 to 1, that may be refused with one code before the pass stops.
    pub max_rejected_share: f64,
}

/// The server that receives the calls: `im.region` or `im.base_url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImAddress {
    /// The vendor's servers in a data centre.
    Region(Region),
    /// A proxy or the simulator: an http or https URL with a host and an optional port and path.
    BaseUrl(url::Url),
}

/// One attribute of the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeConfig {
    /// The attribute's name in IM, 1 to 50 bytes.
    pub name: String,
    /// The column whose text becomes the value.
    pub column: String,
    /// Replaces the column's text (key) with a value. `None`: the text is sent unchanged.
    pub values: Option<BTreeMap<String, String>>,
    /// What happens to a text that `values` does not list.
    pub unlisted: Unlisted,
    /// What happens to a value of more than 50 bytes.
    pub too_long: TooLong,
    /// What happens if the column is NULL or its text is empty.
    pub null: Null,
}

/// What happens to a text that `values` does not list (`attributes.NAME.unlisted`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// The attribute is recorded as rejected.
    Reject,
    /// The text is sent unchanged.
    Send,
    /// The value in IM stays.
    Keep,
    /// The attribute is removed in IM.
    Remove,
}

/// What happens to a value that is longer than IM accepts (`attributes.NAME.too_long`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// The attribute is recorded as rejected.
    Reject,
    /// The value is truncated at a grapheme boundary.
    Truncate,
}

/// What happens if a column is NULL or its text is empty (`attributes.NAME.null`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Null {
    /// The attribute is removed in IM.
    Remove,
    /// The value in IM stays.
    Keep,
}

/// The `[removal]` section.
#[derive(Clone, Debug)]
pub struct RemovalConfig {
    /// What happens to the attributes of an account that is no longer in the table.
    pub gone: KeepOrRemove,
    /// What happens to attributes that imsync set and that the mapping no longer names.
    pub unmapped: KeepOrRemove,
    /// The removal guard: the share of the known accounts, 0 to 1, that may lose an attribute in one pass or in 24 h.
    pub max_share: f64,
}

/// Whether an attribute stays in IM or is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepOrRemove {
    /// It stays.
    Keep,
    /// It is removed.
    Remove,
}

/// The `[schedule]` section. `None` in a duration means "never".
#[derive(Clone, Debug)]
pub struct ScheduleConfig {
    /// The pause between two incremental passes, 100 ms to 1 day.
    pub interval: Duration,
    /// The channel on which the source announces changes.
    pub notify_channel: Option<String>,
    /// The time from the end of one full pass to the start of the next.
    pub full_every: Option<Duration>,
    /// The delay before a rejected attribute is tried for the first time again.
    pub rejected_retry: Duration,
    /// How often the daemon verifies IM on its own.
    pub verify_every: Option<Duration>,
    /// Accounts in one such verification, 1 to 1,000,000.
    pub verify_sample: u32,
}

/// The `[http]` section.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The address of the HTTP server. `None`: there is no server.
    pub listen: Option<SocketAddr>,
    /// Whether `listen` may be an address that other machines can reach.
    pub public: bool,
    /// Whether pages may show the values of an account.
    pub show_accounts: bool,
}

/// The `[alerts]` section.
#[derive(Clone, Debug)]
pub struct AlertsConfig {
    /// The URL that receives a JSON POST. It is a secret, because everyone who knows it can post.
    pub webhook: Option<SecretString>,
    /// The file that holds the URL, where it comes from one. It is read again when the receiver cannot be reached or refuses.
    pub webhook_file: Option<SecretFile>,
}

/// The `[history]` section.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// How long a sent value is kept. `None`: none is kept.
    pub keep: Option<Duration>,
}

/// The `[log]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The lowest level that is logged.
    pub level: LogLevel,
    /// The format of a line.
    pub format: LogFormat,
}
