//! The beginning of a pass, and of one that cannot begin.
//!
//! Owns: what every pass does before its first page, and when a pass has nothing to do. Must not know: what a pass reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::{FirstError, PassError};
use super::probe::AcknowledgedAccounts;
use super::progress::PassProgress;
use super::report::{PassKind, PassReport};
use super::slow_calls::SlowCalls;
use crate::crash;
use crate::state::due_work::DueWork;
use crate::state::history::SendingPass;

impl Engine {
    /// Opens a push session, and makes the attributes of left-over intents unknown.
    pub(super) async fn begin_pass(&mut self, progress: Arc<PassProgress>) -> Result<Arc<DeliveryContext>, PassError> {
        crash::point("pass: begins");
        self.reader.source.forget_ahead().await;
        let context = self.delivery_context(progress);
        let is_idle = self.queue.is_empty();
        self.due_work = self.resolve_abandoned_intents(&context).await?;
        let DueWork { counts, abandoned_intents, released_values, .. } = self.due_work;
        self.owed_at_most = counts.owed_removals;
        self.writer.set_stored_accounts(counts.known.max(counts.in_doubt));
        if counts.rejected > 0 || is_idle {
            self.may_be_rejected.store(counts.rejected > 0, Ordering::SeqCst);
        }
        if context.progress.kind == PassKind::Full {
            self.only_met_are_stored = is_idle && counts.known == 0 && counts.in_doubt == 0;
        }
        self.only_met_are_stored &= !abandoned_intents;
        if released_values {
            self.resend_released_values().await?;
        }
        Ok(Arc::new(context))
    }

    /// Makes the attributes of left-over intents unknown. Returns what else is to be done.
    async fn resolve_abandoned_intents(&mut self, context: &DeliveryContext) -> Result<DueWork, PassError> {
        let live_intents = self.queue.live_intents();
        // Held, so that no delivery stores an intent meanwhile that would look left over.
        let live_intents = live_intents.lock().await;
        let live: Vec<i64> = live_intents.iter().copied().collect();
        let unrecorded = self.queue.take_unrecorded();
        let resolved = async {
            let due_work = self.writer.due_work(&live).await?;
            if due_work.abandoned_intents {
                let accounts = self.writer.mark_abandoned_intents_unknown(&live, context.late_write_window).await?;
                tracing::warn!(
                    accounts,
                    "found calls whose outcome was never recorded: their attributes count as unknown and are sent again"
                );
            }
            Ok(due_work)
        };
        let due_work = match resolved.await {
            Ok(due_work) => due_work,
            Err(error) => {
                self.queue.keep_unrecorded(unrecorded);
                return Err(error);
            }
        };
        drop(live_intents);
        self.queue.accounts_in_flight().remove(unrecorded.iter());
        Ok(due_work)
    }

    async fn resend_released_values(&mut self) -> Result<(), PassError> {
        let in_flight = self.queue.accounts_in_flight();
        // A probe that a delivery of an earlier pass sends could record the values that it has read before.
        let no_probes = in_flight.pause_reservations().await;
        let accounts = self.writer.mark_released_values_unknown(|account| !in_flight.contains(account)).await?;
        drop(no_probes);
        if accounts > 0 {
            tracing::debug!(
                accounts,
                "another sync of the app has set attributes of these accounts and given them up: they are sent again"
            );
        }
        Ok(())
    }

    /// This incremental pass has found nothing to do so far, and nothing of earlier passes is in flight. So the state still
    /// holds what [`DueWork`] says, and does not have to be asked again.
    pub(super) fn is_idle(&self, context: &DeliveryContext) -> bool {
        let progress = &context.progress;
        let found = PassProgress::get(&progress.changed) + progress.recorded();
        let sends_removals = self.owed_at_most > 0 && !self.guard.is_tripped();
        progress.kind == PassKind::Incremental
            && found == 0
            && !sends_removals
            && !self.due_work.has_unknown_outcomes()
            && self.queue.is_at_rest()
            && !self.deferrals.any_waits()
    }

    fn delivery_context(&mut self, progress: Arc<PassProgress>) -> DeliveryContext {
        // Calls of an incremental pass go before those of a full pass that is under way.
        let urgent = progress.kind == PassKind::Incremental;
        let late_write_window = self.config.im.timeout * 2;
        let failure = FirstError::default();
        let keeps_history = self.config.history.keep.is_some();
        let pass = SendingPass { kind: progress.kind.label(), started_at: progress.started_at };
        let history = keeps_history.then_some(pass);
        let probes = AcknowledgedAccounts {
            state: self.state.clone(),
            writer: self.writer.clone(),
            in_flight: self.queue.accounts_in_flight(),
            live_intents: self.queue.live_intents(),
            backoff: self.backoff.clone(),
            late_write_window,
            retry_after: self.config.schedule.rejected_retry,
            history,
            search_after: self.probes_after.clone(),
            failure: failure.clone(),
        };
        DeliveryContext {
            pass: self.queue.next_pass(),
            session: self.pusher.begin_pass(self.comparer.names.clone(), urgent, Arc::new(probes)),
            is_beside_incremental_passes: progress.kind == PassKind::Full
                && self.has_watermark()
                && self.slow_calls == SlowCalls::LeaveBehind,
            progress,
            names: self.comparer.names.clone(),
            writer: self.writer.clone(),
            metrics: self.metrics.clone(),
            may_be_rejected: self.may_be_rejected.clone(),
            met: self.met.clone(),
            history,
            retry_after: self.config.schedule.rejected_retry,
            late_write_window,
            backoff: self.backoff.clone(),
            failure,
        }
    }

    /// The report of a pass that could not begin.
    pub(super) async fn fail_to_start(&mut self, progress: &PassProgress, error: PassError) -> (PassReport, PassError) {
        let report = progress.report(error.outcome(), Some(error.to_string()));
        if !error.lease_lost() {
            // The state may be what cannot be reached. Then the log line is the only record.
            let _ = self.writer.add_pass(&report.row).await;
        }
        report.count(&self.metrics);
        (report, error)
    }
}
