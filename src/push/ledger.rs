//! The book of a delivery: the fate of every attribute of every account.
//!
//! Owns: fates, and which accounts were answered for. Must not know: calls, batches' ways, what a code means.

use std::collections::HashMap;

use super::Freshness;
use super::batch::{Op, Part};
use super::decide;
use super::session::Session;
use crate::im::Code;
use crate::model::{Change, Fate, Outcome};

#[derive(Debug)]
pub(super) struct Ledger<'a> {
    session: &'a Session,
    changes: &'a [Change],
    fresh: bool,
    outcomes: Vec<Outcome>,
    /// The codes with which an account was refused, for those that were answered at all.
    answered: HashMap<usize, Vec<Code>>,
}

impl<'a> Ledger<'a> {
    /// Everything not sent.
    pub(super) fn new(session: &'a Session, changes: &'a [Change], freshness: Freshness) -> Self {
        let outcomes = changes
            .iter()
            .map(|change| {
                let slots = change.set.iter().map(|(slot, _)| slot).chain(&change.remove);
                let fates = slots.map(|slot| (*slot, Fate::NotSent)).collect();
                Outcome { account: change.account.clone(), fates, ghost: false }
            })
            .collect();
        Self { session, changes, fresh: freshness != Freshness::KnownRejection, outcomes, answered: HashMap::new() }
    }

    pub(super) fn close(self) -> Vec<Outcome> {
        self.outcomes
    }

    /// IM has no answer for it, or none that settles it.
    pub(super) fn unsettled(&mut self, op: Op, part: Part) {
        let fate = if part.maybe { Fate::Unknown } else { Fate::NotSent };
        self.write(op, part, &fate);
    }

    /// IM has answered for it, with this code where it refused.
    pub(super) fn settled(&mut self, op: Op, part: Part, fate: &Fate, refused: Option<Code>) {
        let provisional = part.maybe && *fate == Fate::Done;
        self.write(op, part, if provisional { &Fate::Provisional } else { fate });
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

    fn write(&mut self, op: Op, part: Part, fate: &Fate) {
        let places = part.fates(op, &self.changes[part.change]);
        let outcome = &mut self.outcomes[part.change];
        outcome.ghost |= part.maybe;
        for (_, written) in &mut outcome.fates[places] {
            written.clone_from(fate);
        }
    }
}
