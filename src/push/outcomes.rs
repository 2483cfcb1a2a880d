//! The book of a delivery: the outcome of every attribute of every account.
//!
//! Owns: attributes, and which accounts were answered for. Must not know: calls, batches' ways, what a code means.

use std::collections::HashMap;

use super::ChangeOrigin;
use super::batch::{BatchEntry, Operation};
use super::decide;
use super::session::PushSession;
use crate::im::Code;
use crate::model::{AccountOutcome, AttributeOutcome, Change};

#[derive(Debug)]
pub(super) struct DeliveryOutcomes<'a> {
    session: &'a PushSession,
    changes: &'a [Change],
    fresh: bool,
    outcomes: Vec<AccountOutcome>,
    /// The codes with which an account was refused, for those that were answered at all.
    answered: HashMap<usize, Vec<Code>>,
}

impl<'a> DeliveryOutcomes<'a> {
    /// Everything not sent.
    pub(super) fn new(session: &'a PushSession, changes: &'a [Change], origin: ChangeOrigin) -> Self {
        let outcomes = changes
            .iter()
            .map(|change| {
                let attributes = change.set.iter().map(|(attribute, _)| attribute).chain(&change.remove);
                let attributes = attributes.map(|attribute| (*attribute, AttributeOutcome::NotSent)).collect();
                AccountOutcome { account: change.account.clone(), attributes, may_be_overwritten: false }
            })
            .collect();
        Self { session, changes, fresh: origin != ChangeOrigin::RejectionRetry, outcomes, answered: HashMap::new() }
    }

    pub(super) fn close(self) -> Vec<AccountOutcome> {
        self.outcomes
    }

    /// IM has no answer for it, or none that settles it.
    pub(super) fn unsettled(&mut self, op: Operation, part: BatchEntry) {
        let outcome = if part.maybe { AttributeOutcome::Unknown } else { AttributeOutcome::NotSent };
        self.write(op, part, &outcome);
    }

    /// IM has answered for it, with this code where it refused.
    pub(super) fn settled(
        &mut self,
        op: Operation,
        part: BatchEntry,
        outcome: &AttributeOutcome,
        refused: Option<Code>,
    ) {
        let provisional = part.maybe && *outcome == AttributeOutcome::Done;
        self.write(op, part, if provisional { &AttributeOutcome::Provisional } else { outcome });
        if !self.fresh {
            return;
        }
        let first = !self.answered.contains_key(&part.change);
        let codes = self.answered.entry(part.change).or_default();
        let mut stats = self.session.stats();
        if first {
            stats.tried();
        }
        let Some(code) = refused.filter(|code| !codes.contains(code)) else { return };
        codes.push(code);
        stats.refused(code);
        let too_many = stats.too_many(code);
        drop(stats);
        if let Some(counts) = too_many {
            let allowed = self.session.pusher.limits.max_rejected_share;
            self.session.stop(decide::too_many(code, counts, allowed));
        }
    }

    fn write(&mut self, op: Operation, part: BatchEntry, outcome: &AttributeOutcome) {
        let range = part.outcome_range(op, &self.changes[part.change]);
        let account = &mut self.outcomes[part.change];
        account.may_be_overwritten |= part.maybe;
        for (_, written) in &mut account.attributes[range] {
            written.clone_from(outcome);
        }
    }
}
