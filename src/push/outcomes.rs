//! The outcomes of a delivery: one for every attribute of every account.
//!
//! Owns: the outcomes, and which accounts IM has answered for. Must not know: calls, batches, what a code means.

use std::collections::HashMap;

use super::batch::{BatchEntry, Operation};
use crate::im::Code;
use crate::model::{AccountOutcome, AttributeOutcome, Change};

/// The outcomes of one delivery so far.
#[derive(Debug)]
pub(super) struct DeliveryOutcomes<'a> {
    changes: &'a [Change],
    outcomes: Vec<AccountOutcome>,
    /// By the index of the change: its outcome was taken before the end of the delivery.
    taken: Vec<bool>,
    /// The codes with which IM refused an account, for each account that it answered for, by the index of its change.
    refusal_codes: HashMap<usize, Vec<Code>>,
}

/// What an answer adds to the counts of the pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NewlyAnswered {
    /// It is the first answer for the account.
    pub account: bool,
    /// The code of the refusal, where the account was not refused with it before.
    pub refused_with: Option<Code>,
}

impl<'a> DeliveryOutcomes<'a> {
    /// Every attribute begins as not sent.
    pub(super) fn new(changes: &'a [Change]) -> Self {
        let outcomes: Vec<AccountOutcome> = changes
            .iter()
            .map(|change| {
                let attributes = change.set.iter().map(|(attribute, _)| attribute).chain(&change.remove);
                let attributes = attributes.map(|attribute| (*attribute, AttributeOutcome::NotSent)).collect();
                AccountOutcome {
                    account: change.account.clone(),
                    attributes,
                    may_be_overwritten: false,
                    unanswered_alone: false,
                }
            })
            .collect();
        Self { changes, taken: vec![false; outcomes.len()], outcomes, refusal_codes: HashMap::new() }
    }

    /// The outcomes that were not taken before, in the order of the changes.
    pub(super) fn into_outcomes(self) -> Vec<AccountOutcome> {
        self.outcomes.into_iter().zip(self.taken).filter(|(_, taken)| !taken).map(|(outcome, _)| outcome).collect()
    }

    /// Takes the outcomes of accounts of which every attribute has one.
    pub(super) fn take_settled(&mut self) -> Vec<AccountOutcome> {
        let is_open = |outcome: &AccountOutcome| {
            outcome.attributes.iter().any(|(_, outcome)| matches!(outcome, AttributeOutcome::NotSent))
        };
        let mut settled = Vec::new();
        for (outcome, taken) in self.outcomes.iter().zip(&mut self.taken) {
            if !*taken && !is_open(outcome) {
                *taken = true;
                settled.push(outcome.clone());
            }
        }
        settled
    }

    /// The account was alone in its call, and IM gave no answer although it answered other calls.
    pub(super) fn note_unanswered_alone(&mut self, entry: BatchEntry) {
        self.outcomes[entry.change].unanswered_alone = true;
    }

    /// IM gave no answer for the entry that settles it.
    pub(super) fn record_unanswered(&mut self, op: Operation, entry: BatchEntry) {
        let outcome = if entry.may_be_applied { AttributeOutcome::Unknown } else { AttributeOutcome::NotSent };
        self.write(op, entry, &outcome);
    }

    /// IM accepted the entry. While an earlier call may still be applied, the outcome is provisional.
    pub(super) fn record_done(&mut self, op: Operation, entry: BatchEntry) -> NewlyAnswered {
        let provisional = entry.may_be_applied;
        self.write(op, entry, if provisional { &AttributeOutcome::Provisional } else { &AttributeOutcome::Done });
        NewlyAnswered { account: self.first_answer(entry), refused_with: None }
    }

    /// IM refused the entry with this code.
    pub(super) fn record_refused(
        &mut self,
        op: Operation,
        entry: BatchEntry,
        code: Code,
        refused: &AttributeOutcome,
    ) -> NewlyAnswered {
        self.write(op, entry, refused);
        let account = self.first_answer(entry);
        let codes = self.refusal_codes.entry(entry.change).or_default();
        let is_new = !codes.contains(&code);
        if is_new {
            codes.push(code);
        }
        NewlyAnswered { account, refused_with: is_new.then_some(code) }
    }

    fn first_answer(&mut self, entry: BatchEntry) -> bool {
        let first = !self.refusal_codes.contains_key(&entry.change);
        self.refusal_codes.entry(entry.change).or_default();
        first
    }

    fn write(&mut self, op: Operation, entry: BatchEntry, outcome: &AttributeOutcome) {
        let range = entry.outcome_range(op, &self.changes[entry.change]);
        let account = &mut self.outcomes[entry.change];
        account.may_be_overwritten |= entry.may_be_applied;
        for (_, written) in &mut account.attributes[range] {
            written.clone_from(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Account, AttributeIndex, VendorRefusal};

    fn changes() -> [Change; 1] {
        let set = (0..2).map(|attribute| (AttributeIndex(attribute), "value".into())).collect();
        [Change { account: Account::new("u"), set, remove: vec![AttributeIndex(2)] }]
    }

    fn attributes(outcomes: DeliveryOutcomes<'_>) -> Vec<AttributeOutcome> {
        outcomes.into_outcomes().remove(0).attributes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    #[test]
    fn an_entry_writes_its_own_attributes_only() {
        let changes = changes();
        let mut outcomes = DeliveryOutcomes::new(&changes);
        let second = BatchEntry { position: Some(1), ..BatchEntry::whole(0) };
        outcomes.record_done(Operation::Set, second);
        outcomes.record_unanswered(Operation::Remove, BatchEntry { may_be_applied: true, ..BatchEntry::whole(0) });
        let expected = [AttributeOutcome::NotSent, AttributeOutcome::Done, AttributeOutcome::Unknown];
        assert_eq!(attributes(outcomes), expected);
    }

    #[test]
    fn after_a_call_without_an_answer_done_is_provisional() {
        let changes = changes();
        let mut outcomes = DeliveryOutcomes::new(&changes);
        outcomes.record_done(Operation::Set, BatchEntry { may_be_applied: true, ..BatchEntry::whole(0) });
        let account = outcomes.into_outcomes().remove(0);
        assert!(account.may_be_overwritten);
        assert_eq!(account.attributes[0].1, AttributeOutcome::Provisional);
        assert_eq!(account.attributes[2].1, AttributeOutcome::NotSent);
    }

    #[test]
    fn an_account_counts_once_and_once_for_each_code() {
        let changes = changes();
        let mut outcomes = DeliveryOutcomes::new(&changes);
        let refusal = VendorRefusal { code: 70402, reason: "refused".to_owned(), of_account: false };
        let refused = AttributeOutcome::Refused(Arc::new(refusal));
        let entry = BatchEntry { position: Some(0), ..BatchEntry::whole(0) };
        let mut record = |code| outcomes.record_refused(Operation::Set, entry, Code::Vendor(code), &refused);
        let code = |code| Some(Code::Vendor(code));
        assert_eq!(record(70402), NewlyAnswered { account: true, refused_with: code(70402) });
        assert_eq!(record(70402), NewlyAnswered { account: false, refused_with: None });
        assert_eq!(record(90033), NewlyAnswered { account: false, refused_with: code(90033) });
        let done = outcomes.record_done(Operation::Remove, BatchEntry::whole(0));
        assert_eq!(done, NewlyAnswered { account: false, refused_with: None });
    }
}
