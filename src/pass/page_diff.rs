//! What the comparison of a page finds, and how a page is compared.
//!
//! Owns: plain data. Must not know: how a difference is found, what becomes of it.

use std::time::Duration;

use crate::diff::DigestKey;
use crate::model::{Account, AcknowledgedValue, AttributeIndex, Change, DesiredValue, LocalRefusal, Rows};
use crate::push::ChangeOrigin;
use crate::state::owed_removal::RemovalReason;

/// One account that has something to send or to record.
#[derive(Clone, Debug)]
pub struct AccountDiff {
    /// The state has a row for the account.
    pub is_stored: bool,
    /// The acknowledged values, by attribute index.
    pub acknowledged: Vec<AcknowledgedValue>,
    /// How much longer an earlier call with an unknown outcome may still be applied; `None` if there is no such call.
    pub late_write: Option<Duration>,
    /// An earlier call has an unknown outcome and is to be retried. IM may never answer for this account.
    pub retry_scheduled: bool,
    /// What to send. Removals that have to wait for the removal guard are not in it.
    pub change: Change,
    /// The account would lose a value that IM may hold: why. The removal guard counts it.
    pub counted_removal: Option<RemovalReason>,
    /// The guard has not decided about that yet, so the change does not contain it.
    pub removal_waits: bool,
    /// Attributes that are no longer wanted, and that another sync of the app holds. They are not removed: this sync gives up
    /// its claim.
    pub given_up: Vec<AttributeIndex>,
    /// A call of another sync for the account may still be applied after the calls of this one.
    pub may_be_overwritten: bool,
    /// Values that are refused before they are sent, to be recorded; `None` stands for the whole account.
    pub refused: Vec<(Option<AttributeIndex>, LocalRefusal)>,
    /// Rejections that no longer apply.
    pub resolved: Vec<Option<AttributeIndex>>,
    /// Rejections that stood before this comparison.
    pub standing: Vec<Option<AttributeIndex>>,
    /// What IM should hold of each configured attribute; empty without a row that is present.
    pub desired: Vec<DesiredValue>,
    /// Attributes are in doubt, and no call can resolve that now.
    pub unresolvable: bool,
}

impl AccountDiff {
    /// The account.
    pub fn account(&self) -> &Account {
        &self.change.account
    }

    /// Whether there is something to send.
    pub fn sends(&self) -> bool {
        !self.change.set.is_empty() || !self.change.remove.is_empty()
    }

    /// The digest under which a rejection of the whole account is recorded. Few accounts are rejected, so it is not computed
    /// for the others.
    pub(super) fn desired_digest(&self, key: &DigestKey) -> i64 {
        if self.desired.is_empty() { 0 } else { key.of_desired_values(&self.desired) }
    }

    /// Whether something differs, and neither a rejection nor an unknown outcome explains it: the row has changed.
    pub(super) fn is_unexplained(&self) -> bool {
        let is_known = |attribute: &AttributeIndex| {
            let acknowledged = self.acknowledged.get(attribute.index());
            !acknowledged.is_some_and(AcknowledgedValue::in_doubt) && !self.standing.contains(&Some(*attribute))
        };
        let mut sent = self.change.set.iter().map(|(attribute, _)| attribute).chain(&self.change.remove);
        let loses_known_value =
            self.removal_waits && self.acknowledged.iter().any(|known| matches!(known, AcknowledgedValue::Value(_)));
        !self.standing.contains(&None) && (loses_known_value || sent.any(is_known))
    }

    /// Whether IM acknowledged a value of the account.
    pub(super) fn is_known(&self) -> bool {
        self.acknowledged.iter().any(|known| known.value().is_some())
    }

    /// Whether a delivery has to send or record something for the account.
    pub(super) fn needs_delivery(&self) -> bool {
        self.sends() || !self.given_up.is_empty() || !self.refused.is_empty() || !self.resolved.is_empty()
    }
}

/// Whether IM may hold a value of this attribute as far as the state knows. `--force` also removes attributes of which
/// nothing is known.
pub(super) fn may_be_held(acknowledged: &[AcknowledgedValue], attribute: AttributeIndex) -> bool {
    acknowledged.get(attribute.index()).is_some_and(AcknowledgedValue::may_be_held)
}

/// The accounts of a page, as they are compared.
#[derive(Debug)]
pub(super) struct PageRows {
    /// Rows of one snapshot.
    pub(super) rows: Rows,
    /// Accounts that were looked up and have no row.
    pub(super) missing: Vec<Account>,
    /// Accounts with a row that cannot be read. What IM holds for them stays.
    pub(super) unreadable: Vec<(Account, LocalRefusal)>,
}

/// Which standing rejections are tried again although the desired value is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RetryRejections {
    /// None of them.
    #[default]
    None,
    /// Those whose retry is due.
    Due,
    /// All of them: the accounts were named on the command line.
    All,
}

/// What becomes of the removals that a comparison finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovalMode {
    /// They are owed until the removal guard permits them.
    Owed,
    /// They are part of the change. `counted`: the guard has permitted them, and counts them for 24 hours.
    Permitted { counted: bool },
}

/// How a page is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompareOptions {
    /// What becomes of removals.
    pub(super) removals: RemovalMode,
    /// Which standing rejections are tried again.
    pub(super) retry: RetryRejections,
    /// Every attribute is sent again, whatever is acknowledged.
    pub(super) force: bool,
    /// What the outcomes of the calls tell the push stage about IM.
    pub(super) origin: ChangeOrigin,
    /// The page is one of a full pass over the table, whose differences may be repairs.
    pub(super) counts_repairs: bool,
    /// What the state need not be asked about the page.
    pub(super) absent: Absent,
}

/// What the state is known not to hold of the accounts of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Absent {
    /// No acknowledged value.
    pub(super) values: bool,
    /// No rejection.
    pub(super) rejections: bool,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            removals: RemovalMode::Owed,
            retry: RetryRejections::None,
            force: false,
            origin: ChangeOrigin::New,
            counts_repairs: false,
            absent: Absent::default(),
        }
    }
}

impl CompareOptions {
    /// One comparison that finds what all scans of a pass together send for an account: its changes, its removals and the
    /// retries that are due. For dry runs, which send nothing between the scans.
    pub(super) fn of_whole_pass(self) -> Self {
        let retry = match self.retry {
            RetryRejections::None | RetryRejections::Due => RetryRejections::Due,
            RetryRejections::All => RetryRejections::All,
        };
        Self { removals: RemovalMode::Permitted { counted: false }, retry, ..self }
    }
}

/// The result of comparing one page.
#[derive(Debug, Default)]
pub(super) struct PageDiff {
    /// Accounts that have something to send or to record, or that are in doubt.
    pub(super) diffs: Vec<AccountDiff>,
    /// Rows with a NULL or empty account.
    pub(super) without_account: usize,
    /// Accounts with a row that is not gone.
    pub(super) present: usize,
}
