//! Sends the removals of a pass, as far as the removal guard allows them.
//!
//! Owns: who decides about removals, and that all of them are counted before the first one is sent.
//! Must not know: how the guard decides, which rows a pass read.

use std::sync::Arc;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::guard::{self, GuardDecision};
use super::page_diff::{CompareOptions, RetryRejections};
use super::pending_removals::PendingRemovals;
use super::progress::PassPhase;
use crate::crash;

/// Who decides about removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovalPolicy {
    /// The operator, with `--allow-removals`: all of them are sent.
    AllowAll,
    /// The removal guard. `retry`: which standing rejections of removals are tried again.
    Guarded { retry: RetryRejections },
}

/// The result of [`Engine::send_removals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovalResult {
    /// They are recorded, or the guard holds them back.
    Done,
    /// The guard allows them, but there were too many to remember. The pass must read its rows again, and call
    /// [`Engine::send_removals`] whenever a batch is full, and at the end.
    ReadAgain,
}

impl Engine {
    /// Asks the removal guard, and sends the pending removals if it allows them.
    pub(super) async fn send_removals(
        &mut self,
        context: &Arc<DeliveryContext>,
        pending: &mut PendingRemovals,
        policy: RemovalPolicy,
    ) -> Result<RemovalResult, PassError> {
        let retry = match policy {
            RemovalPolicy::AllowAll => RetryRejections::None,
            RemovalPolicy::Guarded { retry } => {
                if !self.ask_guard(pending).await? {
                    return Ok(RemovalResult::Done);
                }
                retry
            }
        };
        if pending.overflowed() {
            pending.start_repeat();
            return Ok(RemovalResult::ReadAgain);
        }
        if pending.count() == 0 {
            return Ok(RemovalResult::Done);
        }
        // Sets before removals: an account that has both is not compared while its set is in flight.
        self.settle(context).await?;
        context.progress.set_phase(PassPhase::Removing);
        crash::point("removals: about to be sent");
        let accounts = pending.take();
        match policy {
            RemovalPolicy::AllowAll => self.guard.forget_known_count(),
            RemovalPolicy::Guarded { .. } => self.writer.record_removals(&accounts).await?,
        }
        let options = CompareOptions { removals: true, retry, ..CompareOptions::default() };
        for chunk in accounts.chunks(self.reader.page_size()) {
            self.look_up_and_enqueue_accounts(context, chunk, options, pending).await?;
            crash::point("removals: a chunk is enqueued");
        }
        self.settle(context).await?;
        Ok(RemovalResult::Done)
    }

    /// Whether the guard allows the pending removals.
    async fn ask_guard(&mut self, pending: &PendingRemovals) -> Result<bool, PassError> {
        let decision = self.guard.decide(&self.state, self.writer.sync_id(), pending).await?;
        if decision == GuardDecision::Tripped
            && let Some(document) = self.guard.document()
        {
            tracing::warn!("{}", guard::message(document));
        }
        Ok(decision == GuardDecision::Allowed)
    }
}
