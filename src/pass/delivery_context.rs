//! What a pass and its deliveries share.
//!
//! Owns: [`DeliveryContext`], the first error of a pass, and when accounts in doubt are retried.
//! Must not know: the queue, the steps of a pass.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::account_backoff::AccountBackoff;
use super::build_record::InDoubtDelays;
use super::error::{FirstError, PassError};
use super::met_accounts::MetAccounts;
use super::progress::PassProgress;
use crate::metrics::Metrics;
use crate::model::{AccountOutcome, AttributeNames, AttributeOutcome};
use crate::push::{ChangeOrigin, PushSession};
use crate::state::StateWriter;
use crate::state::history::SendingPass;

/// What a pass and its deliveries share.
#[derive(Debug)]
pub(super) struct DeliveryContext {
    /// The pass's number in the queue.
    pub(super) pass: u64,
    pub(super) session: PushSession,
    pub(super) progress: Arc<PassProgress>,
    /// Attribute names, by attribute index.
    pub(super) names: AttributeNames,
    pub(super) writer: StateWriter,
    pub(super) metrics: Arc<Metrics>,
    /// What the history names as the pass; `None` when no history is kept.
    pub(super) history: Option<SendingPass>,
    /// The delay before a rejection is tried again.
    pub(super) retry_after: Duration,
    /// IM is assumed to apply a call no later than this after it was sent: twice `im.timeout`. An unknown outcome is
    /// retried after it.
    pub(super) late_write_window: Duration,
    /// Rejections may be stored. Shared by all passes.
    pub(super) may_be_rejected: Arc<AtomicBool>,
    /// Shared by all passes.
    pub(super) backoff: Arc<Mutex<AccountBackoff>>,
    /// It is a full pass, and incremental passes run between its steps.
    pub(super) is_beside_incremental_passes: bool,
    /// The stored accounts that the full pass under way has met.
    pub(super) met: MetAccounts,
    /// The first error of a delivery.
    pub(super) failure: FirstError,
}

impl DeliveryContext {
    /// Fails once a delivery has failed or the push stage has stopped. Nothing may be read or sent then.
    pub(super) fn check(&self) -> Result<(), PassError> {
        let failed = self.failure.lock().ok().and_then(|failure| failure.clone());
        failed.or_else(|| self.session.stop_reason().map(PassError::Stop)).map_or(Ok(()), Err)
    }

    /// Fails if IM answered no call of this pass although there were calls.
    pub(super) fn check_im_answered(&self) -> Result<(), PassError> {
        self.session.unreachable_reason().map_or(Ok(()), |stop| Err(PassError::Stop(stop)))
    }

    /// Stops the pass. The first error is the one that is reported.
    pub(super) fn record_first_error(&self, error: PassError) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
        self.session.halt();
    }

    /// The numbers only ever grow, so those that a panic left behind can still be used.
    pub(super) fn lock_account_backoff(&self) -> MutexGuard<'_, AccountBackoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the account is retried if it is still in doubt. The delay grows with each attempt without an answer, as long
    /// as IM answers for other accounts.
    pub(super) fn in_doubt_delays(&self, outcome: &AccountOutcome, origin: ChangeOrigin) -> InDoubtDelays {
        let late_write = self.late_write_window;
        let mut backoff = self.lock_account_backoff();
        if !outcome.attributes.iter().any(|(_, outcome)| *outcome == AttributeOutcome::Unknown) {
            backoff.note_answered(&outcome.account);
            return InDoubtDelays { late_write, unknown: late_write };
        }
        let is_retry = matches!(origin, ChangeOrigin::UnknownOutcome | ChangeOrigin::Unresponsive);
        let unknown = if outcome.unanswered_alone || (is_retry && self.session.im_answered()) {
            backoff.note_unanswered(&outcome.account, late_write)
        } else {
            late_write
        };
        InDoubtDelays { late_write, unknown }
    }
}
