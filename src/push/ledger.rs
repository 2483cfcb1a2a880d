//! The book of a delivery: the outcome of every attribute of every account.
//!
//! Owns: attributes, and which accounts were answered for. Must not know: calls, batches' ways, what a code means.

use std::collections::HashMap;

use super::Freshness;
use super::batch::{Op, Part};
use super::decide;
use super::session::Session;
use crate::im::Code;
use crate::model::{AccountOutcome, AttributeOutcome, Change};

#[derive(Debug)]
pub(super) struct Ledger<'a> {
    session: &'a Session,
    changes: &'a [Change],
    fresh: bool,
    outcomes: Vec<AccountOutcome>,
    /// The codes with which an account was refused, for those that were answered at all.
    answered: HashMap<usize, Vec<Code>>,
}

impl<'a> Ledger<'a> {
    /// Everything not sent.
    pub(super) fn new(session: &'a Session, changes: &'a [Change], freshness: Freshness) -> Self {
        let outcomes = changes
            .iter()
            .map(|change| {
                let attributes = change.set.iter().map(|(attribute, _)| attribute).chain(&change.remove);
                let attributes = attributes.map(|attribute| (*attribute, AttributeOutcome::NotSent)).collect();
                AccountOutcome { account: change.account.clone(), attributes, ghost: false }
            })
            .collect();
        Self { session, changes, fresh: freshness != Freshness::KnownRejection, outcomes, answered: HashMap::new() }
    }

    pub(super) fn close(self) -> Vec<AccountOutcome> {
        self.outcomes
    }

    /// IM has no answer for it, or none that settles it.
    pub(super) fn unsettled(&mut self, op: Op, part: Part) {
        let outcome = if part.maybe { AttributeOutcome::Unknown } else { AttributeOutcome::NotSent };
        self.write(op, part, &outcome);
    }

    /// IM has answered for it, with this code where it refused.
    pub(super) fn settled(&mut self, op: Op, part: Part, outcome: &AttributeOutcome, refused: Option<Code>) {
        let provisional = part.maybe && *outcome == AttributeOutcome::Done;
        self.write(op, part, if provisional { &AttributeOutcome::Provisional } else { outcome });
        if !self.fresh {
            return;
        }
        let first = !self.answered.contains_key(&part.change);
        let codes = self.answered.entry(part.change).or_default();
        let mut tally = self.session.tally();
        if first {
            tally.tried();
        }
        let Some(code) = refused.filter(|code| !codes.contains(code)) else { return };
        codes.push(code);
        tally.refused(code);
        let too_many = tally.too_many(code);
        drop(tally);
        if let Some(counts) = too_many {
            let allowed = self.session.pusher.limits.max_rejected_share;
            self.session.stop(decide::too_many(code, counts, allowed));
        }
    }

    fn write(&mut self, op: Op, part: Part, outcome: &AttributeOutcome) {
        let range = part.outcome_range(op, &self.changes[part.change]);
        let account = &mut self.outcomes[part.change];
        account.ghost |= part.maybe;
        for (_, written) in &mut account.attributes[range] {
            written.clone_from(outcome);
        }
    }
}
