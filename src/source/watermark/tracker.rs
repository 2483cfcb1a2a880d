//! The watermark, kept up to date from transaction list to transaction list.
//!
//! Owns: `read_from`, and when a full pass is due because no bound finds the rows. Must not know: SQL, how rows are read.

use tokio::time::Instant;

use super::clock_step::ClockReading;
use super::matching::{LISTS_TO_CONTINUE, MatchedTransactions, match_transactions};
use super::point::{WatermarkKind, WatermarkPoint};
use super::remembered_transaction::{HeldBackBy, RememberedTransaction};
use super::saved::{SAVED_VERSION, SavedWatermark};
use super::transaction_list::TransactionList;

/// A rise of a counter between two passes by more than this many values is a jump, if it also more than doubles it.
const MIN_COUNTER_JUMP: i64 = 1_000_000_000;

/// What may not have been read yet.
///
/// For every pass: [`WatermarkTracker::observe`] with a new list, read everything from
/// [`WatermarkTracker::read_from`] on, and [`WatermarkTracker::complete`] once all of it is recorded.
#[derive(Clone, Debug)]
pub struct WatermarkTracker {
    saved: SavedWatermark,
    /// The largest values of a counter before and after a rise that written rows do not explain.
    counter_jump: Option<(i64, i64)>,
    /// `TransactionList::read_between` of the last list. Not saved, since it has no meaning in another process.
    read_between: Option<(Instant, Instant)>,
    /// By how many microseconds the clock was found to be set back by the last list.
    set_back: i64,
}

impl WatermarkTracker {
    /// Starts with the first transaction list of a sync. `read_from` becomes the position of this list; what is older
    /// has to be read by a full pass. The start of an open transaction is its bound where it is visible; the others
    /// have none.
    pub fn begin(list: &TransactionList) -> Self {
        let mut open: Vec<RememberedTransaction> = Vec::new();
        for running in &list.running {
            let started_after = match (list.kind, running.started) {
                (WatermarkKind::Timestamp, Some(started)) => WatermarkPoint::At(started),
                _ => WatermarkPoint::Beginning,
            };
            open.push(RememberedTransaction {
                initial: true,
                unbounded: started_after == WatermarkPoint::Beginning,
                ..RememberedTransaction::from_running(running, started_after, list.clock)
            });
        }
        let mut keeps_virtual_ids = false;
        for prepared in &list.prepared {
            if let Some(transaction) = open.iter_mut().find(|transaction| transaction.id == prepared.id) {
                transaction.prepared = Some(prepared.gid.clone());
                keeps_virtual_ids = true;
            } else {
                open.push(RememberedTransaction {
                    initial: true,
                    unbounded: true,
                    may_continue_for: LISTS_TO_CONTINUE,
                    ..RememberedTransaction::from_prepared(prepared, WatermarkPoint::Beginning, list.clock)
                });
            }
        }
        let saved = SavedWatermark {
            version: SAVED_VERSION,
            kind: list.kind,
            read_from: list.taken_at,
            clock: list.clock,
            taken_at: list.taken_at,
            server_start: list.server_start,
            keeps_virtual_ids,
            initial_pending: !open.is_empty(),
            newest: list.newest.clone(),
            counter_decreased: false,
            open,
        };
        Self { read_between: list.read_between, ..Self::restore(saved) }
    }

    /// Continues from what [`WatermarkTracker::save`] returned, usually in another process.
    pub fn restore(saved: SavedWatermark) -> Self {
        Self { saved, counter_jump: None, read_between: None, set_back: 0 }
    }

    /// What has to be stored to continue after a restart.
    pub fn save(&self) -> SavedWatermark {
        self.saved.clone()
    }

    /// Takes in the next transaction list: `read_from` is lowered to the bound of the transactions that have ended.
    ///
    /// Must be called with every list, those of passes that fail later included.
    pub fn observe(&mut self, list: &TransactionList) {
        self.set_back = self.clock_set_back(list);
        self.lower_bounds_by(self.set_back);
        self.read_between = list.read_between;

        let MatchedTransactions { mut open, lowest_ended, keeps_virtual_ids } = match_transactions(&self.saved, list);
        if let Some(started_after) = lowest_ended {
            self.saved.read_from = self.saved.read_from.min(started_after);
        }
        if self.saved.kind == WatermarkKind::Counter {
            self.observe_counter(list, &mut open);
        }
        self.saved.newest = list.newest.clone();
        self.saved.keeps_virtual_ids = keeps_virtual_ids;
        self.saved.open = open;
        self.saved.taken_at = list.taken_at;
        self.saved.clock = list.clock;
        self.saved.server_start = list.server_start;
    }

    /// `read_from` has been lowered to the bounds of the transactions that have ended.
    fn observe_counter(&mut self, list: &TransactionList, open: &mut [RememberedTransaction]) {
        let largest = list.taken_at;
        let missing = list.newest.lowest_missing_in(&self.saved.newest).map(WatermarkPoint::At);
        if largest < self.saved.taken_at {
            // A row that no ended transaction explains, or a largest row that the last list did not have: values were
            // given again. If not, the newest rows were deleted, and every bound stays valid.
            let is_unexplained = missing.is_some_and(|value| value < self.saved.read_from);
            let is_deletion = list.newest.top_is_in(&self.saved.newest) && !is_unexplained;
            // Of an empty table everything is read from now on.
            let is_empty = largest == WatermarkPoint::Beginning;
            self.saved.counter_decreased |= !is_deletion && !is_empty;
            self.saved.read_from = self.saved.read_from.min(largest);
            if !is_deletion {
                // An open transaction may hold values that are smaller than every known bound.
                for transaction in open {
                    transaction.started_after = WatermarkPoint::Beginning;
                }
            }
        }
        if let Some(value) = missing {
            self.saved.read_from = self.saved.read_from.min(value);
        }
        self.counter_jump = match (self.saved.taken_at, largest) {
            (WatermarkPoint::At(before), WatermarkPoint::At(after)) if is_jump(before, after) => Some((before, after)),
            _ => None,
        };
    }

    /// By how many microseconds the database clock was set back since the last list. Always 0 for a counter, whose
    /// bounds do not depend on the clock.
    fn clock_set_back(&self, list: &TransactionList) -> i64 {
        if self.saved.kind == WatermarkKind::Counter {
            return 0;
        }
        let previous = ClockReading { clock: self.saved.clock, read_between: self.read_between };
        ClockReading { clock: list.clock, read_between: list.read_between }.set_back_since(previous)
    }

    /// What was written since the last list carries a stamp of at least that list's position less the step. That holds
    /// for transactions that began since, and for those that were open before and stamp rows with the wall clock.
    fn lower_bounds_by(&mut self, step: i64) {
        if step > 0 {
            self.saved.read_from = self.saved.read_from.lowered_by(step);
            self.saved.taken_at = self.saved.taken_at.lowered_by(step);
            for transaction in &mut self.saved.open {
                transaction.started_after = transaction.started_after.min(self.saved.taken_at);
            }
        }
    }

    /// All that the pass read from `read_from` on is recorded: `read_from` rises to the position of the last observed
    /// list, which must be the list that the pass began with.
    pub fn complete(&mut self) {
        self.saved.read_from = self.saved.taken_at;
    }

    /// The point from which a pass reads. Every row below it is recorded; the slack is not subtracted.
    pub fn read_from(&self) -> WatermarkPoint {
        self.saved.read_from
    }

    /// The watermark: the lowest of `read_from` and the bounds of the open transactions.
    pub fn watermark(&self) -> WatermarkPoint {
        let bounds = self.saved.open.iter().map(|transaction| transaction.started_after);
        bounds.fold(self.saved.read_from, WatermarkPoint::min)
    }

    /// The lowest point from which a later pass will read: the watermark, apart from open transactions without a bound, for
    /// which a full pass runs when they have ended.
    pub fn next_read(&self) -> WatermarkPoint {
        let bounds = self.saved.open.iter().map(|transaction| transaction.started_after);
        let known = bounds.filter(|bound| *bound != WatermarkPoint::Beginning);
        known.fold(self.saved.read_from, WatermarkPoint::min)
    }

    /// The oldest open transaction that holds the watermark below `read_from`.
    pub fn held_back_by(&self) -> Option<HeldBackBy> {
        let below = self.saved.open.iter().filter(|transaction| transaction.started_after < self.saved.read_from);
        below.min_by_key(|transaction| (transaction.since, transaction.started_after))?.held_back_by()
    }

    /// The database clock was found to be set back by so many microseconds by the last list. Rows stamped since then are
    /// read again.
    pub fn clock_set_back_by(&self) -> Option<i64> {
        (self.set_back > 0).then_some(self.set_back)
    }

    /// All transactions of the first list have ended, and [`WatermarkTracker::acknowledge_initial_ended`] has not been
    /// called yet: a full pass is due. It must begin after the list that showed this, so a full pass that is already
    /// running does not count.
    pub fn initial_transactions_ended(&self) -> bool {
        self.saved.initial_pending && !self.saved.open.iter().any(|transaction| transaction.initial)
    }

    /// The full pass for which [`WatermarkTracker::initial_transactions_ended`] asks is recorded as due.
    pub fn acknowledge_initial_ended(&mut self) {
        if self.initial_transactions_ended() {
            self.saved.initial_pending = false;
        }
    }

    /// A bigint watermark was set back: a full pass is due. Stays true over passes and restarts until
    /// [`WatermarkTracker::acknowledge_decrease`]. To be checked after each [`WatermarkTracker::observe`].
    pub fn counter_decreased(&self) -> bool {
        self.saved.counter_decreased
    }

    /// The full pass for which [`WatermarkTracker::counter_decreased`] asks is recorded as due.
    pub fn acknowledge_decrease(&mut self) {
        self.saved.counter_decreased = false;
    }

    /// The largest value of a bigint watermark before and after the last list, when it rose by more than rows can have
    /// been written. Worth a warning: rows that get a smaller value from now on are not found by incremental passes.
    pub fn counter_jump(&self) -> Option<(i64, i64)> {
        self.counter_jump
    }
}

/// No application writes a billion rows between two passes, and a counter of microseconds does not double.
fn is_jump(before: i64, after: i64) -> bool {
    after.saturating_sub(before) > MIN_COUNTER_JUMP && after > before.saturating_mul(2)
}
