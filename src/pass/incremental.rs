//! The incremental pass: rows changed since the read position.
//!
//! Owns: its steps, and what its completion means for the read position. Must not know: the arithmetic of the watermark.

use std::sync::Arc;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::full_pass_schedule::COUNTER_FELL;
use super::pages::PageScan;
use super::progress::PassProgress;
use super::removals::RemovalPolicy;
use super::report::{PassOutcome, PassReport};
use super::slow_calls::SlowCalls;
use crate::crash;
use crate::source::{TransactionList, WatermarkPoint};

impl Engine {
    /// Runs one incremental pass. Fails if there is no read position yet, see [`Engine::has_watermark`].
    ///
    /// `transactions`: a transaction list that was taken since the pass began.
    pub async fn incremental(
        &mut self,
        progress: Arc<PassProgress>,
        transactions: Option<TransactionList>,
    ) -> (PassReport, Option<PassError>) {
        let context = match self.begin_pass(progress.clone()).await {
            Ok(begun) => begun,
            Err(error) => {
                let (report, error) = self.fail_to_start(&progress, error).await;
                return (report, Some(error));
            }
        };
        let newest_request = self.full_passes.newest_request();
        let result = self.incremental_steps(&context, transactions).await;
        // After an error too: a pass that has failed leaves nothing behind without an intent.
        let settled = self.settle(&context).await;
        let mut result = result.and_then(|outcome| settled.map(|()| outcome));
        if result.is_ok() {
            result = self.end_deferrals(&context).await.and(result);
        }
        if result.is_ok() {
            self.read_position.complete();
        } else {
            self.deferrals.forget_look_ups(context.pass);
        }
        self.read_position.show(&self.metrics);
        // Before the position is stored: the request and the cleared list are stored together. The request replaces an
        // earlier reason, and a full pass that is under way does not fulfil it: what the ended transactions wrote may be
        // older than anything read since.
        if self.read_position.take_first_list_cleared() {
            self.full_passes.request("the transactions open when this sync began have ended");
        }
        let save = self.saves.idle_save_is_due()
            || context.progress.recorded() > 0
            || self.full_passes.newest_request() > newest_request;
        let update = self.sync_update();
        self.finish(&context, result, update, save).await
    }

    async fn incremental_steps(
        &mut self,
        context: &Arc<DeliveryContext>,
        transactions: Option<TransactionList>,
    ) -> Result<PassOutcome, PassError> {
        let transactions = match transactions {
            Some(transactions) => transactions,
            None => self.reader.source.transactions().await?,
        };
        let from = self.observe(&transactions).await?;
        let [mut changed, _, _, mut in_doubt, _] = PageScan::incremental(from);
        self.enqueue_changes(context, &mut changed).await?;
        self.enqueue_outlying(context).await?;
        self.settle_with_deferred(context, false).await?;
        self.resend_in_doubt(context, &mut in_doubt).await?;
        self.send_removals(context, RemovalPolicy::GUARDED).await?;
        self.retry_rejections(context).await?;
        self.settle(context).await?;
        context.check_im_answered()?;
        // The position may only rise over rows of the table for which it was stored.
        self.reader.source.ensure_reads_unchanged().await?;
        self.complete_outcome(context, None).await
    }

    /// Takes in the transaction list of the pass, and returns from where the pass reads.
    async fn observe(&mut self, transactions: &TransactionList) -> Result<WatermarkPoint, PassError> {
        // The daemon runs full passes until there is a position. Without a watermark column it runs nothing else.
        let start = self.read_position.observe(transactions).ok_or(PassError::NoWatermark)?;
        crash::point("transaction list: read");
        if let Some((before, after)) = start.jumped {
            tracing::warn!(
                before,
                after,
                "the watermark column's largest value jumped: rows that get a smaller one from now on are found by the next full pass only"
            );
        }
        if let Some(value) = start.fell_to {
            let why = format!("{COUNTER_FELL} to {value}");
            if self.full_passes.request_after_fall(&why) {
                self.read_position.acknowledge_fall();
            }
        }
        if let Some(step) = start.stepped_back {
            tracing::warn!(
                seconds = step.as_secs_f64(),
                "the database clock went back: rows dated since then are read again"
            );
            // Stored at once, because another process could not find out any more.
            let update = self.sync_update();
            self.writer.update_sync(&update).await?;
        }
        Ok(start.from)
    }

    /// Reads rows to which no read position leads: without a stamp, or stamped far in the future. A daemon reads one page
    /// of each in a pass and goes on there, so that an idle poll stays cheap however many there are.
    async fn enqueue_outlying(&mut self, context: &Arc<DeliveryContext>) -> Result<(), PassError> {
        let mut scans = std::mem::replace(&mut self.outlying, PageScan::outlying());
        for scan in &mut scans {
            let options = scan.compare_options(false);
            while let Some(page) = scan.next(&mut self.reader).await? {
                let is_last = page.is_last || self.slow_calls == SlowCalls::LeaveBehind;
                if page.scanned > 0 {
                    self.queue.wait_for_capacity().await;
                    PassProgress::add(&context.progress.done, page.scanned);
                    self.compare_and_enqueue_page(context, page, options).await?;
                }
                if is_last {
                    break;
                }
            }
        }
        self.outlying = scans;
        Ok(())
    }

    async fn enqueue_changes(&mut self, context: &Arc<DeliveryContext>, scan: &mut PageScan) -> Result<(), PassError> {
        let options = scan.compare_options(false);
        loop {
            self.queue.wait_for_capacity().await;
            let Some(page) = scan.next(&mut self.reader).await? else { return Ok(()) };
            PassProgress::add(&context.progress.done, page.scanned);
            let is_last = page.is_last;
            self.compare_and_enqueue_page(context, page, options).await?;
            self.save_progress(&context.progress, None, context.progress.recorded() > 0).await?;
            if is_last {
                return Ok(());
            }
        }
    }
}
