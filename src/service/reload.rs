//! Reloading the configuration of a running daemon on SIGHUP.
//!
//! Owns: receiving the signal, the task that proves the new configuration, and what it leaves for the daemon. Must not
//! know: what is proved, what the daemon does with a new configuration.
//!
//! The proof takes as long as the databases and IM take. It runs in a task of its own, so that neither a pass nor a stop
//! waits for it, and it runs in every phase of the daemon.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::connect::Connections;
use super::proof::prove;
use super::systemd;
use crate::clock;
use crate::config::Config;
use crate::metrics::Metrics;

/// A proof makes calls and connections, however often the signal arrives. Signals that arrive meanwhile count once.
const MIN_PROOF_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the configuration again from the place where it was read at the start. The error lists all mistakes.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// What a reload needs: the signal, and how the configuration is read.
pub struct Reloader {
    hangups: Signal,
    read_config: ReadConfig,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

/// The newest configuration that was proved and is not in force yet. Shared by the task and the daemon.
#[derive(Debug)]
struct ProvedConfig {
    metrics: Arc<Metrics>,
    offer: Mutex<ReloadOffer>,
    offered: Notify,
}

#[derive(Debug, Default)]
struct ReloadOffer {
    connections: Option<Connections>,
    /// A later one was refused.
    refused_since: bool,
}

/// The reloads of a running daemon. Dropping it ends a proof under way.
#[derive(Debug)]
pub(super) struct Reloads {
    proved: Arc<ProvedConfig>,
    task: JoinHandle<()>,
}

impl Reloader {
    /// Takes the signal from `signals::hangup_signal`.
    pub fn new(hangups: Signal, read_config: ReadConfig) -> Self {
        Self { hangups, read_config }
    }

    /// Handles signals from now on. `current` is the configuration in force.
    pub(super) fn start(self, current: Arc<Config>, metrics: Arc<Metrics>) -> Reloads {
        let proved = ProvedConfig { metrics, offer: Mutex::default(), offered: Notify::new() };
        let proved = Arc::new(proved);
        Reloads { proved: proved.clone(), task: tokio::spawn(self.handle_signals(current, proved)) }
    }

    async fn handle_signals(mut self, mut current: Arc<Config>, proved: Arc<ProvedConfig>) {
        while self.hangups.recv().await.is_some() {
            let next = clock::monotonic() + MIN_PROOF_INTERVAL;
            tracing::debug!("SIGHUP: the configuration is read and proved");
            systemd::reloading();
            let result = match (self.read_config)() {
                Ok(new) => prove(&current, new).await,
                Err(problems) => Err(problems),
            };
            match result {
                Ok(connections) => {
                    current = connections.config.clone();
                    proved.accept(connections);
                }
                Err(why) => proved.refuse(&why),
            }
            // Refused ones too: the service runs on, and the log has the reason.
            systemd::ready();
            tokio::time::sleep_until(next).await;
        }
    }
}

impl ProvedConfig {
    fn offer(&self) -> MutexGuard<'_, ReloadOffer> {
        // Each change is a plain assignment, so a panic cannot leave a change half done.
        self.offer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces one that is not in force yet.
    fn accept(&self, connections: Connections) {
        *self.offer() = ReloadOffer { connections: Some(connections), refused_since: false };
        self.offered.notify_one();
    }

    fn refuse(&self, why: &str) {
        self.offer().refused_since = true;
        self.metrics.config_last_reload_successful.set(0);
        tracing::error!("the configuration was not reloaded, the old one stays in force: {why}");
    }
}

impl Reloads {
    /// Waits until a proved configuration is to be taken. Cancel safe.
    pub(super) async fn proved(&self) {
        while self.proved.offer().connections.is_none() {
            self.proved.offered.notified().await;
        }
    }

    /// The proved configuration with its connections, if there is one. It is in force from now on.
    pub(super) fn take(&self) -> Option<Connections> {
        let mut offer = self.proved.offer();
        let connections = offer.connections.take()?;
        if !offer.refused_since {
            self.proved.metrics.config_last_reload_successful.set(1);
        }
        Some(connections)
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        self.task.abort();
    }
}
