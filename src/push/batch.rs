//! Batches: which attributes of which accounts go together in one call, and how a batch comes apart.
//!
//! Owns: cutting changes into batches, halves, single accounts, single attributes. Must not know: calls and their answers.

use std::collections::VecDeque;
use std::ops::Range;

use super::attempt::Tries;
use super::sample::SampleId;
use crate::im::ApiCommand;
use crate::model::{Change, Slot};

/// What is done to attributes. A batch holds one kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Op {
    Set,
    Remove,
}

impl Op {
    pub(super) fn command(self) -> ApiCommand {
        match self {
            Self::Set => ApiCommand::SetAttr,
            Self::Remove => ApiCommand::RemoveAttr,
        }
    }

    fn len(self, change: &Change) -> usize {
        match self {
            Self::Set => change.set.len(),
            Self::Remove => change.remove.len(),
        }
    }
}

/// What a call carries of one account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Place of the change in the delivery.
    pub change: usize,
    /// One attribute by its place in `set` or `remove`; `None` for all of them.
    pub only: Option<usize>,
    /// An earlier call that carried it may have been applied.
    pub maybe: bool,
}

impl Part {
    /// Places in `set` or `remove`.
    pub(super) fn range(self, op: Op, change: &Change) -> Range<usize> {
        self.only.map_or(0..op.len(change), |at| at..at + 1)
    }

    /// Places among the fates, which list `set` and then `remove`.
    pub(super) fn fates(self, op: Op, change: &Change) -> Range<usize> {
        let range = self.range(op, change);
        match op {
            Op::Set => range,
            Op::Remove => range.start + change.set.len()..range.end + change.set.len(),
        }
    }

    pub(super) fn slots(self, op: Op, change: &Change) -> impl Iterator<Item = Slot> {
        self.range(op, change).map(move |at| match op {
            Op::Set => change.set[at].0,
            Op::Remove => change.remove[at],
        })
    }

    /// The slot, where it is only one.
    pub(super) fn only_slot(self, op: Op, change: &Change) -> Option<Slot> {
        let mut slots = self.slots(op, change);
        slots.next().filter(|_| slots.next().is_none())
    }
}

/// What one call carries, and what its accounts still wait for.
#[derive(Debug)]
pub(super) struct Batch {
    pub op: Op,
    /// Never two of one account.
    pub parts: Vec<Part>,
    /// The further attributes, last first, of the one account whose attributes are tried one by one:
    /// they follow one after the other, because two calls with one account are never in flight.
    pub rest: Vec<Part>,
    pub tries: Tries,
    /// When it runs out and nothing of the pass was accepted yet, somebody else is asked whether IM is there: no other
    /// batch waits that would tell.
    pub asks: bool,
    /// It came from a batch that was refused.
    pub piece: bool,
    /// The sample that its one account is of.
    pub sample: Option<SampleId>,
}

impl Batch {
    pub(super) fn new(op: Op, parts: Vec<Part>) -> Self {
        Self { op, parts, rest: Vec::new(), tries: Tries::default(), asks: false, piece: false, sample: None }
    }

    /// All that the changes hold of this kind.
    pub(super) fn cut(op: Op, changes: &[Change], users_per_call: usize) -> VecDeque<Self> {
        let parts: Vec<Part> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| op.len(change) > 0)
            .map(|(change, _)| Part { change, only: None, maybe: false })
            .collect();
        parts.chunks(users_per_call).map(|parts| Self::new(op, parts.to_vec())).collect()
    }

    /// Two halves of a batch of several accounts, with fresh patience.
    pub(super) fn halves(mut self) -> [Self; 2] {
        let second = self.parts.split_off(self.parts.len().div_ceil(2));
        [self.parts, second].map(|parts| Self { piece: true, ..Self::new(self.op, parts) })
    }

    /// The attributes of one account, one call after the other.
    pub(super) fn one_by_one(op: Op, part: Part, change: &Change) -> Option<Self> {
        let mut rest: Vec<Part> = part.range(op, change).rev().map(|at| Part { only: Some(at), ..part }).collect();
        let first = rest.pop()?;
        Some(Self { rest, ..Self::new(op, vec![first]) })
    }

    /// The next attribute of the account whose attributes are tried one by one.
    pub(super) fn next(op: Op, mut rest: Vec<Part>) -> Option<Self> {
        let part = rest.pop()?;
        Some(Self { rest, ..Self::new(op, vec![part]) })
    }
}
