//! The plan of a system: settings and a list of operations, derived from a seed, identical on every run.
//!
//! Owns: the probabilities. Must not know: how an operation is executed.

use super::interleavings::Interleaving;
use super::operation::{
    Answer, Command, CommandRun, ConfigVersion, Fault, FaultKind, FaultTarget, Operation, ProcessFault, Selection,
    Watermark, WatermarkUpdate, WriterAction,
};
use super::rng::Rng;
use super::settings::{GUARDED_SHARE, LONG_TIMEOUT_MILLIS, Settings, TIMEOUT_MILLIS};
use super::table::{COLUMNS, EXTRAS, VALUES};

pub(super) const WRITERS: usize = 4;
/// A system that can be run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) operations: Vec<Operation>,
}

impl Plan {
    /// This many operations and a final quiescence.
    pub(super) fn of(seed: u64, length: usize) -> Self {
        let mut planner = Planner::new(seed);
        let mut quiesce_after = 40;
        while planner.operations.len() < length {
            planner.next();
            // Operations after a quiescence in the middle start from a verified state.
            if planner.operations.len() > quiesce_after && planner.daemons == 0 {
                planner.operations.push(Operation::Quiesce);
                quiesce_after += 40;
            }
        }
        planner.end()
    }

    /// One of the interleavings, twice, with random settings in which it is possible.
    pub(super) fn of_interleaving(seed: u64, interleaving: Interleaving) -> Self {
        let mut planner = Planner::new(seed);
        let settings = &mut planner.settings;
        settings.accounts = settings.accounts.max(40);
        match interleaving {
            Interleaving::Guard => settings.max_share = GUARDED_SHARE,
            Interleaving::Raising => settings.casts = true,
            Interleaving::Silent => {
                settings.watermark = Watermark::Zoned;
                settings.timeout = LONG_TIMEOUT_MILLIS;
            }
            Interleaving::Probe => settings.max_in_flight = 64,
            Interleaving::Alteration => {}
        }
        for _ in 0..2 {
            planner.interleaving(interleaving);
        }
        planner.end()
    }
}

impl Planner {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let settings = Settings::random(&mut rng);
        Self { rng, settings, operations: Vec::new(), daemons: 0 }
    }

    fn end(mut self) -> Plan {
        self.operations.push(Operation::Quiesce);
        Plan { settings: self.settings, operations: self.operations }
    }
}

pub(super) struct Planner {
    pub(super) rng: Rng,
    pub(super) settings: Settings,
    pub(super) operations: Vec<Operation>,
    daemons: u32,
}

impl Planner {
    fn next(&mut self) {
        if self.daemons == 0 && self.rng.percent(25) {
            return self.scenario();
        }
        let operation = if self.daemons > 0 { self.with_daemon() } else { self.without_daemon() };
        match operation {
            Operation::Daemon(_) => self.daemons = 2.min(self.daemons + 1),
            Operation::DaemonTerm | Operation::DaemonKill => self.daemons -= 1,
            // Commits some changes first, because a pass without work reaches few crash points.
            Operation::CommandRun(_) => self.changes(),
            _ => {}
        }
        self.operations.push(operation);
    }

    /// Commits a few changes.
    fn changes(&mut self) {
        for _ in 0..self.rng.below(3) {
            let writer = self.writer();
            let (account, column, value) = (self.account(), self.column(), self.value());
            let modulus = self.rng.between(2, 9);
            let action = match self.rng.below(4) {
                0 => WriterAction::Bulk { column, value, modulus, rest: self.rng.below(modulus) },
                1 => WriterAction::Gone { account, gone: self.rng.percent(50) },
                _ => WriterAction::Set { account, column, value, update: WatermarkUpdate::Now },
            };
            self.operations.extend([Operation::Write(writer, action), Operation::Write(writer, WriterAction::Commit)]);
        }
    }

    fn without_daemon(&mut self) -> Operation {
        match self.rng.below(100) {
            0..46 => self.write(),
            46..50 => self.finish(),
            50..76 => Operation::CommandRun(self.pass()),
            76..84 => Operation::Fault(self.fault()),
            84..88 => Operation::ClearFaults,
            88..90 => Operation::Pause(self.rng.between(1, 300)),
            90..92 => Operation::RetryRejected,
            92..94 => Operation::Edit(self.rng.pick(&[
                ConfigVersion::First,
                ConfigVersion::WithoutLang,
                ConfigVersion::OtherPlan,
                ConfigVersion::NarrowFilter,
            ])),
            94 | 95 => Operation::Import(self.account()),
            96 => Operation::Alter(self.alteration()),
            _ => self.daemon(),
        }
    }

    fn daemon(&mut self) -> Operation {
        Operation::Daemon(self.rng.percent(40).then(|| self.crash()))
    }

    fn with_daemon(&mut self) -> Operation {
        match self.rng.below(100) {
            0..48 => self.write(),
            48..52 => self.finish(),
            52..70 => Operation::Pause(self.rng.between(1, 300)),
            70..77 => Operation::Fault(self.fault()),
            77..80 => Operation::ClearFaults,
            80..85 => Operation::Cut(self.fault_target()),
            85..87 => Operation::RetryRejected,
            87..89 => self.daemon(),
            89 => Operation::CommandRun(self.pass()),
            94 => Operation::Alter(self.alteration()),
            90 => Operation::DaemonSuspend(self.rng.pick(&[200, 1_200, 5_500])),
            91..94 => Operation::DaemonKill,
            _ => Operation::DaemonTerm,
        }
    }

    fn finish(&mut self) -> Operation {
        Operation::Finish { oldest: self.rng.percent(50), commit: self.rng.percent(70) }
    }

    fn pass(&mut self) -> CommandRun {
        let command = match self.rng.below(10) {
            0..6 => Command::Once,
            6..9 => Command::Backfill { force: self.rng.percent(20), allow_removals: self.rng.percent(20) },
            _ => Command::Accounts((0..self.rng.between(1, 4)).map(|_| self.account()).collect()),
        };
        let fault = match self.rng.below(10) {
            0..4 => {
                let (point, arrival) = self.crash();
                ProcessFault::Crash(point, arrival)
            }
            4 => ProcessFault::Kill(self.rng.between(1, 1_500)),
            5 => ProcessFault::Term(self.rng.between(1, 1_500)),
            _ => ProcessFault::None,
        };
        let concurrent = match self.rng.below(3) {
            0 => (0..self.rng.between(1, 5)).map(|_| self.concurrent_operation()).collect(),
            _ => Vec::new(),
        };
        CommandRun { command, fault, concurrent }
    }

    fn concurrent_operation(&mut self) -> Operation {
        match self.rng.below(10) {
            0..5 => self.write(),
            5 => self.finish(),
            6 | 7 => Operation::Pause(self.rng.between(1, 400)),
            8 => Operation::Fault(self.fault()),
            _ => Operation::Cut(self.fault_target()),
        }
    }

    /// Every second time a text that is a number.
    pub(super) fn extra(&mut self) -> usize {
        let bound = if self.rng.percent(50) { 2 } else { EXTRAS.len() as u64 };
        usize::try_from(self.rng.below(bound)).expect("an index fits")
    }

    fn fault_target(&mut self) -> FaultTarget {
        self.rng.pick(&[FaultTarget::All, FaultTarget::Lease, FaultTarget::First, FaultTarget::Last])
    }

    pub(super) fn crash(&mut self) -> (&'static str, u64) {
        let point = self.rng.pick(imsync::crash::POINTS);
        (point, if self.rng.percent(70) { 1 } else { self.rng.between(2, 6) })
    }

    /// Usually an account that was there at the beginning.
    pub(super) fn account(&mut self) -> u64 {
        let accounts = self.settings.accounts;
        if self.rng.percent(85) { self.rng.below(accounts) } else { self.rng.below(accounts + 10) }
    }

    pub(super) fn column(&mut self) -> usize {
        usize::try_from(self.rng.below(COLUMNS.len() as u64)).expect("an index fits")
    }

    pub(super) fn value(&mut self) -> usize {
        // The first two values are listed where values are looked up.
        let bound = if self.rng.percent(50) { 3 } else { VALUES as u64 };
        usize::try_from(self.rng.below(bound)).expect("an index fits")
    }

    pub(super) fn writer(&mut self) -> usize {
        usize::try_from(self.rng.below(WRITERS as u64)).expect("an index fits")
    }

    fn write(&mut self) -> Operation {
        Operation::Write(self.writer(), self.action())
    }

    pub(super) fn action(&mut self) -> WriterAction {
        let (account, column, value) = (self.account(), self.column(), self.value());
        let modulus = self.rng.between(2, 9);
        let rest = self.rng.below(modulus);
        match self.rng.below(100) {
            0..22 => {
                let update = match self.rng.below(20) {
                    0 => WatermarkUpdate::Untouched,
                    1 => WatermarkUpdate::Old,
                    2 => WatermarkUpdate::Missing,
                    3 => WatermarkUpdate::Ahead,
                    4 | 5 => WatermarkUpdate::Lagging,
                    _ => WatermarkUpdate::Now,
                };
                WriterAction::Set { account, column, value, update }
            }
            22..27 => WriterAction::SetAndRestore { account, column, value },
            27..35 => WriterAction::Bulk { column, value, modulus, rest },
            35 => WriterAction::BulkGone { modulus, rest, gone: self.rng.percent(40) },
            36 => WriterAction::GoneBelow { below: self.account(), gone: self.rng.percent(50) },
            // Some of these accounts may be in the table already.
            37..42 => WriterAction::Insert { account: self.settings.accounts + self.rng.below(10), value },
            42..46 => WriterAction::Delete { account },
            46..51 => WriterAction::Gone { account, gone: self.rng.percent(60) },
            51..55 => WriterAction::Bot { account, bot: self.rng.percent(60) },
            55 => WriterAction::Extra { account, extra: self.extra() },
            56 | 57 => WriterAction::Rename { from: account, to: self.rng.below(self.settings.accounts + 10) },
            58..62 => WriterAction::Savepoint,
            62..64 => WriterAction::Release,
            64..67 => WriterAction::RollbackTo,
            67..87 => WriterAction::Commit,
            87..89 => WriterAction::CommitAndChain,
            89..93 => WriterAction::Rollback,
            93..98 => WriterAction::Prepare,
            _ => WriterAction::Disconnect,
        }
    }

    pub(super) fn answer(&mut self) -> Answer {
        self.rng.pick(&[
            Answer::Code(91000),
            Answer::Code(60008),
            Answer::Http(502),
            Answer::Http(503),
            Answer::RetryLater,
            Answer::Html,
            Answer::Cut,
            Answer::Close,
            Answer::Garbage,
            Answer::Huge,
        ])
    }

    fn fault(&mut self) -> Fault {
        let kind = match self.rng.below(100) {
            0..10 => FaultKind::Refuse(
                self.rng.pick(&[91000, 60008, 60007, 60011, 90001, 90033, 70402, 70003, 90045, 12345]),
            ),
            10..24 => FaultKind::RefuseAccount(self.rng.pick(&[70107, 60015, 90035, 70402, 90033])),
            24..34 => FaultKind::Fail(self.answer()),
            34..56 => FaultKind::ApplyThenFail(self.answer()),
            56..66 => FaultKind::ApplyThenHold(self.rng.between(10, 1_800)),
            66..72 => FaultKind::Slow(self.rng.between(1, 150)),
            72..77 => FaultKind::Throttle(u32::try_from(self.rng.between(1, 10)).expect("the limit is small")),
            77..82 => FaultKind::Hold(self.rng.between(10, 500)),
            // Well within twice the time-out after the call was sent, also on a busy machine.
            82..91 if self.settings.late_writes => FaultKind::Hold(self.rng.between(800, TIMEOUT_MILLIS * 13 / 10)),
            _ if self.settings.late_writes => FaultKind::LateWrite(self.rng.between(1, TIMEOUT_MILLIS * 3 / 10)),
            _ => FaultKind::ApplyThenFail(Answer::Close),
        };
        let selection = if self.rng.percent(50) {
            Selection::Percent { chance: self.rng.between(20, 100), seed: self.rng.below(1_000) }
        } else {
            Selection::Next(self.rng.between(1, 8))
        };
        let account = (matches!(kind, FaultKind::RefuseAccount(_)) || self.rng.percent(25)).then(|| self.account());
        let attribute = self.rng.percent(10).then(|| self.column());
        Fault { kind, selection, account, attribute }
    }
}
