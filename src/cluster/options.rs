//! The settings of a private PostgreSQL server.
//!
//! Owns: what a caller can choose, the fixed settings, and the text of the settings file. Must not know: when the file
//! is written.

use std::fmt::Write as _;
use std::path::Path;

/// Fixed settings. They make the server fast, because its data does not have to survive a crash of the machine.
/// `synchronous_commit` stays on: every commit reaches the operating system, so a killed server recovers everything
/// that it acknowledged.
const DEFAULT_SETTINGS: [(&str, &str); 12] = [
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "1GB"),
    ("checkpoint_timeout", "1h"),
    ("max_connections", "200"),
    ("shared_buffers", "128MB"),
    // Uses the data directory instead of /dev/shm, so that a killed server leaves nothing there.
    ("dynamic_shared_memory_type", "mmap"),
    ("jit", "off"),
    ("timezone", "UTC"),
];

/// The settings of a private PostgreSQL server that a caller can choose.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// The port on 127.0.0.1; `None` takes a free one.
    pub port: Option<u16>,
    /// The number of transactions that can be prepared at the same time. 0 disables `PREPARE TRANSACTION`.
    pub max_prepared_transactions: u32,
    /// Further settings of `postgresql.conf`, as names and values. They take precedence over the fixed settings.
    pub settings: Vec<(String, String)>,
}

impl ClusterOptions {
    /// The text of the settings file. PostgreSQL uses the last value of a setting that occurs more than once.
    pub(super) fn settings_text(&self, port: u16, directory: &Path) -> String {
        let defaults = DEFAULT_SETTINGS.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let computed = [
            ("port", port.to_string()),
            ("unix_socket_directories", directory.display().to_string()),
            ("max_prepared_transactions", self.max_prepared_transactions.to_string()),
        ];
        let chosen = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let mut text = String::new();
        for (name, value) in defaults.chain(computed).chain(chosen) {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''")).expect("writing to a String cannot fail");
        }
        text
    }
}
