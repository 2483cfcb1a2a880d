//! Listens for notifications of the source, which say that rows have changed.
//!
//! Owns: the session that listens, and making it again when it is lost. Must not know: what is done about a notification.
//!
//! A notification only makes a poll come early. The polls find every change, so one that is lost costs nothing but time, and
//! a session that was lost counts as notified once. Source: PostgreSQL manual, `LISTEN` and `NOTIFY`.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::postgres::{self, Connector};

/// The pause before the session is made again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often a silent session is asked whether it still is one. No server tells that its network has vanished.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// How long the answer may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The notifications of one channel.
#[derive(Debug)]
pub struct Notifications {
    received: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Notifications {
    /// Listens until this is dropped; `None` without `schedule.notify_channel`.
    pub fn listen(config: &Config) -> Option<Self> {
        let channel = config.schedule.notify_channel.clone()?;
        let source = &config.source;
        let connector = Connector::new(&source.url, source.url_file.as_ref(), &config.application_name());
        let (sender, received) = watch::channel(());
        Some(Self { received, task: tokio::spawn(listen_for_good(connector, channel, sender)) })
    }

    /// Waits for the next notification. Those that came since the last one count as one.
    pub async fn notified(&mut self) {
        if self.received.changed().await.is_err() {
            // The task has panicked and printed why. The polls go on.
            std::future::pending::<()>().await;
        }
    }

    /// Whether there was a notification. It counts as received then.
    pub fn take(&mut self) -> bool {
        let has_changed = self.received.has_changed().unwrap_or(false);
        if has_changed {
            self.received.mark_unchanged();
        }
        has_changed
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen_for_good(connector: Connector, channel: String, received: watch::Sender<()>) {
    let mut is_known = false;
    loop {
        let reason = match open(&connector, &channel).await {
            Ok(listener) => {
                tracing::info!(channel, "listening for notifications of the source");
                is_known = false;
                // What was committed while nobody listened.
                received.send_replace(());
                forward(listener, &received).await
            }
            Err(reason) => reason,
        };
        if !std::mem::replace(&mut is_known, true) {
            tracing::warn!(channel, "not listening for notifications, polls find the changes: {reason}");
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

async fn open(connector: &Connector, channel: &str) -> Result<PgListener, String> {
    // Finds the server of a list, reads a secret that was rotated, and says why if there is no connection.
    let connection = connector.connect().await.map_err(|failure| failure.to_string())?;
    postgres::close(connection).await;
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(connector.options());
    let text = |error: sqlx::Error| {
        error.as_database_error().map_or_else(
            || error.to_string(),
            |refused| format!("the server refuses LISTEN ({})", refused.code().unwrap_or_default()),
        )
    };
    let mut listener = PgListener::connect_with(&pool).await.map_err(text)?;
    listener.ignore_pool_close_event(true);
    listener.listen(channel).await.map_err(text)?;
    Ok(listener)
}

/// Forwards notifications until the session is lost. Returns why.
async fn forward(mut listener: PgListener, received: &watch::Sender<()>) -> String {
    loop {
        match tokio::time::timeout(PROBE_INTERVAL, listener.try_recv()).await {
            Ok(Ok(Some(_))) => {
                received.send_replace(());
            }
            Ok(Ok(None) | Err(_)) => return "the session was lost".to_owned(),
            Err(_) => {
                let probe = sqlx::query("SELECT 1").execute(&mut listener);
                if !matches!(tokio::time::timeout(PROBE_TIMEOUT, probe).await, Ok(Ok(_))) {
                    return "the session does not answer".to_owned();
                }
            }
        }
    }
}
