//! Up to which row of the table everything that a full pass compared is recorded.
//!
//! Owns: the ends of pages whose changes may still be in flight. Must not know: the queue, how a position is stored.

use std::collections::VecDeque;

/// The end of a page of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageEnd {
    /// The account column's text of the page's last row.
    pub(super) after: String,
    /// Rows compared so far.
    pub(super) done: u64,
}

/// The pages of a full pass, in their order.
#[derive(Debug, Default)]
pub(super) struct RecordedPages {
    /// Pages whose changes may still be in flight, each with the queue's sequence after it.
    in_flight: VecDeque<(u64, PageEnd)>,
    /// The last page that is recorded together with all pages before it.
    recorded: Option<PageEnd>,
    /// `recorded` has moved on since it was stored.
    unsaved: bool,
}

impl RecordedPages {
    /// The pages of a pass that resumes at this end.
    pub(super) fn resumed_at(end: PageEnd) -> Self {
        Self { in_flight: VecDeque::new(), recorded: Some(end), unsaved: false }
    }

    /// Adds a page whose changes were enqueued before `sequence`.
    pub(super) fn add(&mut self, sequence: u64, end: PageEnd) {
        self.in_flight.push_back((sequence, end));
    }

    /// Moves on over pages whose changes are recorded. Returns whether there was one.
    pub(super) fn advance(&mut self, is_recorded: impl Fn(u64) -> bool) -> bool {
        let before = self.in_flight.len();
        while self.in_flight.front().is_some_and(|(sequence, _)| is_recorded(*sequence)) {
            self.recorded = self.in_flight.pop_front().map(|(_, end)| end);
        }
        let advanced = self.in_flight.len() < before;
        self.unsaved |= advanced;
        advanced
    }

    /// Whether the recorded end has moved on since [`RecordedPages::note_saved`].
    pub(super) fn has_unsaved(&self) -> bool {
        self.unsaved
    }

    /// The recorded end was stored.
    pub(super) fn note_saved(&mut self) {
        self.unsaved = false;
    }

    /// The end up to which everything is recorded.
    pub(super) fn recorded(&self) -> Option<&PageEnd> {
        self.recorded.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(done: u64) -> PageEnd {
        PageEnd { after: format!("u{done}"), done }
    }

    #[test]
    fn a_page_in_flight_holds_back_the_pages_after_it() {
        let mut pages = RecordedPages::resumed_at(end(1));
        pages.add(1, end(2));
        pages.add(2, end(3));
        pages.add(3, end(4));
        assert!(!pages.advance(|sequence| sequence != 1));
        assert_eq!(pages.recorded(), Some(&end(1)));
        assert!(pages.advance(|sequence| sequence < 3));
        assert_eq!(pages.recorded(), Some(&end(3)));
        assert!(pages.advance(|_| true) && !pages.advance(|_| true));
        assert_eq!(pages.recorded(), Some(&end(4)));
    }
}
