//! How a refused batch comes apart: in halves, or account by account where that is cheaper.
//!
//! Owns: which way it goes. Must not know: calls, what an account is refused for, attributes.
//!
//! Halving finds one culprit among a hundred with 14 calls, and a hundred culprits with 198. From about a fifth
//! on it is cheaper to try each alone, and from 38 % on nothing is cheaper than that (Ungar 1960: (3 − √5) / 2). Which of
//! the two a batch is, a sample of it tells.

use super::batch::{Batch, BatchEntry, Operation};

/// One of so many accounts of the batch goes into the sample.
const ONE_IN: usize = 5;
/// Batches of fewer are halved: little can be saved.
const FEWEST: usize = 4;

/// Samples under way, in one delivery.
#[derive(Debug, Default)]
pub(super) struct Samples {
    open: Vec<Option<Sample>>,
}

/// The number of a sample in its delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SampleId(usize);

#[derive(Debug)]
struct Sample {
    op: Operation,
    /// Those of the batch that are not in the sample.
    rest: Vec<BatchEntry>,
    /// Accounts that stand alone.
    chosen: usize,
    waiting: usize,
    refused: usize,
}

impl Sample {
    /// So many were refused that the rest alone costs no more than halving may cost for these culprits: two calls for
    /// each at each halving. Of a batch of 100, that is 6 of 20.
    fn mostly_bad(&self) -> bool {
        let accounts = self.chosen + self.rest.len();
        let halvings = usize::try_from(accounts.next_power_of_two().ilog2()).unwrap_or(usize::MAX);
        self.refused * 2 * halvings >= self.rest.len()
    }
}

impl Samples {
    /// What a batch of several that IM refused is sent as next. `suspicious`: many of its accounts may be bad. A batch is
    /// sampled once at most; its pieces are halved.
    pub(super) fn apart(&mut self, batch: Batch, suspicious: bool) -> Vec<Batch> {
        let accounts = batch.parts.len();
        if !suspicious || batch.piece || accounts < FEWEST {
            return batch.halves().into();
        }
        let op = batch.op;
        // Spread over the batch: neighbours are often alike.
        let (sample, rest): (Vec<_>, Vec<_>) =
            batch.parts.into_iter().enumerate().partition(|(place, _)| place % ONE_IN == 0);
        let id = SampleId(self.open.len());
        let rest = rest.into_iter().map(|(_, part)| part).collect();
        self.open.push(Some(Sample { op, rest, chosen: sample.len(), waiting: sample.len(), refused: 0 }));
        sample.into_iter().map(|(_, part)| Batch { sample: Some(id), ..Batch::new(op, vec![part]) }).collect()
    }

    /// One of a sample was answered. After the last: what the rest of its batch is sent as.
    pub(super) fn answered(&mut self, id: SampleId, refused: bool) -> Vec<Batch> {
        let Some(place) = self.open.get_mut(id.0) else { return Vec::new() };
        let Some(sample) = place else { return Vec::new() };
        sample.waiting -= 1;
        sample.refused += usize::from(refused);
        if sample.waiting > 0 {
            return Vec::new();
        }
        let Some(sample) = place.take() else { return Vec::new() };
        if sample.mostly_bad() {
            sample.rest.iter().map(|part| Batch::new(sample.op, vec![*part])).collect()
        } else {
            Batch::new(sample.op, sample.rest).halves().into()
        }
    }

    /// The accounts that wait for a sample's outcome, which will not come any more.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = BatchEntry> {
        self.open.iter_mut().filter_map(Option::take).flat_map(|sample| sample.rest).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(accounts: usize) -> Batch {
        Batch::new(
            Operation::Set,
            (0..accounts).map(|change| BatchEntry { change, only: None, maybe: false }).collect(),
        )
    }

    fn sizes(batches: &[Batch]) -> Vec<usize> {
        batches.iter().map(|batch| batch.parts.len()).collect()
    }

    /// The rest of a batch of which so many of the sample were refused.
    fn rest(accounts: usize, refused: usize) -> Vec<Batch> {
        let mut samples = Samples::default();
        let alone = samples.apart(batch(accounts), true);
        assert!(alone.iter().all(|single| single.parts.len() == 1));
        let mut rest = Vec::new();
        for (number, single) in alone.iter().enumerate() {
            assert!(rest.is_empty(), "nothing goes before the last is answered");
            rest = samples.answered(single.sample.expect("of the sample"), number < refused);
        }
        let mut all: Vec<usize> = alone.iter().chain(&rest).flat_map(|b| &b.parts).map(|part| part.change).collect();
        all.sort_unstable();
        assert_eq!(all, (0..accounts).collect::<Vec<_>>(), "everybody goes once");
        assert_eq!(samples.abandon().count(), 0);
        rest
    }

    #[test]
    fn an_unsuspicious_batch_and_a_piece_are_halved() {
        let mut samples = Samples::default();
        assert_eq!(sizes(&samples.apart(batch(100), false)), [50, 50]);
        let piece = samples.apart(batch(100), false).remove(0);
        assert_eq!(sizes(&samples.apart(piece, true)), [25, 25]);
        assert_eq!(sizes(&samples.apart(batch(3), true)), [2, 1]);
    }

    #[test]
    fn the_rest_goes_in_halves_or_alone() {
        assert_eq!(sizes(&rest(100, 0)), [40, 40]);
        assert_eq!(sizes(&rest(100, 5)), [40, 40]);
        assert_eq!(sizes(&rest(100, 6)), [1; 80]);
        for accounts in 4..=100 {
            assert_eq!(rest(accounts, 0).len(), 2);
            let singles = rest(accounts, accounts).len();
            assert_eq!(singles, accounts - accounts.div_ceil(ONE_IN), "of {accounts}");
        }
    }

    #[test]
    fn an_abandoned_sample_gives_its_rest_back() {
        let mut samples = Samples::default();
        let alone = samples.apart(batch(10), true);
        samples.answered(alone[0].sample.expect("of the sample"), true);
        assert_eq!(samples.abandon().count(), 8);
        assert!(samples.answered(alone[1].sample.expect("of the sample"), true).is_empty());
    }
}
