//! What a pass does after its fresh rows: doubts, the removals that waited for the guard, rejections whose pause is over.
//!
//! Owns: their order and their bounds. Must not know: cursors, positions, the end of a pass.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::compare::{CompareOptions, RetryRejections};
use super::guard::{self, PendingRemovals};
use super::queue::PassContext;
use super::report::PassProgress;
use super::{Engine, PassError, RemovalPolicy};
use crate::clock;
use crate::crash;
use crate::model::Account;
use crate::push::ChangeOrigin;

/// Rejections that are tried again in one pass, as accounts.
const MOST_RETRIES: usize = 1_000;
/// No further ones are tried in a pass once the retries took so long: the next pass's fresh rows wait.
const RETRY_TIME: Duration = Duration::from_secs(1);

impl Engine {
    /// Accounts in doubt whose time has come, after the pass's fresh rows. Those that no call can record_refusals now are put aside.
    pub(super) async fn doubts(
        &mut self,
        context: &Arc<PassContext>,
        pending: &mut PendingRemovals,
    ) -> Result<(), PassError> {
        let mut page_diff: HashSet<Account> = HashSet::new();
        let mut after = None;
        loop {
            let due = self.state.doubts_due(self.writer.sync_id(), after.as_ref(), self.page_size()).await?;
            let Some(last) = due.last() else { return Ok(()) };
            after = Some(last.clone());
            let due = due.into_iter().map(|(_, account)| account);
            let fresh: Vec<Account> = due.filter(|account| page_diff.insert(account.clone())).collect();
            if fresh.is_empty() {
                // They stay due until their removals go, and must not hide those that come after them.
                continue;
            }
            context.progress.set_phase("settling doubts");
            let options = CompareOptions { origin: ChangeOrigin::UnknownOutcome, ..CompareOptions::default() };
            self.compare_accounts(context, &fresh, options, pending).await?;
            crash::point("doubts: looked up");
            self.queue.drain(context).await?;
            // A removal that waits settles its account when it goes; while the guard is tripped none does, and the full
            // pass that lifts it looks at everything.
            let waits = |account: &Account| self.guard.is_none() && pending.may_hold(account);
            let stuck: Vec<Account> = fresh.into_iter().filter(|account| !waits(account)).collect();
            crash::point("doubts: about to be put aside");
            self.writer.postpone_in_doubt(&stuck).await?;
            crash::point("doubts: put aside");
        }
    }

    /// Rejections whose pause is over, after the pass's fresh rows and in calls of their own. Some in each pass: the next
    /// pass's fresh rows must not wait for thousands that are refused again.
    pub(super) async fn rejections_due(
        &mut self,
        context: &Arc<PassContext>,
        pending: &mut PendingRemovals,
    ) -> Result<(), PassError> {
        let began = clock::monotonic();
        let full = self.config.im.users_per_call;
        // An account that is refused again costs a call, and another for each attribute. So many at a time take a second.
        let a_second = usize::try_from(self.config.im.calls_per_second).unwrap_or(full);
        let careful = (a_second / (1 + context.comparer.rules.attributes.len())).clamp(1, full);
        let (mut size, mut tried) = (careful, 0);
        while tried < MOST_RETRIES && began.elapsed() < RETRY_TIME {
            let limit = i64::try_from(size).unwrap_or(i64::MAX).min(self.page_size());
            let due = self.state.rejections_due(self.writer.sync_id(), limit).await?;
            if due.is_empty() {
                return Ok(());
            }
            tried += due.len();
            context.progress.set_phase("retrying rejections");
            let rejected = PassProgress::get(&context.progress.rejected);
            let options = CompareOptions {
                retry: RetryRejections::RetryDue,
                origin: ChangeOrigin::RejectionRetry,
                ..CompareOptions::default()
            };
            self.compare_accounts(context, &due, options, pending).await?;
            self.queue.drain(context).await?;
            self.removals(context, pending, RemovalPolicy::AsGuarded { retry: RetryRejections::RetryDue }).await?;
            crash::point("rejections: tried again");
            self.writer.postpone_rejections(&due, self.config.schedule.rejected_retry).await?;
            crash::point("rejections: postponed");
            // Their cause has gone: the others may well go in full calls.
            size = if PassProgress::get(&context.progress.rejected) == rejected { full } else { careful };
        }
        Ok(())
    }

    /// The guard's decision, then the removals that it lets go. True: too many to remember, the range must be walked again,
    /// and what it then withholds handed to this function in portions (see [`PendingRemovals::portion_is_full`]).
    pub(super) async fn removals(
        &mut self,
        context: &Arc<PassContext>,
        pending: &mut PendingRemovals,
        consent: RemovalPolicy,
    ) -> Result<bool, PassError> {
        let retry = match consent {
            RemovalPolicy::Given => RetryRejections::None,
            RemovalPolicy::AsGuarded { retry } => {
                if self.guard.is_some() {
                    return Ok(false);
                }
                if let Some(tripped) = self.guard_trips(pending).await? {
                    tracing::warn!("{}", guard::sentence(&tripped));
                    self.guard = Some(tripped);
                    return Ok(false);
                }
                retry
            }
        };
        if pending.overflowed() {
            pending.walk_again();
            return Ok(true);
        }
        if pending.count() == 0 {
            return Ok(false);
        }
        context.progress.set_phase("removing");
        crash::point("removals: about to go");
        let accounts = pending.take();
        match consent {
            // They are not counted; how many are known then has to be.
            RemovalPolicy::Given => self.known_counted = None,
            RemovalPolicy::AsGuarded { .. } => self.writer.count_removals(&accounts).await?,
        }
        let size = usize::try_from(self.page_size()).unwrap_or(usize::MAX);
        for chunk in accounts.chunks(size) {
            let options = CompareOptions { removals: true, retry, ..CompareOptions::default() };
            self.compare_accounts(context, chunk, options, pending).await?;
            crash::point("removals: a chunk is taken");
        }
        self.queue.drain(context).await?;
        Ok(false)
    }

    async fn guard_trips(&mut self, pending: &PendingRemovals) -> Result<Option<Value>, PassError> {
        let (sync_id, max_share) = (self.writer.sync_id(), self.config.removal.max_share);
        Ok(guard::judge(&self.state, sync_id, pending, max_share, &mut self.known_counted).await?)
    }
}
