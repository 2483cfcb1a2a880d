//! The file of a database URL, and the URL of it that is in force.
//!
//! Owns: which URL connections use, which one was refused, and what has been logged about it. Must not know: connections.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::url::PgUrl;
use crate::clock;
use crate::secret_file::SecretFile;

/// A content that was refused is tried again after so long, because a role or a password may be created after the file
/// was written. It is tried at once when the URL in force is refused.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The file of a database URL, with the URL of it that is in force. Clones share that URL, so that none of them keeps an
/// old one.
#[derive(Clone)]
pub struct UrlFile {
    file: SecretFile,
    state: Arc<Mutex<UrlFileState>>,
}

struct UrlFileState {
    in_force: PgUrl,
    /// A connection has succeeded, with this URL or an earlier one.
    has_connected: bool,
    /// The content that a connection was last tried with, and when.
    tried: Option<(SecretString, Instant)>,
    /// The content that was refused last, and when.
    refused: Option<(SecretString, Instant)>,
    /// The reason that was logged last, so that it is not logged for each connection.
    logged: String,
}

impl fmt::Debug for UrlFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl UrlFile {
    /// `url` was read from the file just now.
    pub fn new(file: SecretFile, url: PgUrl) -> Self {
        let state =
            UrlFileState { in_force: url, has_connected: false, tried: None, refused: None, logged: String::new() };
        Self { file, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, UrlFileState> {
        // Each change is a plain assignment, so a panic cannot leave a change half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file and the key that names it.
    pub fn file(&self) -> &SecretFile {
        &self.file
    }

    /// The URL that connections use.
    pub fn in_force(&self) -> PgUrl {
        self.state().in_force.clone()
    }

    /// Reads the file. `None` when it holds the URL in force, or one that was refused a moment ago; with `refused_too`,
    /// such a URL is returned again.
    ///
    /// # Errors
    /// Why the file holds no URL now.
    pub fn read_new(&self, refused_too: bool) -> Result<Option<PgUrl>, String> {
        let Some(text) = self.file.read_again()? else { return Ok(None) };
        let mut state = self.state();
        if text.expose_secret() == state.in_force.text().expose_secret() {
            state.refused = None;
            state.logged.clear();
            return Ok(None);
        }
        let was_refused = state.refused.as_ref().is_some_and(|(refused, at)| {
            refused.expose_secret() == text.expose_secret() && at.elapsed() < RETRY_INTERVAL
        });
        let in_force = state.in_force.clone();
        if was_refused && !refused_too {
            return Ok(None);
        }
        state.tried = Some((text.clone(), clock::monotonic()));
        drop(state);
        let url = in_force.with_text(text.expose_secret()).map_err(|reason| {
            self.note_refused(&text);
            format!("invalid content of {}: {reason}", self.file.path().display())
        })?;
        Ok(Some(url))
    }

    /// Puts a URL of the file in force. False when another task has done that.
    pub fn put_in_force(&self, url: PgUrl) -> bool {
        let mut state = self.state();
        let is_new = !state.in_force.same_as(&url);
        *state = UrlFileState { in_force: url, has_connected: true, tried: None, refused: None, logged: String::new() };
        is_new
    }

    /// Remembers that a connection has succeeded.
    pub fn note_connected(&self) {
        self.state().has_connected = true;
    }

    /// Whether a connection has ever succeeded.
    pub fn has_connected(&self) -> bool {
        self.state().has_connected
    }

    /// Whether the file holds another content than the URL in force, which no connection has been tried with lately.
    pub fn has_untried(&self) -> bool {
        let Ok(Some(text)) = self.file.read_again() else { return false };
        let state = self.state();
        let was_tried = state
            .tried
            .as_ref()
            .is_some_and(|(tried, at)| tried.expose_secret() == text.expose_secret() && at.elapsed() < RETRY_INTERVAL);
        !was_tried && text.expose_secret() != state.in_force.text().expose_secret()
    }

    /// Remembers that a URL of the file is not used.
    pub fn refuse(&self, url: &PgUrl) {
        self.note_refused(url.text());
    }

    fn note_refused(&self, text: &SecretString) {
        self.state().refused = Some((text.clone(), clock::monotonic()));
    }

    /// Whether this reason has to be logged: it was not the last one.
    pub fn is_news(&self, reason: &str) -> bool {
        let mut state = self.state();
        let is_news = state.logged != reason;
        reason.clone_into(&mut state.logged);
        is_news
    }
}
