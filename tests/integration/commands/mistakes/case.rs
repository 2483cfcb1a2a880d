//! A mistake: what somebody does, starting from a configuration and a database that are right.
//!
//! Owns: the form of a mistake, and the right configuration. Must not know: how it is made, what imsync answers.

use std::fmt::Write as _;

/// Mistakes about one thing, which form a page.
pub(super) struct Topic {
    /// The name of the page in `tests/data/mistakes`.
    pub(super) file: &'static str,
    pub(super) title: &'static str,
    /// What the page is about, in a sentence or two.
    pub(super) intro: &'static str,
    pub(super) mistakes: &'static [Mistake],
}

/// A key of the configuration: section, name, and the value as TOML. An empty value: the key is missing.
pub(super) type Key = (&'static str, &'static str, &'static str);

/// The database in which a mistake is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The one of all mistakes that write no state.
    Shared,
    /// A database of its own.
    Own,
}

/// One mistake. Every text may contain the placeholders of `placeholders.rs`.
pub(super) struct Mistake {
    /// The mistake in a few words. Unique.
    pub(super) title: &'static str,
    /// What the person did, in a sentence or two.
    pub(super) story: &'static str,
    /// The arguments.
    pub(super) command: &'static str,
    pub(super) keys: &'static [Key],
    /// Text at the end of the configuration file.
    pub(super) tail: &'static str,
    /// There is no configuration file.
    pub(super) without_configuration: bool,
    /// Files beside the configuration: name and content. A name with a slash at its end is a folder.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Variables of the environment.
    pub(super) variables: &'static [(&'static str, &'static str)],
    pub(super) place: Place,
    /// Commands that were run before, with the right configuration.
    pub(super) before: &'static [&'static str],
    /// Statements that were executed after these commands.
    pub(super) sql: &'static str,
    /// A daemon with the right configuration holds the lease.
    pub(super) beside_daemon: bool,
    /// The command runs until it has logged this.
    pub(super) until: Option<&'static str>,
}

impl Mistake {
    pub(super) const fn new(title: &'static str, story: &'static str, command: &'static str) -> Self {
        Self {
            title,
            story,
            command,
            keys: &[],
            tail: "",
            without_configuration: false,
            files: &[],
            variables: &[],
            place: Place::Shared,
            before: &[],
            sql: "",
            beside_daemon: false,
            until: None,
        }
    }

    pub(super) const fn keys(self, keys: &'static [Key]) -> Self {
        Self { keys, ..self }
    }

    pub(super) const fn tail(self, tail: &'static str) -> Self {
        Self { tail, ..self }
    }

    pub(super) const fn without_configuration(self) -> Self {
        Self { without_configuration: true, ..self }
    }

    pub(super) const fn files(self, files: &'static [(&'static str, &'static str)]) -> Self {
        Self { files, ..self }
    }

    pub(super) const fn variables(self, variables: &'static [(&'static str, &'static str)]) -> Self {
        Self { variables, ..self }
    }

    pub(super) const fn own_database(self) -> Self {
        Self { place: Place::Own, ..self }
    }

    /// The state is written, so the database is its own.
    pub(super) const fn after(self, before: &'static [&'static str]) -> Self {
        Self { before, place: Place::Own, ..self }
    }

    pub(super) const fn sql(self, sql: &'static str) -> Self {
        Self { sql, ..self }
    }

    pub(super) const fn beside_daemon(self) -> Self {
        Self { beside_daemon: true, place: Place::Own, ..self }
    }

    pub(super) const fn until(self, text: &'static str) -> Self {
        Self { until: Some(text), place: Place::Own, ..self }
    }
}

/// The table that the right configuration reads. The removal guard ignores fewer than 20 accounts.
pub(super) const RIGHT_TABLE: &str = "
CREATE TABLE users (id text PRIMARY KEY, city text, plan text, updated_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON users (updated_at, id);
INSERT INTO users SELECT 'u' || n, 'Oslo', 'free' FROM generate_series(1, 25) n;";

/// The right configuration.
pub(super) const RIGHT_KEYS: [Key; 11] = [
    ("", "name", "\"users\""),
    ("source", "url", "\"<url>\""),
    ("source", "table", "\"public.users\""),
    ("source", "account_column", "\"id\""),
    ("source", "watermark_column", "\"updated_at\""),
    ("im", "base_url", "\"http://<im>\""),
    ("im", "sdk_app_id", "1400000000"),
    ("im", "identifier", "\"administrator\""),
    ("im", "secret_key_file", "\"secret_key\""),
    ("attributes", "city", "\"city\""),
    ("attributes", "plan", "\"plan\""),
];

/// The file `secret_key` of the right configuration.
pub(super) const RIGHT_SECRET_KEY: &str = "simulator-secret-key\n";

/// The right configuration with these keys instead, as TOML.
pub(super) fn configuration(changed: &[Key]) -> String {
    let mut keys = RIGHT_KEYS.to_vec();
    for key in changed {
        match keys.iter_mut().find(|right| (right.0, right.1) == (key.0, key.1)) {
            Some(right) => *right = *key,
            None => keys.push(*key),
        }
    }
    keys.retain(|(_, _, value)| !value.is_empty());
    toml(&keys)
}

/// Keys as TOML, in their order; a section is written once. A key without a value becomes a comment.
pub(super) fn toml(keys: &[Key]) -> String {
    let mut sections: Vec<&str> = Vec::new();
    for (section, _, _) in keys {
        if !sections.contains(section) {
            sections.push(section);
        }
    }
    let mut text = String::new();
    for section in sections {
        if !section.is_empty() {
            writeln!(text, "[{section}]").unwrap();
        }
        for (_, name, value) in keys.iter().filter(|(of, _, _)| *of == section) {
            if value.is_empty() {
                writeln!(text, "# {name} is missing").unwrap();
            } else {
                writeln!(text, "{name} = {value}").unwrap();
            }
        }
    }
    text
}
