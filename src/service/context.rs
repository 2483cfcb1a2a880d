//! What the daemon, the standby and the leader share: configuration, metrics, readiness, and a sleep that signals end.
//!
//! Owns: [`DaemonContext`], and why a period as standby or leader ends. Must not know: what is connected, passes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::alerts::Alerts;
use super::connect::{ConnectError, Connections, Resources};
use super::readiness::Readiness;
use super::reload::{Reloader, Reloads};
use crate::clock::{self, Shutdown};
use crate::config::Config;
use crate::finding::Finding;
use crate::metrics::Metrics;
use crate::postgres::UrlFile;

/// How often the secret files are read during a sleep after an error.
const SECRETS_INTERVAL: Duration = Duration::from_secs(1);

/// The parts of the daemon that outlive a lease.
#[derive(Debug)]
pub(super) struct DaemonContext {
    /// The configuration in force; a reload replaces it.
    pub(super) config: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) shutdown: Shutdown,
    reloads: Reloads,
    /// The connections with which the configuration in force was proved, until they are used.
    proved: Option<Connections>,
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
        warn_about_urls(&config);
        let reloads = reloader.start(config.clone(), metrics.clone());
        let alerts = Arc::new(Alerts::new(&config));
        let (proved, logged_warnings) = (None, BTreeSet::new());
        Self { config, metrics, readiness, alerts, shutdown, reloads, proved, logged_warnings }
    }

    /// Sleeps until the time is over, a stop is requested, or a new configuration is in force.
    pub(super) async fn sleep(&mut self, duration: Duration) -> Wake {
        let until = clock::monotonic() + duration;
        let wake = tokio::select! {
            biased;
            () = self.shutdown.wait() => Wake::Shutdown,
            () = self.reloads.proved() => Wake::Reloaded,
            () = tokio::time::sleep_until(until) => Wake::Elapsed,
        };
        if wake == Wake::Reloaded && !self.reload_if_proved() { Wake::Elapsed } else { wake }
    }

    /// Sleeps after an error. A secret that was rotated meanwhile ends the sleep: the error may have come from the old one.
    pub(super) async fn sleep_after_error(&mut self, duration: Duration) -> Wake {
        let until = clock::monotonic() + duration;
        let key = secret_key(&self.config);
        loop {
            let left = until.saturating_duration_since(clock::monotonic());
            let wake = self.sleep(left.min(SECRETS_INTERVAL)).await;
            if wake != Wake::Elapsed || left <= SECRETS_INTERVAL {
                return wake;
            }
            if has_untried_url(&self.config) || secret_key(&self.config) != key {
                tracing::debug!("a secret file has changed");
                return wake;
            }
        }
    }

    /// Puts a configuration that was proved in force. False when there is none.
    pub(super) fn reload_if_proved(&mut self) -> bool {
        let Some(connections) = self.reloads.take() else { return false };
        let new = connections.config.clone();
        tracing::info!(file = %new.path.display(), "configuration reloaded");
        crate::logging::set_level(new.log.level);
        for warning in new.unimplemented_key_warnings() {
            tracing::warn!("{warning}");
        }
        warn_about_urls(&new);
        self.readiness.set_interval(new.schedule.interval);
        self.alerts.set_config(&new);
        self.config = new;
        self.proved = Some(connections);
        true
    }

    /// Connects with the configuration in force, or uses the connections with which it was proved.
    pub(super) async fn connect(&mut self) -> Result<Resources, Ended> {
        let proved = self.proved.take();
        let config = self.config.clone();
        let connect = async {
            let connections = match proved {
                Some(connections) => connections,
                None => Connections::open(&config).await?,
            };
            let mut resources = connections.bind().await?;
            resources.ask_for_advice().await;
            Ok::<_, ConnectError>(resources)
        };
        tokio::select! {
            biased;
            () = self.shutdown.wait() => return Err(Ended::Shutdown),
            resources = connect => return resources.map_err(|error| Ended::Retry(error.to_string())),
            () = self.reloads.proved() => {}
        }
        self.reload_if_proved();
        Err(Ended::Reload)
    }

    /// Logs each warning once, not on every connection.
    pub(super) fn warn_once(&mut self, warnings: &[Finding]) {
        for warning in warnings.iter().map(ToString::to_string) {
            if self.logged_warnings.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
    }
}

/// Logs what the URLs ask for and imsync does not do.
fn warn_about_urls(config: &Config) {
    let (source, state) = (&config.source.url, &config.state.url);
    let state_warnings = if state.same_as(source) { Vec::new() } else { state.warnings() };
    for (key, warnings) in [("source.url", source.warnings()), ("state.url", state_warnings)] {
        for warning in warnings {
            tracing::warn!("{key}: {warning}");
        }
    }
}

/// Whether the file of a URL holds one that no connection has tried lately.
fn has_untried_url(config: &Config) -> bool {
    let files = [&config.source.url_file, &config.state.url_file];
    files.into_iter().flatten().any(UrlFile::has_untried)
}

/// What the file of the secret key holds; `None` without a file, or when it holds no key.
fn secret_key(config: &Config) -> Option<String> {
    let key = config.im.secret_key_file.as_ref()?.read_again().ok()??;
    Some(key.expose_secret().to_owned())
}
