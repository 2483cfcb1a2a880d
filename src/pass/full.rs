//! The full pass: the whole table by account, then the stored accounts that the table no longer has.
//!
//! Owns: how it begins, where it resumes, and what its end means. Must not know: when it is due, its single steps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::full_pass_schedule::{FulfilledRequests, FullOptions, FullPassKey, FullPassPosition};
use super::gone_search::GoneSearch;
use super::guard::GuardScope;
use super::page_diff::RetryRejections;
use super::pages::PageScan;
use super::progress::PassProgress;
use super::recorded_pages::{PageEnd, RecordedPages};
use super::removals::RemovalPolicy;
use super::report::{PassOutcome, PassReport};
use crate::clock;
use crate::crash;
use crate::push::StopReason;
use crate::source::watermark::WatermarkTracker;

/// The step that a full pass takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FullPassPhase {
    /// Read and compare a page of the table.
    WholeTable,
    /// Find stored accounts that are gone: read some of them, or look up a page.
    GoneAccounts,
    /// Wait until everything is recorded, then send accounts in doubt, removals and retries.
    FollowUp,
}

/// The result of one step of a full pass.
#[derive(Debug)]
pub enum FullPassStep {
    /// There is more to do.
    More,
    /// The pass is over.
    Done(Box<PassReport>, Option<PassError>),
}

/// A full pass under way.
#[derive(Debug)]
pub struct FullPass {
    pub(super) key: FullPassKey,
    pub(super) context: Arc<DeliveryContext>,
    pub(super) phase: FullPassPhase,
    pub(super) table: PageScan,
    pub(super) gone: GoneSearch,
    pub(super) in_doubt: PageScan,
    pub(super) pages: RecordedPages,
    /// Accounts of which IM holds a value and that have no row any more.
    pub(super) gone_with_values: u64,
    /// Accounts of the table that are not gone.
    pub(super) present: u64,
    /// Accounts that owe a removal.
    pub(super) owed: u64,
    fulfilled: FulfilledRequests,
    /// When the first attempt of the pass began.
    began_at: DateTime<Utc>,
}

impl FullPass {
    /// What the pass has done so far.
    pub fn progress(&self) -> &Arc<PassProgress> {
        &self.context.progress
    }

    /// Who decides about removals at the end of this pass.
    pub(super) fn removal_policy(&self) -> RemovalPolicy {
        if self.key.options.allow_removals {
            RemovalPolicy::AllowAll
        } else {
            let forced_rows = if self.key.options.force { self.present } else { 0 };
            let scope = GuardScope::WholeTable { forced_rows };
            RemovalPolicy::Guarded { scope, retry: RetryRejections::None }
        }
    }

    /// The position as it is stored, once there is one.
    pub(super) fn position(&self) -> Option<Value> {
        let PageEnd { after, done } = self.pages.recorded()?.clone();
        let position = FullPassPosition {
            key: self.key.clone(),
            request: self.fulfilled.newest,
            began_at: self.began_at,
            after,
            done,
        };
        serde_json::to_value(position).ok()
    }
}

impl Engine {
    /// Begins a full pass, or resumes an interrupted one with the same options.
    pub async fn begin_full(
        &mut self,
        options: FullOptions,
        progress: Arc<PassProgress>,
    ) -> Result<FullPass, (PassReport, PassError)> {
        match self.try_begin_full(options, progress.clone()).await {
            Ok(full) => {
                self.full_under_way = Some(progress);
                Ok(full)
            }
            Err(error) => Err(self.fail_to_start(&progress, error).await),
        }
    }

    async fn try_begin_full(
        &mut self,
        options: FullOptions,
        progress: Arc<PassProgress>,
    ) -> Result<FullPass, PassError> {
        let context = self.begin_pass(progress).await?;
        if self.read_position.is_missing() {
            self.store_first_position().await?;
        }
        let key = FullPassKey {
            options,
            mapping: self.comparer.mapping.fingerprint().to_owned(),
            watermark: self.read_position.fingerprint().to_owned(),
            generation: self.writer.generation(),
            removals_are_stored: true,
        };
        let position = self.full_passes.resume_position(&key);
        let total = self.reader.source.estimated_rows().await.unwrap_or(0);
        context.progress.total.store(total, Ordering::Relaxed);
        let (mut began_at, mut after, mut pages) = (clock::now_utc(), None, RecordedPages::default());
        if let Some(position) = position {
            tracing::info!(rows = position.done, "resuming the interrupted full pass");
            PassProgress::add(&context.progress.done, usize::try_from(position.done).unwrap_or(usize::MAX));
            context.progress.set_resumed();
            began_at = position.began_at;
            after = Some(position.after.clone());
            pages = RecordedPages::resumed_at(PageEnd { after: position.after, done: position.done });
        }
        let counts = self.full_passes.finds_repairs() && !options.force && self.read_position.is_known();
        self.repairs.begin(counts, began_at);
        let is_resumed = after.is_some();
        let [table, gone, in_doubt, _] = PageScan::full(after);
        // A resumed pass has not met what the earlier attempt has read.
        let gone = if is_resumed {
            GoneSearch::of_resumed_pass(gone)
        } else {
            GoneSearch::of_whole_pass(self.met.begin(context.pass))
        };
        Ok(FullPass {
            key,
            context,
            phase: FullPassPhase::WholeTable,
            table,
            gone,
            in_doubt,
            pages,
            gone_with_values: 0,
            present: 0,
            owed: 0,
            fulfilled: self.full_passes.fulfilled_by_pass_from_now(),
            began_at,
        })
    }

    /// Stores the first read position before the first page is read, so that incremental passes read whatever commits
    /// from here on.
    async fn store_first_position(&mut self) -> Result<(), PassError> {
        let transactions = self.reader.source.transactions().await?;
        let tracker = WatermarkTracker::begin(&transactions);
        let saved = serde_json::to_value(tracker.save()).unwrap_or_default();
        let shown = self.read_position.text_of(tracker.watermark());
        let request = self.full_passes.start_from_first_row();
        crash::point("full: the first watermark is about to be stored");
        self.writer.save_watermark(&shown, &saved, self.read_position.fingerprint(), &request).await?;
        self.read_position.set(tracker);
        crash::point("full: the first watermark is stored");
        Ok(())
    }

    /// Runs a full pass from begin to end.
    pub async fn full(&mut self, options: FullOptions, progress: Arc<PassProgress>) -> (PassReport, Option<PassError>) {
        let mut full = match self.begin_full(options, progress).await {
            Ok(full) => full,
            Err((report, error)) => return (report, Some(error)),
        };
        loop {
            if let FullPassStep::Done(report, error) = self.step_full(&mut full).await {
                return (*report, error);
            }
        }
    }

    /// Interrupts a full pass. Calls in flight end and are recorded, no new one starts, and the next full pass with the
    /// same options resumes at its position.
    pub async fn interrupt_full(&mut self, full: &mut FullPass) -> (Box<PassReport>, Option<PassError>) {
        full.context.session.halt();
        let _ = self.settle(&full.context).await;
        self.keep_position(full).await;
        self.end_full(full, Err(PassError::Stop(StopReason::Shutdown))).await
    }

    /// Keeps the position of a full pass that does not complete, unless a later request needs a pass from the first row.
    pub(super) async fn keep_position(&mut self, full: &mut FullPass) {
        self.advance_position(full);
        if self.full_passes.requested_since(full.fulfilled) {
            return;
        }
        if let Some(position) = full.position() {
            // A position that cannot be stored costs comparisons and nothing else.
            let _ = self.writer.save_progress(Some(&position), None).await;
            self.full_passes.keep_position(position);
        }
    }

    pub(super) async fn end_full(
        &mut self,
        full: &mut FullPass,
        result: Result<PassOutcome, PassError>,
    ) -> (Box<PassReport>, Option<PassError>) {
        let result = match result {
            Ok(outcome) => self.end_deferrals(&full.context).await.map(|()| outcome),
            Err(error) => Err(error),
        };
        let is_complete = result.is_ok();
        if is_complete {
            if self.repairs.counts() {
                // Removals that the guard holds back are not repaired.
                let gone = if self.guard.is_tripped() { 0 } else { full.gone_with_values };
                let repaired = self.repairs.found().repaired + gone;
                PassProgress::add(&full.context.progress.repaired, usize::try_from(repaired).unwrap_or(usize::MAX));
            }
            self.log_repairs();
            self.full_passes.note_completed(full.fulfilled);
        } else {
            self.deferrals.forget_look_ups(full.context.pass);
        }
        self.full_under_way = None;
        self.met.end();
        let mut update = self.sync_update();
        update.full_pass_ended = is_complete;
        // A pass that did not count leaves what the last one has found.
        update.full_pass_repairs =
            if self.repairs.counts() { serde_json::to_value(self.repairs.found()).ok() } else { None };
        if is_complete {
            update.mapping_fingerprint = Some(self.comparer.mapping.fingerprint().to_owned());
        }
        let (report, error) = self.finish(&full.context, result, update, true).await;
        (Box::new(report), error)
    }
}
