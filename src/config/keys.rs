//! The table of keys: every key of `imsync.toml` with the values that it accepts and its default.
//!
//! Owns: names, ranges and defaults, each in one place. The reader, the search for unknown keys and the tests of
//! `config.example.toml` and `docs/configuration.md` use this table. Must not know: what the value of a key is used
//! for.

use std::time::Duration;

use DefaultValue::{Optional, Required, Toml};
use ValueType::{Boolean, Choice, Custom, Secret, Share};

use super::table_name::MAX_IDENTIFIER_BYTES;
use super::value_type::ValueType;
use crate::model::{MAX_ACCOUNT_BYTES, MAX_USERS_PER_CALL, Service};

/// A key and its rules.
#[derive(Debug)]
pub(super) struct Key {
    /// The name with its section: `source.page_size`. `attributes.NAME.…` stands for every attribute.
    pub(super) path: &'static str,
    pub(super) value_type: ValueType,
    pub(super) default: DefaultValue,
}

/// What applies if a key is not in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DefaultValue {
    /// Nothing: the configuration is refused.
    Required,
    /// The key is off, or the code that reads it looks at another key or at the environment.
    Optional,
    /// This TOML value.
    Toml(&'static str),
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);
const TEN_YEARS: Duration = Duration::from_hours(3650 * 24);

const COLUMN: ValueType = identifier("a column name");
/// An account has at least one byte from the column.
const PREFIX: ValueType = ValueType::Text {
    min_bytes: 0,
    max_bytes: MAX_ACCOUNT_BYTES - 1,
    what: "a string",
    remark: "IM accepts accounts of at most 32 bytes, with their prefix",
};
const POSTGRES_URL: ValueType = Secret("a URL such as \"postgres://user:password@host:5432/database\"");
const FILE: ValueType = Secret("the path of a file that contains the value");
const WEBHOOK: ValueType = Secret("a URL such as \"https://alerts.example.com/imsync\"");
const ACCOUNT_TYPES: ValueType = Choice(&["user_id", "registration_id"]);
const UNKNOWN_ACCOUNTS: ValueType = Choice(&["reject", "import"]);
const SERVICES: ValueType = Choice(&[Service::AllMemberPush.as_str(), Service::Timpush.as_str()]);
const REGIONS: ValueType =
    Choice(&["china", "singapore", "seoul", "tokyo", "frankfurt", "mumbai", "silicon-valley", "jakarta", "ksa"]);
const BASE_URL: ValueType =
    Custom("an http or https URL with a host and an optional path, such as \"http://127.0.0.1:8089\"");
const CALLS_PER_SECOND: ValueType =
    integer(1, 100_000, "at most 100 without im.base_url, because IM accepts no more for each command");

const fn text(min_bytes: usize, max_bytes: usize) -> ValueType {
    ValueType::Text { min_bytes, max_bytes, what: "a string", remark: "" }
}

/// A name in the database. PostgreSQL would truncate a longer one without an error.
const fn identifier(what: &'static str) -> ValueType {
    ValueType::Text { min_bytes: 1, max_bytes: MAX_IDENTIFIER_BYTES, what, remark: "" }
}

const fn integer(min: u64, max: u64, remark: &'static str) -> ValueType {
    ValueType::Integer { min, max, remark }
}

const fn duration(min: Duration, max: Duration, example: &'static str) -> ValueType {
    ValueType::Duration { min, max, example, never: false }
}

const fn duration_or_never(min: Duration, max: Duration, example: &'static str) -> ValueType {
    ValueType::Duration { min, max, example, never: true }
}

const fn key(path: &'static str, value_type: ValueType, default: DefaultValue) -> Key {
    Key { path, value_type, default }
}

/// Every key, section by section.
pub(super) static KEYS: &[Key] = &[
    key("name", text(1, 63), Required),
    key("source.url", POSTGRES_URL, Optional),
    key("source.url_file", FILE, Optional),
    key("source.table", Custom("a table name such as \"users\", \"public.users\" or 'public.\"Users\"'"), Required),
    key("source.account_column", COLUMN, Required),
    key("source.account_prefix", PREFIX, Toml("\"\"")),
    key("source.account_format", Choice(&["text", "hex"]), Toml("\"text\"")),
    key("source.watermark_column", COLUMN, Optional),
    key("source.watermark_timezone", text(1, 100), Toml("\"UTC\"")),
    // A transaction takes its start time a moment before its id becomes visible. Less than a second would not cover
    // that.
    key("source.watermark_grace", duration(SECOND, DAY, "5s"), Toml("\"5s\"")),
    key("source.deleted_column", COLUMN, Optional),
    key("source.filter", Custom("an SQL condition without the keyword WHERE"), Optional),
    key("source.page_size", integer(1, 100_000, ""), Toml("5000")),
    key("state.url", POSTGRES_URL, Optional),
    key("state.url_file", FILE, Optional),
    key("state.schema", identifier("a schema name"), Toml("\"imsync\"")),
    key("state.migrate", Boolean, Toml("true")),
    key("im.region", REGIONS, Optional),
    key("im.base_url", BASE_URL, Optional),
    key("im.service", SERVICES, Toml("\"all_member_push\"")),
    key("im.account_type", ACCOUNT_TYPES, Toml("\"user_id\"")),
    key("im.unknown_accounts", UNKNOWN_ACCOUNTS, Toml("\"reject\"")),
    key("im.sdk_app_id", integer(1, u32::MAX as u64, "the SDKAppID shown in the console"), Required),
    // The administrator is a UserID, which has at most 32 bytes.
    key("im.identifier", text(1, MAX_ACCOUNT_BYTES), Required),
    key("im.secret_key", Secret("the app's secret key"), Optional),
    key("im.secret_key_file", FILE, Optional),
    key("im.usersig_lifetime", duration(MINUTE, YEAR, "24h"), Toml("\"24h\"")),
    key(
        "im.users_per_call",
        integer(1, MAX_USERS_PER_CALL as u64, "IM accepts at most 100 users per call"),
        Toml("100"),
    ),
    key("im.calls_per_second", CALLS_PER_SECOND, Toml("95")),
    key("im.max_in_flight", integer(1, 1000, ""), Toml("64")),
    key("im.timeout", duration(SECOND, HOUR, "10s"), Toml("\"10s\"")),
    key("im.retry_for", duration(SECOND, DAY, "60s"), Toml("\"60s\"")),
    key("im.max_rejected_share", Share, Toml("0.4")),
    key("attributes", Custom("a section with one line per attribute, such as city = \"city\""), Required),
    key("attributes.NAME", Custom("a column name in quotes, or a table with the key `column`"), Optional),
    key("attributes.NAME.column", COLUMN, Required),
    key("attributes.NAME.values", Custom("a table of strings, such as { m = \"male\", f = \"female\" }"), Optional),
    key("attributes.NAME.unlisted", Choice(&["reject", "send", "keep", "remove"]), Toml("\"reject\"")),
    key("attributes.NAME.too_long", Choice(&["reject", "truncate"]), Toml("\"reject\"")),
    key("attributes.NAME.null", Choice(&["remove", "keep"]), Toml("\"remove\"")),
    key("removal.gone", Choice(&["remove", "keep"]), Toml("\"remove\"")),
    key("removal.unmapped", Choice(&["keep", "remove"]), Toml("\"keep\"")),
    key("removal.max_share", Share, Toml("0.2")),
    key("schedule.interval", duration(Duration::from_millis(100), DAY, "10s"), Toml("\"10s\"")),
    key("schedule.notify_channel", identifier("a channel name"), Optional),
    key("schedule.full_every", duration_or_never(SECOND, YEAR, "24h"), Toml("\"24h\"")),
    key("schedule.rejected_retry", duration(SECOND, YEAR, "1h"), Toml("\"1h\"")),
    key("schedule.verify_every", duration_or_never(MINUTE, YEAR, "7d"), Toml("\"never\"")),
    key("schedule.verify_sample", integer(1, 1_000_000, "accounts"), Toml("1000")),
    key("http.listen", Custom("an IP address and a port, such as \"127.0.0.1:9474\" or \"[::1]:9474\""), Optional),
    key("http.public", Boolean, Toml("false")),
    key("http.show_accounts", Boolean, Toml("false")),
    key("alerts.webhook", WEBHOOK, Optional),
    key("alerts.webhook_file", FILE, Optional),
    key("history.keep", duration_or_never(MINUTE, TEN_YEARS, "30d"), Toml("\"never\"")),
    key("log.level", Choice(&["error", "warn", "info", "debug", "trace"]), Toml("\"info\"")),
    key("log.format", Choice(&["auto", "text", "json", "journald"]), Toml("\"auto\"")),
];

/// The section and the name of a path: `("source", "url")`, `("", "name")`.
pub(super) fn split_path(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The rules of the key with this path.
pub(super) fn find_key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// How a message describes the values of the key with this path; empty if there is no such key.
pub(super) fn expected(path: &str) -> String {
    find_key(path).map(|key| key.value_type.to_string()).unwrap_or_default()
}

/// The names of the keys of a section: `""` for those above the first section, `attributes.NAME` for an attribute's.
pub(super) fn names_in_section(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .map(|key| split_path(key.path))
        .filter(move |(parent, name)| *parent == section && !matches!(*name, "attributes" | "NAME"))
        .map(|(_, name)| name)
}

/// The first section that has a key of this name.
pub(super) fn section_with_key(name: &str) -> Option<&'static str> {
    sections().find(|section| names_in_section(section).any(|known| known == name))
}

/// The names of the sections, in the order of the table.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter()
        .filter_map(|key| key.path.split_once('.'))
        .map(|(section, _)| section)
        .filter(move |section| std::mem::replace(&mut last, section) != *section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_listed_once() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|before| before.path != key.path), "{} is listed twice", key.path);
        }
    }

    #[test]
    fn the_sections_are_the_documented_ones() {
        let sections: Vec<_> = sections().collect();
        assert_eq!(
            sections,
            ["source", "state", "im", "attributes", "removal", "schedule", "http", "alerts", "history", "log"]
        );
        assert_eq!(names_in_section("").collect::<Vec<_>>(), ["name"]);
        assert_eq!(names_in_section("state").collect::<Vec<_>>(), ["url", "url_file", "schema", "migrate"]);
    }
}
