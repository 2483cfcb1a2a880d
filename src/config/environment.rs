//! The environment variables that the configuration reads, as a value, so that tests can pass their own.
//!
//! Owns: the names of the variables. Must not know: what their values mean.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use crate::postgres::PgVariables;

/// What a problem with an environment variable gives as its file.
pub(super) const PROBLEM_FILE: &str = "environment";

/// The path of the configuration file, unless `-c` gives one.
pub const CONFIG: &str = "IMSYNC_CONFIG";
/// The URL of the source database.
pub const SOURCE_URL: &str = "IMSYNC_SOURCE_URL";
/// The path of a file that contains the URL of the source database.
pub const SOURCE_URL_FILE: &str = "IMSYNC_SOURCE_URL_FILE";
/// The URL of the state database.
pub const STATE_URL: &str = "IMSYNC_STATE_URL";
/// The path of a file that contains the URL of the state database.
pub const STATE_URL_FILE: &str = "IMSYNC_STATE_URL_FILE";
/// The app's secret key.
pub const SECRET_KEY: &str = "IMSYNC_SECRET_KEY";
/// The path of a file that contains the secret key.
pub const SECRET_KEY_FILE: &str = "IMSYNC_SECRET_KEY_FILE";
/// The URL of the webhook.
pub const ALERTS_WEBHOOK: &str = "IMSYNC_ALERTS_WEBHOOK";
/// The directory of relative secret files. systemd sets it for a unit with credentials (systemd.exec(5),
/// `LoadCredential=`).
pub const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Every variable that imsync reads.
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

/// Environment variables by name. `Debug` shows the names only, because the values may be secrets.
#[derive(Clone, Default)]
pub struct Environment {
    own: BTreeMap<String, OsString>,
    pg: PgVariables,
}

impl Environment {
    /// The variables of this process that start with `IMSYNC_`, `CREDENTIALS_DIRECTORY`, and those of libpq.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| {
                name.starts_with("IMSYNC_") || name == CREDENTIALS_DIRECTORY || PgVariables::contains_name(name)
            })
            .collect()
    }

    /// The variables of libpq, which give defaults for the URLs.
    pub(super) fn pg(&self) -> &PgVariables {
        &self.pg
    }

    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.own.get(name).map(OsString::as_os_str)
    }

    /// Whether the variable is set, empty or not.
    pub fn contains(&self, name: &str) -> bool {
        self.own.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.own.keys().map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let all = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let (pg, own): (Vec<(String, OsString)>, Vec<_>) = all.partition(|(name, _)| PgVariables::contains_name(name));
        let pg = pg.into_iter().filter_map(|(name, value)| Some((name, value.into_string().ok()?)));
        Self { own: own.into_iter().collect(), pg: pg.collect() }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.own.keys()).finish()
    }
}
