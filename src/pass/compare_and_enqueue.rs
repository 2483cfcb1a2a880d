//! Compares pages and enqueues what differs.
//!
//! Owns: the way of one page from the reader to the queue, and the progress that is stored between pages.
//! Must not know: which pages a pass reads, and in what order.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::page_diff::{Absent, AccountDiff, CompareOptions, PageRows, RemovalMode};
use super::pages::ReadPage;
use super::progress::PassProgress;
use crate::crash;
use crate::model::{Account, Rows};
use crate::push::{ChangeOrigin, StopReason};

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

    /// Compares a page, stores which of its accounts owe a removal, and enqueues what else differs. Accounts that are in
    /// flight are not compared: a changed row is deferred, and a retry or a removal waits.
    pub(super) async fn compare_and_enqueue_page(
        &mut self,
        context: &Arc<DeliveryContext>,
        page: ReadPage,
        options: CompareOptions,
    ) -> Result<ComparedPage, PassError> {
        self.check_shutdown()?;
        let ReadPage { mut rows, mut missing, mut unreadable, end, .. } = page;
        PassProgress::add(&context.progress.rows_read, rows.len() + unreadable.len());
        context.check()?;
        let done = PassProgress::get(&context.progress.done);
        let scanned = if options.counts_repairs { self.scanned_page(&rows, end.as_deref(), done) } else { None };
        // Until the differences are enqueued, no probe takes one of the accounts.
        let _no_probes = self.queue.accounts_in_flight().pause_reservations().await;
        let others = missing.iter().chain(unreadable.iter().map(|(account, _)| account));
        let busy = self.busy_accounts(&rows, others);
        if !busy.is_empty() {
            let source = &self.reader.config.source;
            rows.retain(|row| row.account.is_none_or(|text| !busy.contains(&*source.account_text(text))));
            missing.retain(|account| !busy.contains(account));
            unreadable.retain(|(account, _)| !busy.contains(account));
            if options.origin == ChangeOrigin::New && options.removals == RemovalMode::Owed {
                self.defer(context, &busy).await?;
                if options.counts_repairs {
                    self.met.note_in_flight(busy.iter());
                }
            }
        }
        crash::point("page: read");
        let mut accounts = HashSet::new();
        if self.owed_at_most > 0 || !self.deferrals.is_empty() {
            accounts = self.reader.accounts_of(&rows);
            accounts.extend(missing.iter().chain(unreadable.iter().map(|(account, _)| account)).cloned());
        }
        let owed_before = self.owed_removals_of(&accounts).await?;
        let first_pass = if context.is_beside_incremental_passes {
            // It may take hours, and a deferral would not end before it. Incremental passes are faster.
            context.pass
        } else {
            self.deferrals.note_compared(&accounts, context.pass)
        };
        let options = CompareOptions { absent: self.absent(options), ..options };
        let page_diff =
            self.comparer.compare_page(PageRows { rows, missing, unreadable }, &owed_before, options).await?;
        crash::point("page: compared");
        if !options.counts_repairs && !page_diff.diffs.is_empty() {
            self.only_met_are_stored = false;
        }
        // Where removals are sent, the accounts have been counted already.
        if options.removals == RemovalMode::Owed {
            let differs = |diff: &&AccountDiff| diff.sends() || diff.removal_waits;
            PassProgress::add(&context.progress.without_account, page_diff.without_account);
            PassProgress::add(&context.progress.changed, page_diff.diffs.iter().filter(differs).count());
        }
        if let Some(scanned) = scanned {
            self.count_repairs(scanned, &page_diff, |account| owed_before.contains_key(account)).await?;
        }
        self.store_owed_removals(&owed_before, &page_diff, options).await?;
        let waits = page_diff.diffs.iter().filter(|diff| diff.removal_waits);
        let owed: HashSet<Account> = waits.map(|diff| diff.account().clone()).collect();
        let compared = ComparedPage { owed, present: page_diff.present };
        self.queue.enqueue(context, page_diff, options.origin, first_pass);
        crash::point("page: enqueued");
        context.check()?;
        Ok(compared)
    }

    /// What the state cannot hold of a page that is compared now.
    fn absent(&self, options: CompareOptions) -> Absent {
        Absent {
            // Several texts of an account may be on two pages.
            values: options.counts_repairs && self.only_met_are_stored && !self.reader.source.account_has_spellings(),
            rejections: !self.may_be_rejected.load(Ordering::SeqCst),
        }
    }

    /// The accounts of a page that are in flight.
    fn busy_accounts<'a>(&self, rows: &Rows, others: impl Iterator<Item = &'a Account>) -> HashSet<Account> {
        let in_flight = self.queue.accounts_in_flight();
        let source = &self.reader.config.source;
        let texts = rows.iter().filter_map(|row| row.account).map(|text| source.account_text(text));
        in_flight.among(texts.chain(others.map(|account| account.as_str().into())))
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
        let shown = self.full_under_way.as_deref().unwrap_or(progress);
        self.writer.save_progress(position.as_ref(), Some(&shown.running())).await?;
        if position.is_some() {
            crash::point("full: the position is stored");
        }
        self.saves.note_progress_saved();
        Ok(true)
    }
}
