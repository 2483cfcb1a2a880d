//! The steps of a full pass.
//!
//! Owns: what one step does, and how the position moves on. Must not know: when a full pass is due, what its end means.
//! A step reads at most one page, so that incremental passes can run between steps. Nothing is read ahead of a step.

use std::time::Duration;

use super::delivery_queue::WaitResult;
use super::engine::Engine;
use super::error::PassError;
use super::full::{FullPass, FullPassPhase, FullPassStep};
use super::gone_search::GoneStep;
use super::page_diff::CompareOptions;
use super::pages::ReadPage;
use super::progress::{PassPhase, PassProgress};
use super::recorded_pages::PageEnd;
use super::report::PassOutcome;
use crate::crash;

/// A step waits at most this long for deliveries, because an incremental pass may be due.
const STEP_WAIT: Duration = Duration::from_millis(50);

impl Engine {
    /// Takes one step. After [`FullPassStep::Done`] the pass is over.
    pub async fn step_full(&mut self, full: &mut FullPass) -> FullPassStep {
        let result = match self.try_step(full).await {
            Ok(None) => return FullPassStep::More,
            Ok(Some(outcome)) => Ok(outcome),
            Err(error) => {
                // Nothing of this pass may be in flight when it ends. The first error is the one that is reported.
                let _ = self.settle(&full.context).await;
                if !error.lease_lost() {
                    self.keep_position(full).await;
                }
                Err(error)
            }
        };
        let (report, error) = self.end_full(full, result).await;
        FullPassStep::Done(report, error)
    }

    async fn try_step(&mut self, full: &mut FullPass) -> Result<Option<PassOutcome>, PassError> {
        full.context.check()?;
        self.check_shutdown()?;
        if full.phase != FullPassPhase::FollowUp && !self.queue.wait_for_capacity_within(STEP_WAIT).await {
            self.save_position_while_waiting(full).await?;
            return Ok(None);
        }
        match full.phase {
            FullPassPhase::WholeTable => self.step_table(full).await.map(|()| None),
            FullPassPhase::GoneAccounts => self.step_gone(full).await.map(|()| None),
            FullPassPhase::FollowUp => self.step_follow_up(full).await,
        }
    }

    async fn step_table(&mut self, full: &mut FullPass) -> Result<(), PassError> {
        let page = full.table.next(&mut self.reader).await?.unwrap_or_else(ReadPage::empty_last);
        PassProgress::add(&full.context.progress.done, page.scanned);
        let (end, is_last) = (page.end.clone(), page.is_last);
        let options = full.table.compare_options(full.key.options.force);
        let options = CompareOptions { counts_repairs: true, ..options };
        let compared = self.compare_and_enqueue_page(&full.context, page, options).await?;
        full.present += compared.present as u64;
        full.owed += compared.owed.len() as u64;
        if let Some(after) = end {
            let done = PassProgress::get(&full.context.progress.done);
            full.pages.add(self.queue.sequence(), PageEnd { after, done });
        }
        self.save_position(full).await?;
        crash::point("full: a page of the table is done");
        if is_last {
            crash::point("full: the table is read");
            full.phase = FullPassPhase::GoneAccounts;
            full.context.progress.set_phase(PassPhase::FindingGoneAccounts);
        }
        Ok(())
    }

    async fn step_gone(&mut self, full: &mut FullPass) -> Result<(), PassError> {
        let page = match full.gone.step(&mut self.reader, &self.met).await? {
            GoneStep::LookedUp(page) => page,
            GoneStep::More => return self.save_progress(&full.context.progress, None, true).await.map(|_| ()),
            GoneStep::End => {
                crash::point("full: the gone accounts are read");
                full.phase = FullPassPhase::FollowUp;
                return Ok(());
            }
        };
        let options = CompareOptions { force: full.key.options.force, ..CompareOptions::default() };
        let compared = self.compare_and_enqueue_page(&full.context, page, options).await?;
        full.owed += compared.owed.len() as u64;
        full.gone_with_values += compared.owed.len() as u64;
        self.save_progress(&full.context.progress, None, true).await?;
        crash::point("full: a page of gone accounts is done");
        Ok(())
    }

    /// Waits in small steps, so that incremental passes run between them and the position moves on.
    async fn step_follow_up(&mut self, full: &mut FullPass) -> Result<Option<PassOutcome>, PassError> {
        match self.queue.wait_for_completion(&full.context, STEP_WAIT).await {
            WaitResult::NothingInFlight => {}
            WaitResult::TimedOut => {
                self.save_position_while_waiting(full).await?;
                return Ok(None);
            }
            WaitResult::Completed => {
                self.save_position(full).await?;
                crash::point("full: a delivery has completed");
                return Ok(None);
            }
        }
        if !full.context.is_beside_incremental_passes {
            // Else the incremental passes look them up.
            self.settle_with_deferred(&full.context, full.key.options.force).await?;
        }
        let policy = full.removal_policy();
        self.resend_in_doubt(&full.context, &mut full.in_doubt).await?;
        self.send_removals(&full.context, policy).await?;
        self.step_last(full).await.map(Some)
    }

    async fn step_last(&mut self, full: &mut FullPass) -> Result<PassOutcome, PassError> {
        if full.key.options.allow_removals {
            // Before the retries, whose removals the guard judges as usual.
            self.writer.count_removals_from_now().await?;
            if self.guard.is_tripped() {
                self.guard.lift();
                tracing::info!("the removal guard is lifted");
            }
        }
        self.retry_rejections(&full.context).await?;
        self.settle(&full.context).await?;
        full.context.check_im_answered()?;
        // In another order of the accounts, rows may have been skipped.
        self.reader.source.ensure_unchanged().await?;
        self.complete_outcome(&full.context, None).await
    }

    /// Advances the position and stores it with the progress, at most once a second.
    async fn save_position(&mut self, full: &mut FullPass) -> Result<(), PassError> {
        self.advance_position(full);
        self.store_position(full).await
    }

    /// The same for a step that only waits, if the position has moved on: one slow call must not keep the position of
    /// everything before it out of the state.
    async fn save_position_while_waiting(&mut self, full: &mut FullPass) -> Result<(), PassError> {
        self.advance_position(full);
        if full.pages.has_unsaved() { self.store_position(full).await } else { Ok(()) }
    }

    async fn store_position(&mut self, full: &mut FullPass) -> Result<(), PassError> {
        if self.save_progress(&full.context.progress, full.position(), true).await? {
            full.pages.note_saved();
        }
        Ok(())
    }

    /// Moves the position to the end of the last page up to which everything is recorded.
    pub(super) fn advance_position(&mut self, full: &mut FullPass) {
        self.queue.note_completed();
        // Deliveries of a failed pass may have completed without having recorded anything.
        if full.context.check().is_err() {
            return;
        }
        if full.pages.advance(|sequence| self.queue.completed_before(sequence)) {
            full.context.progress.note_recorded();
        }
    }
}
