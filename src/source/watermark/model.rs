//! A model of sessions and a poller that loses passes, its process and the server, and asks after each complete pass:
//! was every row read that was committed before it began?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::clock;

use super::{
    LEAST_STEP, PreparedTransaction, RunningTransaction, SavedWatermark, TransactionList, WatermarkBound,
    WatermarkKind, WatermarkTracker,
};

/// What a server shows as the id of a prepared transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ids {
    /// The virtual id under which it ran, as `PostgreSQL` does.
    Kept,
    /// `-1/xid` from the start, as after a restart.
    Xid,
    /// Something that looks like a virtual id and never ran.
    Other,
}

#[derive(Clone, Debug)]
enum Op {
    Tick(i64),
    Begin {
        visible: bool,
    },
    /// A row stamped `now()`, or later when the writer takes the wall clock.
    Write {
        who: usize,
        late: bool,
    },
    Prepare(usize),
    Commit(usize),
    Abort(usize),
    CommitPrepared(usize),
    AbortPrepared(usize),
    ServerRestart,
    /// The server's clock is set back, by more than it may without notice.
    SetBack(i64),
    /// The poller's process dies and goes on from what was stored last.
    Crash,
    /// A pass: what happens between clock and running list, between the two lists, before its read; whether it is recorded.
    Poll {
        gaps: [Vec<Op>; 3],
        fails: bool,
        stored: bool,
    },
}

#[derive(Clone, Debug)]
struct Transaction {
    number: usize,
    backend: i32,
    local: i64,
    began: i64,
    visible: bool,
    rows: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Written {
    stamp: i64,
    value: i64,
    by: usize,
    committed: bool,
    read: bool,
}

struct World {
    kind: WatermarkKind,
    ids: Ids,
    now: i64,
    /// The poller's monotonic clock.
    monotonic: Instant,
    /// How often the clock was set back.
    set_back: usize,
    sequence: i64,
    transactions: usize,
    local: i64,
    backends: i32,
    server_start: i64,
    restarted: HashSet<usize>,
    running: Vec<Transaction>,
    prepared: Vec<Transaction>,
    rows: Vec<Written>,
}

impl World {
    fn new(kind: WatermarkKind, ids: Ids) -> Self {
        Self {
            kind,
            ids,
            now: 1_000,
            monotonic: clock::monotonic(),
            set_back: 0,
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

    fn finish(&mut self, transaction: &Transaction, commit: bool) {
        for &row in &transaction.rows {
            self.rows[row].committed = commit;
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Tick(by) => {
                self.now += by;
                self.monotonic += Duration::from_micros(by.unsigned_abs());
            }
            Op::SetBack(by) => {
                self.now -= by;
                self.set_back += 1;
            }
            Op::Begin { visible } => {
                self.transactions += 1;
                self.local += 1;
                self.backends = (self.backends + 1) % 4;
                self.running.push(Transaction {
                    number: self.transactions,
                    backend: self.backends,
                    local: self.local,
                    began: self.now,
                    visible: *visible,
                    rows: Vec::new(),
                });
            }
            Op::Write { who, late } if !self.running.is_empty() => {
                let place = who % self.running.len();
                self.sequence += 1;
                let transaction = &mut self.running[place];
                transaction.rows.push(self.rows.len());
                self.rows.push(Written {
                    stamp: if *late { self.now } else { transaction.began },
                    value: self.sequence,
                    by: transaction.number,
                    committed: false,
                    read: false,
                });
            }
            Op::Prepare(who) if !self.running.is_empty() => {
                let transaction = self.running.remove(who % self.running.len());
                self.prepared.push(transaction);
            }
            Op::Commit(who) | Op::Abort(who) if !self.running.is_empty() => {
                let transaction = self.running.remove(who % self.running.len());
                self.finish(&transaction, matches!(op, Op::Commit(_)));
            }
            Op::CommitPrepared(who) | Op::AbortPrepared(who) if !self.prepared.is_empty() => {
                let transaction = self.prepared.remove(who % self.prepared.len());
                self.finish(&transaction, matches!(op, Op::CommitPrepared(_)));
            }
            Op::ServerRestart => {
                self.running.clear();
                self.restarted.extend(self.prepared.iter().map(|transaction| transaction.number));
                self.server_start += 1;
                self.now += 1;
                self.monotonic += Duration::from_micros(1);
                // Virtual ids begin anew, so they come round.
                self.local = 0;
                self.backends = 0;
            }
            _ => {}
        }
    }

    fn candidate(&self) -> WatermarkBound {
        match self.kind {
            WatermarkKind::Timestamp => WatermarkBound::At(self.now),
            WatermarkKind::Counter => {
                let largest = self.rows.iter().filter(|row| row.committed).map(|row| row.value).max();
                largest.map_or(WatermarkBound::Beginning, WatermarkBound::At)
            }
        }
    }

    fn running_list(&self) -> Vec<RunningTransaction> {
        let show = |transaction: &Transaction| RunningTransaction {
            id: format!("{}/{}", transaction.backend, transaction.local),
            pid: transaction.backend,
            started: transaction.visible.then_some(transaction.began),
            application: None,
        };
        self.running.iter().map(show).collect()
    }

    fn prepared_list(&self) -> Vec<PreparedTransaction> {
        let show = |transaction: &Transaction| {
            let id = match self.ids {
                _ if self.restarted.contains(&transaction.number) => format!("-1/{}", transaction.number),
                Ids::Kept => format!("{}/{}", transaction.backend, transaction.local),
                Ids::Xid => format!("-1/{}", transaction.number),
                Ids::Other => format!("77/{}", transaction.number),
            };
            PreparedTransaction { id, gid: format!("g{}", transaction.number), prepared_at: self.now }
        };
        self.prepared.iter().map(show).collect()
    }

    fn transactions(&mut self, gaps: &[Vec<Op>; 3]) -> TransactionList {
        let (clock, candidate) = (self.now, self.candidate());
        let between = Some((self.monotonic, self.monotonic));
        gaps[0].iter().for_each(|op| self.apply(op));
        let (running, server_start) = (self.running_list(), self.server_start);
        gaps[1].iter().for_each(|op| self.apply(op));
        let prepared = self.prepared_list();
        TransactionList { kind: self.kind, clock, candidate, server_start, between, running, prepared }
    }

    fn read(&mut self, from: WatermarkBound) -> Vec<usize> {
        let from_here = |row: &Written| {
            let key = if self.kind == WatermarkKind::Counter { row.value } else { row.stamp };
            row.committed && WatermarkBound::At(key) >= from
        };
        (0..self.rows.len()).filter(|&row| from_here(&self.rows[row])).collect()
    }

    fn committed(&self) -> Vec<usize> {
        (0..self.rows.len()).filter(|&row| self.rows[row].committed).collect()
    }
}

fn simple() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1_i64..50).prop_map(Op::Tick),
        5 => any::<bool>().prop_map(|visible| Op::Begin { visible }),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(who, late)| Op::Write { who, late }),
        2 => any::<usize>().prop_map(Op::Prepare),
        4 => any::<usize>().prop_map(Op::Commit),
        1 => any::<usize>().prop_map(Op::Abort),
        2 => any::<usize>().prop_map(Op::CommitPrepared),
        1 => any::<usize>().prop_map(Op::AbortPrepared),
        1 => (2 * LEAST_STEP..4 * LEAST_STEP).prop_map(Op::SetBack),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let gap = || prop::collection::vec(simple(), 0..3);
    prop_oneof![
        20 => simple(),
        8 => (gap(), gap(), gap(), prop::bool::weighted(0.3), any::<bool>())
            .prop_map(|(a, b, c, fails, stored)| Op::Poll { gaps: [a, b, c], fails, stored }),
        1 => Just(Op::ServerRestart),
        1 => Just(Op::Crash),
    ]
}

struct Poller {
    tracker: WatermarkTracker,
    stored: String,
    full_due: bool,
    /// Open at the first transaction list, start not visible: only the second full pass promises their rows.
    excused: HashSet<usize>,
    /// Nobody saw the clock go back before they wrote: only the next full pass promises their rows.
    unseen: HashSet<usize>,
    /// It has been another process since the last transactions.
    reborn: bool,
    /// `World::set_back` at the last transactions.
    set_back: usize,
}

impl Poller {
    fn begin(world: &mut World, gaps: &[Vec<Op>; 3]) -> Self {
        let transactions = world.transactions(gaps);
        let tracker = WatermarkTracker::begin(&transactions);
        let mut excused: HashSet<usize> = HashSet::new();
        // Where the clock was set back before anybody looked, a start is no bound for what takes the wall clock either.
        let unbounded = |transaction: &&Transaction| {
            world.kind == WatermarkKind::Counter || !transaction.visible || world.set_back > 0
        };
        excused.extend(world.running.iter().filter(unbounded).map(|transaction| transaction.number));
        excused.extend(world.prepared.iter().map(|transaction| transaction.number));
        // The first pass is a full one.
        for row in world.committed() {
            world.rows[row].read = true;
        }
        let stored = serde_json::to_string(&tracker.save()).unwrap();
        Self {
            tracker,
            stored,
            full_due: false,
            excused,
            unseen: HashSet::new(),
            reborn: false,
            set_back: world.set_back,
        }
    }

    fn store(&mut self) {
        self.stored = serde_json::to_string(&self.tracker.save()).unwrap();
    }

    fn poll(&mut self, world: &mut World, gaps: &[Vec<Op>; 3], fails: bool, stored: bool) {
        let promised = world.committed();
        if self.reborn && self.set_back != world.set_back {
            self.unseen.extend(world.running.iter().chain(&world.prepared).map(|transaction| transaction.number));
            self.unseen.extend(world.rows.iter().filter(|row| !row.read).map(|row| row.by));
        }
        // Before the gaps: what goes back behind the transactions is the next one's to see.
        (self.reborn, self.set_back) = (false, world.set_back);
        let transactions = world.transactions(gaps);
        self.tracker.observe(&transactions);
        let full = self.full_due;
        if self.tracker.first_list_cleared() {
            self.tracker.note_first_list_cleared();
            self.full_due = true;
        }
        if stored || self.full_due || self.tracker.stepped_back().is_some() {
            self.store();
        }
        gaps[2].iter().for_each(|op| world.apply(op));
        if fails {
            return;
        }
        let rows = if full { world.committed() } else { world.read(self.tracker.read_from()) };
        if full {
            self.full_due = false;
        }
        for row in rows {
            world.rows[row].read = true;
        }
        self.tracker.complete();
        self.store();
        for row in promised {
            let written = &world.rows[row];
            assert!(
                written.read || self.excused.contains(&written.by) || self.unseen.contains(&written.by),
                "a complete pass left out row {row} {written:?} that was committed before it began"
            );
        }
    }
}

fn simulate(kind: WatermarkKind, ids: Ids, before: &[Op], ops: &[Op]) {
    let mut world = World::new(kind, ids);
    for op in before {
        world.apply(op);
    }
    let no_gaps = [Vec::new(), Vec::new(), Vec::new()];
    let mut poller = Poller::begin(&mut world, &no_gaps);
    for op in ops {
        match op {
            Op::Poll { gaps, fails, stored } => poller.poll(&mut world, gaps, *fails, *stored),
            Op::Crash => {
                poller.tracker =
                    WatermarkTracker::restore(serde_json::from_str::<SavedWatermark>(&poller.stored).unwrap());
                poller.reborn = true;
            }
            other => world.apply(other),
        }
    }
    while !world.running.is_empty() {
        world.apply(&Op::Commit(0));
    }
    while !world.prepared.is_empty() {
        world.apply(&Op::CommitPrepared(0));
    }
    // Once for what has ended; the full pass that this may make due comes with the next.
    for _ in 0..2 {
        world.apply(&Op::Tick(1));
        poller.poll(&mut world, &no_gaps, false, true);
    }
    let missed = |row: &&Written| row.committed && !row.read && !poller.unseen.contains(&row.by);
    let left: Vec<&Written> = world.rows.iter().filter(missed).collect();
    assert!(left.is_empty(), "never read: {left:?}");
    assert_eq!(poller.tracker.durable(), poller.tracker.read_from());
    assert_eq!(poller.tracker.held_back_by(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_complete_pass_has_read_what_was_committed_before_it(
        ids in prop_oneof![2 => Just(Ids::Kept), 1 => Just(Ids::Xid), 1 => Just(Ids::Other)],
        kind in prop_oneof![3 => Just(WatermarkKind::Timestamp), 1 => Just(WatermarkKind::Counter)],
        before in prop::collection::vec(simple(), 0..12),
        ops in prop::collection::vec(any_op(), 1..120),
    ) {
        simulate(kind, ids, &before, &ops);
    }
}
