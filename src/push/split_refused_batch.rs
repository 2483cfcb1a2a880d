//! How a refused batch is split: in halves, account by account, or attribute by attribute.
//!
//! Owns: the choice between these, and the samples on which it is based. Must not know: calls, codes.
//!
//! Halving finds one refused account of a hundred with 14 calls, and a hundred of them with 198. From about a fifth on
//! it is cheaper to send each account alone, and from 38 % on nothing is cheaper than that (Ungar 1960: (3 − √5) / 2).
//! A sample of the batch shows which of the two is cheaper.

use std::time::Duration;

use super::attempts::Attempts;
use super::batch::{Batch, BatchEntry, Operation, SampleId};
use crate::clock::monotonic;
use crate::model::Change;

/// One of this many accounts of a batch is in the sample.
const SAMPLE_INTERVAL: usize = 5;
/// Smaller batches are halved without a sample, which could save little.
const MIN_SAMPLED_ACCOUNTS: usize = 4;

/// Splits the refused batches of one delivery.
#[derive(Debug, Default)]
pub(super) struct RefusedBatchSplitter {
    /// By [`SampleId`]; `None` once all accounts of the sample were answered.
    samples: Vec<Option<BatchSample>>,
}

/// Accounts of a refused batch that are sent alone before the others.
#[derive(Debug)]
struct BatchSample {
    op: Operation,
    /// The entries of the batch that are not in the sample.
    others: Vec<BatchEntry>,
    /// Accounts in the sample.
    size: usize,
    unanswered: usize,
    refused: usize,
    /// The service of accounts was asked about the batch.
    is_looked_up: bool,
}

impl BatchSample {
    /// So many were refused that sending the others alone costs no more than halving may cost for the refused ones of
    /// the sample: two calls for each of them at each halving. Of a batch of 100 these are 6 of 20.
    fn is_mostly_refused(&self) -> bool {
        let accounts = self.size + self.others.len();
        let halvings = usize::try_from(accounts.next_power_of_two().ilog2()).unwrap_or(usize::MAX);
        self.refused * 2 * halvings >= self.others.len()
    }
}

impl RefusedBatchSplitter {
    /// Splits a batch of several accounts that IM refused. `many_refused_likely`: many of its accounts may be refused,
    /// so a sample is taken first. A half of a batch is never sampled again.
    pub(super) fn split(&mut self, batch: Batch, many_refused_likely: bool) -> Vec<Batch> {
        let accounts = batch.entries.len();
        if !many_refused_likely || batch.is_split || accounts < MIN_SAMPLED_ACCOUNTS {
            return halves(batch).into();
        }
        let op = batch.op;
        let is_looked_up = batch.is_looked_up();
        // Spread over the batch, because neighbours are often alike.
        let (sample, others): (Vec<_>, Vec<_>) =
            batch.entries.into_iter().enumerate().partition(|(index, _)| index % SAMPLE_INTERVAL == 0);
        let id = SampleId(self.samples.len());
        let others = others.into_iter().map(|(_, entry)| entry).collect();
        self.samples.push(Some(BatchSample {
            op,
            others,
            size: sample.len(),
            unanswered: sample.len(),
            refused: 0,
            is_looked_up,
        }));
        let single = |entry| Batch { sample: Some(id), ..Batch::part(op, vec![entry], is_looked_up) };
        sample.into_iter().map(|(_, entry)| single(entry)).collect()
    }

    /// An account of a sample was answered. After the last one, returns the batches in which the others are sent.
    pub(super) fn sample_answered(&mut self, id: SampleId, refused: bool) -> Vec<Batch> {
        let Some(place) = self.samples.get_mut(id.0) else { return Vec::new() };
        let Some(sample) = place else { return Vec::new() };
        sample.unanswered -= 1;
        sample.refused += usize::from(refused);
        if sample.unanswered > 0 {
            return Vec::new();
        }
        let Some(sample) = place.take() else { return Vec::new() };
        if sample.is_mostly_refused() {
            let single = |entry: &BatchEntry| Batch::part(sample.op, vec![*entry], sample.is_looked_up);
            sample.others.iter().map(single).collect()
        } else {
            halves(Batch::part(sample.op, sample.others, sample.is_looked_up)).into()
        }
    }

    /// Ends all samples. Returns the accounts that waited for their results.
    pub(super) fn abandon(&mut self) -> Vec<BatchEntry> {
        self.samples.iter_mut().filter_map(Option::take).flat_map(|sample| sample.others).collect()
    }
}

/// Two halves of a batch of several accounts. Their attempts are counted anew.
pub(super) fn halves(mut batch: Batch) -> [Batch; 2] {
    let second = batch.entries.split_off(batch.entries.len().div_ceil(2));
    let is_looked_up = batch.is_looked_up();
    [batch.entries, second].map(|entries| Batch { is_split: true, ..Batch::part(batch.op, entries, is_looked_up) })
}

/// A batch that IM did not answer although it answered others: in so many parts, which continue its attempts. The accounts
/// are found in two rounds of 10 s each, where halving a batch of 100 would take seven.
const STALLED_PARTS: usize = 10;

/// The parts of a batch of several accounts that IM did not answer although it answered others. `single_attempt`: each part
/// is sent once.
pub(super) fn stalled_parts(batch: &Batch, single_attempt: bool) -> Vec<Batch> {
    let attempts =
        Attempts { pause: Duration::ZERO, single_attempt, split_at: Some(monotonic()), ..batch.attempts.clone() };
    let size = batch.entries.len().div_ceil(STALLED_PARTS);
    let part = |entries: &[BatchEntry]| Batch {
        is_split: true,
        attempts: attempts.clone(),
        ..Batch::new(batch.op, entries.to_vec())
    };
    batch.entries.chunks(size).map(part).collect()
}

/// The attributes of one account, each in a call of its own.
pub(super) fn one_by_one(op: Operation, entry: BatchEntry, change: &Change) -> Option<Batch> {
    let attributes = entry.range(op, change).rev();
    next_attribute(op, attributes.map(|index| BatchEntry { position: Some(index), ..entry }).collect())
}

/// The batch with the last of these attributes of one account; the others follow it.
pub(super) fn next_attribute(op: Operation, mut attributes: Vec<BatchEntry>) -> Option<Batch> {
    let entry = attributes.pop()?;
    Some(Batch { next_attributes: attributes, ..Batch::new(op, vec![entry]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Account, AttributeIndex};

    fn batch(accounts: usize) -> Batch {
        Batch::new(Operation::Set, (0..accounts).map(BatchEntry::whole).collect())
    }

    fn sizes(batches: &[Batch]) -> Vec<usize> {
        batches.iter().map(|batch| batch.entries.len()).collect()
    }

    /// The batches that follow the sample of a batch, when this many accounts of the sample are refused.
    fn after_sample(accounts: usize, refused: usize) -> Vec<Batch> {
        let mut splitter = RefusedBatchSplitter::default();
        let sample = splitter.split(batch(accounts), true);
        assert!(sample.iter().all(|single| single.entries.len() == 1));
        let mut others = Vec::new();
        for (number, single) in sample.iter().enumerate() {
            assert!(others.is_empty(), "nothing is sent before the last is answered");
            others = splitter.sample_answered(single.sample.expect("of the sample"), number < refused);
        }
        let mut all: Vec<usize> =
            sample.iter().chain(&others).flat_map(|batch| &batch.entries).map(|entry| entry.change).collect();
        all.sort_unstable();
        assert_eq!(all, (0..accounts).collect::<Vec<_>>(), "every account is sent once");
        assert_eq!(splitter.abandon().len(), 0);
        others
    }

    #[test]
    fn halves_and_batches_with_few_refusals_are_halved() {
        let mut splitter = RefusedBatchSplitter::default();
        assert_eq!(sizes(&splitter.split(batch(100), false)), [50, 50]);
        let half = splitter.split(batch(100), false).remove(0);
        assert_eq!(sizes(&splitter.split(half, true)), [25, 25]);
        assert_eq!(sizes(&splitter.split(batch(3), true)), [2, 1]);
    }

    #[test]
    fn after_a_sample_the_others_go_in_halves_or_alone() {
        assert_eq!(sizes(&after_sample(100, 0)), [40, 40]);
        assert_eq!(sizes(&after_sample(100, 5)), [40, 40]);
        assert_eq!(sizes(&after_sample(100, 6)), [1; 80]);
        for accounts in 4..=100 {
            assert_eq!(after_sample(accounts, 0).len(), 2);
            let singles = after_sample(accounts, accounts).len();
            assert_eq!(singles, accounts - accounts.div_ceil(SAMPLE_INTERVAL), "of {accounts}");
        }
    }

    #[test]
    fn an_abandoned_sample_returns_the_other_accounts() {
        let mut splitter = RefusedBatchSplitter::default();
        let sample = splitter.split(batch(10), true);
        splitter.sample_answered(sample[0].sample.expect("of the sample"), true);
        assert_eq!(splitter.abandon().len(), 8);
        assert!(splitter.sample_answered(sample[1].sample.expect("of the sample"), true).is_empty());
    }

    #[test]
    fn attributes_are_sent_one_by_one_in_their_order() {
        let set = (0..3).map(|attribute| (AttributeIndex(attribute), "value".into())).collect();
        let change = Change { account: Account::new("u"), set, remove: Vec::new() };
        let mut positions = Vec::new();
        let mut next = one_by_one(Operation::Set, BatchEntry::whole(0), &change);
        while let Some(batch) = next {
            positions.extend(batch.entries.iter().map(|entry| entry.position));
            next = next_attribute(Operation::Set, batch.next_attributes);
        }
        assert_eq!(positions, [Some(0), Some(1), Some(2)]);
    }
}
