//! Mistakes in keys and values of the configuration file.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "configuration.md",
    title: "Keys and values of imsync.toml",
    intro: "`imsync check --offline` finds all of these without a network. Every command reports all problems of the file at once.",
    mistakes: &[
        Mistake::new("An unknown key", "The key is `table`.", "check --offline")
            .keys(&[("source", "table", ""), ("source", "tabel", "\"public.users\"")]),
        Mistake::new("A key in the wrong section", "`interval` belongs to `[schedule]`.", "check --offline")
            .keys(&[("source", "interval", "\"10s\"")]),
        Mistake::new("An unknown section", "The section is `[schedule]`.", "check --offline").keys(&[(
            "scheduler",
            "interval",
            "\"10s\"",
        )]),
        Mistake::new("A required key is missing", "The sync has no name.", "check --offline").keys(&[("", "name", "")]),
        Mistake::new("A number in quotes", "The SDKAppID is copied with quotes.", "check --offline").keys(&[(
            "im",
            "sdk_app_id",
            "\"1400000000\"",
        )]),
        Mistake::new("A duration without a unit", "Ten seconds are meant.", "check --offline")
            .keys(&[("schedule", "interval", "10")]),
        Mistake::new("A duration with a unit that does not exist", "Ten seconds are meant.", "check --offline")
            .keys(&[("schedule", "interval", "\"10 seconds\"")]),
        Mistake::new("A limit of zero", "Zero is meant to switch the limit off.", "check --offline").keys(&[(
            "im",
            "calls_per_second",
            "0",
        )]),
        Mistake::new("More than IM accepts", "Larger calls are hoped to be faster.", "check --offline").keys(&[(
            "im",
            "users_per_call",
            "500",
        )]),
        Mistake::new("A share as a percentage", "20 percent are meant.", "check --offline").keys(&[(
            "removal",
            "max_share",
            "20",
        )]),
        Mistake::new("The name is too long", "The name has 65 bytes.", "check --offline").keys(&[(
            "",
            "name",
            "\"users-of-the-production-database-in-the-new-data-centre-of-europe\"",
        )]),
        Mistake::new("A region that does not exist", "The German name of the city is used.", "check --offline")
            .keys(&[("im", "base_url", ""), ("im", "region", "\"singapur\"")]),
        Mistake::new(
            "A region and a base URL",
            "The example of the simulator was copied into a real configuration.",
            "check --offline",
        )
        .keys(&[("im", "region", "\"singapore\"")]),
        Mistake::new("A table name that needs quotes", "SQL reads the hyphen as a minus.", "check --offline")
            .keys(&[("source", "table", "\"app-users\"")]),
        Mistake::new("A filter with WHERE", "The key holds the condition alone.", "check --offline").keys(&[(
            "source",
            "filter",
            "\"WHERE plan = 'pro'\"",
        )]),
        Mistake::new("A time zone as an offset", "Five hours west of Greenwich are meant.", "check --offline")
            .keys(&[("source", "watermark_timezone", "\"UTC-5\"")]),
        Mistake::new(
            "The prefix of the accounts is too long",
            "IM accepts accounts of 32 bytes, with the prefix.",
            "check --offline",
        )
        .keys(&[("source", "account_prefix", "\"production-environment-of-europe-\"")]),
        Mistake::new("A prefix before a uuid", "A uuid without its hyphens has 32 bytes already.", "check --offline")
            .keys(&[("source", "account_prefix", "\"eu-\""), ("source", "account_format", "\"hex\"")]),
        Mistake::new(
            "A public address without the key that allows it",
            "The pages have no password, so a public address has to be meant.",
            "check --offline",
        )
        .keys(&[("http", "listen", "\"0.0.0.0:9474\"")]),
        Mistake::new("An address without a port", "Only the port is given.", "check --offline")
            .keys(&[("http", "listen", "\"9474\"")]),
        Mistake::new("A schema that PostgreSQL reserves", "The state tables cannot be there.", "check --offline")
            .keys(&[("state", "schema", "\"pg_imsync\"")]),
        Mistake::new("A key of a later version", "The key is accepted, and has no effect yet.", "check --offline")
            .keys(&[("http", "show_accounts", "true")]),
    ],
};
