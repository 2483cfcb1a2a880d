//! Compares the transactions of the last list with those of the next one: still open, ended, or new.
//!
//! Owns: when two entries are the same transaction, and the `started_after` of a new one. Must not know: `read_from`.
//!
//! The difficult entries are prepared transactions. `PostgreSQL` lists them under the virtual id under which they ran,
//! but after a restart of the server under `-1/xid`. An entry that matches nothing may therefore be a transaction that
//! was listed as running before, and takes over the lowest bound that it could have had.

use std::collections::HashMap;

use super::point::{WatermarkKind, WatermarkPoint};
use super::remembered_transaction::{RememberedTransaction, lowest_started_after};
use super::saved::SavedWatermark;
use super::transaction_list::{PreparedTransaction, RunningTransaction, TransactionList};

/// The number of lists, the present one included, in which a prepared transaction of unknown origin may turn out to
/// continue a transaction that is no longer listed. A transaction that is prepared between the two queries of one list
/// stands in both, under two ids; the running entry is missing from the next list.
pub(super) const LISTS_TO_CONTINUE: u8 = 2;

/// What follows from the last list and the next one.
pub(super) struct MatchedTransactions {
    /// The transactions that are open now.
    pub(super) open: Vec<RememberedTransaction>,
    /// The lowest `started_after` of those that have ended; `None` when none has, or none of them has a bound.
    pub(super) lowest_ended: Option<WatermarkPoint>,
    /// See `SavedWatermark::keeps_virtual_ids`.
    pub(super) keeps_virtual_ids: bool,
}

/// Matches the transactions of `list` with those of `saved`.
pub(super) fn match_transactions(saved: &SavedWatermark, list: &TransactionList) -> MatchedTransactions {
    let restarted = list.server_start != saved.server_start;
    let mut matcher = Matcher {
        list,
        last_taken_at: saved.taken_at,
        restarted,
        keeps_virtual_ids: saved.keeps_virtual_ids && !restarted,
        previous: saved.open.iter().map(|transaction| (transaction.id.as_str(), transaction)).collect(),
        open: Vec::with_capacity(list.running.len() + list.prepared.len()),
    };
    for running in &list.running {
        matcher.add_running(running, saved.kind);
    }
    let unmatched = matcher.add_known_prepared();
    for prepared in unmatched {
        matcher.add_unknown_prepared(prepared, saved);
    }
    matcher.finish()
}

struct Matcher<'a> {
    list: &'a TransactionList,
    /// `taken_at` of the last list: what was not open then began after it.
    last_taken_at: WatermarkPoint,
    restarted: bool,
    keeps_virtual_ids: bool,
    /// The transactions of the last list that have not been found in the next one so far, by id.
    previous: HashMap<&'a str, &'a RememberedTransaction>,
    open: Vec<RememberedTransaction>,
}

impl<'a> Matcher<'a> {
    fn add_running(&mut self, running: &'a RunningTransaction, kind: WatermarkKind) {
        let restarted = self.restarted;
        // The pid tells whether a virtual id was assigned again (all backends ended, the postmaster did not).
        let same = |old: &RememberedTransaction| !restarted && old.prepared.is_none() && old.pid == Some(running.pid);
        let id = running.id.as_str();
        if let Some(old) = self.previous.get(id).copied().filter(|old| same(old)) {
            self.previous.remove(id);
            self.open.push(RememberedTransaction { application: running.application_name(), ..old.clone() });
            return;
        }
        let started_after = match (kind, running.started) {
            (WatermarkKind::Timestamp, Some(started)) => self.last_taken_at.min(WatermarkPoint::At(started)),
            _ => self.last_taken_at,
        };
        self.open.push(RememberedTransaction::from_running(running, started_after, self.list.clock));
    }

    /// Adds the prepared transactions whose id was seen before or is listed as running. Returns the others.
    fn add_known_prepared(&mut self) -> Vec<&'a PreparedTransaction> {
        let running_ids = self.list.running.iter().enumerate();
        let running_ids: HashMap<&str, usize> =
            running_ids.map(|(index, running)| (running.id.as_str(), index)).collect();
        let mut unmatched = Vec::new();
        for prepared in &self.list.prepared {
            let id = prepared.id.as_str();
            let same_server = !self.restarted || is_xid(id);
            let same = |old: &RememberedTransaction| {
                same_server && old.prepared.as_ref().is_none_or(|gid| *gid == prepared.gid)
            };
            if let Some(&index) = running_ids.get(id) {
                // It was prepared between the two queries: one transaction, listed twice.
                self.open[index].prepared = Some(prepared.gid.clone());
                self.keeps_virtual_ids = true;
            } else if let Some(old) = self.previous.get(id).copied().filter(|old| same(old)) {
                self.previous.remove(id);
                self.keeps_virtual_ids |= old.prepared.is_none();
                self.open.push(RememberedTransaction {
                    prepared: Some(prepared.gid.clone()),
                    may_continue_for: old.may_continue_for.saturating_sub(1),
                    ..old.clone()
                });
            } else {
                unmatched.push(prepared);
            }
        }
        unmatched
    }

    fn add_unknown_prepared(&mut self, prepared: &PreparedTransaction, saved: &SavedWatermark) {
        let clock = self.list.clock;
        self.open.push(if self.is_kept_virtual_id(&prepared.id) {
            // Had it been running in the last list, its id would have been there. Without this case, a stream of short
            // prepared transactions would pass the lowest bound from one to the next for ever.
            RememberedTransaction::from_prepared(prepared, self.last_taken_at, clock)
        } else {
            // It may be any transaction of the last list, or newer than all of them.
            let lowest = lowest_started_after(&saved.open);
            let started_after = lowest.map_or(self.last_taken_at, |lowest| lowest.min(self.last_taken_at));
            RememberedTransaction {
                initial: saved.open.iter().any(|transaction| transaction.initial),
                may_continue_for: LISTS_TO_CONTINUE,
                ..RememberedTransaction::from_prepared(prepared, started_after, clock)
            }
        });
    }

    /// This id of a prepared transaction is certainly the virtual id under which it ran. True only for a server that was
    /// seen, since its start, to keep the id of a transaction when it was prepared.
    fn is_kept_virtual_id(&self, id: &str) -> bool {
        self.keeps_virtual_ids && !is_xid(id)
    }

    /// What was not found in the next list has ended, or goes on under another id.
    fn finish(mut self) -> MatchedTransactions {
        let lowest_ended = lowest_started_after(self.previous.values().copied());
        let initial_ended = self.previous.values().any(|transaction| transaction.initial);
        let mut open = std::mem::take(&mut self.open);
        for transaction in &mut open {
            if transaction.may_continue_for > 0 && !self.is_kept_virtual_id(&transaction.id) {
                let started_after = transaction.started_after;
                transaction.started_after = lowest_ended.map_or(started_after, |ended| started_after.min(ended));
                transaction.initial |= initial_ended;
            }
        }
        MatchedTransactions { open, lowest_ended, keeps_virtual_ids: self.keeps_virtual_ids }
    }
}

/// A prepared transaction that no longer shows the virtual id under which it ran. Without a backend, the backend part of
/// the id is -1 (manual, `pg_locks`). Such an id names the transaction itself and stays the same after a restart.
fn is_xid(id: &str) -> bool {
    id.starts_with("-1/")
}
