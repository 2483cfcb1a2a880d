//! Batches: which attributes of which accounts go together in one call, and how a batch comes apart.
//!
//! Owns: cutting changes into batches, halves, single accounts, single attributes. Must not know: calls and their answers.

use std::collections::VecDeque;
use std::ops::Range;

use super::attempt::Attempts;
use super::sample::SampleId;
use crate::im::Command;
use crate::model::{AttributeIndex, Change};

/// What is done to attributes. A batch holds one kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Operation {
    Set,
    Remove,
}

impl Operation {
    pub(super) fn command(self) -> Command {
        match self {
            Self::Set => Command::SetAttr,
            Self::Remove => Command::RemoveAttr,
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
pub(super) struct BatchEntry {
    /// Place of the change in the delivery.
    pub change: usize,
    /// One attribute by its place in `set` or `remove`; `None` for all of them.
    pub only: Option<usize>,
    /// An earlier call that carried it may have been applied.
    pub maybe: bool,
}

impl BatchEntry {
    /// Places in `set` or `remove`.
    pub(super) fn range(self, op: Operation, change: &Change) -> Range<usize> {
        self.only.map_or(0..op.len(change), |at| at..at + 1)
    }

    /// Positions in [`AccountOutcome::attributes`](crate::model::AccountOutcome), which lists `set` and then `remove`.
    pub(super) fn outcome_range(self, op: Operation, change: &Change) -> Range<usize> {
        let range = self.range(op, change);
        match op {
            Operation::Set => range,
            Operation::Remove => range.start + change.set.len()..range.end + change.set.len(),
        }
    }

    pub(super) fn attributes(self, op: Operation, change: &Change) -> impl Iterator<Item = AttributeIndex> {
        self.range(op, change).map(move |at| match op {
            Operation::Set => change.set[at].0,
            Operation::Remove => change.remove[at],
        })
    }

    /// The attribute, where it is only one.
    pub(super) fn only_attribute(self, op: Operation, change: &Change) -> Option<AttributeIndex> {
        let mut attributes = self.attributes(op, change);
        attributes.next().filter(|_| attributes.next().is_none())
    }
}

/// What one call carries, and what its accounts still wait for.
#[derive(Debug)]
pub(super) struct Batch {
    pub op: Operation,
    /// Never two of one account.
    pub parts: Vec<BatchEntry>,
    /// The further attributes, last first, of the one account whose attributes are tried one by one:
    /// they follow one after the other, because two calls with one account are never in flight.
    pub rest: Vec<BatchEntry>,
    pub attempts: Attempts,
    /// When it runs out and nothing of the pass was accepted yet, somebody else is asked whether IM is there: no other
    /// batch waits that would tell.
    pub asks: bool,
    /// It came from a batch that was refused.
    pub piece: bool,
    /// The sample that its one account is of.
    pub sample: Option<SampleId>,
}

impl Batch {
    pub(super) fn new(op: Operation, parts: Vec<BatchEntry>) -> Self {
        Self { op, parts, rest: Vec::new(), attempts: Attempts::default(), asks: false, piece: false, sample: None }
    }

    /// All that the changes hold of this kind.
    pub(super) fn cut(op: Operation, changes: &[Change], users_per_call: usize) -> VecDeque<Self> {
        let parts: Vec<BatchEntry> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| op.len(change) > 0)
            .map(|(change, _)| BatchEntry { change, only: None, maybe: false })
            .collect();
        parts.chunks(users_per_call).map(|parts| Self::new(op, parts.to_vec())).collect()
    }

    /// Two halves of a batch of several accounts, with fresh patience.
    pub(super) fn halves(mut self) -> [Self; 2] {
        let second = self.parts.split_off(self.parts.len().div_ceil(2));
        [self.parts, second].map(|parts| Self { piece: true, ..Self::new(self.op, parts) })
    }

    /// The attributes of one account, one call after the other.
    pub(super) fn one_by_one(op: Operation, part: BatchEntry, change: &Change) -> Option<Self> {
        let mut rest: Vec<BatchEntry> =
            part.range(op, change).rev().map(|at| BatchEntry { only: Some(at), ..part }).collect();
        let first = rest.pop()?;
        Some(Self { rest, ..Self::new(op, vec![first]) })
    }

    /// The next attribute of the account whose attributes are tried one by one.
    pub(super) fn next(op: Operation, mut rest: Vec<BatchEntry>) -> Option<Self> {
        let part = rest.pop()?;
        Some(Self { rest, ..Self::new(op, vec![part]) })
    }
}
