//! The watermark, tested by named schedules of transactions and by random ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{
    NewestRows, PreparedTransaction, RunningTransaction, TransactionList, WatermarkKind, WatermarkPoint,
    WatermarkTracker,
};

mod clock_steps;
mod counters;
mod late_commits;
mod prepared;
mod random_schedules;
mod simulated_database;

/// A list without open transactions, taken at this time.
fn list_at(clock: i64) -> TransactionList {
    TransactionList {
        kind: WatermarkKind::Timestamp,
        clock,
        taken_at: WatermarkPoint::At(clock),
        newest: NewestRows::default(),
        read_between: None,
        server_start: 7,
        running: Vec::new(),
        prepared: Vec::new(),
    }
}

/// A list without open transactions for a counter with this largest value.
fn counter_list(clock: i64, largest: i64) -> TransactionList {
    TransactionList { kind: WatermarkKind::Counter, taken_at: WatermarkPoint::At(largest), ..list_at(clock) }
}

impl TransactionList {
    fn with_running(mut self, id: &str) -> Self {
        let pid = id.split('/').next().unwrap().parse().unwrap();
        self.running.push(RunningTransaction {
            id: id.to_owned(),
            pid,
            started: None,
            application: Some("psql".to_owned()),
        });
        self
    }

    fn with_started(mut self, id: &str, started: i64) -> Self {
        self = self.with_running(id);
        self.running.last_mut().unwrap().started = Some(started);
        self
    }

    fn with_prepared(mut self, id: &str, gid: &str) -> Self {
        self.prepared.push(PreparedTransaction { id: id.to_owned(), gid: gid.to_owned(), prepared_at: self.clock });
        self
    }
}

/// A sync whose first list was empty.
fn tracker_begun_at(clock: i64) -> WatermarkTracker {
    WatermarkTracker::begin(&list_at(clock))
}

/// A complete pass. Returns the point from which it read.
fn pass(tracker: &mut WatermarkTracker, list: &TransactionList) -> WatermarkPoint {
    tracker.observe(list);
    let from = tracker.read_from();
    tracker.complete();
    from
}
