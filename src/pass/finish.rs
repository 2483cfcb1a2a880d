//! The end of a pass: its outcome, and what the sync row, the pass history and the metrics store of it.
//!
//! Owns: the way of the report into state and metrics. Must not know: what the pass did.

use std::sync::Arc;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::report::{PassOutcome, PassReport};
use crate::crash;
use crate::model::Account;
use crate::state::account_count::AccountCounts;
use crate::state::sync_update::SyncUpdate;

impl Engine {
    /// The outcome of a complete pass. `only`: the accounts that it was limited to.
    pub(super) async fn complete_outcome(
        &self,
        context: &DeliveryContext,
        only: Option<&[Account]>,
    ) -> Result<PassOutcome, PassError> {
        if self.guard.is_tripped() {
            return Ok(PassOutcome::Guard);
        }
        let sync_id = self.writer.sync_id();
        let rejected = match only {
            None if self.is_idle(context) => self.due_work.counts.rejected,
            None => self.state.account_counts(sync_id).await?.rejected,
            Some(only) => self.state.count_rejected_of(sync_id, only).await?,
        };
        Ok(if rejected > 0 { PassOutcome::Rejected } else { PassOutcome::Ok })
    }

    /// Stores the end of a pass and makes its report. The caller logs it. `save`: the sync row is stored in any case;
    /// otherwise only for a notable pass and when the guard has changed.
    pub(super) async fn finish(
        &mut self,
        context: &Arc<DeliveryContext>,
        result: Result<PassOutcome, PassError>,
        update: SyncUpdate,
        save: bool,
    ) -> (PassReport, Option<PassError>) {
        let (result, own_calls) = self.add_detached(context, result);
        let progress = &context.progress;
        *progress.open().await = false;
        let (outcome, mut error) = match result {
            Ok(outcome) => (outcome, None),
            Err(error) => (error.outcome(), Some(error)),
        };
        let mut report = progress.report(outcome, error.as_ref().map(ToString::to_string));
        crash::point("pass: outcomes are recorded");
        let was_held = self.current_passes.is_held();
        if error.is_none() && progress.covers_all_changes() {
            self.current_passes.note_complete(context.pass, report.started);
        }
        self.adopt_deferrals();
        let held_since = [self.queue.oldest_pass(), self.deferrals.oldest_pass()].into_iter().flatten().min();
        report.current_since = self.current_passes.advance(held_since);
        self.note_reported(context, &report, own_calls);
        let save = save || (was_held && report.current_since.is_some());
        let counts = if error.is_none() && self.is_idle(context) { Some(self.due_work.counts) } else { None };
        if let Err(save_error) = self.store_report(&mut report, counts, update, save).await {
            report.current_since = None;
            // The first error is the one that is reported.
            if error.is_none() {
                report.fail(save_error.outcome(), save_error.to_string());
                error = Some(save_error);
            }
        }
        report.count(&self.metrics);
        if error.is_none() {
            self.history_trim.trim(&self.writer, &self.shutdown, report.started.elapsed()).await;
        }
        (report, error)
    }

    /// `counts`: the numbers of accounts where they are known already.
    async fn store_report(
        &mut self,
        report: &mut PassReport,
        counts: Option<AccountCounts>,
        mut update: SyncUpdate,
        save: bool,
    ) -> Result<(), PassError> {
        if let Some(counts) = counts {
            self.counts = counts;
            self.set_gauges(counts);
            self.in_doubt_pending = self.due_work.in_doubt_pending;
        } else {
            let counts = self.update_gauges().await?;
            self.counts = counts;
            self.in_doubt_pending = counts.in_doubt > 0 && self.state.in_doubt_pending(self.writer.sync_id()).await?;
        }
        let guard_changed = self.guard.differs_from_stored();
        if !save && !guard_changed && !report.is_notable() {
            return Ok(());
        }
        update.current_seconds_ago = report.current_since.map(|moment| moment.elapsed().as_secs_f64());
        self.writer.update_sync(&update).await?;
        crash::point("pass: the watermark is stored");
        self.saves.note_row_saved();
        self.guard.note_stored();
        if guard_changed || report.is_notable() {
            self.writer.add_pass(&report.row).await?;
            crash::point("pass: added to the history");
        }
        Ok(())
    }

    /// Sets the gauges of the numbers that the state keeps. Returns these.
    pub(super) async fn update_gauges(&self) -> Result<AccountCounts, PassError> {
        let counts = self.state.account_counts(self.writer.sync_id()).await?;
        self.set_gauges(counts);
        Ok(counts)
    }

    fn set_gauges(&self, counts: AccountCounts) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.accounts.set(gauge(counts.known));
        self.metrics.in_doubt_accounts.set(gauge(counts.in_doubt));
        self.metrics.rejected_accounts.set(gauge(counts.rejected));
    }

    /// What the sync row stores: read position, removal guard and the reason for a full pass.
    pub(super) fn sync_update(&self) -> SyncUpdate {
        let mut update = SyncUpdate {
            guard: self.guard.document().cloned(),
            full_pass_due: self.full_passes.requested().map(str::to_owned),
            full_pass_request: self.full_passes.newest_request(),
            running_pass: self.full_under_way.as_ref().map(|progress| progress.running()),
            ..SyncUpdate::default()
        };
        self.read_position.write_to(&mut update);
        update
    }
}
