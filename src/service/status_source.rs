//! Reads the status for the HTTP server.
//!
//! Owns: that many requests cost one reading a second, and that a reading ends in the database when its time is over. Must
//! not know: the fields of the status, HTTP.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::http::StatusSource;
use crate::clock;
use crate::config::Config;
use crate::state::{Access, State};
use crate::status;

/// How long a reading is served again, errors included. Requests that arrive meanwhile wait for it and share it.
const VALID_FOR: Duration = Duration::from_secs(1);

/// The last reading.
#[derive(Debug, Default)]
struct StatusCache {
    /// Opened by the first request, and again after an error.
    state: Option<State>,
    reading: Option<(Instant, Result<Value, String>)>,
}

impl StatusCache {
    async fn read(&mut self, config: &Config) -> Result<Value, String> {
        if let Some((read_at, reading)) = &self.reading
            && read_at.elapsed() < VALID_FOR
        {
            return reading.clone();
        }
        let reading = self.read_state(config).await;
        self.reading = Some((clock::monotonic(), reading.clone()));
        reading
    }

    async fn read_state(&mut self, config: &Config) -> Result<Value, String> {
        let state = if let Some(state) = &self.state {
            state
        } else {
            let opened = State::open(config, Access::Status).await.map_err(|error| error.to_string())?;
            self.state.insert(opened)
        };
        let document = status::document(state).await.map_err(|error| error.to_string());
        // Its connections stay with one server of the URL, and another one may have taken over.
        if document.is_err()
            && let Some(state) = self.state.take()
        {
            tokio::spawn(async move { state.close().await });
        }
        document
    }
}

/// The status of this sync for the HTTP server, on connections that the first request opens.
///
/// A reading runs in a task of its own, which a client that hangs up does not end: an abandoned statement would keep its
/// connection busy. The sessions have a short `statement_timeout`, so the server cancels what takes too long.
pub fn status_source(config: Arc<Config>) -> StatusSource {
    let cache = Arc::new(Mutex::new(StatusCache::default()));
    Arc::new(move || {
        let (config, cache) = (config.clone(), cache.clone());
        let reading = tokio::spawn(async move { cache.lock_owned().await.read(&config).await });
        Box::pin(async move { reading.await.map_err(|error| error.to_string())? })
    })
}
