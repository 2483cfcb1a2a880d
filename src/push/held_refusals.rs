//! Refusals whose cause is unclear: they wait until more is known.
//!
//! Owns: the refusals that wait, the suspects that a probe must check. Must not know: calls, how a refusal is recorded.

use std::sync::Arc;

use super::batch::BatchEntry;
use super::refusal_stats::{RefusalCause, RefusalStats, Suspect};
use crate::model::VendorRefusal;

/// A refusal of an account or attribute that was alone in its call.
#[derive(Debug)]
pub(super) struct HeldRefusal {
    pub entry: BatchEntry,
    pub suspect: Suspect,
    /// The number of [`RefusalStats::passed`] at the time of the refusal.
    pub passed_before: u64,
    pub refusal: Arc<VendorRefusal>,
}

impl HeldRefusal {
    fn cause(&self, stats: &RefusalStats) -> RefusalCause {
        stats.cause(self.suspect, self.passed_before)
    }
}

/// The refusals of one delivery whose cause is unclear.
#[derive(Debug, Default)]
pub(super) struct HeldRefusals {
    held: Vec<HeldRefusal>,
    /// To be checked next, each once.
    suspects: Vec<Suspect>,
}

impl HeldRefusals {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Keeps a refusal until its cause is known.
    pub(super) fn hold(&mut self, refusal: HeldRefusal) {
        self.held.push(refusal);
    }

    /// Has a probe check the suspect.
    pub(super) fn add_suspect(&mut self, suspect: Suspect) {
        if !self.suspects.contains(&suspect) {
            self.suspects.push(suspect);
        }
    }

    /// The suspects to check now.
    pub(super) fn take_suspects(&mut self) -> Vec<Suspect> {
        std::mem::take(&mut self.suspects)
    }

    /// Removes and returns the refusals of which rows are the cause by now.
    pub(super) fn take_rows(&mut self, stats: &RefusalStats) -> Vec<HeldRefusal> {
        let held = std::mem::take(&mut self.held);
        let (rows, held) = held.into_iter().partition(|held| held.cause(stats) == RefusalCause::Row);
        self.held = held;
        rows
    }

    /// Nothing is left to send that could show a cause. Has a probe check one suspect, if any is strong enough, or if a
    /// gateway has passed nothing since it refused.
    /// Otherwise too few were refused to suspect the app: removes and returns all refusals, of which rows then count as
    /// the cause.
    pub(super) fn conclude(&mut self, stats: &RefusalStats) -> Vec<HeldRefusal> {
        let suspect = self.held.iter().find_map(|held| match held.cause(stats) {
            RefusalCause::NeedsProbe(suspect) => Some(suspect),
            RefusalCause::Unclear if held.suspect.code.comes_from_gateway() => Some(held.suspect),
            RefusalCause::Row | RefusalCause::Unclear => None,
        });
        self.suspects = suspect.into_iter().collect();
        if self.suspects.is_empty() { std::mem::take(&mut self.held) } else { Vec::new() }
    }

    /// Forgets the suspects. Returns the entries that waited.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = BatchEntry> + use<> {
        self.suspects.clear();
        std::mem::take(&mut self.held).into_iter().map(|held| held.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Operation;
    use super::*;
    use crate::im::Code;
    use crate::model::AttributeIndex;

    fn suspect(attribute: u16) -> Suspect {
        let attribute = Some(AttributeIndex(attribute));
        Suspect { op: Operation::Set, code: Code::Vendor(70402), attribute }
    }

    fn held(change: usize, attribute: u16) -> HeldRefusal {
        let refusal = VendorRefusal { code: 70402, reason: "refused".to_owned(), of_account: false };
        HeldRefusal {
            entry: BatchEntry::whole(change),
            suspect: suspect(attribute),
            passed_before: 0,
            refusal: Arc::new(refusal),
        }
    }

    fn changes(refusals: &[HeldRefusal]) -> Vec<usize> {
        refusals.iter().map(|held| held.entry.change).collect()
    }

    #[test]
    fn an_accepted_attribute_releases_its_refusals() {
        let mut stats = RefusalStats::new(0.4, 2);
        let mut refusals = HeldRefusals::default();
        for (change, attribute) in [(0, 0), (1, 1), (2, 0)] {
            refusals.hold(held(change, attribute));
        }
        assert!(refusals.take_rows(&stats).is_empty());
        stats.record_accepted(Operation::Set, AttributeIndex(0));
        assert_eq!(changes(&refusals.take_rows(&stats)), [0, 2]);
        assert_eq!(refusals.abandon().map(|entry| entry.change).collect::<Vec<_>>(), [1]);
        assert!(refusals.is_empty());
    }

    #[test]
    fn at_the_end_a_strong_suspect_is_checked_first() {
        let mut stats = RefusalStats::new(0.4, 2);
        let mut refusals = HeldRefusals::default();
        refusals.hold(held(0, 0));
        for _ in 0..20 {
            stats.record_refused_alone(suspect(0));
        }
        assert!(refusals.conclude(&stats).is_empty());
        assert_eq!(refusals.take_suspects(), [suspect(0)]);
    }

    #[test]
    fn at_the_end_few_refusals_count_as_rows() {
        let mut refusals = HeldRefusals::default();
        refusals.hold(held(0, 0));
        assert_eq!(changes(&refusals.conclude(&RefusalStats::new(0.4, 2))), [0]);
        assert!(refusals.is_empty() && refusals.take_suspects().is_empty());
    }

    #[test]
    fn a_suspect_is_checked_once() {
        let mut refusals = HeldRefusals::default();
        refusals.add_suspect(suspect(0));
        refusals.add_suspect(suspect(0));
        assert_eq!(refusals.take_suspects().len(), 1);
        assert!(refusals.take_suspects().is_empty());
    }
}
