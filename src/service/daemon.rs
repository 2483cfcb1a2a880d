//! The daemon: connects, stands by, leads, and retries after errors until it is told to stop.
//!
//! Owns: the outer loop, its retry delays, and the time limit of a graceful stop. Must not know: what a pass does.
//!
//! No error that only the databases or IM can report ends the process. It shows why it is not ready, and retries.

use std::sync::Arc;
use std::time::Duration;

use super::alerts::AlertMonitor;
use super::context::{DaemonContext, Ended, Wake};
use super::leader;
use super::readiness::Readiness;
use super::reload::Reloader;
use super::standby::{LEASE_RETRY_INTERVAL, wait_for_lease};
use super::systemd;
use super::watchdog::Watchdog;
use crate::clock::{self, Shutdown};
use crate::config::Config;
use crate::metrics::Metrics;

/// The delay after the first error. It doubles with each further one.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest delay after an error. A period that lasted longer resets the delay.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);
/// The time limit of a graceful stop. `TimeoutStopSec` in `dist/imsync.service` is longer.
pub const GRACEFUL_STOP_LIMIT: Duration = Duration::from_secs(25);

/// The daemon of one sync.
#[derive(Debug)]
pub struct Daemon {
    context: DaemonContext,
}

/// The delay before the next attempt, and whether its error is logged as one.
struct RetryState {
    delay: Duration,
    logged: String,
}

impl RetryState {
    fn new() -> Self {
        Self { delay: FIRST_RETRY_DELAY, logged: String::new() }
    }

    fn next_delay(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(MAX_RETRY_DELAY);
        delay
    }

    /// Logged once, not on every attempt.
    fn log(&mut self, error: String) {
        if self.logged == error {
            tracing::debug!("{error}");
        } else {
            tracing::error!("{error}; retrying");
            systemd::status(&format!("not ready: {error}"));
            self.logged = error;
        }
    }
}

impl Daemon {
    /// Puts the daemon together. Nothing is opened before [`Daemon::run`].
    pub fn new(
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        shutdown: Shutdown,
        reloader: Reloader,
    ) -> Self {
        Self { context: DaemonContext::new(config, metrics, readiness, shutdown, reloader) }
    }

    /// Runs until a shutdown is requested. A graceful stop that takes longer than [`GRACEFUL_STOP_LIMIT`] is cut short;
    /// the outcomes of calls in flight are then unknown, and the next start resolves them.
    pub async fn run(mut self) {
        let _watchdog = Watchdog::start(&self.context.readiness, &self.context.metrics);
        let shutdown = self.context.shutdown.clone();
        let DaemonContext { config, alerts, readiness, .. } = &self.context;
        let monitor = AlertMonitor::start(config, alerts, readiness, &shutdown);
        let limit = async {
            shutdown.wait().await;
            systemd::stopping();
            tokio::time::sleep(GRACEFUL_STOP_LIMIT).await;
        };
        tokio::select! {
            () = self.run_until_shutdown() => tracing::info!("stopped"),
            () = limit => tracing::warn!(
                "stopped after {} s with calls still in flight; the next start resolves their outcomes",
                GRACEFUL_STOP_LIMIT.as_secs()
            ),
        }
        monitor.stop().await;
    }

    async fn run_until_shutdown(&mut self) {
        let mut retry = RetryState::new();
        while !self.context.shutdown.requested() {
            let started = clock::monotonic();
            match Box::pin(self.connect_and_lead()).await {
                Ended::Shutdown => break,
                // An error with the new configuration is logged, even if it is the same one.
                Ended::Reload => retry = RetryState::new(),
                Ended::LeaseLost => {
                    tracing::warn!("the lease was lost; trying to take it again");
                    retry.logged.clear();
                    self.context.sleep(LEASE_RETRY_INTERVAL).await;
                }
                Ended::Retry(error) => {
                    self.context.readiness.set_problem(error.clone());
                    if started.elapsed() > MAX_RETRY_DELAY {
                        retry = RetryState::new();
                    }
                    retry.log(error);
                    if self.context.sleep_after_error(retry.next_delay()).await == Wake::Reloaded {
                        retry = RetryState::new();
                    }
                }
            }
            self.context.metrics.set_leading(false);
        }
    }

    async fn connect_and_lead(&mut self) -> Ended {
        let context = &mut self.context;
        let mut resources = match Box::pin(context.connect()).await {
            Ok(resources) => resources,
            Err(ended) => return ended,
        };
        context.warn_once(&resources.warnings());
        let (lease, writer) = match wait_for_lease(context, &mut resources).await {
            Ok(taken) => taken,
            Err(ended) => return ended,
        };
        context.readiness.set_leader();
        context.metrics.set_leading(true);
        context.alerts.begin_leading(&resources.row, &writer);
        tracing::info!(table = %resources.source.resolved_table(), "leading");
        systemd::status("leading");
        let leading = leader::lead(context, resources, &lease, writer);
        let ended = Box::pin(lease.while_held(leading)).await.unwrap_or(Ended::LeaseLost);
        self.context.alerts.stop_leading();
        lease.release().await;
        ended
    }
}
