//! The complete passes whose changes are not all recorded yet. They decide how far the sync is current.
//!
//! Owns: the moment up to which everything committed is in IM. Must not know: deliveries, how the lag is shown.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// Complete passes by number, each with its start.
#[derive(Debug, Default)]
pub(super) struct CurrentPasses(BTreeMap<u64, Instant>);

impl CurrentPasses {
    /// A pass has read everything that was committed before it began.
    pub(super) fn note_complete(&mut self, pass: u64, started: Instant) {
        self.0.insert(pass, started);
    }

    /// The start of the newest complete pass before `held_since`, the first pass of which a change has no outcome yet.
    /// `None` if there is no such pass, or it was returned before.
    pub(super) fn advance(&mut self, held_since: Option<u64>) -> Option<Instant> {
        let held = self.0.split_off(&held_since.unwrap_or(u64::MAX));
        std::mem::replace(&mut self.0, held).into_values().max()
    }

    /// Whether a complete pass waits for the outcome of a change.
    pub(super) fn is_held(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pass_is_current_when_everything_before_it_has_an_outcome() {
        let start = crate::clock::monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut passes = CurrentPasses::default();
        passes.note_complete(1, at(1));
        passes.note_complete(2, at(2));
        passes.note_complete(3, at(3));
        assert_eq!(passes.advance(Some(2)), Some(at(1)));
        assert_eq!(passes.advance(Some(2)), None);
        assert!(passes.is_held());
        assert_eq!(passes.advance(None), Some(at(3)));
        assert!(!passes.is_held());
    }
}
