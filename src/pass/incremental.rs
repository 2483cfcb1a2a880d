//! The incremental pass: rows changed since the watermark.
//!
//! Owns: its steps and what its completion means for the watermark. Must not know: the arithmetic of started_after.

use std::sync::Arc;
use std::time::Duration;

use super::compare::{CompareOptions, RetryRejections};
use super::guard::PendingRemovals;
use super::queue::PassContext;
use super::report::{PassProgress, PassReport};
use super::{Engine, IDLE_SAVE, PassError, PassOutcome, RemovalPolicy};
use crate::clock;
use crate::crash;
use crate::source::{Cursor, WatermarkBound};

const GUARDED: RemovalPolicy = RemovalPolicy::AsGuarded { retry: RetryRejections::None };

impl Engine {
    /// One incremental pass. Without a watermark column every pass compares the whole table.
    pub async fn incremental(&mut self, progress: Arc<PassProgress>) -> (PassReport, Option<PassError>) {
        let context = match self.begin_pass(progress.clone()).await {
            Ok(begun) => begun,
            Err(error) => return self.fail_to_start(&progress, error).await,
        };
        let dues = self.full_dues;
        let result = self.incremental_steps(&context).await;
        // Whatever happened, nothing of this pass may be in flight when it ends.
        let drained = self.queue.drain(&context).await;
        let result = result.and_then(|ending| drained.map(|()| ending));
        let complete = result.is_ok();
        if complete && let Some(tracker) = &mut self.tracker {
            tracker.complete();
        }
        self.show_watermark();
        // Before the tracker is saved: note and reason are stored together, or neither is.
        self.note_first_list_cleared();
        let update = self.watermark_update();
        let save = self.saved_at.is_none_or(|saved| saved.elapsed() >= IDLE_SAVE)
            || context.progress.recorded() > 0
            || self.full_dues > dues;
        self.finish(&context, result, update, save).await
    }

    async fn incremental_steps(&mut self, context: &Arc<PassContext>) -> Result<PassOutcome, PassError> {
        let transactions = self.source.transactions().await?;
        let Some(tracker) = &mut self.tracker else {
            // The daemon runs full passes until there is a watermark; without a watermark column it runs nothing else.
            return Err(PassError::NoWatermark);
        };
        tracker.observe(&transactions);
        crash::point("transaction list: read");
        let from = tracker.read_from();
        let back = tracker.stepped_back();
        if let Some((before, after)) = tracker.jumped() {
            tracing::warn!(
                before,
                after,
                "the watermark column's largest value jumped: rows that get a smaller one from now on are found by the next full pass only"
            );
        }
        if tracker.fell() {
            let value = self.show(transactions.candidate);
            self.ask_for_full(&format!("the largest value of the watermark column fell to {value}"));
        }
        if let Some(micros) = back {
            tracing::warn!(
                seconds = Duration::from_micros(micros.unsigned_abs()).as_secs_f64(),
                "the database clock went back: rows dated since then are read again"
            );
            // At once: another process could not tell any more.
            let update = self.watermark_update();
            self.writer.update_sync(&update).await?;
        }
        let mut pending = PendingRemovals::default();
        self.walk_changes(context, from, CompareOptions::default(), &mut pending).await?;
        self.queue.drain(context).await?;
        self.doubts(context, &mut pending).await?;
        if self.removals(context, &mut pending, GUARDED).await? {
            self.walk_changes(context, from, CompareOptions::default(), &mut pending).await?;
            self.queue.drain(context).await?;
            self.removals(context, &mut pending, GUARDED).await?;
        }
        self.rejections_due(context, &mut PendingRemovals::default()).await?;
        context.answered()?;
        self.ending(None).await
    }

    async fn walk_changes(
        &mut self,
        context: &Arc<PassContext>,
        from: WatermarkBound,
        options: CompareOptions,
        pending: &mut PendingRemovals,
    ) -> Result<(), PassError> {
        let mut cursor: Option<Cursor> = None;
        loop {
            self.queue.wait_for_capacity().await;
            let page = self.source.changed_since(from, cursor.as_ref()).await?;
            cursor = page.cursor();
            PassProgress::add(&context.progress.done, page.rows.len());
            let rows = if self.source.account_is_unique() {
                page.rows
            } else {
                // Another row of an account may lie outside the range: only a compare_page at all of them decides.
                let accounts: Vec<_> = self.accounts_of(&page.rows).into_iter().collect();
                self.source.rows_of(&accounts).await?
            };
            self.page(context, rows, Vec::new(), options, pending).await?;
            if pending.portion_is_full() {
                self.removals(context, pending, GUARDED).await?;
            }
            self.save_progress(&context.progress, None, context.progress.recorded() > 0).await?;
            if page.last {
                return Ok(());
            }
        }
    }

    /// What `status` shows of the pass under way, at most once a second, and only of passes that record something.
    pub(super) async fn save_progress(
        &mut self,
        progress: &PassProgress,
        position: Option<serde_json::Value>,
        worth_it: bool,
    ) -> Result<(), PassError> {
        let recently = self.progress_saved_at.is_some_and(|saved| saved.elapsed() < super::PROGRESS_SAVE);
        if recently || !worth_it {
            return Ok(());
        }
        if position.is_some() {
            crash::point("full: the position is about to be stored");
        }
        self.writer.save_progress(position.as_ref(), Some(&progress.running())).await?;
        if position.is_some() {
            crash::point("full: the position is stored");
        }
        self.progress_saved_at = Some(clock::monotonic());
        Ok(())
    }

    /// The pass could not even begin.
    pub(super) async fn fail_to_start(
        &mut self,
        progress: &PassProgress,
        error: PassError,
    ) -> (PassReport, Option<PassError>) {
        let report = progress.report(error.ending(), Some(error.to_string()));
        if !error.lease_lost() {
            // The state may be what is unreachable: then the log line has to do.
            let _ = self.writer.add_pass(&report.row).await;
        }
        report.count(&self.metrics);
        (report, Some(error))
    }

    /// The last transaction that was open when this sync began has ended: what it wrote may be older than anything read
    /// since. Takes the place of another reason: a full pass under way for that one does not count (see `FullPass::answers`).
    fn note_first_list_cleared(&mut self) {
        let Some(tracker) = &mut self.tracker else { return };
        if tracker.first_list_cleared() {
            tracker.note_first_list_cleared();
            self.ask_for_full("the transactions open when this sync began have ended");
        }
    }
}
