//! A model of PostgreSQL for random schedules: a clock, transactions with ids, rows with stamps.
//!
//! Owns: what each step of a schedule does to the server. Must not know: the watermark.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{
    NewestRows, PreparedTransaction, RunningTransaction, TransactionList, WatermarkKind, WatermarkPoint,
};
use crate::clock;

/// What the server lists as the id of a prepared transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PreparedIds {
    /// The virtual id under which it ran, as `PostgreSQL` does.
    KeptVirtual,
    /// `-1/xid` from the beginning, as after a restart.
    Transaction,
    /// An id that looks like a virtual id, under which nothing ran.
    Unrelated,
}

/// One step of a schedule. An index selects a running or prepared transaction, modulo their number.
#[derive(Clone, Debug)]
pub(super) enum ScheduleStep {
    AdvanceClock(i64),
    Begin {
        start_visible: bool,
    },
    /// A row stamped `now()`, or `clock_timestamp()` when `wall_clock` is set.
    Write {
        index: usize,
        wall_clock: bool,
    },
    Prepare(usize),
    Commit(usize),
    Rollback(usize),
    CommitPrepared(usize),
    RollbackPrepared(usize),
    ServerRestart,
    /// The clock of the server is set back, by more than the smallest step that is detected.
    SetClockBack(i64),
    /// The process that runs the passes crashes, and continues from what it stored last.
    ProcessCrash,
    /// A pass. The steps happen between the clock and the running list, between the two lists, and before the rows are
    /// read.
    Pass {
        steps_between: [Vec<ScheduleStep>; 3],
        fails: bool,
        stored: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct SimulatedTransaction {
    pub(super) number: usize,
    pub(super) backend: i32,
    pub(super) local: i64,
    pub(super) started: i64,
    pub(super) start_visible: bool,
    pub(super) rows: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct SimulatedRow {
    pub(super) stamp: i64,
    pub(super) value: i64,
    pub(super) written_by: usize,
    pub(super) committed: bool,
    pub(super) read: bool,
}

pub(super) struct SimulatedPostgres {
    pub(super) kind: WatermarkKind,
    pub(super) ids: PreparedIds,
    pub(super) now: i64,
    /// The monotonic clock of the process that runs the passes.
    pub(super) monotonic: Instant,
    /// How often the clock was set back.
    pub(super) times_set_back: usize,
    pub(super) sequence: i64,
    pub(super) transactions: usize,
    pub(super) local: i64,
    pub(super) backends: i32,
    pub(super) server_start: i64,
    pub(super) restarted: HashSet<usize>,
    pub(super) running: Vec<SimulatedTransaction>,
    pub(super) prepared: Vec<SimulatedTransaction>,
    pub(super) rows: Vec<SimulatedRow>,
}

impl SimulatedPostgres {
    pub(super) fn new(kind: WatermarkKind, ids: PreparedIds) -> Self {
        Self {
            kind,
            ids,
            now: 1_000,
            monotonic: clock::monotonic(),
            times_set_back: 0,
            sequence: 0,
            transactions: 0,
            local: 0,
            backends: 0,
            server_start: 1,
            restarted: HashSet::new(),
            running: Vec::new(),
            prepared: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn finish(&mut self, transaction: &SimulatedTransaction, commit: bool) {
        for &row in &transaction.rows {
            self.rows[row].committed = commit;
        }
    }

    pub(super) fn apply(&mut self, step: &ScheduleStep) {
        match step {
            ScheduleStep::AdvanceClock(by) => {
                self.now += by;
                self.monotonic += Duration::from_micros(by.unsigned_abs());
            }
            ScheduleStep::SetClockBack(by) => {
                self.now -= by;
                self.times_set_back += 1;
            }
            ScheduleStep::Begin { start_visible } => {
                self.transactions += 1;
                self.local += 1;
                self.backends = (self.backends + 1) % 4;
                self.running.push(SimulatedTransaction {
                    number: self.transactions,
                    backend: self.backends,
                    local: self.local,
                    started: self.now,
                    start_visible: *start_visible,
                    rows: Vec::new(),
                });
            }
            ScheduleStep::Write { index, wall_clock } if !self.running.is_empty() => {
                let chosen = index % self.running.len();
                self.sequence += 1;
                let transaction = &mut self.running[chosen];
                transaction.rows.push(self.rows.len());
                self.rows.push(SimulatedRow {
                    stamp: if *wall_clock { self.now } else { transaction.started },
                    value: self.sequence,
                    written_by: transaction.number,
                    committed: false,
                    read: false,
                });
            }
            ScheduleStep::Prepare(index) if !self.running.is_empty() => {
                let transaction = self.running.remove(index % self.running.len());
                self.prepared.push(transaction);
            }
            ScheduleStep::Commit(index) | ScheduleStep::Rollback(index) if !self.running.is_empty() => {
                let transaction = self.running.remove(index % self.running.len());
                self.finish(&transaction, matches!(step, ScheduleStep::Commit(_)));
            }
            ScheduleStep::CommitPrepared(index) | ScheduleStep::RollbackPrepared(index)
                if !self.prepared.is_empty() =>
            {
                let transaction = self.prepared.remove(index % self.prepared.len());
                self.finish(&transaction, matches!(step, ScheduleStep::CommitPrepared(_)));
            }
            ScheduleStep::ServerRestart => {
                self.running.clear();
                self.restarted.extend(self.prepared.iter().map(|transaction| transaction.number));
                self.server_start += 1;
                self.now += 1;
                self.monotonic += Duration::from_micros(1);
                // Virtual ids start again, so they repeat.
                self.local = 0;
                self.backends = 0;
            }
            _ => {}
        }
    }

    fn taken_at(&self) -> WatermarkPoint {
        match self.kind {
            WatermarkKind::Timestamp => WatermarkPoint::At(self.now),
            WatermarkKind::Counter => {
                let largest = self.rows.iter().filter(|row| row.committed).map(|row| row.value).max();
                largest.map_or(WatermarkPoint::Beginning, WatermarkPoint::At)
            }
        }
    }

    fn running_list(&self) -> Vec<RunningTransaction> {
        let listed = |transaction: &SimulatedTransaction| RunningTransaction {
            id: format!("{}/{}", transaction.backend, transaction.local),
            pid: transaction.backend,
            started: transaction.start_visible.then_some(transaction.started),
            application: None,
        };
        self.running.iter().map(listed).collect()
    }

    fn prepared_list(&self) -> Vec<PreparedTransaction> {
        let listed = |transaction: &SimulatedTransaction| {
            let id = match self.ids {
                _ if self.restarted.contains(&transaction.number) => format!("-1/{}", transaction.number),
                PreparedIds::KeptVirtual => format!("{}/{}", transaction.backend, transaction.local),
                PreparedIds::Transaction => format!("-1/{}", transaction.number),
                PreparedIds::Unrelated => format!("77/{}", transaction.number),
            };
            PreparedTransaction { id, gid: format!("g{}", transaction.number), prepared_at: self.now }
        };
        self.prepared.iter().map(listed).collect()
    }

    pub(super) fn transactions(&mut self, steps_between: &[Vec<ScheduleStep>; 3]) -> TransactionList {
        let (clock, taken_at) = (self.now, self.taken_at());
        let read_between = Some((self.monotonic, self.monotonic));
        steps_between[0].iter().for_each(|step| self.apply(step));
        let (running, server_start) = (self.running_list(), self.server_start);
        steps_between[1].iter().for_each(|step| self.apply(step));
        let prepared = self.prepared_list();
        TransactionList {
            kind: self.kind,
            clock,
            taken_at,
            server_start,
            newest: NewestRows::default(),
            read_between,
            running,
            prepared,
        }
    }

    pub(super) fn read(&mut self, from: WatermarkPoint) -> Vec<usize> {
        let in_range = |row: &SimulatedRow| {
            let key = if self.kind == WatermarkKind::Counter { row.value } else { row.stamp };
            row.committed && WatermarkPoint::At(key) >= from
        };
        (0..self.rows.len()).filter(|&row| in_range(&self.rows[row])).collect()
    }

    pub(super) fn committed(&self) -> Vec<usize> {
        (0..self.rows.len()).filter(|&row| self.rows[row].committed).collect()
    }
}
