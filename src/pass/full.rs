//! The full pass: the whole table by account, then the stored accounts that the table no longer has.
//!
//! Owns: its steps, its position, and what its end means. Must not know: when it is due.
//! It runs in steps of a page each, so that incremental passes can go between them; it reads nothing ahead of a step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compare::{CompareOptions, RetryRejections};
use super::guard::PendingRemovals;
use super::queue::{PassContext, WaitResult};
use super::report::{PassProgress, PassReport};
use super::{Engine, PassError, PassOutcome, RemovalPolicy, watermark_fingerprint};
use crate::clock;
use crate::crash;
use crate::source::watermark::WatermarkTracker;

/// How a full pass is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullOptions {
    /// Send every attribute again.
    pub force: bool,
    /// Lift the removal guard for this pass.
    pub allow_removals: bool,
}

/// Where an interrupted full pass goes on: before the first row whose removal had to wait, so that the guard's count
/// begins anew. It serves only a pass with the same flags, mapping, watermark and reason, and not for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FullPassPosition {
    options: FullOptions,
    mapping: String,
    watermark: String,
    generation: i32,
    due: Option<String>,
    began_at: DateTime<Utc>,
    /// The account column's text of the last row that is recorded.
    after: String,
    done: u64,
}

/// A step waits no longer than this for what is in flight: an incremental pass may be due.
const STEP: Duration = Duration::from_millis(50);

/// What a step came to.
#[derive(Debug)]
pub enum FullPassStep {
    /// There is more to do.
    More,
    Done(Box<PassReport>, Option<PassError>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FullPassPhase {
    Table,
    Gone,
    PassOutcome,
}

/// A full pass under way.
#[derive(Debug)]
pub struct FullPass {
    options: FullOptions,
    context: Arc<PassContext>,
    phase: FullPassPhase,
    after: Option<String>,
    /// Ends of pages whose changes may still be in flight: the queue's sequence, the last account column text, rows compared.
    ahead: VecDeque<(u64, String, u64)>,
    /// Everything up to here is recorded.
    recorded: Option<(String, u64)>,
    gone_after: Option<String>,
    pending: PendingRemovals,
    /// How many reasons for a full pass it answers.
    answers: u64,
    /// The second walk, which removes in portions: too many had to be pending to remember them.
    again: bool,
    /// Accounts in which the walk found a difference, doubts and retries aside.
    differed: u64,
    /// Why it runs, and since when (the beginning of the first of its attempts).
    due: Option<String>,
    began_at: DateTime<Utc>,
    /// The guard as it stood at the beginning: only that one can this pass lift.
    guard: Option<Value>,
}

impl FullPass {
    pub fn progress(&self) -> &Arc<PassProgress> {
        &self.context.progress
    }

    fn compare_options(&self) -> CompareOptions {
        // On the second walk nothing is forced a second time.
        CompareOptions { force: self.options.force && !self.again, ..CompareOptions::default() }
    }

    /// Who lets this pass's removals go.
    fn consent(&self) -> RemovalPolicy {
        if self.options.allow_removals {
            RemovalPolicy::Given
        } else {
            RemovalPolicy::AsGuarded { retry: RetryRejections::None }
        }
    }
}

impl Engine {
    /// Begins a full pass, or goes on with an interrupted one of the same kind.
    pub async fn begin_full(
        &mut self,
        options: FullOptions,
        progress: Arc<PassProgress>,
    ) -> Result<FullPass, (PassReport, PassError)> {
        match self.try_begin_full(options, progress.clone()).await {
            Ok(full) => Ok(full),
            Err(error) => {
                let (report, error) = self.fail_to_start(&progress, error).await;
                Err((report, error.expect("a fail_to_start pass has an error")))
            }
        }
    }

    async fn try_begin_full(
        &mut self,
        options: FullOptions,
        progress: Arc<PassProgress>,
    ) -> Result<FullPass, PassError> {
        let context = self.begin_pass(progress).await?;
        if self.tracker.is_none() && self.source.has_watermark() {
            // The first watermark is stored before the first page: whatever commits from here on is read incrementally.
            let transactions = self.source.transactions().await?;
            let tracker = WatermarkTracker::begin(&transactions);
            let saved = serde_json::to_value(tracker.save()).unwrap_or_default();
            let why = self.full_due.get_or_insert_with(|| "the first pass of this sync".to_owned()).clone();
            self.full_position = None;
            crash::point("full: the first watermark is about to be stored");
            self.writer
                .save_watermark(&self.show(tracker.durable()), &saved, &watermark_fingerprint(&self.config), &why)
                .await?;
            self.tracker = Some(tracker);
            crash::point("full: the first watermark is stored");
        }
        let position =
            self.full_position.clone().and_then(|value| serde_json::from_value::<FullPassPosition>(value).ok());
        let position = position.filter(|position| self.serves(position, options));
        let total = self.source.estimated_rows().await?.unwrap_or(0);
        context.progress.total.store(total, std::sync::atomic::Ordering::Relaxed);
        let mut full = FullPass {
            options,
            context,
            phase: FullPassPhase::Table,
            after: None,
            ahead: VecDeque::new(),
            recorded: None,
            gone_after: None,
            pending: PendingRemovals::default(),
            answers: self.full_dues,
            again: false,
            differed: 0,
            due: self.full_due.clone(),
            began_at: clock::now_utc(),
            guard: self.guard.clone(),
        };
        if let Some(position) = position {
            tracing::info!(rows = position.done, "going on with the full pass that was interrupted");
            PassProgress::add(&full.context.progress.done, usize::try_from(position.done).unwrap_or(usize::MAX));
            full.began_at = position.began_at;
            full.recorded = Some((position.after.clone(), position.done));
            full.after = Some(position.after);
            full.context.progress.set_resumed();
        }
        Ok(full)
    }

    /// A stored position is one of the pass that is about to begin.
    fn serves(&self, position: &FullPassPosition, options: FullOptions) -> bool {
        let FullPassPosition { options: flags, mapping, watermark, generation, due, began_at, after: _, done: _ } =
            position;
        let age = (clock::now_utc() - *began_at).to_std().unwrap_or_default();
        *flags == options
            && mapping == self.comparer.mapping.fingerprint()
            && *watermark == watermark_fingerprint(&self.config)
            && *generation == self.writer.generation()
            && *due == self.full_due
            && self.config.schedule.full_every.is_none_or(|every| age < every)
    }

    /// One page further. After [`FullPassStep::Done`] the pass is over.
    pub async fn step_full(&mut self, full: &mut FullPass) -> FullPassStep {
        match self.try_step(full).await {
            Ok(Some(ending)) => {
                let (report, error) = self.end_full(full, Ok(ending)).await;
                FullPassStep::Done(report, error)
            }
            Ok(None) => FullPassStep::More,
            Err(error) => {
                // Nothing of this pass may be in flight when it ends; the first trouble is the one to tell of.
                let _ = self.queue.drain(&full.context).await;
                if !error.lease_lost() {
                    self.park_full(full).await;
                }
                let (report, error) = self.end_full(full, Err(error)).await;
                FullPassStep::Done(report, error)
            }
        }
    }

    async fn try_step(&mut self, full: &mut FullPass) -> Result<Option<PassOutcome>, PassError> {
        full.context.check()?;
        if self.shutdown.requested() {
            return Err(PassError::Stop(crate::push::StopReason::Shutdown));
        }
        if full.phase != FullPassPhase::PassOutcome && !self.queue.wait_for_capacity_within(STEP).await {
            self.note_position(full);
            return Ok(None);
        }
        match full.phase {
            FullPassPhase::Table => {
                let page = self.source.all_after(full.after.as_deref()).await?;
                PassProgress::add(&full.context.progress.done, page.rows.len());
                let last = page.rows.iter().rev().find_map(|row| row.account.clone());
                let mut pending = std::mem::take(&mut full.pending);
                let (context, options) = (full.context.clone(), full.compare_options());
                let done = self.page(&context, page.rows, Vec::new(), options, &mut pending).await;
                full.pending = pending;
                done?;
                self.portion(full).await?;
                if let Some(last) = last {
                    if full.pending.count() == 0 && !full.again {
                        let done = PassProgress::get(&full.context.progress.done);
                        full.ahead.push_back((self.queue.sequence(), last.to_string(), done));
                    }
                    full.after = Some(last.into());
                }
                self.note_position(full);
                let position = self.position(full);
                self.save_progress(&full.context.progress, position, true).await?;
                crash::point("full: a page of the table is done");
                if page.last {
                    crash::point("full: the table is walked");
                    full.phase = FullPassPhase::Gone;
                    full.context.progress.set_phase("looking for accounts that are gone");
                }
                Ok(None)
            }
            FullPassPhase::Gone => {
                let sync_id = self.writer.sync_id();
                let accounts = self.state.accounts_after(sync_id, full.gone_after.as_deref(), self.page_size()).await?;
                let Some(last) = accounts.last() else {
                    crash::point("full: the gone are walked");
                    full.phase = FullPassPhase::PassOutcome;
                    return Ok(None);
                };
                full.gone_after = Some(last.as_str().to_owned());
                let rows = self.source.rows_of(&accounts).await?;
                let found = self.accounts_of(&rows);
                // Rows that are marked as gone were met in the walk over the table.
                let missing: Vec<_> = accounts.into_iter().filter(|account| !found.contains(account)).collect();
                let mut pending = std::mem::take(&mut full.pending);
                let (context, options) = (full.context.clone(), full.compare_options());
                let done = self.page(&context, Vec::new(), missing, options, &mut pending).await;
                full.pending = pending;
                done?;
                self.portion(full).await?;
                self.save_progress(&full.context.progress, None, true).await?;
                crash::point("full: a page of the gone is done");
                Ok(None)
            }
            FullPassPhase::PassOutcome => {
                let context = full.context.clone();
                // In small steps: incremental passes go between them, and the position moves on.
                match self.queue.wait_for_completion(&context, STEP).await {
                    WaitResult::NothingInFlight => {}
                    WaitResult::NotYet => return Ok(None),
                    WaitResult::Completed => {
                        self.note_position(full);
                        let position = self.position(full);
                        self.save_progress(&context.progress, position, true).await?;
                        crash::point("full: a delivery has completed");
                        return Ok(None);
                    }
                }
                self.queue.drain(&context).await?;
                let mut pending = std::mem::take(&mut full.pending);
                if !full.again {
                    full.differed = PassProgress::get(&context.progress.changed);
                    self.doubts(&context, &mut pending).await?;
                    self.set_guard_aside(full);
                }
                let too_many = self.removals(&context, &mut pending, full.consent()).await;
                full.pending = pending;
                if too_many? {
                    full.again = true;
                    full.phase = FullPassPhase::Table;
                    full.after = None;
                    full.gone_after = None;
                    return Ok(None);
                }
                self.last_steps(full).await.map(Some)
            }
        }
    }

    /// A guard that stood at the pass's beginning is out of the way for the count: this pass has looked at everything, so
    /// it trips it anew or has lifted it.
    fn set_guard_aside(&mut self, full: &FullPass) {
        if full.options.allow_removals || self.guard == full.guard {
            self.guard = None;
        }
    }

    /// On the second walk: what is pending so far goes, once it is enough for a portion.
    async fn portion(&mut self, full: &mut FullPass) -> Result<(), PassError> {
        if full.pending.portion_is_full() {
            let context = full.context.clone();
            let mut pending = std::mem::take(&mut full.pending);
            let done = self.removals(&context, &mut pending, full.consent()).await;
            full.pending = pending;
            done?;
        }
        Ok(())
    }

    async fn last_steps(&mut self, full: &mut FullPass) -> Result<PassOutcome, PassError> {
        let context = full.context.clone();
        if full.options.allow_removals {
            // Before the retries, which the guard judges as always.
            self.writer.forget_removals().await?;
        }
        self.rejections_due(&context, &mut PendingRemovals::default()).await?;
        context.answered()?;
        if full.guard.is_some() && self.guard.is_none() {
            tracing::info!("the removal guard is lifted");
        }
        self.ending(None).await
    }

    /// Moves the position to the end of the last page before which everything is recorded.
    fn note_position(&mut self, full: &mut FullPass) {
        self.queue.note_completed();
        // A pass in trouble may have completed without having recorded.
        if full.again || full.context.check().is_err() {
            return;
        }
        let before = full.ahead.len();
        while full.ahead.front().is_some_and(|(sequence, ..)| self.queue.completed_before(*sequence)) {
            full.recorded = full.ahead.pop_front().map(|(_, after, done)| (after, done));
        }
        if full.ahead.len() < before {
            full.context.progress.note_recorded();
        }
    }

    /// The position as it is stored, once there is one.
    fn position(&self, full: &FullPass) -> Option<Value> {
        let (after, done) = full.recorded.clone()?;
        serde_json::to_value(FullPassPosition {
            options: full.options,
            mapping: self.comparer.mapping.fingerprint().to_owned(),
            watermark: watermark_fingerprint(&self.config),
            generation: self.writer.generation(),
            due: full.due.clone(),
            began_at: full.began_at,
            after,
            done,
        })
        .ok()
    }

    /// Ends a full pass before its end: calls in flight finish and are recorded, no new one starts, and the next pass of
    /// its kind goes on from its position.
    pub async fn interrupt_full(&mut self, full: &mut FullPass) -> (Box<PassReport>, Option<PassError>) {
        full.context.session.halt();
        let _ = self.queue.drain(&full.context).await;
        self.park_full(full).await;
        self.end_full(full, Err(PassError::Stop(crate::push::StopReason::Shutdown))).await
    }

    /// Leaves a full pass where it is: the next one of its kind goes on there.
    async fn park_full(&mut self, full: &mut FullPass) {
        self.note_position(full);
        if self.full_dues != full.answers {
            return;
        }
        let position = self.position(full);
        if position.is_some() {
            // A position that cannot be stored costs comparisons, nothing else.
            let _ = self.writer.save_progress(position.as_ref(), None).await;
            self.full_position = position;
        }
    }

    async fn end_full(
        &mut self,
        full: &mut FullPass,
        result: Result<PassOutcome, PassError>,
    ) -> (Box<PassReport>, Option<PassError>) {
        let complete = result.is_ok();
        if !complete && self.guard.is_none() {
            // Lifted only by a pass that went through.
            self.guard.clone_from(&full.guard);
        }
        if complete {
            if self.settled && !full.options.force {
                // What the guard still holds back is as wrong as before.
                let repaired = full.differed.saturating_sub(full.pending.count());
                PassProgress::add(&full.context.progress.repaired, usize::try_from(repaired).unwrap_or(usize::MAX));
            }
            self.settled = true;
            if self.full_dues == full.answers {
                self.full_due = None;
            }
            self.full_ended = Some(clock::monotonic());
            self.full_position = None;
        }
        let mut update = self.watermark_update();
        update.full_pass_ended = complete;
        if complete {
            update.mapping_fingerprint = Some(self.comparer.mapping.fingerprint().to_owned());
        }
        let context = full.context.clone();
        let (report, error) = self.finish(&context, result, update, true).await;
        (Box::new(report), error)
    }

    /// A full pass from begin to end.
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
}
