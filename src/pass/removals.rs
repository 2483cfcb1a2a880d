//! Sends owed removals, as far as the removal guard allows them.
//!
//! Owns: who decides about removals, and which of the owed ones a pass sends. Must not know: how the guard decides, which
//! rows a pass read.

use std::sync::Arc;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::guard::{self, GuardDecision, GuardScope};
use super::page_diff::{CompareOptions, RemovalMode, RetryRejections};
use super::progress::PassPhase;
use crate::crash;
use crate::model::Account;

/// Who decides about removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovalPolicy {
    /// The operator, with `--allow-removals`: all of them are sent.
    AllowAll,
    /// The removal guard. `retry`: which standing rejections of removals are tried again.
    Guarded { scope: GuardScope, retry: RetryRejections },
}

impl RemovalPolicy {
    /// The guard decides, and only a full pass can lift it.
    pub(super) const GUARDED: Self = Self::Guarded { scope: GuardScope::PartOfTable, retry: RetryRejections::None };

    fn compare_options(self) -> CompareOptions {
        let (counted, retry) = match self {
            Self::AllowAll => (false, RetryRejections::None),
            Self::Guarded { retry, .. } => (true, retry),
        };
        CompareOptions { removals: RemovalMode::Permitted { counted }, retry, ..CompareOptions::default() }
    }
}

impl Engine {
    /// Sends all owed removals if the policy allows it, also those that an earlier pass left.
    pub(super) async fn send_removals(
        &mut self,
        context: &Arc<DeliveryContext>,
        policy: RemovalPolicy,
    ) -> Result<(), PassError> {
        if !self.removals_allowed(policy).await? {
            return Ok(());
        }
        // Sets before removals: an account that has both is not compared while its set is in flight.
        self.settle(context).await?;
        let limit = i64::from(self.config.source.page_size);
        let mut after: Option<Account> = None;
        loop {
            let owed = self.state.owed_removals_after(self.writer.sync_id(), after.as_ref(), limit).await?;
            let Some(last) = owed.last() else { break };
            after = Some(last.clone());
            self.send_removals_of(context, owed, policy).await?;
        }
        self.settle(context).await
    }

    /// Sends the owed removals of these accounts if the policy allows it. The guard decides about all that are owed.
    pub(super) async fn send_removals_among(
        &mut self,
        context: &Arc<DeliveryContext>,
        accounts: &[Account],
        policy: RemovalPolicy,
    ) -> Result<(), PassError> {
        if !self.removals_allowed(policy).await? {
            return Ok(());
        }
        // Sets before removals: an account that has both is not compared while its set is in flight.
        self.settle(context).await?;
        for chunk in accounts.chunks(self.reader.page_size()) {
            let owed = self.state.owed_removals_of(self.writer.sync_id(), chunk.iter()).await?;
            self.send_removals_of(context, owed.into_keys().collect(), policy).await?;
        }
        self.settle(context).await
    }

    /// Looks the accounts up again, at most a page of them, and sends what is still to be removed.
    async fn send_removals_of(
        &mut self,
        context: &Arc<DeliveryContext>,
        accounts: Vec<Account>,
        policy: RemovalPolicy,
    ) -> Result<(), PassError> {
        if accounts.is_empty() {
            return Ok(());
        }
        context.progress.set_phase(PassPhase::Removing);
        crash::point("removals: about to be sent");
        self.look_up_and_enqueue_accounts(context, &accounts, policy.compare_options()).await?;
        crash::point("removals: a chunk is enqueued");
        Ok(())
    }

    async fn removals_allowed(&mut self, policy: RemovalPolicy) -> Result<bool, PassError> {
        let RemovalPolicy::Guarded { scope, .. } = policy else { return Ok(self.owed_at_most > 0) };
        if self.owed_at_most == 0 && !self.guard.is_tripped() {
            return Ok(false);
        }
        let before = self.guard.document().cloned();
        let decision = self.guard.decide(&self.state, self.writer.sync_id(), scope).await?;
        match (&before, self.guard.document()) {
            (_, Some(now)) if before.as_ref() != Some(now) => tracing::warn!("{}", guard::message(now)),
            (Some(_), None) => tracing::info!("the removal guard is lifted"),
            _ => {}
        }
        Ok(decision == GuardDecision::Allowed)
    }
}
