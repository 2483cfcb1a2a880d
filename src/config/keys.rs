//! The table of keys: every key of `imsync.toml`, what it takes, its default.
//!
//! Owns: names, ranges and defaults, each in one place. The reader, the search for unknown keys, the tests of
//! `config.example.toml` and of `docs/configuration.md` all go by it. Must not know: what a key's value is used for.

use std::fmt;
use std::time::Duration;

use super::durations;
use super::table_name::MAX_IDENTIFIER_BYTES;
use crate::model::{MAX_USERS_PER_CALL, Service};

/// A key and its rules.
#[derive(Debug)]
pub(super) struct Key {
    /// With its section: `source.page_size`. `attributes.NAME.…` stands for every attribute.
    pub(super) path: &'static str,
    pub(super) takes: Takes,
    pub(super) absent: Absent,
}

/// What it means when the key is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// The configuration is refused.
    Refused,
    /// Nothing, or another key (or the environment) is asked: the code that reads it decides.
    Nothing,
    /// The same as if this TOML stood in the file.
    Means(&'static str),
}

/// What a key takes. `Display` finishes the sentence "allowed is …".
#[derive(Debug)]
pub(super) enum Takes {
    /// So many bytes at least and at most, without control characters.
    Text(usize, usize),
    /// A number from, to; and a remark on the limits.
    Whole(u64, u64, &'static str),
    Share,
    Switch,
    Duration {
        min: Duration,
        max: Duration,
        /// An example in the message.
        like: &'static str,
        never: bool,
    },
    Choice(&'static [&'static str]),
    /// Rules of its own, told by this sentence.
    Own(&'static str),
    /// The same for a secret: what was found is never shown.
    Secret(&'static str),
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(0, max) => write!(f, "text in quotes of at most {max} bytes"),
            Self::Text(min, max) => write!(f, "text in quotes of {min} to {max} bytes"),
            Self::Whole(min, max, remark) => {
                write!(f, "a whole number from {min} to {max}")?;
                if remark.is_empty() { Ok(()) } else { write!(f, " ({remark})") }
            }
            Self::Share => f.write_str("a share from 0 to 1, as in 0.2 for 20 percent"),
            Self::Switch => f.write_str("true or false"),
            Self::Duration { min, max, like, never } => {
                let (min, max) = (durations::shown(*min), durations::shown(*max));
                write!(f, "a duration from {min} to {max}, as in \"{like}\" (units ms, s, m, h, d)")?;
                if *never { f.write_str(", or \"never\"") } else { Ok(()) }
            }
            Self::Choice(words) => {
                for (index, word) in words.iter().enumerate() {
                    let before = match index {
                        0 => "",
                        _ if index + 1 == words.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{before}\"{word}\"")?;
                }
                Ok(())
            }
            Self::Own(rule) | Self::Secret(rule) => f.write_str(rule),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);

/// A name in the database. A longer one would be cut off silently.
const IDENTIFIER: Takes = Takes::Text(1, MAX_IDENTIFIER_BYTES);

const POSTGRES_URL: Takes = Takes::Secret("a URL like \"postgres://user:password@host:5432/database\"");
const FILE: Takes = Takes::Secret("the name of a file that holds it, in quotes");
const WEBHOOK: Takes = Takes::Secret("an http or https URL with a host, in quotes");

const fn duration(min: Duration, max: Duration, like: &'static str) -> Takes {
    Takes::Duration { min, max, like, never: false }
}

const fn duration_or_never(min: Duration, max: Duration, like: &'static str) -> Takes {
    Takes::Duration { min, max, like, never: true }
}

const fn key(path: &'static str, takes: Takes, absent: Absent) -> Key {
    Key { path, takes, absent }
}

use Absent::{Means, Nothing, Refused};

pub(super) static KEYS: &[Key] = &[
    key("name", Takes::Text(1, 63), Refused),
    key("source.url", POSTGRES_URL, Nothing),
    key("source.url_file", FILE, Nothing),
    key("source.table", Takes::Own("a name like \"users\", \"public.users\" or 'public.\"Users\"'"), Refused),
    key("source.account_column", IDENTIFIER, Refused),
    // An account has at least one byte of its own, and IM takes at most 32.
    key("source.account_prefix", Takes::Text(0, crate::model::MAX_ACCOUNT_BYTES - 1), Means("\"\"")),
    key("source.account_format", Takes::Choice(&["text", "hex"]), Means("\"text\"")),
    key("source.watermark_column", IDENTIFIER, Nothing),
    key("source.watermark_timezone", Takes::Text(1, 100), Means("\"UTC\"")),
    // Less than a second would not cover the moment between taking a transaction's time and showing its id.
    key("source.watermark_grace", duration(SECOND, DAY, "5s"), Means("\"5s\"")),
    key("source.deleted_column", IDENTIFIER, Nothing),
    key("source.filter", Takes::Own("an SQL condition in quotes, without the word WHERE"), Nothing),
    key("source.page_size", Takes::Whole(1, 100_000, ""), Means("5000")),
    key("state.url", POSTGRES_URL, Nothing),
    key("state.url_file", FILE, Nothing),
    key("state.schema", IDENTIFIER, Means("\"imsync\"")),
    key("state.migrate", Takes::Switch, Means("true")),
    key(
        "im.region",
        Takes::Choice(&["china", "singapore", "seoul", "tokyo", "frankfurt", "mumbai", "silicon-valley", "jakarta"]),
        Nothing,
    ),
    key(
        "im.base_url",
        Takes::Own("an http or https URL with a host and, if need be, a path, as in \"http://127.0.0.1:8089\""),
        Nothing,
    ),
    key(
        "im.service",
        Takes::Choice(&[Service::AllMemberPush.as_str(), Service::Timpush.as_str()]),
        Means("\"all_member_push\""),
    ),
    key("im.sdk_app_id", Takes::Whole(1, u32::MAX as u64, "the SDKAppID of the console"), Refused),
    // The administrator is a UserID, and those have at most 32 bytes.
    key("im.identifier", Takes::Text(1, crate::model::MAX_ACCOUNT_BYTES), Refused),
    key("im.secret_key", Takes::Secret("the app's secret key, in quotes"), Nothing),
    key("im.secret_key_file", FILE, Nothing),
    key("im.usersig_lifetime", duration(MINUTE, YEAR, "24h"), Means("\"24h\"")),
    key(
        "im.users_per_call",
        Takes::Whole(1, MAX_USERS_PER_CALL as u64, "IM takes at most 100 users in one call"),
        Means("100"),
    ),
    key(
        "im.calls_per_second",
        Takes::Whole(
            1,
            100,
            "IM takes at most 100 calls a second of each command, from all of an app's senders together",
        ),
        Means("95"),
    ),
    key("im.max_in_flight", Takes::Whole(1, 1000, ""), Means("64")),
    key("im.timeout", duration(SECOND, HOUR, "10s"), Means("\"10s\"")),
    key("im.retry_for", duration(SECOND, DAY, "60s"), Means("\"60s\"")),
    key("im.max_rejected_share", Takes::Share, Means("0.4")),
    key("attributes", Takes::Own("a section with one line for each attribute, as in city = \"city\""), Refused),
    key("attributes.NAME", Takes::Own("a column's name in quotes, or a table with `column`"), Nothing),
    key("attributes.NAME.column", IDENTIFIER, Refused),
    key("attributes.NAME.values", Takes::Own("a table of texts, as in { m = \"male\", f = \"female\" }"), Nothing),
    key("attributes.NAME.unlisted", Takes::Choice(&["reject", "send", "keep", "remove"]), Means("\"reject\"")),
    key("attributes.NAME.too_long", Takes::Choice(&["reject", "truncate"]), Means("\"reject\"")),
    key("attributes.NAME.null", Takes::Choice(&["remove", "keep"]), Means("\"remove\"")),
    key("removal.gone", Takes::Choice(&["remove", "keep"]), Means("\"remove\"")),
    key("removal.unmapped", Takes::Choice(&["keep", "remove"]), Means("\"keep\"")),
    key("removal.max_share", Takes::Share, Means("0.2")),
    key("schedule.interval", duration(Duration::from_millis(100), DAY, "10s"), Means("\"10s\"")),
    key("schedule.notify_channel", IDENTIFIER, Nothing),
    key("schedule.full_every", duration_or_never(SECOND, YEAR, "24h"), Means("\"24h\"")),
    key("schedule.rejected_retry", duration(SECOND, YEAR, "1h"), Means("\"1h\"")),
    key("schedule.verify_every", duration_or_never(MINUTE, YEAR, "7d"), Means("\"never\"")),
    key("schedule.verify_sample", Takes::Whole(1, 1_000_000, "accounts"), Means("1000")),
    key("http.listen", Takes::Own("an IP address and a port, as in \"127.0.0.1:9474\" or \"[::1]:9474\""), Nothing),
    key("http.public", Takes::Switch, Means("false")),
    key("http.show_accounts", Takes::Switch, Means("false")),
    key("alerts.webhook", WEBHOOK, Nothing),
    key("alerts.webhook_file", FILE, Nothing),
    key("history.keep", duration_or_never(MINUTE, Duration::from_hours(3650 * 24), "30d"), Means("\"never\"")),
    key("log.level", Takes::Choice(&["error", "warn", "info", "debug", "trace"]), Means("\"info\"")),
    key("log.format", Takes::Choice(&["auto", "text", "json", "journald"]), Means("\"auto\"")),
];

/// The section and the name of a path: `("source", "url")`, `("", "name")`.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The rules of a key that the code knows.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The names of a section's keys: `""` for those above the first section, `attributes.NAME` for an attribute's.
pub(super) fn names_in(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .map(|key| split(key.path))
        .filter(move |(of, name)| *of == section && !matches!(*name, "attributes" | "NAME"))
        .map(|(_, name)| name)
}

/// The section that has a key of this name.
pub(super) fn section_of(name: &str) -> Option<&'static str> {
    sections().find(|section| names_in(section).any(|known| known == name))
}

/// The sections, in the order of the table.
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
    fn every_key_is_there_once() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|before| before.path != key.path), "{} is there twice", key.path);
        }
    }

    #[test]
    fn sections_are_the_ones_people_know() {
        let sections: Vec<_> = sections().collect();
        assert_eq!(
            sections,
            ["source", "state", "im", "attributes", "removal", "schedule", "http", "alerts", "history", "log"]
        );
        assert_eq!(names_in("").collect::<Vec<_>>(), ["name"]);
        assert_eq!(names_in("state").collect::<Vec<_>>(), ["url", "url_file", "schema", "migrate"]);
    }
}
