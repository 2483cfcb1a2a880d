//! Opens the connections of a sync, each with the secret of the moment.
//!
//! Owns: when the file of a URL is read again, and when its URL replaces the one in force. Must not know: what a connection
//! is for.
//!
//! A new URL is tried before it is used: whoever changes the file before the server, or writes only half of it, leaves
//! the old one in force.

use std::sync::Arc;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::connect::{close, connect, lead_to_same_server, options};
use super::url::PgUrl;
use super::url_file::UrlFile;
use crate::sqlstate::{described, login_text};

/// Opens connections to one database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    url: PgUrl,
    file: Option<UrlFile>,
    application_name: Arc<str>,
}

impl Connector {
    /// `file`: where `url` comes from; `None` for a URL that is given by value.
    pub fn new(url: &PgUrl, file: Option<&UrlFile>, application_name: &str) -> Self {
        Self { url: url.clone(), file: file.cloned(), application_name: application_name.into() }
    }

    fn url(&self) -> PgUrl {
        self.file.as_ref().map_or_else(|| self.url.clone(), UrlFile::in_force)
    }

    /// The driver's options for a connection that is opened now.
    ///
    /// # Errors
    /// When the driver does not understand the URL.
    pub fn options(&self) -> Result<PgConnectOptions, sqlx::Error> {
        options(&self.url(), &self.application_name)
    }

    /// Opens a connection. The file of the URL is read before, and once more when the server refuses the login.
    ///
    /// # Errors
    /// Those of the driver; [`sqlx::Error::Io`] when there is no answer within [`super::CONNECT_TIMEOUT`].
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        if let Some(connection) = self.try_new_url(false).await {
            return Ok(connection);
        }
        let tried = self.options()?;
        let error = match connect(&tried).await {
            Err(error) if Self::is_refusal(&error) => error,
            result => return result,
        };
        if let Some(connection) = self.try_new_url(true).await {
            return Ok(connection);
        }
        // Another task may have put a new URL in force, or the password comes from a file of the driver.
        let now = self.options()?;
        if same(&tried, &now) { Err(error) } else { connect(&now).await }
    }

    /// Options that may replace `current` for the next connections of a pool; `None` when they are the same.
    ///
    /// `refused`: the server has refused a login with `current`.
    pub async fn renewed_options(&self, current: &PgConnectOptions, refused: bool) -> Option<PgConnectOptions> {
        if let Some(connection) = self.try_new_url(refused).await {
            close(connection).await;
        }
        self.options().ok().filter(|options| !same(options, current))
    }

    /// Whether a server, or a pooler before it, has answered a login with an error. With another secret it may succeed.
    /// Poolers have codes of their own for a wrong password.
    pub fn is_refusal(error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Database(refused) => {
                // Too many connections; a server that starts or stops.
                !["53", "57"].iter().any(|class| refused.code().is_some_and(|code| code.starts_with(class)))
            }
            // A certificate that has expired, or that is replaced at this moment.
            sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
            _ => false,
        }
    }

    /// Reads the file, and puts a new URL in force when a connection with it succeeds. Returns that connection.
    async fn try_new_url(&self, refused_too: bool) -> Option<PgConnection> {
        let file = self.file.as_ref()?;
        let new = match file.read_new(refused_too) {
            Ok(new) => new?,
            Err(reason) => {
                not_used(file, &reason);
                return None;
            }
        };
        match self.prove(&file.in_force(), &new).await {
            Ok(connection) => {
                if file.put_in_force(new) {
                    let path = file.file().path().display();
                    tracing::info!(key = file.file().key(), file = %path, "a rotated secret is in use");
                }
                Some(connection)
            }
            Err(Some(reason)) => {
                file.refuse(&new);
                not_used(file, &reason);
                None
            }
            // It shows once the server can be reached.
            Err(None) => None,
        }
    }

    /// Opens a connection with a new URL. The error is the reason why the URL is not used, or `None` when nothing is known
    /// about it, because the server cannot be reached.
    async fn prove(&self, in_force: &PgUrl, new: &PgUrl) -> Result<PgConnection, Option<String>> {
        if !in_force.names_same_server(new) {
            // What it names is not shown: in half of a URL, a part of the password can stand in the place of the port.
            let other = format!("it does not name {}", in_force.redacted());
            match lead_to_same_server(in_force, new).await {
                Ok(true) => {}
                Ok(false) => return Err(Some(format!("{other}, and another server or database needs a restart"))),
                Err(_) => {
                    return Err(Some(format!("{other}, and whether it is the same server could not be found out")));
                }
            }
        }
        let options = options(new, &self.application_name)
            .map_err(|_| Some("the driver does not understand the URL".to_owned()))?;
        connect(&options).await.map_err(|error| refusal(&error))
    }
}

fn not_used(file: &UrlFile, reason: &str) {
    if file.is_news(reason) {
        let path = file.file().path().display();
        tracing::warn!(
            key = file.file().key(),
            file = %path,
            "the new content of a secret file is not used, the old secret stays in force: {reason}"
        );
    }
}

fn same(one: &PgConnectOptions, other: &PgConnectOptions) -> bool {
    one.to_url_lossy() == other.to_url_lossy()
}

/// Why a login failed, in words that contain no secret. `None` when the server could not be asked.
fn refusal(error: &sqlx::Error) -> Option<String> {
    if !Connector::is_refusal(error) {
        return None;
    }
    let sqlx::Error::Database(refused) = error else {
        return Some("the TLS handshake or the login is not understood".to_owned());
    };
    let code = refused.code().unwrap_or_default();
    let meaning = described(&code);
    Some(format!("the server refuses its login: {}", login_text(refused.as_ref()).unwrap_or(&meaning)))
}
