//! The task that posts alerts: it looks every second for one that is due, posts it, and stores that it was accepted.
//!
//! Owns: the task, its retries, and what the daemon reports to it. Must not know: which alert is due.
//!
//! A report is an assignment under a lock, and everything else happens in the task. So no receiver can hold up a pass,
//! readiness or a stop.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::alert_state::{Alert, AlertState};
use super::conditions::{Conditions, PassFacts};
use super::document::{Sender, document};
use super::webhook::Webhook;
use crate::clock::{self, Shutdown};
use crate::config::Config;
use crate::pass::FoundRepairs;
use crate::pass::verify::StoredVerification;
use crate::service::connect::host_name;
use crate::service::readiness::Readiness;
use crate::state::StateWriter;
use crate::state::sync_row::SyncRow;

/// How often the task looks for an alert.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after the first attempt that failed. It doubles with each further one.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);
/// The limit for storing what was told. It is tried again.
const SAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for a POST under way. If it is cut off, the next start may repeat the alert.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// What the daemon reports. Shared by the daemon and the task.
#[derive(Debug)]
pub(in crate::service) struct Alerts {
    inputs: Mutex<AlertInputs>,
    /// The task sends nothing any more.
    stopping: Notify,
}

#[derive(Debug)]
struct AlertInputs {
    state: AlertState,
    webhook: Option<Webhook>,
    /// The right to store, while this instance leads.
    writer: Option<StateWriter>,
    retries: Retries,
}

/// The attempts that have failed since the last success.
#[derive(Debug, Default)]
struct Retries {
    next_attempt: Option<Instant>,
    delay: Duration,
    logged: String,
}

impl Alerts {
    pub(in crate::service) fn new(config: &Config) -> Self {
        let conditions = Conditions::new(config.schedule.interval, clock::monotonic());
        let inputs = AlertInputs {
            state: AlertState::new(conditions),
            webhook: Webhook::from_config(&config.alerts),
            writer: None,
            retries: Retries::default(),
        };
        Self { inputs: Mutex::new(inputs), stopping: Notify::new() }
    }

    fn inputs(&self) -> MutexGuard<'_, AlertInputs> {
        // What a panic left behind is at worst an alert that is repeated.
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new configuration is in force. What the old receiver was told stands for the new one too.
    pub(in crate::service) fn set_config(&self, config: &Config) {
        let mut inputs = self.inputs();
        inputs.state.conditions.set_interval(config.schedule.interval);
        inputs.webhook = Webhook::from_config(&config.alerts);
        inputs.retries = Retries::default();
    }

    /// This instance leads from now on. `row`: read after it has taken the lease.
    pub(in crate::service) fn begin_leading(&self, row: &SyncRow, writer: &StateWriter) {
        let drifted = StoredVerification::read(row.verification.as_ref()).map_or(0, |stored| stored.drifted_now());
        let missed = FoundRepairs::stored(row.full_pass_repairs.as_ref()).repaired;
        let mut inputs = self.inputs();
        inputs.state.begin_leading(row.alerts.as_ref(), drifted.unsigned_abs(), missed);
        inputs.writer = Some(writer.clone());
    }

    /// Another instance may lead.
    pub(in crate::service) fn stop_leading(&self) {
        let mut inputs = self.inputs();
        inputs.state.conditions.stop_leading();
        inputs.writer = None;
    }

    /// A pass has ended that did not fail.
    pub(in crate::service) fn note_pass(&self, facts: PassFacts) {
        self.inputs().state.conditions.note_pass(facts, clock::monotonic());
    }

    /// A verification was recorded.
    pub(in crate::service) fn note_verification(&self, drifted: i64) {
        self.inputs().state.conditions.note_verification(drifted.unsigned_abs());
    }

    /// The alert to post now, and its receiver.
    fn next(&self, now: Instant, at: DateTime<Utc>) -> Option<(Webhook, Alert)> {
        let mut inputs = self.inputs();
        let AlertInputs { state, webhook, retries, .. } = &mut *inputs;
        let webhook = webhook.as_ref()?;
        if retries.next_attempt.is_some_and(|next| now < next) {
            return None;
        }
        Some((webhook.clone(), state.next(now, at)?))
    }

    /// Logged once, not on every attempt.
    fn failed(&self, alert: &Alert, error: &str) {
        let mut inputs = self.inputs();
        inputs.state.failed(error, clock::now_utc());
        let retries = &mut inputs.retries;
        retries.delay = (retries.delay * 2).clamp(FIRST_RETRY_DELAY, MAX_RETRY_DELAY);
        retries.next_attempt = Some(clock::monotonic() + retries.delay);
        let kind = alert.kind.label();
        if retries.logged == error {
            tracing::debug!(kind, "alerts.webhook: an alert was not delivered: {error}");
        } else {
            tracing::warn!(kind, "alerts.webhook: an alert was not delivered, and is sent again: {error}");
            error.clone_into(&mut retries.logged);
        }
    }

    fn delivered(&self, alert: &Alert) {
        let mut inputs = self.inputs();
        inputs.state.delivered(alert, clock::monotonic());
        inputs.retries = Retries::default();
        let status = if alert.finding.is_some() { "firing" } else { "resolved" };
        tracing::info!(kind = alert.kind.label(), status, "an alert was delivered");
    }

    /// Stores what was told. When that fails, a restart may repeat an alert.
    async fn save(&self) {
        let (writer, document) = {
            let inputs = self.inputs();
            let (Some(writer), Some(document)) = (inputs.writer.clone(), inputs.state.unsaved()) else { return };
            (writer, document)
        };
        match tokio::time::timeout(SAVE_TIMEOUT, writer.save_alerts(&document)).await {
            Ok(Ok(())) => self.inputs().state.saved(&document),
            Ok(Err(error)) => tracing::debug!("what the receiver of alerts knows was not stored: {error}"),
            Err(_) => tracing::debug!("what the receiver of alerts knows was not stored in time"),
        }
    }

    /// The receiver may have another URL by now.
    fn refresh_webhook(&self, used: &Webhook) -> Option<Webhook> {
        let mut webhook = used.clone();
        if !webhook.refresh() {
            return None;
        }
        self.inputs().webhook = Some(webhook.clone());
        tracing::info!(key = "alerts.webhook_file", "a rotated secret is in use");
        Some(webhook)
    }
}

/// The running task.
#[derive(Debug)]
pub(in crate::service) struct AlertMonitor {
    alerts: Arc<Alerts>,
    task: JoinHandle<()>,
}

impl AlertMonitor {
    pub(in crate::service) fn start(
        config: &Config,
        alerts: &Arc<Alerts>,
        readiness: &Arc<Readiness>,
        shutdown: &Shutdown,
    ) -> Self {
        let sender = Sender { sync: config.name.clone(), host: host_name() };
        let task = run(sender, alerts.clone(), readiness.clone(), shutdown.clone());
        Self { alerts: alerts.clone(), task: tokio::spawn(task) }
    }

    /// Ends the task. A POST under way gets a second.
    pub(in crate::service) async fn stop(mut self) {
        self.alerts.stopping.notify_one();
        if tokio::time::timeout(STOP_LIMIT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Looks for alerts until a stop is requested. During a graceful stop nothing is new to the receiver.
async fn run(sender: Sender, alerts: Arc<Alerts>, readiness: Arc<Readiness>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = alerts.stopping.notified() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        if shutdown.requested() {
            continue;
        }
        let (now, at) = (clock::monotonic(), clock::now_utc());
        alerts.inputs().state.conditions.note_readiness(readiness.status(now), now);
        while let Some((webhook, alert)) = alerts.next(clock::monotonic(), at) {
            let document = document(&alert, &sender, at);
            let mut posted = webhook.post(&document).await;
            if posted.is_err()
                && let Some(webhook) = alerts.refresh_webhook(&webhook)
            {
                posted = webhook.post(&document).await;
            }
            match posted {
                Ok(()) => alerts.delivered(&alert),
                Err(error) => alerts.failed(&alert, &error),
            }
            alerts.save().await;
            if shutdown.requested() {
                break;
            }
        }
        alerts.save().await;
    }
}
