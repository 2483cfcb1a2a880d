//! The loop over passes while this process holds the lease.
//!
//! Owns: which kind of pass runs next, and the delay before it. Must not know: what a pass does, how the lease was
//! taken.
//!
//! A failed pass does not end the loop unless its connections have to be replaced.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::alerts::PassFacts;
use super::connect::{ConnectError, Resources};
use super::context::{DaemonContext, Ended, Wake};
use super::lag::{CurrentSince, LagGauge};
use super::pass_watch::PassWatch;
use super::systemd;
use super::verification::ScheduledVerification;
use crate::clock;
use crate::mapping::Mapping;
use crate::pass::{
    Engine, FullOptions, FullPass, FullPassStep, PassError, PassKind, PassOutcome, PassProgress, PassReport, SlowCalls,
};
use crate::source::{Notifications, Source, TransactionList};
use crate::state::{Lease, StateWriter};

/// The longest delay between passes while an error stands that only an operator can fix, such as wrong credentials. The
/// vendor asks for one minute after too many bad signatures (code 70050).
const MAX_OPERATOR_DELAY: Duration = Duration::from_mins(1);

/// How a pass ended for the loop.
enum PassEnd {
    /// It finished, with or without rejections.
    Finished,
    /// It failed.
    Failed(PassError),
    /// It was interrupted because a new configuration is in force.
    Reloaded,
}

impl From<Option<PassError>> for PassEnd {
    fn from(error: Option<PassError>) -> Self {
        error.map_or(Self::Finished, Self::Failed)
    }
}

/// Runs passes until the lease is lost, a shutdown or a reload is requested, or the state database fails.
pub(super) async fn lead(
    context: &mut DaemonContext,
    mut resources: Resources,
    lease: &Lease,
    writer: StateWriter,
) -> Ended {
    let current = CurrentSince::from_row(&resources.row);
    let verification = ScheduledVerification::from_row(&context.config, &resources.row);
    resources.slow_calls = SlowCalls::LeaveBehind;
    let engine = match resources.engine(lease, writer, &context.metrics, &context.shutdown).await {
        Ok(engine) => engine,
        Err(ConnectError::Pass(error)) if error.lease_lost() => return Ended::LeaseLost,
        Err(error) => return Ended::Retry(error.to_string()),
    };
    let notifications = Notifications::listen(&context.config);
    let gauge = LagGauge::start(context.metrics.clone(), current.clone());
    let mut leader = Leader { context, engine, lease, current, verification, notifications, full_pass_failed: false };
    let ended = leader.run_passes().await;
    // The next engine must not send an account that this one still waits for.
    leader.engine.wait_for_deliveries().await;
    drop(gauge);
    if matches!(ended, Ended::Shutdown | Ended::Reload) {
        // When this cannot be stored, the next holder waits a whole second before its first call.
        let _ = leader.engine.store_last_call().await;
    }
    ended
}

struct Leader<'a> {
    context: &'a mut DaemonContext,
    engine: Engine,
    lease: &'a Lease,
    current: CurrentSince,
    verification: ScheduledVerification,
    /// `None` without a channel.
    notifications: Option<Notifications>,
    /// The last full pass failed.
    full_pass_failed: bool,
}

impl Leader<'_> {
    fn interval(&self) -> Duration {
        self.context.config.schedule.interval
    }

    async fn run_passes(&mut self) -> Ended {
        let mut delay = self.interval();
        loop {
            if self.context.shutdown.requested() {
                return Ended::Shutdown;
            }
            if !self.lease.is_held() {
                return Ended::LeaseLost;
            }
            let started = clock::monotonic();
            let end = match self.engine.follow_source().await {
                Ok(transactions) => self.run_due_pass(started, transactions).await,
                Err(error) => PassEnd::Failed(error),
            };
            let error = match end {
                PassEnd::Reloaded => return Ended::Reload,
                PassEnd::Failed(error) => Some(error),
                PassEnd::Finished => self.verify().await,
            };
            if let Some(error) = &error
                && let Some(ended) = self.recover(error).await
            {
                return ended;
            }
            let needs_operator = error.as_ref().is_some_and(PassError::needs_operator);
            delay = if needs_operator { (delay * 2).min(MAX_OPERATOR_DELAY) } else { self.interval() };
            let next = started + delay.max(self.interval());
            let delay_left = next.saturating_duration_since(clock::monotonic());
            let wake = match error {
                Some(_) => self.context.sleep_after_error(delay_left).await,
                None => self.sleep_until_notified(delay_left).await,
            };
            if wake == Wake::Reloaded {
                return Ended::Reload;
            }
        }
    }

    /// Sleeps until the next poll is due or the source notifies.
    async fn sleep_until_notified(&mut self, delay: Duration) -> Wake {
        let Some(notifications) = &mut self.notifications else { return self.context.sleep(delay).await };
        tokio::select! {
            biased;
            wake = self.context.sleep(delay) => wake,
            () = notifications.notified() => Wake::Elapsed,
        }
    }

    /// Whether the source has notified since the last pass.
    fn take_notification(&mut self) -> bool {
        self.notifications.as_mut().is_some_and(Notifications::take)
    }

    /// Advances the verification, and tells what it has found.
    async fn verify(&mut self) -> Option<PassError> {
        match self.verification.advance(&self.engine).await {
            Ok(None) => None,
            Ok(Some(recorded)) => {
                self.context.alerts.note_verification(recorded.drifted_now());
                None
            }
            Err(error) => Some(error),
        }
    }

    /// Runs the full pass if one is due, otherwise an incremental pass. `transactions`: a transaction list that was taken
    /// after `started`.
    async fn run_due_pass(&mut self, started: Instant, transactions: Option<TransactionList>) -> PassEnd {
        let progress = || Arc::new(PassProgress::since(PassKind::Incremental, started));
        let full_because = self.engine.full_pass_due().or_else(|| {
            (!self.engine.has_watermark())
                .then(|| "there is no watermark column: every pass compares the whole table".to_owned())
        });
        let Some(why) = full_because else { return self.incremental(progress(), transactions).await.into() };
        // While full passes fail again and again, changes are still sent by incremental passes.
        if self.full_pass_failed
            && self.engine.has_watermark()
            && let Some(error) = self.incremental(progress(), transactions).await
        {
            return PassEnd::Failed(error);
        }
        // Without a watermark every poll is a full pass; while these fail, the reason is not repeated.
        if self.engine.has_watermark() || !self.full_pass_failed {
            tracing::info!("a full pass begins: {why}");
        }
        let end = self.full().await;
        self.full_pass_failed = matches!(end, PassEnd::Failed(_));
        end
    }

    /// Replaces a failed connection to the source. Returns the end of the loop when that is not enough.
    async fn recover(&mut self, error: &PassError) -> Option<Ended> {
        if error.lease_lost() {
            return Some(Ended::LeaseLost);
        }
        match error {
            PassError::Source(_) => {
                // Connecting also introspects the table again: a column may have been added or dropped.
                let mapping = Mapping::new(&self.context.config);
                match Source::reconnect(&self.context.config, mapping.columns()).await {
                    Ok(source) => {
                        self.engine.replace_source(source).await.err().map(|error| Ended::Retry(error.to_string()))
                    }
                    Err(error) => Some(Ended::Retry(error.to_string())),
                }
            }
            PassError::State(error) => Some(Ended::Retry(error.to_string())),
            PassError::Stop(_) | PassError::NotRead(_) | PassError::NoWatermark => None,
        }
    }

    async fn incremental(
        &mut self,
        progress: Arc<PassProgress>,
        transactions: Option<TransactionList>,
    ) -> Option<PassError> {
        let _reads = self.engine.watch_long_reads(&progress);
        self.run_incremental(progress, transactions).await
    }

    async fn run_incremental(
        &mut self,
        progress: Arc<PassProgress>,
        transactions: Option<TransactionList>,
    ) -> Option<PassError> {
        let watch = PassWatch::start(&self.context.readiness, &progress);
        let (report, error) = self.engine.incremental(progress, transactions).await;
        drop(watch);
        self.publish(&report);
        error
    }

    /// A full pass, page by page. Incremental passes run between its pages.
    async fn full(&mut self) -> PassEnd {
        let progress = Arc::new(PassProgress::new(PassKind::Full));
        // Without a watermark a full pass is the usual poll, which is not logged when it changes nothing.
        progress.set_poll(!self.engine.source().has_watermark());
        let _watch = PassWatch::start(&self.context.readiness, &progress);
        let _reads = self.engine.watch_long_reads(&progress);
        let mut full = match self.engine.begin_full(FullOptions::default(), progress).await {
            Ok(full) => full,
            Err((report, error)) => {
                self.publish(&report);
                return PassEnd::Failed(error);
            }
        };
        let mut last_incremental = clock::monotonic();
        loop {
            if let FullPassStep::Done(report, error) = self.engine.step_full(&mut full).await {
                self.publish(&report);
                return error.into();
            }
            if self.context.reload_if_proved() {
                // Its position is stored. With the same mapping, the next full pass resumes there.
                self.interrupt(&mut full).await;
                return PassEnd::Reloaded;
            }
            if self.engine.has_watermark()
                && (last_incremental.elapsed() >= self.interval() || self.take_notification())
            {
                last_incremental = clock::monotonic();
                // The long statements of this pass are watched as those of the full pass.
                let progress = Arc::new(PassProgress::new(PassKind::Incremental));
                if let Some(error) = self.run_incremental(progress, None).await {
                    // The error concerns the full pass too. No call of it may be in flight when connections are
                    // replaced.
                    let (report, _) = self.engine.interrupt_full(&mut full).await;
                    report.log();
                    self.context.readiness.pass_finished(Some(error.to_string()));
                    return PassEnd::Failed(error);
                }
            }
        }
    }

    async fn interrupt(&mut self, full: &mut FullPass) {
        let (report, _) = self.engine.interrupt_full(full).await;
        self.publish(&report);
    }

    /// One line for `systemctl status`.
    fn summary(&self, report: &PassReport) -> String {
        let metrics = &self.context.metrics;
        let lag = self
            .current
            .lag()
            .map_or("no complete pass yet".to_owned(), |lag| format!("lag {:.1} s", lag.as_secs_f64()));
        format!(
            "leading; {lag}, {} accounts in IM, {} rejected; last pass: {} {}",
            metrics.accounts.get(),
            metrics.rejected_accounts.get(),
            report.row.kind,
            report.row.outcome
        )
    }

    /// Shows the end of a pass in the log, the lag, systemd's status line and readiness.
    fn publish(&self, report: &PassReport) {
        report.log();
        let error = (report.outcome == PassOutcome::Failed).then(|| report.row.error.clone().unwrap_or_default());
        if let Some(moment) = report.current_since {
            self.current.advance_to(moment);
            self.current.show(&self.context.metrics);
        }
        match &error {
            Some(error) => systemd::status(&format!("the last pass failed: {error}")),
            None => systemd::status(&self.summary(report)),
        }
        if error.is_none() && report.outcome != PassOutcome::Interrupted {
            self.context.alerts.note_pass(self.facts(report.kind));
        }
        self.context.readiness.pass_finished(error);
    }

    /// What the alerts need to know after a complete pass.
    fn facts(&self, kind: PassKind) -> PassFacts {
        PassFacts {
            rejected: self.engine.account_counts().rejected,
            in_doubt_pending: self.engine.in_doubt_pending(),
            guard: self.engine.guard().cloned(),
            // An incremental pass runs between the pages of a full one, which has not counted everything then.
            missed_changes: if kind == PassKind::Full { self.engine.missed_changes() } else { None },
        }
    }
}
