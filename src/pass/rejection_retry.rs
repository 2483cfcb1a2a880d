//! Tries rejections again when their retry is due.
//!
//! Owns: how many are tried in one pass, and how many at a time. Must not know: why an account was rejected.

use std::sync::Arc;
use std::time::Duration;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::guard::GuardScope;
use super::page_diff::RetryRejections;
use super::pages::{MAX_RETRIED_ACCOUNTS, PageScan, RetriedAccounts};
use super::progress::{PassPhase, PassProgress};
use super::removals::RemovalPolicy;
use crate::clock;
use crate::crash;
use crate::model::Account;

/// After this time no further round begins in a pass, because the changes of the next pass wait.
const RETRY_TIME: Duration = Duration::from_secs(1);
/// The part of it for each of the two kinds of accounts, so that neither keeps the other waiting.
const TIME_OF_A_KIND: Duration = Duration::from_millis(500);

/// A round in which every account costs a call takes no longer. At the default rate, a full call of 100 accounts fits.
const ROUND_TIME: Duration = Duration::from_millis(1_200);

/// The first round is cheap up to so many calls: a check, and a few for accounts that exist by now.
const MAX_CALLS_OF_A_CHEAP_ROUND: usize = 3;

const GUARDED: RemovalPolicy = RemovalPolicy::Guarded { scope: GuardScope::PartOfTable, retry: RetryRejections::Due };

impl Engine {
    /// Tries rejections again after the rows of the pass itself, in calls of their own. Each pass tries only some of them:
    /// changes of the next pass must not wait for thousands of accounts that are refused again.
    pub(super) async fn retry_rejections(&mut self, context: &Arc<DeliveryContext>) -> Result<(), PassError> {
        let none_is_due = !self.due_work.rejections_due && self.retry_rejections_after.is_none();
        if none_is_due && self.is_idle(context) {
            return Ok(());
        }
        self.go_on_making_rejections_due().await?;
        for of in [RetriedAccounts::Unknown, RetriedAccounts::Known] {
            self.retry_rejections_of(context, of).await?;
        }
        Ok(())
    }

    async fn retry_rejections_of(
        &mut self,
        context: &Arc<DeliveryContext>,
        of: RetriedAccounts,
    ) -> Result<(), PassError> {
        let mut began = clock::monotonic();
        let full_call = self.config.im.users_per_call;
        let is_cheap = of == RetriedAccounts::Unknown && context.session.unknown_accounts_are_cheap();
        let cautious =
            if is_cheap { full_call.min(self.calls_in_a_round()) } else { self.accounts_in_a_second_of_calls() };
        let mut scan = PageScan::rejections(of, cautious);
        let options = scan.compare_options(false);
        let (mut size, mut tried) = (cautious, 0);
        while tried < MAX_RETRIED_ACCOUNTS && began.elapsed() < TIME_OF_A_KIND {
            scan.limit_retries(size);
            self.queue.wait_for_capacity().await;
            let Some(page) = scan.next(&mut self.reader).await? else { break };
            tried += page.looked_up.len();
            // Those that are in flight stay due.
            let in_flight = self.queue.accounts_in_flight();
            let accounts: Vec<Account> =
                page.looked_up.iter().filter(|account| !in_flight.contains(account)).cloned().collect();
            if accounts.is_empty() {
                break;
            }
            context.progress.set_phase(PassPhase::RetryingRejections);
            let rejected = PassProgress::get(&context.progress.rejected);
            let calls_before = context.session.calls();
            let owed = self.compare_and_enqueue_page(context, page, options).await?.owed;
            self.settle(context).await?;
            if !owed.is_empty() {
                let owed: Vec<Account> = owed.into_iter().collect();
                self.send_removals_among(context, &owed, GUARDED).await?;
            }
            crash::point("rejections: retried");
            self.writer.postpone_rejections_with_doubled_delay(&accounts, self.config.schedule.rejected_retry).await?;
            crash::point("rejections: postponed");
            if self.queue.has_outstanding(context.pass) {
                // IM does not answer for one of them. The next pass tries others.
                break;
            }
            if of == RetriedAccounts::Unknown {
                let calls = usize::try_from(context.session.calls() - calls_before).unwrap_or(usize::MAX).max(1);
                // The first call may have waited for those of the process before, so it takes no time of the others.
                if tried == accounts.len() && calls <= MAX_CALLS_OF_A_CHEAP_ROUND {
                    began = clock::monotonic();
                }
                // The next accounts cost about the same.
                let affordable = accounts.len() * self.calls_in_a_round() / calls;
                size = affordable.min(MAX_RETRIED_ACCOUNTS.saturating_sub(tried)).max(1);
                continue;
            }
            // If none was refused again, the cause has gone, and the next accounts can be sent in full calls.
            let none_refused = PassProgress::get(&context.progress.rejected) == rejected;
            size = if none_refused { full_call } else { cautious };
        }
        Ok(())
    }

    /// After an edit of the mapping every rejection is retried. Each pass makes the next ones due, so that the first pass
    /// need not wait for millions of them.
    async fn go_on_making_rejections_due(&mut self) -> Result<(), PassError> {
        if let Some(after) = self.retry_rejections_after.take() {
            self.retry_rejections_after = self.writer.go_on_retrying_all_rejections(after, RETRY_TIME).await?;
        }
        Ok(())
    }

    /// The calls that fit into [`ROUND_TIME`].
    fn calls_in_a_round(&self) -> usize {
        let calls = u128::from(self.config.im.calls_per_second) * ROUND_TIME.as_millis() / 1_000;
        usize::try_from(calls).unwrap_or(usize::MAX).clamp(1, MAX_RETRIED_ACCOUNTS)
    }

    /// An account that is refused again costs a call, and one more for each attribute. This many of them take a second.
    fn accounts_in_a_second_of_calls(&self) -> usize {
        let full_call = self.config.im.users_per_call;
        let calls = usize::try_from(self.config.im.calls_per_second).unwrap_or(full_call);
        (calls / (1 + self.comparer.rules.attribute_indexes.len())).clamp(1, full_call)
    }
}
