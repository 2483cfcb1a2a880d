//! Feeds the watchdog of systemd while the daemon does what it should.
//!
//! Owns: when it is fed. Must not know: passes, systemd's socket.
//!
//! It is not fed while a pass runs that makes no progress: it records nothing, the source confirms no statement, and no call
//! to IM ends. A database or an IM that is away is no reason: statements and calls have time limits, so passes end with an
//! error and begin again.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::readiness::Readiness;
use super::systemd;
use crate::clock;
use crate::metrics::Metrics;

/// How often it is fed within the limit.
const FEEDS: u32 = 4;

/// Feeds the watchdog until it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog(JoinHandle<()>);

impl Watchdog {
    /// `None` if the unit has no `WatchdogSec`.
    pub(super) fn start(readiness: &Arc<Readiness>, metrics: &Arc<Metrics>) -> Option<Self> {
        let limit = systemd::watchdog_limit()?;
        let (readiness, metrics) = (readiness.clone(), metrics.clone());
        Some(Self(tokio::spawn(async move {
            let (mut ended_calls, mut last_call) = (0, clock::monotonic());
            let mut is_hung = false;
            loop {
                let ended = metrics.ended_calls();
                if ended != ended_calls {
                    (ended_calls, last_call) = (ended, clock::monotonic());
                }
                let stands = readiness.pass_without_progress().is_some_and(|stands| stands >= limit);
                if stands && last_call.elapsed() >= limit {
                    if !std::mem::replace(&mut is_hung, true) {
                        tracing::error!(
                            "a pass has made no progress for {} s; the watchdog is not fed, and systemd restarts the service",
                            limit.as_secs()
                        );
                    }
                } else {
                    is_hung = false;
                    systemd::alive();
                }
                tokio::time::sleep(limit / FEEDS).await;
            }
        })))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.abort();
    }
}
