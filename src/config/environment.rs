//! The part of the environment that the configuration reads, taken once so that tests can hand in their own.
//!
//! Owns: the names of the variables. Must not know: what their values mean.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// Stands where a problem names its file.
pub(super) const PLACE: &str = "environment";

/// Names the configuration file.
pub const CONFIG: &str = "IMSYNC_CONFIG";
pub const SOURCE_URL: &str = "IMSYNC_SOURCE_URL";
pub const SOURCE_URL_FILE: &str = "IMSYNC_SOURCE_URL_FILE";
pub const STATE_URL: &str = "IMSYNC_STATE_URL";
pub const STATE_URL_FILE: &str = "IMSYNC_STATE_URL_FILE";
pub const SECRET_KEY: &str = "IMSYNC_SECRET_KEY";
pub const SECRET_KEY_FILE: &str = "IMSYNC_SECRET_KEY_FILE";
pub const ALERTS_WEBHOOK: &str = "IMSYNC_ALERTS_WEBHOOK";
/// Set by systemd for a unit with credentials (systemd.exec(5), `LoadCredential=`).
pub const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Every variable that is read.
pub const VARIABLES: [&str; 9] = [
    CONFIG,
    SOURCE_URL,
    SOURCE_URL_FILE,
    STATE_URL,
    STATE_URL_FILE,
    SECRET_KEY,
    SECRET_KEY_FILE,
    ALERTS_WEBHOOK,
    CREDENTIALS_DIRECTORY,
];

/// Environment variables by name. `Debug` shows names alone.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// What this process was started with, as far as it is ours.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .filter(|(name, _)| name.starts_with("IMSYNC_") || name == CREDENTIALS_DIRECTORY)
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
