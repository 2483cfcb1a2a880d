//! Random schedules of transactions, passes, crashes and server restarts.
//!
//! After each complete pass: was every row read that was committed before the pass began?

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::clock_step::MIN_CLOCK_STEP;
use super::super::{SavedWatermark, WatermarkKind, WatermarkTracker};
use super::simulated_database::{PreparedIds, ScheduleStep, SimulatedPostgres, SimulatedRow, SimulatedTransaction};

fn single_step() -> impl Strategy<Value = ScheduleStep> {
    prop_oneof![
        4 => (1_i64..50).prop_map(ScheduleStep::AdvanceClock),
        5 => any::<bool>().prop_map(|start_visible| ScheduleStep::Begin { start_visible }),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(index, wall_clock)| ScheduleStep::Write { index, wall_clock }),
        2 => any::<usize>().prop_map(ScheduleStep::Prepare),
        4 => any::<usize>().prop_map(ScheduleStep::Commit),
        1 => any::<usize>().prop_map(ScheduleStep::Rollback),
        2 => any::<usize>().prop_map(ScheduleStep::CommitPrepared),
        1 => any::<usize>().prop_map(ScheduleStep::RollbackPrepared),
        1 => (2 * MIN_CLOCK_STEP..4 * MIN_CLOCK_STEP).prop_map(ScheduleStep::SetClockBack),
    ]
}

fn any_step() -> impl Strategy<Value = ScheduleStep> {
    let steps_between = || prop::collection::vec(single_step(), 0..3);
    prop_oneof![
        20 => single_step(),
        8 => (steps_between(), steps_between(), steps_between(), prop::bool::weighted(0.3), any::<bool>())
            .prop_map(|(a, b, c, fails, stored)| ScheduleStep::Pass { steps_between: [a, b, c], fails, stored }),
        1 => Just(ScheduleStep::ServerRestart),
        1 => Just(ScheduleStep::ProcessCrash),
    ]
}

/// The process that runs the passes.
struct SimulatedPoller {
    tracker: WatermarkTracker,
    /// The JSON in the state.
    stored: String,
    full_pass_due: bool,
    /// Transactions of the first list whose start is not visible: only the second full pass guarantees their rows.
    without_bound: HashSet<usize>,
    /// Transactions that wrote after a step of the clock that no process could see: only the next full pass guarantees
    /// their rows.
    missed_step: HashSet<usize>,
    /// The process has crashed since the last list.
    restarted_process: bool,
    /// `SimulatedPostgres::times_set_back` at the last list.
    times_set_back: usize,
}

impl SimulatedPoller {
    fn begin(database: &mut SimulatedPostgres, steps_between: &[Vec<ScheduleStep>; 3]) -> Self {
        let transactions = database.transactions(steps_between);
        let tracker = WatermarkTracker::begin(&transactions);
        let mut without_bound: HashSet<usize> = HashSet::new();
        // If the clock was set back before the first list, a start is no bound for rows stamped with the wall clock.
        let unbounded = |transaction: &&SimulatedTransaction| {
            database.kind == WatermarkKind::Counter || !transaction.start_visible || database.times_set_back > 0
        };
        without_bound.extend(database.running.iter().filter(unbounded).map(|transaction| transaction.number));
        without_bound.extend(database.prepared.iter().map(|transaction| transaction.number));
        // The first pass is a full pass.
        for row in database.committed() {
            database.rows[row].read = true;
        }
        let stored = serde_json::to_string(&tracker.save()).unwrap();
        Self {
            tracker,
            stored,
            full_pass_due: false,
            without_bound,
            missed_step: HashSet::new(),
            restarted_process: false,
            times_set_back: database.times_set_back,
        }
    }

    fn store(&mut self) {
        self.stored = serde_json::to_string(&self.tracker.save()).unwrap();
    }

    fn pass(
        &mut self,
        database: &mut SimulatedPostgres,
        steps_between: &[Vec<ScheduleStep>; 3],
        fails: bool,
        stored: bool,
    ) {
        let committed_before = database.committed();
        if self.restarted_process && self.times_set_back != database.times_set_back {
            self.missed_step
                .extend(database.running.iter().chain(&database.prepared).map(|transaction| transaction.number));
            self.missed_step.extend(database.rows.iter().filter(|row| !row.read).map(|row| row.written_by));
        }
        // Before the steps: a step after the clock was read is found by the next list.
        (self.restarted_process, self.times_set_back) = (false, database.times_set_back);
        let transactions = database.transactions(steps_between);
        self.tracker.observe(&transactions);
        let full = self.full_pass_due;
        if self.tracker.initial_transactions_ended() {
            self.tracker.acknowledge_initial_ended();
            self.full_pass_due = true;
        }
        if stored || self.full_pass_due || self.tracker.clock_set_back_by().is_some() {
            self.store();
        }
        steps_between[2].iter().for_each(|step| database.apply(step));
        if fails {
            return;
        }
        let rows = if full { database.committed() } else { database.read(self.tracker.read_from()) };
        if full {
            self.full_pass_due = false;
        }
        for row in rows {
            database.rows[row].read = true;
        }
        self.tracker.complete();
        self.store();
        for row in committed_before {
            let written = &database.rows[row];
            assert!(
                written.read
                    || self.without_bound.contains(&written.written_by)
                    || self.missed_step.contains(&written.written_by),
                "a complete pass left out row {row} {written:?} that was committed before it started"
            );
        }
    }
}

fn run_schedule(kind: WatermarkKind, ids: PreparedIds, before: &[ScheduleStep], steps: &[ScheduleStep]) {
    let mut database = SimulatedPostgres::new(kind, ids);
    for step in before {
        database.apply(step);
    }
    let no_steps = [Vec::new(), Vec::new(), Vec::new()];
    let mut poller = SimulatedPoller::begin(&mut database, &no_steps);
    for step in steps {
        match step {
            ScheduleStep::Pass { steps_between, fails, stored } => {
                poller.pass(&mut database, steps_between, *fails, *stored);
            }
            ScheduleStep::ProcessCrash => {
                poller.tracker =
                    WatermarkTracker::restore(serde_json::from_str::<SavedWatermark>(&poller.stored).unwrap());
                poller.restarted_process = true;
            }
            other => database.apply(other),
        }
    }
    while !database.running.is_empty() {
        database.apply(&ScheduleStep::Commit(0));
    }
    while !database.prepared.is_empty() {
        database.apply(&ScheduleStep::CommitPrepared(0));
    }
    // The first pass reads what has ended, the second is the full pass that this may make due.
    for _ in 0..2 {
        database.apply(&ScheduleStep::AdvanceClock(1));
        poller.pass(&mut database, &no_steps, false, true);
    }
    let missed = |row: &&SimulatedRow| row.committed && !row.read && !poller.missed_step.contains(&row.written_by);
    let left: Vec<&SimulatedRow> = database.rows.iter().filter(missed).collect();
    assert!(left.is_empty(), "never read: {left:?}");
    assert_eq!(poller.tracker.watermark(), poller.tracker.read_from());
    assert_eq!(poller.tracker.held_back_by(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_complete_pass_has_read_all_that_was_committed_before(
        ids in prop_oneof![2 => Just(PreparedIds::KeptVirtual), 1 => Just(PreparedIds::Transaction), 1 => Just(PreparedIds::Unrelated)],
        kind in prop_oneof![3 => Just(WatermarkKind::Timestamp), 1 => Just(WatermarkKind::Counter)],
        before in prop::collection::vec(single_step(), 0..12),
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        run_schedule(kind, ids, &before, &steps);
    }
}
