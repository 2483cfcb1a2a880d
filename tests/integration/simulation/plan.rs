//! From a seed to a world: its settings and its list of operations, the same every time.
//!
//! Owns: how likely what is. Must not know: how anything is carried out.

use super::operation::{
    Answer, Command, Deed, Edition, Fault, Kind, Mishap, Operation, Pass, Stamp, Watermark, Which, Whose,
};
use super::rng::Dice;
use super::table::{COLUMNS, VALUES};

pub(super) const WRITERS: usize = 4;
/// `im.timeout`, the smallest that the configuration takes.
pub(super) const TIMEOUT_MILLIS: u64 = 1_000;

/// What a world is like. Small, so that page edges and half-filled calls are everywhere.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// Numbers of accounts in the table at the beginning; as many again may come.
    pub(super) accounts: u64,
    pub(super) page_size: u64,
    pub(super) users_per_call: u64,
    pub(super) max_in_flight: u64,
    pub(super) watermark: Watermark,
    pub(super) timpush: bool,
    pub(super) keep_gone: bool,
    pub(super) keep_unmapped: bool,
    /// Every third account is not in Chat until it is imported.
    pub(super) strangers: bool,
    /// `removal.max_share`, in percent.
    pub(super) max_share: u64,
    /// `im.calls_per_second`; the vendor takes half as many again.
    pub(super) calls_per_second: u32,
    /// `schedule.rejected_retry`, in seconds.
    pub(super) rejected_retry: u64,
    /// Calls that land after their caller gave up are among the faults.
    pub(super) ghosts: bool,
}

/// A world that can be run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) operations: Vec<Operation>,
}

impl Plan {
    /// So many operations and a calm at the end.
    pub(super) fn of(seed: u64, length: usize) -> Self {
        let mut dice = Dice::new(seed);
        let settings = Settings {
            accounts: dice.between(12, 60),
            page_size: dice.between(3, 7),
            users_per_call: dice.pick(&[1, 2, 3, 5, 20, 100]),
            max_in_flight: dice.pick(&[1, 2, 64]),
            watermark: dice.pick(&[
                Watermark::Zoned,
                Watermark::Zoned,
                Watermark::Zoned,
                Watermark::Local,
                Watermark::Counter,
                Watermark::None,
            ]),
            timpush: dice.percent(50),
            keep_gone: dice.percent(15),
            keep_unmapped: dice.percent(50),
            strangers: dice.percent(15),
            max_share: dice.pick(&[100, 100, 100, 20]),
            calls_per_second: dice.pick(&[20, 66, 66]),
            rejected_retry: dice.pick(&[1, 3_600]),
            ghosts: dice.percent(50),
        };
        let mut planner = Planner { dice, settings, operations: Vec::new(), daemons: 0 };
        let mut calm_after = 40;
        while planner.operations.len() < length {
            planner.next();
            // A calm in the middle: what follows starts from a state that was proven.
            if planner.operations.len() > calm_after && planner.daemons == 0 {
                planner.operations.push(Operation::Calm);
                calm_after += 40;
            }
        }
        planner.operations.push(Operation::Calm);
        Self { settings: planner.settings, operations: planner.operations }
    }
}

pub(super) struct Planner {
    pub(super) dice: Dice,
    pub(super) settings: Settings,
    pub(super) operations: Vec<Operation>,
    daemons: u32,
}

impl Planner {
    fn next(&mut self) {
        if self.daemons == 0 && self.dice.percent(25) {
            return self.scene();
        }
        let operation = if self.daemons > 0 { self.beside_daemon() } else { self.alone() };
        match operation {
            Operation::Daemon(_) => self.daemons = 2.min(self.daemons + 1),
            Operation::DaemonTerm | Operation::DaemonKill => self.daemons -= 1,
            // A pass that finds nothing to do arrives nowhere.
            Operation::Pass(_) => self.changes(),
            _ => {}
        }
        self.operations.push(operation);
    }

    /// A few changes that are committed.
    fn changes(&mut self) {
        for _ in 0..self.dice.below(3) {
            let writer = self.writer();
            let (account, column, value) = (self.account(), self.column(), self.value());
            let modulus = self.dice.between(2, 9);
            let deed = match self.dice.below(4) {
                0 => Deed::Bulk { column, value, modulus, rest: self.dice.below(modulus) },
                1 => Deed::Gone { account, gone: self.dice.percent(50) },
                _ => Deed::Set { account, column, value, stamp: Stamp::Now },
            };
            self.operations.extend([Operation::Write(writer, deed), Operation::Write(writer, Deed::Commit)]);
        }
    }

    fn alone(&mut self) -> Operation {
        match self.dice.below(100) {
            0..46 => self.write(),
            46..50 => self.finish(),
            50..76 => Operation::Pass(self.pass()),
            76..84 => Operation::Fault(self.fault()),
            84..88 => Operation::ClearFaults,
            88..90 => Operation::Pause(self.dice.between(1, 300)),
            90..92 => Operation::RetryRejected,
            92..94 => Operation::Edit(self.dice.pick(&[
                Edition::First,
                Edition::WithoutLang,
                Edition::OtherPlan,
                Edition::NarrowFilter,
            ])),
            94..96 => Operation::Import(self.account()),
            _ => self.daemon(),
        }
    }

    fn daemon(&mut self) -> Operation {
        Operation::Daemon(self.dice.percent(40).then(|| self.crash()))
    }

    fn beside_daemon(&mut self) -> Operation {
        match self.dice.below(100) {
            0..48 => self.write(),
            48..52 => self.finish(),
            52..70 => Operation::Pause(self.dice.between(1, 300)),
            70..77 => Operation::Fault(self.fault()),
            77..80 => Operation::ClearFaults,
            80..85 => Operation::Cut(self.whose()),
            85..87 => Operation::RetryRejected,
            87..89 => self.daemon(),
            89 => Operation::Pass(self.pass()),
            90 => Operation::DaemonSleeps(self.dice.pick(&[200, 1_200, 5_500])),
            91..95 => Operation::DaemonKill,
            _ => Operation::DaemonTerm,
        }
    }

    fn finish(&mut self) -> Operation {
        Operation::Finish { oldest: self.dice.percent(50), commit: self.dice.percent(70) }
    }

    fn pass(&mut self) -> Pass {
        let command = match self.dice.below(10) {
            0..6 => Command::Once,
            6..9 => Command::Backfill { force: self.dice.percent(20), allow_removals: self.dice.percent(20) },
            _ => Command::Accounts((0..self.dice.between(1, 4)).map(|_| self.account()).collect()),
        };
        let mishap = match self.dice.below(10) {
            0..4 => {
                let (point, arrival) = self.crash();
                Mishap::Crash(point, arrival)
            }
            4 => Mishap::Kill(self.dice.between(1, 1_500)),
            5 => Mishap::Term(self.dice.between(1, 1_500)),
            _ => Mishap::None,
        };
        let beside = match self.dice.below(3) {
            0 => (0..self.dice.between(1, 5)).map(|_| self.beside()).collect(),
            _ => Vec::new(),
        };
        Pass { command, mishap, beside }
    }

    fn beside(&mut self) -> Operation {
        match self.dice.below(10) {
            0..5 => self.write(),
            5 => self.finish(),
            6 | 7 => Operation::Pause(self.dice.between(1, 400)),
            8 => Operation::Fault(self.fault()),
            _ => Operation::Cut(self.whose()),
        }
    }

    fn whose(&mut self) -> Whose {
        self.dice.pick(&[Whose::All, Whose::Lease, Whose::First, Whose::Last])
    }

    pub(super) fn crash(&mut self) -> (&'static str, u64) {
        let point = self.dice.pick(imsync::crash::POINTS);
        (point, if self.dice.percent(70) { 1 } else { self.dice.between(2, 6) })
    }

    /// Mostly one that was there at the beginning.
    pub(super) fn account(&mut self) -> u64 {
        let accounts = self.settings.accounts;
        if self.dice.percent(85) { self.dice.below(accounts) } else { self.dice.below(accounts + 10) }
    }

    pub(super) fn column(&mut self) -> usize {
        usize::try_from(self.dice.below(COLUMNS.len() as u64)).expect("a place fits")
    }

    pub(super) fn value(&mut self) -> usize {
        // The first two are listed where values are looked up.
        let bound = if self.dice.percent(50) { 3 } else { VALUES as u64 };
        usize::try_from(self.dice.below(bound)).expect("a place fits")
    }

    pub(super) fn writer(&mut self) -> usize {
        usize::try_from(self.dice.below(WRITERS as u64)).expect("a place fits")
    }

    fn write(&mut self) -> Operation {
        Operation::Write(self.writer(), self.deed())
    }

    pub(super) fn deed(&mut self) -> Deed {
        let (account, column, value) = (self.account(), self.column(), self.value());
        let modulus = self.dice.between(2, 9);
        let rest = self.dice.below(modulus);
        match self.dice.below(100) {
            0..22 => {
                let stamp = match self.dice.below(20) {
                    0 => Stamp::Untouched,
                    1 => Stamp::Old,
                    2 => Stamp::Missing,
                    3 => Stamp::Ahead,
                    4 | 5 => Stamp::Lagging,
                    _ => Stamp::Now,
                };
                Deed::Set { account, column, value, stamp }
            }
            22..27 => Deed::ThereAndBack { account, column, value },
            27..35 => Deed::Bulk { column, value, modulus, rest },
            35..37 => Deed::BulkGone { modulus, rest, gone: self.dice.percent(40) },
            // Half of them are there already.
            37..42 => Deed::Insert { account: self.settings.accounts + self.dice.below(10), value },
            42..46 => Deed::Delete { account },
            46..51 => Deed::Gone { account, gone: self.dice.percent(60) },
            51..55 => Deed::Bot { account, bot: self.dice.percent(60) },
            55..58 => Deed::Rename { from: account, to: self.dice.below(self.settings.accounts + 10) },
            58..62 => Deed::Savepoint,
            62..64 => Deed::Release,
            64..67 => Deed::RollbackTo,
            67..87 => Deed::Commit,
            87..89 => Deed::CommitAndChain,
            89..93 => Deed::Rollback,
            93..98 => Deed::Prepare,
            _ => Deed::HangUp,
        }
    }

    pub(super) fn answer(&mut self) -> Answer {
        self.dice.pick(&[
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
        let kind = match self.dice.below(100) {
            0..10 => {
                Kind::Refuse(self.dice.pick(&[91000, 60008, 60007, 60011, 90001, 90033, 70402, 70003, 90045, 12345]))
            }
            10..24 => Kind::RefuseAccount(self.dice.pick(&[70107, 60015, 90035, 70402, 90033])),
            24..34 => Kind::Fail(self.answer()),
            34..56 => Kind::ApplyThenFail(self.answer()),
            56..66 => Kind::ApplyThenHold(self.dice.between(10, 1_800)),
            66..72 => Kind::Slow(self.dice.between(1, 150)),
            72..77 => Kind::Throttle(u32::try_from(self.dice.between(1, 10)).expect("few calls")),
            77..82 => Kind::Hold(self.dice.between(10, 500)),
            // Well within twice the time-out after the call was sent, also on a machine that is busy.
            82..91 if self.settings.ghosts => Kind::Hold(self.dice.between(800, TIMEOUT_MILLIS * 13 / 10)),
            _ if self.settings.ghosts => Kind::Ghost(self.dice.between(1, TIMEOUT_MILLIS * 3 / 10)),
            _ => Kind::ApplyThenFail(Answer::Close),
        };
        let which = if self.dice.percent(50) {
            Which::Percent { chance: self.dice.between(20, 100), seed: self.dice.below(1_000) }
        } else {
            Which::Next(self.dice.between(1, 8))
        };
        let account = (matches!(kind, Kind::RefuseAccount(_)) || self.dice.percent(25)).then(|| self.account());
        let attribute = self.dice.percent(10).then(|| self.column());
        Fault { kind, which, account, attribute }
    }
}
