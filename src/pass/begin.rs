//! The beginning of a pass, and of one that cannot begin.
//!
//! Owns: what every pass does before its first page. Must not know: what a pass reads.

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

impl Engine {
    /// Opens a push session, and makes the attributes of left-over intents unknown.
    pub(super) async fn begin_pass(&mut self, progress: Arc<PassProgress>) -> Result<Arc<DeliveryContext>, PassError> {
        crash::point("pass: begins");
        self.reader.source.forget_ahead().await;
        let context = self.delivery_context(progress);
        let is_idle = self.queue.is_empty();
        let counts = self.state.account_counts(self.writer.sync_id()).await?;
        self.owed_at_most = counts.owed_removals;
        self.writer.set_stored_accounts(counts.known.max(counts.in_doubt));
        if counts.rejected > 0 || is_idle {
            self.may_be_rejected.store(counts.rejected > 0, Ordering::SeqCst);
        }
        let live_intents = self.queue.live_intents();
        let live_intents = live_intents.lock().await;
        let live: Vec<i64> = live_intents.iter().copied().collect();
        let unrecorded = self.queue.take_unrecorded();
        let accounts = match self.writer.mark_abandoned_intents_unknown(&live, context.late_write_window).await {
            Ok(accounts) => accounts,
            Err(error) => {
                self.queue.keep_unrecorded(unrecorded);
                return Err(error.into());
            }
        };
        drop(live_intents);
        if context.progress.kind == PassKind::Full {
            self.only_met_are_stored = is_idle && counts.known == 0 && counts.in_doubt == 0;
        }
        self.only_met_are_stored &= accounts == 0;
        self.queue.accounts_in_flight().remove(unrecorded.iter());
        let in_flight = self.queue.accounts_in_flight();
        // A probe that a delivery of an earlier pass sends could record the values that it has read before.
        let no_probes = in_flight.pause_reservations().await;
        let released = self.writer.mark_released_values_unknown(|account| !in_flight.contains(account)).await?;
        drop(no_probes);
        if released > 0 {
            tracing::debug!(
                accounts = released,
                "another sync of the app has set attributes of these accounts and given them up: they are sent again"
            );
        }
        if accounts > 0 {
            tracing::warn!(
                accounts,
                "found calls whose outcome was never recorded: their attributes count as unknown and are sent again"
            );
        }
        Ok(Arc::new(context))
    }

    fn delivery_context(&mut self, progress: Arc<PassProgress>) -> DeliveryContext {
        // Calls of an incremental pass go before those of a full pass that is under way.
        let urgent = progress.kind == PassKind::Incremental;
        let late_write_window = self.config.im.timeout * 2;
        let failure = FirstError::default();
        let probes = AcknowledgedAccounts {
            state: self.state.clone(),
            writer: self.writer.clone(),
            in_flight: self.queue.accounts_in_flight(),
            live_intents: self.queue.live_intents(),
            backoff: self.backoff.clone(),
            late_write_window,
            retry_after: self.config.schedule.rejected_retry,
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
