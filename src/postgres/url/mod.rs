//! PostgreSQL connection URLs: checking one, and writing one without its password.
//!
//! Owns: which parts and parameters a URL may have. Must not know: the database that it names.

use std::fmt;
use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::quote::alternatives;

/// The connection parameters that the driver accepts in the query of a URL. The driver logs an unknown parameter with
/// its value, which may be a password under a mistyped name. Therefore other parameters are refused here.
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

const ENCODING_HINT: &str =
    "percent-encode characters such as @ : / ? # % in a user name or password (@ is %40, / is %2F)";

/// A PostgreSQL URL. It may contain a password, so `Debug` and [`PgUrl::redacted`] write it without one.
#[derive(Clone)]
pub struct PgUrl(pub SecretString);

impl PgUrl {
    /// Checks the syntax of a URL. The error says what is wrong and contains no part of the URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains(['\0', '\n', '\r', '\t', ' ']) {
            return Err("the URL contains white space or a NUL byte".to_owned());
        }
        let url = parse_url(text)?;
        if url.fragment().is_some() || url.path().contains('@') || url.path().trim_matches('/').contains('/') {
            return Err(format!("the URL has more than a database name after the host; {ENCODING_HINT}"));
        }
        if url.host_str().is_some_and(|host| host.contains(',')) {
            return Err("the URL names several hosts; imsync supports one".to_owned());
        }
        for (index, (name, value)) in url.query_pairs().enumerate() {
            let wrong = match &*name {
                "sslmode" | "ssl-mode" => {
                    let known = SSL_MODES.contains(&value.to_ascii_lowercase().as_str());
                    (!known).then(|| format!("sslmode must be {}", alternatives(SSL_MODES)))
                }
                "port" => value.parse::<u16>().is_err().then(|| "port must be a number up to 65535".to_owned()),
                "hostaddr" => value.parse::<IpAddr>().is_err().then(|| "hostaddr must be an IP address".to_owned()),
                "statement-cache-capacity" => {
                    value.parse::<usize>().is_err().then(|| "statement-cache-capacity must be an integer".to_owned())
                }
                other if PARAMETERS.contains(&other) || other.starts_with("options[") => None,
                // The name may be part of a password that contains a question mark, so it is not shown.
                _ => Some(format!(
                    "parameter {} after the question mark is unknown; expected {}",
                    index + 1,
                    alternatives(PARAMETERS)
                )),
            };
            if let Some(wrong) = wrong {
                return Err(wrong);
            }
        }
        Ok(Self(SecretString::from(text)))
    }

    /// User, host, port and database for messages, such as `imsync@localhost:5432/app`; no password, no other
    /// parameter.
    pub fn redacted(&self) -> String {
        let Ok(url) = parse_url(self.0.expose_secret()) else {
            return "an invalid PostgreSQL URL".to_owned();
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
        let mut redacted = String::new();
        if !user.is_empty() {
            redacted = user + "@";
        }
        redacted.push_str(if host.is_empty() { "localhost" } else { &host });
        // For the directory of a Unix socket, the port is of no interest.
        if !host.starts_with('/') {
            redacted.push(':');
            redacted.push_str(&port);
        }
        if !database.is_empty() {
            redacted.push('/');
            redacted.push_str(&database);
        }
        redacted
    }

    /// Whether the URL contains a password, in its user part or as a parameter.
    pub fn has_password(&self) -> bool {
        parse_url(self.0.expose_secret())
            .is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password"))
    }

    /// Whether both URLs have the same text, password included.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }

    /// Whether both URLs name the same host, port and database. User, password and other parameters may differ. URLs that
    /// name them in different ways may still lead to the same server, which only the server can tell.
    pub fn names_same_server(&self, other: &Self) -> bool {
        self.redacted_without_user() == other.redacted_without_user()
    }

    /// As [`PgUrl::redacted`]. Without a database name, the database is that of the user's name.
    fn redacted_without_user(&self) -> (String, String) {
        let redacted = self.redacted();
        let (user, server) = match redacted.rsplit_once('@') {
            Some((user, server)) => (user, server),
            None => ("", redacted.as_str()),
        };
        let has_database = parse_url(self.0.expose_secret()).is_ok_and(|url| {
            !url.path().trim_matches('/').is_empty() || url.query_pairs().any(|(name, _)| name == "dbname")
        });
        (server.to_ascii_lowercase(), if has_database { String::new() } else { user.to_owned() })
    }
}

impl fmt::Debug for PgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgUrl({})", self.redacted())
    }
}

/// Parses the URL and checks its scheme and encoding.
fn parse_url(text: &str) -> Result<Url, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("postgres" | "postgresql")) {
        return Err("the URL does not start with postgres:// or postgresql://".to_owned());
    }
    // The errors of the parser are fixed sentences that do not contain the input.
    let url = Url::parse(text).map_err(|error| format!("the URL cannot be parsed ({error}); {ENCODING_HINT}"))?;
    for part in [url.username(), url.password().unwrap_or_default(), url.path()] {
        if percent_decoded(part).is_none() {
            return Err(format!("the URL contains percent-encoded bytes that are not UTF-8; {ENCODING_HINT}"));
        }
    }
    Ok(url)
}

fn decoded(text: &str) -> String {
    percent_decoded(text).unwrap_or_else(|| text.to_owned())
}

/// Decodes `%40` and the like. A `%` without two hexadecimal digits stands for itself, as in the driver. `None`: the
/// result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        // `from_str_radix` alone would accept a sign.
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
    fn a_redacted_url_has_no_password() {
        for (url, redacted) in [
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
            assert_eq!(url.redacted(), redacted);
            assert!(!format!("{url:?}").contains("hunter2"));
        }
    }

    #[test]
    fn an_invalid_url_is_refused_and_not_shown() {
        for (url, why) in [
            ("localhost:5432/hunter2", "the URL does not start with postgres:// or postgresql://"),
            ("mysql://u:hunter2@h/app", "the URL does not start with postgres:// or postgresql://"),
            ("postgres://u:hun/ter2@h/app", "the URL cannot be parsed (invalid port number)"),
            ("postgres://u:12/hunter2@h/app", "the URL has more than a database name after the host"),
            ("postgres://u:12#hunter2@h/app", "the URL has more than a database name after the host"),
            ("postgres://u:12?hunter2@h/app", "parameter 1 after the question mark is unknown"),
            ("postgres://h/app?sslmode=hunter2", "sslmode must be disable, allow"),
            ("postgres://h/app?passwrod=hunter2", "parameter 1 after the question mark is unknown"),
            ("postgres://a,b/hunter2", "the URL names several hosts; imsync supports one"),
            ("postgres://u:%ff@h/hunter2", "the URL contains percent-encoded bytes that are not UTF-8"),
            ("postgres://u:hunter2@h/app extra", "the URL contains white space"),
        ] {
            let error = PgUrl::parse(url).unwrap_err();
            assert!(error.starts_with(why), "{url}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("ter2@"), "{url}: {error}");
        }
    }

    #[test]
    fn a_rotated_password_is_the_same_server_and_another_host_is_not() {
        let url = PgUrl::parse("postgres://imsync:old@db.example.com/app").unwrap();
        for same in [
            "postgresql://imsync:new@db.example.com/app",
            "postgres://imsync2@DB.example.com:5432/app?sslmode=require",
            "postgres:///?host=db.example.com&dbname=app&user=me",
        ] {
            assert!(url.names_same_server(&PgUrl::parse(same).unwrap()), "{same}");
        }
        for other in [
            "postgres://imsync:old@db2.example.com/app",
            "postgres://imsync:old@db.example.com:5433/app",
            "postgres://imsync:old@db.example.com/app2",
            "postgres://imsync:old@db.example.com",
        ] {
            assert!(!url.names_same_server(&PgUrl::parse(other).unwrap()), "{other}");
        }
        let [one, other] = ["postgres://a@h", "postgres://b@h"].map(|url| PgUrl::parse(url).unwrap());
        assert!(!one.names_same_server(&other), "the database has the name of the user");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(postgres://)?\\PC{0,40}") {
            if let Ok(url) = PgUrl::parse(&text) {
                let _ = url.redacted();
            }
        }
    }
}
