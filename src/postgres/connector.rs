//! Opens the connections of a sync, each with the secret of the moment.
//!
//! Owns: when the file of a URL is read again, and when its URL replaces the one in force. Must not know: what a connection
//! is for.
//!
//! A new URL is tried before it is used: whoever changes the file before the server, or writes only half of it, leaves
//! the old one in force.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::connect::{LoginSettings, Route, close, lead_to_same_server, open};
use super::login_failure::LoginFailure;
use super::url::PgUrl;
use super::url_file::UrlFile;

/// Opens connections to one database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    url: PgUrl,
    file: Option<UrlFile>,
    application_name: Arc<str>,
    last: Arc<Mutex<LastLogin>>,
}

#[derive(Debug, Default)]
struct LastLogin {
    /// The way of the last connection, so that the next ones lead to the same server of a list.
    route: Option<Route>,
    /// The settings behind the options that were given out last.
    given: Option<LoginSettings>,
}

impl Connector {
    /// `file`: where `url` comes from; `None` for a URL that is given by value.
    pub fn new(url: &PgUrl, file: Option<&UrlFile>, application_name: &str) -> Self {
        Self { url: url.clone(), file: file.cloned(), application_name: application_name.into(), last: Arc::default() }
    }

    fn url(&self) -> PgUrl {
        self.file.as_ref().map_or_else(|| self.url.clone(), UrlFile::in_force)
    }

    /// The driver's options for a connection that is opened now, to the server of the last one.
    pub fn options(&self) -> PgConnectOptions {
        self.give(self.settings())
    }

    fn settings(&self) -> LoginSettings {
        LoginSettings::read(self.url(), self.route())
    }

    fn give(&self, settings: LoginSettings) -> PgConnectOptions {
        let options = settings.options(&self.application_name);
        self.last().given = Some(settings);
        options
    }

    fn last(&self) -> MutexGuard<'_, LastLogin> {
        // Each change is a plain assignment, so a panic cannot leave a change half done.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self) -> Option<Route> {
        self.last().route.clone()
    }

    async fn open(&self, url: &PgUrl, only: Option<&Route>) -> Result<PgConnection, LoginFailure> {
        let (connection, route) = open(url, only, &self.application_name).await?;
        self.last().route = Some(route);
        if let Some(file) = &self.file {
            file.note_connected();
        }
        Ok(connection)
    }

    /// Opens a connection to the first suitable server. The file of the URL is read before, and once more when the server
    /// refuses the login.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub async fn connect(&self) -> Result<PgConnection, LoginFailure> {
        self.connect_by(None).await
    }

    /// As [`Connector::connect`], to the server of the last connection.
    pub async fn connect_again(&self) -> Result<PgConnection, LoginFailure> {
        self.connect_by(self.route().as_ref()).await
    }

    async fn connect_by(&self, only: Option<&Route>) -> Result<PgConnection, LoginFailure> {
        if let Some(connection) = self.try_new_url(false).await {
            return Ok(connection);
        }
        let tried = self.settings();
        let failure = match self.open(&self.url(), only).await {
            Err(failure) if failure.refused => failure,
            result => return result,
        };
        if let Some(connection) = self.try_new_url(true).await {
            return Ok(connection);
        }
        // Another task may have put a new URL in force, or the password comes from the password file.
        if tried.same_as(&self.settings()) { Err(failure) } else { self.open(&self.url(), only).await }
    }

    /// Options for the next connections of a pool, whose options come from here; `None` when those have not changed.
    ///
    /// `refused`: the server has refused a login with them.
    pub async fn renewed_options(&self, refused: bool) -> Option<PgConnectOptions> {
        if let Some(connection) = self.try_new_url(refused).await {
            close(connection).await;
        }
        let settings = self.settings();
        let given = self.last().given.clone();
        (!given.is_some_and(|given| given.same_as(&settings))).then(|| self.give(settings))
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
        // Until a connection has succeeded, the host may be a mistake that is being corrected.
        let in_force = Some(file.in_force()).filter(|_| file.has_connected());
        match self.prove(in_force.as_ref(), &new).await {
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

    /// Opens a connection with a new URL, which has to lead to the server of the one in force. The error is the reason why
    /// the URL is not used, or `None` when nothing is known about it, because the server cannot be reached.
    async fn prove(&self, in_force: Option<&PgUrl>, new: &PgUrl) -> Result<PgConnection, Option<String>> {
        if let Some(in_force) = in_force.filter(|in_force| !in_force.names_same_server(new)) {
            // What it names is not shown: in half of a URL, a part of the password can stand in the place of the port.
            let other = format!("it does not name {}", in_force.redacted());
            match lead_to_same_server(in_force, new).await {
                Some(true) => {}
                Some(false) => return Err(Some(format!("{other}, and another server or database needs a restart"))),
                None => {
                    return Err(Some(format!(
                        "{other}, and whether it is the same server could not be found out; if it is meant, restart imsync"
                    )));
                }
            }
        }
        // A server that cannot be reached says nothing about the URL.
        self.open(new, None).await.map_err(|failure| {
            let what = if failure.answered { "the server refuses its login" } else { "no connection can be opened" };
            failure.refused.then(|| format!("{what}: {failure}"))
        })
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
