//! Defers accounts whose row is read while a call for them is in flight, and looks them up when it has ended.
//!
//! Owns: when a deferral is stored, and when it ends. Must not know: which pages a pass reads, what is sent.
//!
//! A deferral is stored before the page goes on, so the read position may move past the row. It ends when a later comparison
//! of the account is recorded or stands in a stored intent.

use std::collections::HashSet;
use std::sync::Arc;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::page_diff::CompareOptions;
use super::slow_calls::SlowCalls;
use crate::crash;
use crate::model::Account;

impl Engine {
    /// Defers accounts that are in flight.
    pub(super) async fn defer(&mut self, context: &DeliveryContext, busy: &HashSet<Account>) -> Result<(), PassError> {
        let unknown: Vec<Account> = busy.iter().filter(|account| !self.deferrals.contains(account)).cloned().collect();
        if !unknown.is_empty() {
            self.writer.defer_accounts(&unknown).await?;
            crash::point("accounts: deferred");
        }
        let in_flight = self.queue.accounts_in_flight();
        for account in busy {
            self.deferrals.add(account, context.pass, in_flight.is_in_doubt(account));
        }
        Ok(())
    }

    /// Takes over the deferrals that deliveries have stored.
    pub(super) fn adopt_deferrals(&mut self) {
        for account in self.queue.take_deferred() {
            // Its change holds the lag until its outcome is recorded, and what comes after that is a new change.
            self.deferrals.add(&account, self.queue.current_pass(), false);
        }
    }

    /// Looks up the deferred accounts that are no longer in flight.
    pub(super) async fn look_up_deferred(
        &mut self,
        context: &Arc<DeliveryContext>,
        force: bool,
    ) -> Result<(), PassError> {
        self.adopt_deferrals();
        loop {
            let in_flight = self.queue.accounts_in_flight();
            let ready = self.deferrals.ready(|account| in_flight.contains(account), self.reader.page_size());
            if ready.is_empty() {
                return Ok(());
            }
            let options = CompareOptions { force, ..CompareOptions::default() };
            self.look_up_and_enqueue_accounts(context, &ready, options).await?;
        }
    }

    /// Waits for the deliveries of a pass, and looks up what was deferred: once in a daemon, whose next pass looks up the
    /// others; else until nothing is deferred any more.
    /// `force`: every attribute is sent again.
    pub(super) async fn settle_with_deferred(
        &mut self,
        context: &Arc<DeliveryContext>,
        force: bool,
    ) -> Result<(), PassError> {
        self.look_up_deferred(context, force).await?;
        self.settle(context).await?;
        self.adopt_deferrals();
        while self.slow_calls == SlowCalls::Await && self.deferrals.any_waits() {
            self.look_up_deferred(context, force).await?;
            self.settle(context).await?;
        }
        Ok(())
    }

    /// Ends the deferrals that a complete pass has looked up: what differed is recorded or stands in an intent.
    pub(super) async fn end_deferrals(&mut self, context: &DeliveryContext) -> Result<(), PassError> {
        self.adopt_deferrals();
        let ended = self.deferrals.looked_up_by(context.pass);
        if !ended.is_empty() {
            self.writer.end_deferral(&ended).await?;
            crash::point("deferrals: ended");
            self.deferrals.remove(&ended);
        }
        Ok(())
    }
}
