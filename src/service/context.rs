//! What the daemon, the standby and the leader share: configuration, metrics, readiness, and a sleep that signals end.
//!
//! Owns: [`DaemonContext`], and why a period as standby or leader ends. Must not know: databases, passes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::readiness::Readiness;
use super::reload::Reloader;
use crate::clock::{self, Shutdown};
use crate::config::Config;
use crate::metrics::Metrics;

/// The parts of the daemon that outlive a lease.
#[derive(Debug)]
pub(super) struct DaemonContext {
    /// The configuration in force; a reload replaces it.
    pub(super) config: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) shutdown: Shutdown,
    reloader: Reloader,
    /// Warnings that were logged already.
    logged_warnings: BTreeSet<String>,
}

/// Why a period as standby or leader ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// A shutdown was requested.
    Shutdown,
    /// An error, in a sentence for the operator. Connect again after a delay.
    Retry(String),
    /// Another process may have taken the lease.
    LeaseLost,
    /// A new configuration is in force. Connect again with it.
    Reload,
}

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The time has passed.
    Elapsed,
    /// A shutdown was requested.
    Shutdown,
    /// A SIGHUP has put a new configuration in force.
    Reloaded,
}

impl DaemonContext {
    pub(super) fn new(
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        shutdown: Shutdown,
        reloader: Reloader,
    ) -> Self {
        Self { config, metrics, readiness, shutdown, reloader, logged_warnings: BTreeSet::new() }
    }

    /// Sleeps, and reloads the configuration when a SIGHUP arrives. A refused configuration does not end the sleep.
    pub(super) async fn sleep(&mut self, duration: Duration) -> Wake {
        let until = clock::monotonic() + duration;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Wake::Elapsed,
                () = self.shutdown.wait() => return Wake::Shutdown,
                () = self.reloader.hangup() => if self.reload() { return Wake::Reloaded },
            }
        }
    }

    /// Handles a SIGHUP that arrived while a pass ran. True when a new configuration is in force.
    pub(super) fn reload_if_requested(&mut self) -> bool {
        self.reloader.take_hangup() && self.reload()
    }

    fn reload(&mut self) -> bool {
        let new = match self.reloader.read(&self.config) {
            Ok(new) => new,
            Err(why) => {
                tracing::error!("the configuration was not reloaded, the old one stays in force: {why}");
                self.metrics.config_last_reload_successful.set(0);
                return false;
            }
        };
        tracing::info!(file = %new.path.display(), "configuration reloaded");
        crate::logging::set_level(new.log.level);
        for warning in new.unimplemented_key_warnings() {
            tracing::warn!("{warning}");
        }
        self.readiness.set_interval(new.schedule.interval);
        self.config = Arc::new(new);
        self.metrics.config_last_reload_successful.set(1);
        true
    }

    /// Logs each warning once, not on every connection.
    pub(super) fn warn_once(&mut self, warnings: &[String]) {
        for warning in warnings {
            if self.logged_warnings.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
    }
}
