//! PostgreSQL connection URLs: checking one, and writing one without its password.
//!
//! Owns: [`PgUrl`], and what of it may be shown. Must not know: the database that it names.
//!
//! No crate is used: the parsers that there are know few of libpq's parameters, or bring a driver of their own.

mod certificates;
mod parameters;
mod passfile;
mod settings;
mod syntax;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

pub(super) use settings::{PgEndpoint, PgSettings, SslMode, TargetSession};

pub use settings::CONNECT_TIMEOUT;
pub use values::PgVariables;

/// A PostgreSQL URL with the settings that it and the environment give. It may contain a password, so `Debug` and
/// [`PgUrl::redacted`] write it without one.
#[derive(Clone)]
pub struct PgUrl {
    text: SecretString,
    settings: Arc<PgSettings>,
    variables: Arc<PgVariables>,
}

impl PgUrl {
    /// Checks a URL, or a list of `keyword=value`, and the files that it names. The error says what is wrong and contains
    /// no secret.
    pub fn parse(text: &str, variables: &PgVariables) -> Result<Self, String> {
        let settings = PgSettings::read(text.trim(), variables)?;
        Ok(Self {
            text: SecretString::from(text),
            settings: Arc::new(settings),
            variables: Arc::new(variables.clone()),
        })
    }

    /// Another URL, with the same environment.
    pub(super) fn with_text(&self, text: &str) -> Result<Self, String> {
        Self::parse(text, &self.variables)
    }

    pub(super) fn text(&self) -> &SecretString {
        &self.text
    }

    pub(super) fn settings(&self) -> &PgSettings {
        &self.settings
    }

    /// User, host, port and database for messages, such as `imsync@localhost:5432/app`; no password, no other
    /// parameter.
    pub fn redacted(&self) -> String {
        let servers: Vec<String> = self.settings.endpoints.iter().map(ToString::to_string).collect();
        let database = self.settings.database.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        format!("{}@{}{database}", self.settings.user, servers.join(","))
    }

    /// Whether the URL itself contains a password.
    pub fn has_password(&self) -> bool {
        self.settings.password_in_url
    }

    /// The environment variables that give settings of the connection, with their values; no password.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.settings.variables
    }

    /// What the URL asks for and imsync does not do, and why the password file is ignored. Reads that file.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.settings.requires_channel_binding {
            warnings.push(
                "channel_binding=require has no effect: the login is not bound to the TLS connection; sslmode=verify-full protects against another server in between"
                    .to_owned(),
            );
        }
        let uses_network = self.settings.endpoints.iter().any(|endpoint| !endpoint.is_socket());
        if uses_network && self.settings.ssl_mode == SslMode::VerifyCa {
            warnings.push(
                "sslmode=verify-ca (and require with a root certificate) also accepts a certificate of any public authority for any host name, because the certificates of the system are trusted in addition to sslrootcert; set sslmode=verify-full"
                    .to_owned(),
            );
        }
        if self.settings.password.is_none()
            && let Some(endpoint) = self.settings.endpoints.first()
            && let Err(ignored) = self.settings.password_of_file(endpoint)
        {
            warnings.push(ignored);
        }
        warnings
    }

    /// Whether both URLs have the same text, password included.
    pub fn same_as(&self, other: &Self) -> bool {
        self.text.expose_secret() == other.text.expose_secret()
    }

    /// Whether both URLs name the same hosts, ports and database. User, password and other parameters may differ. URLs
    /// that name them in different ways may still lead to the same server, which only the server can tell.
    pub fn names_same_server(&self, other: &Self) -> bool {
        self.settings.same_server(&other.settings)
    }
}

impl fmt::Debug for PgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgUrl({})", self.redacted())
    }
}
