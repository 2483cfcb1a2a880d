//! Compares pages and enqueues what differs.
//!
//! Owns: the way of one page from the reader to the queue, and the progress that is stored between pages.
//! Must not know: which pages a pass reads, and in what order.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::page_diff::{AccountDiff, CompareOptions, RemovalMode};
use super::pages::ReadPage;
use super::progress::PassProgress;
use crate::crash;
use crate::model::Account;
use crate::push::StopReason;

/// What is known of a page that was compared.
#[derive(Debug, Default)]
pub(super) struct ComparedPage {
    /// Accounts that owe a removal.
    pub(super) owed: HashSet<Account>,
    /// Accounts with a row that is not gone.
    pub(super) present: usize,
}

impl Engine {
    /// Fails if a shutdown has been requested.
    pub(super) fn check_shutdown(&self) -> Result<(), PassError> {
        if self.shutdown.requested() { Err(PassError::Stop(StopReason::Shutdown)) } else { Ok(()) }
    }

    /// Compares a page, stores which of its accounts owe a removal, and enqueues what else differs.
    pub(super) async fn compare_and_enqueue_page(
        &mut self,
        context: &Arc<DeliveryContext>,
        page: ReadPage,
        options: CompareOptions,
    ) -> Result<ComparedPage, PassError> {
        self.check_shutdown()?;
        let ReadPage { rows, missing, .. } = page;
        let mut accounts = self.reader.accounts_of(&rows);
        accounts.extend(missing.iter().cloned());
        PassProgress::add(&context.progress.rows_read, rows.len());
        self.queue.note_completed();
        self.queue.wait_until_recorded(accounts.iter()).await;
        context.check()?;
        crash::point("page: read");
        let owed_before = self.owed_removals_of(&accounts).await?;
        let page_diff = self.comparer.compare_page(&rows, missing, &owed_before, options).await?;
        crash::point("page: compared");
        // Where removals are sent, the accounts have been counted already.
        if options.removals == RemovalMode::Owed {
            let differs = |diff: &&AccountDiff| diff.sends() || diff.removal_waits;
            PassProgress::add(&context.progress.without_account, page_diff.without_account);
            PassProgress::add(&context.progress.changed, page_diff.diffs.iter().filter(differs).count());
        }
        self.store_owed_removals(&owed_before, &page_diff, options).await?;
        let waits = page_diff.diffs.iter().filter(|diff| diff.removal_waits);
        let owed = waits.map(|diff| diff.account().clone()).collect();
        let compared = ComparedPage { owed, present: page_diff.present };
        if page_diff.diffs.iter().any(AccountDiff::sends) {
            self.offer_probe().await?;
        }
        self.queue.enqueue(context, page_diff, options.origin);
        crash::point("page: enqueued");
        context.check()?;
        Ok(compared)
    }

    /// Looks accounts up in the source, at most a page of them, and enqueues what differs.
    pub(super) async fn look_up_and_enqueue_accounts(
        &mut self,
        context: &Arc<DeliveryContext>,
        accounts: &[Account],
        options: CompareOptions,
    ) -> Result<ComparedPage, PassError> {
        self.queue.wait_for_capacity().await;
        let page = self.reader.look_up(accounts.to_vec()).await?;
        self.compare_and_enqueue_page(context, page, options).await
    }

    /// Stores what `status` shows of the running pass, at most once a second, and a full pass's position. Skipped for a
    /// pass that has recorded nothing yet, which is not `worth_storing`. Returns whether it was stored.
    pub(super) async fn save_progress(
        &mut self,
        progress: &PassProgress,
        position: Option<Value>,
        worth_storing: bool,
    ) -> Result<bool, PassError> {
        if !worth_storing || !self.saves.progress_save_is_due() {
            return Ok(false);
        }
        if position.is_some() {
            crash::point("full: the position is about to be stored");
        }
        self.writer.save_progress(position.as_ref(), Some(&progress.running())).await?;
        if position.is_some() {
            crash::point("full: the position is stored");
        }
        self.saves.note_progress_saved();
        Ok(true)
    }
}
