//! The incremental pass: rows changed since the watermark.
//!
//! Owns: its steps and what its completion means for the watermark. Must not know: the arithmetic of started_after.

use std::sync::Arc;
use std::time::Duration;

use super::flow::Course;
use super::guard::Withheld;
use super::report::{Report, Tally};
use super::view::{Glance, Retry};
use super::{Consent, Ending, Engine, IDLE_SAVE, PassError};
use crate::clock;
use crate::crash;
use crate::source::{Cursor, WatermarkBound};

const GUARDED: Consent = Consent::AsGuarded { retry: Retry::None };

impl Engine {
    /// One incremental pass. Without a watermark column every pass compares the whole table.
    pub async fn incremental(&mut self, tally: Arc<Tally>) -> (Report, Option<PassError>) {
        let course = match self.begin_with(tally.clone()).await {
            Ok(begun) => begun,
            Err(error) => return self.stillborn(&tally, error).await,
        };
        let dues = self.full_dues;
        let result = self.incremental_steps(&course).await;
        // Whatever happened, nothing of this pass may be in flight when it ends.
        let drained = self.flow.drain(&course).await;
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
            || course.tally.recorded() > 0
            || self.full_dues > dues;
        self.finish(&course, result, update, save).await
    }

    async fn incremental_steps(&mut self, course: &Arc<Course>) -> Result<Ending, PassError> {
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
        let mut withheld = Withheld::default();
        self.walk_changes(course, from, Glance::default(), &mut withheld).await?;
        self.flow.drain(course).await?;
        self.doubts(course, &mut withheld).await?;
        if self.removals(course, &mut withheld, GUARDED).await? {
            self.walk_changes(course, from, Glance::default(), &mut withheld).await?;
            self.flow.drain(course).await?;
            self.removals(course, &mut withheld, GUARDED).await?;
        }
        self.rejections_due(course, &mut Withheld::default()).await?;
        course.answered()?;
        self.ending(None).await
    }

    async fn walk_changes(
        &mut self,
        course: &Arc<Course>,
        from: WatermarkBound,
        glance: Glance,
        withheld: &mut Withheld,
    ) -> Result<(), PassError> {
        let mut cursor: Option<Cursor> = None;
        loop {
            self.flow.room().await;
            let page = self.source.changed_since(from, cursor.as_ref()).await?;
            cursor = page.cursor();
            Tally::add(&course.tally.done, page.rows.len());
            let rows = if self.source.account_is_unique() {
                page.rows
            } else {
                // Another row of an account may lie outside the range: only a look at all of them decides.
                let accounts: Vec<_> = self.accounts_of(&page.rows).into_iter().collect();
                self.source.rows_of(&accounts).await?
            };
            self.page(course, rows, Vec::new(), glance, withheld).await?;
            if withheld.portion_is_full() {
                self.removals(course, withheld, GUARDED).await?;
            }
            self.save_progress(&course.tally, None, course.tally.recorded() > 0).await?;
            if page.last {
                return Ok(());
            }
        }
    }

    /// What `status` shows of the pass under way, at most once a second, and only of passes that record something.
    pub(super) async fn save_progress(
        &mut self,
        tally: &Tally,
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
        self.writer.save_progress(position.as_ref(), Some(&tally.running())).await?;
        if position.is_some() {
            crash::point("full: the position is stored");
        }
        self.progress_saved_at = Some(clock::monotonic());
        Ok(())
    }

    /// The pass could not even begin.
    pub(super) async fn stillborn(&mut self, tally: &Tally, error: PassError) -> (Report, Option<PassError>) {
        let report = tally.report(error.ending(), Some(error.to_string()));
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
