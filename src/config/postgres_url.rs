//! Postgres URLs: their check, and how one is shown without its password.
//!
//! Owns: what a URL may hold. Must not know: the database behind it.

use std::fmt;
use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::PgUrl;

/// Connection parameters that the driver takes in a URL's query. It would log others with their values,
/// and a mistyped password parameter is such a value, so others are refused here.
const PARAMETERS: [&str; 19] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "options[…]",
];

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

const ENCODE: &str = "signs like @ : / ? # % in a user name or password are percent-encoded (@ is %40, / is %2F)";

impl PgUrl {
    /// Checks the form. The error says what is wrong without showing any part of the URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains(['\0', '\n', '\r', '\t', ' ']) {
            return Err("it contains white space or a NUL byte".to_owned());
        }
        let url = parsed(text)?;
        if url.fragment().is_some() || url.path().contains('@') || url.path().trim_matches('/').contains('/') {
            return Err(format!("more than a database name follows the host; {ENCODE}"));
        }
        if url.host_str().is_some_and(|host| host.contains(',')) {
            return Err("it names several hosts; only one is taken".to_owned());
        }
        for (index, (name, value)) in url.query_pairs().enumerate() {
            let wrong = match &*name {
                "sslmode" | "ssl-mode" => {
                    let known = SSL_MODES.contains(&value.to_ascii_lowercase().as_str());
                    (!known).then(|| format!("sslmode is one of {}", SSL_MODES.join(", ")))
                }
                "port" => value.parse::<u16>().is_err().then(|| "port is a number up to 65535".to_owned()),
                "hostaddr" => value.parse::<IpAddr>().is_err().then(|| "hostaddr is an IP address".to_owned()),
                "statement-cache-capacity" => {
                    value.parse::<usize>().is_err().then(|| "statement-cache-capacity is a whole number".to_owned())
                }
                other if PARAMETERS.contains(&other) || other.starts_with("options[") => None,
                // Its name may be a piece of a password with a question mark in it: not shown.
                _ => Some(format!(
                    "parameter {} after the question mark is not known; known are {}",
                    index + 1,
                    PARAMETERS.join(", ")
                )),
            };
            if let Some(wrong) = wrong {
                return Err(wrong);
            }
        }
        Ok(Self(SecretString::from(text)))
    }

    /// User, host, port and database, for messages: `imsync@localhost:5432/app`. Never the password or other parameters.
    pub fn shown(&self) -> String {
        let Ok(url) = parsed(self.0.expose_secret()) else {
            return "a Postgres URL that cannot be read".to_owned();
        };
        let mut user = decoded(url.username());
        let mut host = decoded(url.host_str().unwrap_or_default());
        let mut port = url.port().unwrap_or(5432).to_string();
        let mut database = decoded(url.path().trim_start_matches('/'));
        for (name, value) in url.query_pairs() {
            match &*name {
                "user" => user = value.into_owned(),
                "host" | "hostaddr" => host = value.into_owned(),
                "port" => port = value.into_owned(),
                "dbname" => database = value.into_owned(),
                _ => {}
            }
        }
        let mut shown = String::new();
        if !user.is_empty() {
            shown = user + "@";
        }
        shown.push_str(if host.is_empty() { "localhost" } else { &host });
        // A socket's directory has no port worth showing.
        if !host.starts_with('/') {
            shown.push(':');
            shown.push_str(&port);
        }
        if !database.is_empty() {
            shown.push('/');
            shown.push_str(&database);
        }
        shown
    }

    pub(super) fn has_password(&self) -> bool {
        parsed(self.0.expose_secret())
            .is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"))
    }

    /// Both are written alike, password included.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl fmt::Debug for PgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgUrl({})", self.shown())
    }
}

fn parsed(text: &str) -> Result<Url, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("postgres" | "postgresql")) {
        return Err("it does not begin with postgres:// or postgresql://".to_owned());
    }
    // The parser's errors are fixed sentences without the input.
    let url = Url::parse(text).map_err(|error| format!("it cannot be read ({error}); {ENCODE}"))?;
    for part in [url.username(), url.password().unwrap_or_default(), url.path()] {
        if percent_decoded(part).is_none() {
            return Err(format!("what it percent-encodes is not UTF-8; {ENCODE}"));
        }
    }
    Ok(url)
}

fn decoded(text: &str) -> String {
    percent_decoded(text).unwrap_or_else(|| text.to_owned())
}

/// A stray `%` stands for itself, as the driver takes it. `None`: not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        // `from_str_radix` would take a sign.
        let hex = hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        if let Some(value) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(value);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://imsync:hunter2@db.example.com:6432/app?sslmode=require", "imsync@db.example.com:6432/app"),
            ("postgresql://imsync@localhost/app", "imsync@localhost:5432/app"),
            ("postgres://localhost", "localhost:5432"),
            ("postgres:///app", "localhost:5432/app"),
            ("postgres://u:hunter2@%2Fvar%2Frun%2Fpostgresql/app", "u@/var/run/postgresql/app"),
            ("postgres:///?host=/run/pg&user=me&dbname=app&password=hunter2", "me@/run/pg/app"),
            ("postgres://u:hunter2@[::1]:5433/app", "u@[::1]:5433/app"),
            ("postgres://user%40corp:hunter2@h/db%20x", "user@corp@h:5432/db x"),
        ] {
            let url = PgUrl::parse(url).unwrap();
            assert_eq!(url.shown(), shown);
            assert!(!format!("{url:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_wrong_url_is_refused_and_not_shown() {
        for (url, why) in [
            ("localhost:5432/hunter2", "it does not begin with postgres:// or postgresql://"),
            ("mysql://u:hunter2@h/app", "it does not begin with postgres:// or postgresql://"),
            ("postgres://u:hun/ter2@h/app", "it cannot be read (invalid port number)"),
            ("postgres://u:12/hunter2@h/app", "more than a database name follows the host"),
            ("postgres://u:12#hunter2@h/app", "more than a database name follows the host"),
            ("postgres://u:12?hunter2@h/app", "parameter 1 after the question mark is not known"),
            ("postgres://h/app?sslmode=hunter2", "sslmode is one of disable, allow"),
            ("postgres://h/app?passwrod=hunter2", "parameter 1 after the question mark is not known"),
            ("postgres://a,b/hunter2", "it names several hosts; only one is taken"),
            ("postgres://u:%ff@h/hunter2", "what it percent-encodes is not UTF-8"),
            ("postgres://u:hunter2@h/app extra", "it contains white space"),
        ] {
            let error = PgUrl::parse(url).unwrap_err();
            assert!(error.starts_with(why), "{url}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("ter2@"), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(postgres://)?\\PC{0,40}") {
            if let Ok(url) = PgUrl::parse(&text) {
                let _ = url.shown();
            }
        }
    }
}
