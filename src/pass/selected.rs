//! The pass over named accounts.
//!
//! Owns: its steps. Must not know: how the accounts were named.

use super::compare::{CompareOptions, RetryRejections};
use super::guard::PendingRemovals;
use super::report::{PassProgress, PassReport};
use super::{Engine, FullOptions, PassError, PassOutcome, RemovalPolicy};
use crate::model::Account;
use std::sync::Arc;

impl Engine {
    /// These accounts only; one that is no longer in the table is treated as gone. Rejections of theirs are tried again.
    pub async fn selected(
        &mut self,
        accounts: &[Account],
        options: FullOptions,
        progress: Arc<PassProgress>,
    ) -> (PassReport, Option<PassError>) {
        let context = match self.begin_pass(progress.clone()).await {
            Ok(begun) => begun,
            Err(error) => return self.fail_to_start(&progress, error).await,
        };
        progress.total.store(accounts.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let steps = async {
            let mut pending = PendingRemovals::default();
            let compare =
                CompareOptions { retry: RetryRejections::All, force: options.force, ..CompareOptions::default() };
            let size = usize::try_from(self.page_size()).unwrap_or(usize::MAX);
            for chunk in accounts.chunks(size) {
                self.compare_accounts(&context, chunk, compare, &mut pending).await?;
                PassProgress::add(&progress.done, chunk.len());
            }
            self.queue.drain(&context).await?;
            let consent = if options.allow_removals {
                RemovalPolicy::Given
            } else {
                RemovalPolicy::AsGuarded { retry: RetryRejections::All }
            };
            self.removals(&context, &mut pending, consent).await?;
            self.ending(Some(accounts)).await
        };
        let result: Result<PassOutcome, PassError> = steps.await;
        let drained = self.queue.drain(&context).await;
        let result = result.and_then(|ending| drained.map(|()| ending));
        let update = self.watermark_update();
        self.finish(&context, result, update, true).await
    }
}
