//! Mistakes in the mapping of columns to attributes.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic =
    Topic {
        file: "attributes.md",
        title: "The mapping of columns to attributes",
        intro: "An app has ten attribute names of at most 50 bytes, and a value has at most 50 bytes.",
        mistakes: &[
            Mistake::new("No attribute", "The section is empty.", "check --offline")
                .keys(&[("attributes", "city", ""), ("attributes", "plan", "")]),
            Mistake::new("Eleven attributes", "The app has ten slots.", "check --offline").keys(&[
                ("attributes", "a1", "\"plan\""),
                ("attributes", "a2", "\"plan\""),
                ("attributes", "a3", "\"plan\""),
                ("attributes", "a4", "\"plan\""),
                ("attributes", "a5", "\"plan\""),
                ("attributes", "a6", "\"plan\""),
                ("attributes", "a7", "\"plan\""),
                ("attributes", "a8", "\"plan\""),
                ("attributes", "a9", "\"plan\""),
            ]),
            Mistake::new("One attribute twice", "Both columns are meant to be the city.", "check --offline")
                .tail("[attributes.city]\ncolumn = \"town\"\n"),
            Mistake::new(
                "Two attributes from one column",
                "A line was copied, and its column was not changed.",
                "check --offline",
            )
            .keys(&[("attributes", "plan", "\"city\"")]),
            Mistake::new("The name of an attribute is too long", "The name has 51 bytes.", "check --offline")
                .keys(&[("attributes", "the_city_in_which_the_user_has_lived_for_some_years", "\"city\"")]),
            Mistake::new("A value is too long", "The value has 53 bytes.", "check --offline").keys(&[
                ("attributes", "plan", ""),
                ("attributes.plan", "column", "\"plan\""),
                ("attributes.plan", "values", "{ free = \"the plan without a price that every user has at first\" }"),
            ]),
            Mistake::new("An empty value", "The attribute is meant to be removed.", "check --offline").keys(&[
                ("attributes", "plan", ""),
                ("attributes.plan", "column", "\"plan\""),
                ("attributes.plan", "values", "{ free = \"\" }"),
            ]),
            Mistake::new("An attribute without its column", "The section lacks a key.", "check --offline")
                .keys(&[("attributes", "plan", ""), ("attributes.plan", "too_long", "\"truncate\"")]),
            Mistake::new("A value that a key does not take", "The word is `truncate`.", "check --offline").keys(&[
                ("attributes", "plan", ""),
                ("attributes.plan", "column", "\"plan\""),
                ("attributes.plan", "too_long", "\"cut\""),
            ]),
            Mistake::new("A text that values does not list", "Some rows have another plan than `free`.", "check")
                .keys(&[
                    ("source", "table", "\"subscribers\""),
                    ("attributes", "plan", ""),
                    ("attributes.plan", "column", "\"plan\""),
                    ("attributes.plan", "values", "{ free = \"none\" }"),
                ])
                .sql(
                    "CREATE TABLE subscribers AS SELECT id, city, 'pro' AS plan, updated_at FROM users;
ALTER TABLE subscribers ADD PRIMARY KEY (id), ALTER updated_at SET NOT NULL;
CREATE INDEX ON subscribers (updated_at, id);",
                ),
            Mistake::new("Texts that are too long for IM", "The column holds whole sentences.", "check")
                .keys(&[("source", "table", "\"authors\""), ("attributes", "plan", "\"biography\"")])
                .sql(
                    "CREATE TABLE authors AS SELECT id, city, repeat('word ', 20) AS biography, updated_at FROM users;
ALTER TABLE authors ADD PRIMARY KEY (id), ALTER updated_at SET NOT NULL;
CREATE INDEX ON authors (updated_at, id);",
                ),
            Mistake::new("The app does not know an attribute", "The name was never set in the app.", "check")
                .keys(&[("attributes", "country", "\"city\"")]),
            Mistake::new("The app knows an attribute in another case", "The app has `city`.", "check")
                .keys(&[("attributes", "city", ""), ("attributes", "City", "\"city\"")]),
            Mistake::new("A push with an attribute that the app does not know", "`check` was not run.", "backfill")
                .keys(&[("attributes", "country", "\"city\"")])
                .own_database(),
            Mistake::new(
                "Setting names without a terminal",
                "A script cannot answer the question.",
                "attributes apply",
            )
            .keys(&[("attributes", "country", "\"city\"")]),
            Mistake::new(
                "Setting names in an app without a free slot",
                "All ten slots have a name.",
                "attributes apply --yes",
            )
            .keys(&[("im", "base_url", "\"http://<im without free slot>\"")]),
        ],
    };
