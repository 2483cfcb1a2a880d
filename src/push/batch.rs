//! Batches: which attributes of which accounts one call carries.
//!
//! Owns: the origin of changes, operations, batches and their entries, cutting changes into batches.
//! Must not know: calls and answers, how a refused batch is split.

use std::collections::VecDeque;
use std::ops::Range;

use super::attempts::Attempts;
use crate::im::{Accepted, ApiCommand, CallError};
use crate::model::{AttributeIndex, Change, VendorRefusal};

/// Where the changes of a delivery come from. It decides whether their answers count when the push stage looks for the
/// cause of refusals, and how often their calls are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOrigin {
    /// The source differs from what IM acknowledged. Retried for `retry_for`.
    New,
    /// An earlier call has no known outcome. One attempt for each call, so that an account whose calls always time out
    /// is not taken for an outage.
    UnknownOutcome,
    /// As [`UnknownOutcome`](Self::UnknownOutcome), of an account that was alone in its last call and had no answer.
    /// Each account is sent in a call of its own.
    Unresponsive,
    /// A further attempt for standing rejections. Its answers never count.
    RejectionRetry,
    /// As [`RejectionRetry`](Self::RejectionRetry), of accounts that Chat did not know. They are looked up there first.
    UnknownAccountRetry,
}

impl ChangeOrigin {
    /// The outcome of an earlier call is unknown.
    pub fn is_in_doubt(self) -> bool {
        matches!(self, Self::UnknownOutcome | Self::Unresponsive)
    }

    /// Answers count when the push stage looks for the cause of refusals or of silence.
    pub(super) fn counts(self) -> bool {
        !matches!(self, Self::RejectionRetry | Self::UnknownAccountRetry)
    }
}

/// What is done to attributes. All entries of a batch have the same operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Operation {
    Set,
    Remove,
}

impl Operation {
    pub(super) const ALL: [Self; 2] = [Self::Set, Self::Remove];

    pub(super) fn command(self) -> ApiCommand {
        match self {
            Self::Set => ApiCommand::SetAttr,
            Self::Remove => ApiCommand::RemoveAttr,
        }
    }

    /// The number of attributes that the change sets or removes.
    fn len(self, change: &Change) -> usize {
        match self {
            Self::Set => change.set.len(),
            Self::Remove => change.remove.len(),
        }
    }
}

/// What a call carries of one account.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchEntry {
    /// Index of the change in the delivery.
    pub change: usize,
    /// The position in `set` or `remove` of the only attribute that the entry carries; `None` for all of them.
    pub position: Option<usize>,
    /// An earlier call with this entry may have been applied.
    pub may_be_applied: bool,
}

impl BatchEntry {
    /// All attributes that the change sets or removes.
    pub(super) fn whole(change: usize) -> Self {
        Self { change, position: None, may_be_applied: false }
    }

    /// Positions in `set` or `remove`.
    pub(super) fn range(self, op: Operation, change: &Change) -> Range<usize> {
        self.position.map_or(0..op.len(change), |index| index..index + 1)
    }

    /// Positions in [`AccountOutcome::attributes`](crate::model::AccountOutcome), which lists `set` and then `remove`.
    pub(super) fn outcome_range(self, op: Operation, change: &Change) -> Range<usize> {
        let range = self.range(op, change);
        match op {
            Operation::Set => range,
            Operation::Remove => range.start + change.set.len()..range.end + change.set.len(),
        }
    }

    /// The attributes that the entry carries.
    pub(super) fn attributes(self, op: Operation, change: &Change) -> impl Iterator<Item = AttributeIndex> {
        self.range(op, change).map(move |index| match op {
            Operation::Set => change.set[index].0,
            Operation::Remove => change.remove[index],
        })
    }

    /// The attribute that the entry carries; `None` where it carries several.
    pub(super) fn single_attribute(self, op: Operation, change: &Change) -> Option<AttributeIndex> {
        let mut attributes = self.attributes(op, change);
        attributes.next().filter(|_| attributes.next().is_none())
    }
}

/// Identifies a sample of a refused batch within its delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SampleId(pub(super) usize);

/// Whether the vendor's service of accounts tells which accounts of a batch Chat does not know.
#[derive(Debug)]
pub(super) enum AccountLookup {
    /// It has not been needed so far.
    NotNeeded,
    /// It does so before the batch is sent, because all of its accounts were unknown when they were sent last.
    First,
    /// It does so before the batch is sent again. IM refused the batch with this error.
    AfterRefusal(Box<CallError>),
    /// As [`AfterRefusal`](Self::AfterRefusal). The batch holds the accounts that IM listed in this answer.
    AfterListing(Box<Accepted>),
    /// It has done so. A further refusal is not looked up again.
    Done,
}

/// What one call carries.
#[derive(Debug)]
pub(super) struct Batch {
    pub op: Operation,
    /// No account occurs twice.
    pub entries: Vec<BatchEntry>,
    /// The attributes that follow, last first, when the attributes of one account are sent one by one. Each waits for
    /// the answer to the one before, because two calls with one account are never in flight together.
    pub next_attributes: Vec<BatchEntry>,
    pub attempts: Attempts,
    /// When the attempts run out and IM has accepted nothing in this pass, a read shows whether IM is reachable.
    /// Set where no other waiting batch would show it.
    pub checks_im: bool,
    /// How many calls had reached IM in this pass when the batch was answered.
    pub passed_before: u64,
    /// The batch is a half of a refused batch.
    pub is_split: bool,
    /// The sample to which the batch, with its one account, belongs.
    pub sample: Option<SampleId>,
    pub lookup: AccountLookup,
    /// Entries of accounts that Chat does not know. They were not sent.
    pub unknown: Vec<(BatchEntry, VendorRefusal)>,
}

impl Batch {
    pub(super) fn new(op: Operation, entries: Vec<BatchEntry>) -> Self {
        Self {
            op,
            entries,
            next_attributes: Vec::new(),
            attempts: Attempts::default(),
            checks_im: false,
            passed_before: 0,
            is_split: false,
            sample: None,
            lookup: AccountLookup::NotNeeded,
            unknown: Vec::new(),
        }
    }

    /// A part of a batch. `is_looked_up`: the service of accounts was asked about the batch, and is not asked again.
    pub(super) fn part(op: Operation, entries: Vec<BatchEntry>, is_looked_up: bool) -> Self {
        let lookup = if is_looked_up { AccountLookup::Done } else { AccountLookup::NotNeeded };
        Self { lookup, ..Self::new(op, entries) }
    }

    /// The service of accounts was asked about the batch.
    pub(super) fn is_looked_up(&self) -> bool {
        matches!(self.lookup, AccountLookup::Done)
    }

    /// Cuts all that the changes set or remove into batches of at most `users_per_call` accounts.
    pub(super) fn cut(op: Operation, changes: &[Change], users_per_call: usize) -> VecDeque<Self> {
        let entries: Vec<BatchEntry> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| op.len(change) > 0)
            .map(|(index, _)| BatchEntry::whole(index))
            .collect();
        entries.chunks(users_per_call).map(|entries| Self::new(op, entries.to_vec())).collect()
    }

    /// All entries that have no answer yet.
    pub(super) fn into_unanswered(self) -> impl Iterator<Item = BatchEntry> {
        self.entries.into_iter().chain(self.next_attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Account;

    fn change(sets: u16, removes: u16) -> Change {
        Change {
            account: Account::new("u"),
            set: (0..sets).map(|attribute| (AttributeIndex(attribute), "value".into())).collect(),
            remove: (sets..sets + removes).map(AttributeIndex).collect(),
        }
    }

    #[test]
    fn a_cut_skips_changes_without_the_operation() {
        let changes = [change(1, 0), change(0, 1), change(2, 1), change(1, 0)];
        let cut = |op, size| -> Vec<Vec<usize>> {
            let batches = Batch::cut(op, &changes, size);
            batches.iter().map(|batch| batch.entries.iter().map(|entry| entry.change).collect()).collect()
        };
        assert_eq!(cut(Operation::Set, 2), [vec![0, 2], vec![3]]);
        assert_eq!(cut(Operation::Remove, 2), [vec![1, 2]]);
    }

    #[test]
    fn an_entry_knows_its_attributes_and_outcomes() {
        let change = change(2, 3);
        let whole = BatchEntry::whole(0);
        assert_eq!(whole.outcome_range(Operation::Set, &change), 0..2);
        assert_eq!(whole.outcome_range(Operation::Remove, &change), 2..5);
        assert_eq!(whole.single_attribute(Operation::Set, &change), None);
        let single = BatchEntry { position: Some(1), ..whole };
        assert_eq!(single.outcome_range(Operation::Remove, &change), 3..4);
        assert_eq!(single.single_attribute(Operation::Remove, &change), Some(AttributeIndex(3)));
    }
}
