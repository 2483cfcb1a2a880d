//! Sends accounts in doubt again when their retry is due.
//!
//! Owns: which of them are postponed afterwards. Must not know: the removal guard's decision, what a pass read before.

use std::sync::Arc;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::pages::PageScan;
use super::progress::PassPhase;
use crate::crash;
use crate::model::Account;

impl Engine {
    /// Looks accounts in doubt up and sends what the table says now, after the rows of the pass itself. Those that are
    /// still due afterwards cannot be resolved by a call now; they are postponed.
    pub(super) async fn resend_in_doubt(
        &mut self,
        context: &Arc<DeliveryContext>,
        scan: &mut PageScan,
    ) -> Result<(), PassError> {
        if self.is_idle(context) {
            return Ok(());
        }
        let options = scan.compare_options(false);
        loop {
            self.queue.wait_for_capacity().await;
            let Some(page) = scan.next(&mut self.reader).await? else { return Ok(()) };
            context.progress.set_phase(PassPhase::ResendingInDoubt);
            let accounts = page.looked_up.clone();
            let owed = self.compare_and_enqueue_page(context, page, options).await?.owed;
            crash::point("in doubt: looked up");
            // What is in flight is resolved when its outcome is recorded. An account that owes a removal is resolved when the
            // removal is sent. While the guard is tripped none is sent, and the full pass that lifts the guard compares every
            // account.
            let in_flight = self.queue.accounts_in_flight();
            let is_resolved_later =
                |account: &Account| in_flight.contains(account) || (!self.guard.is_tripped() && owed.contains(account));
            let postponed: Vec<Account> = accounts.into_iter().filter(|account| !is_resolved_later(account)).collect();
            crash::point("in doubt: about to be postponed");
            self.writer.postpone_in_doubt_retries(&postponed).await?;
            crash::point("in doubt: postponed");
        }
    }
}
