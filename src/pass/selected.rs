//! The pass over named accounts.
//!
//! Owns: its steps. Must not know: how the accounts were named.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::full_pass_schedule::FullOptions;
use super::guard::GuardScope;
use super::page_diff::RetryRejections;
use super::pages::PageScan;
use super::progress::PassProgress;
use super::removals::RemovalPolicy;
use super::report::{PassOutcome, PassReport};
use crate::model::Account;

impl Engine {
    /// Compares these accounts only. One that is no longer in the table is gone. Their rejections are tried again. Removals
    /// that other accounts owe are left to other passes, but the removal guard counts them.
    pub async fn selected(
        &mut self,
        accounts: &[Account],
        options: FullOptions,
        progress: Arc<PassProgress>,
    ) -> (PassReport, Option<PassError>) {
        let context = match self.begin_pass(progress.clone()).await {
            Ok(begun) => begun,
            Err(error) => {
                let (report, error) = self.fail_to_start(&progress, error).await;
                return (report, Some(error));
            }
        };
        progress.total.store(accounts.len() as u64, Ordering::Relaxed);
        let result = self.selected_steps(&context, accounts, options).await;
        // Even after an error, nothing of this pass may be in flight when it ends.
        let settled = self.settle(&context).await;
        let mut result = result.and_then(|outcome| settled.map(|()| outcome));
        if result.is_ok() {
            result = self.end_deferrals(&context).await.and(result);
        }
        let update = self.sync_update();
        self.finish(&context, result, update, true).await
    }

    async fn selected_steps(
        &mut self,
        context: &Arc<DeliveryContext>,
        accounts: &[Account],
        options: FullOptions,
    ) -> Result<PassOutcome, PassError> {
        let mut scan = PageScan::selected(accounts);
        let compare = scan.compare_options(options.force);
        loop {
            self.queue.wait_for_capacity().await;
            let Some(page) = scan.next(&mut self.reader).await? else { break };
            let scanned = page.scanned;
            self.compare_and_enqueue_page(context, page, compare).await?;
            PassProgress::add(&context.progress.done, scanned);
        }
        self.settle_with_deferred(context, options.force).await?;
        let policy = if options.allow_removals {
            RemovalPolicy::AllowAll
        } else {
            RemovalPolicy::Guarded { scope: GuardScope::PartOfTable, retry: RetryRejections::All }
        };
        self.send_removals_among(context, accounts, policy).await?;
        self.complete_outcome(context, Some(accounts)).await
    }
}
