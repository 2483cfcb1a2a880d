//! Short scenarios that target weak points: an unknown outcome whose old value returns, a full pass that is interrupted
//! and continues with another configuration, accounts that are gone while their removals fail.
//!
//! Owns: the common part of these scenarios. Must not know: how an operation is executed.
//!
//! Random operations alone rarely combine the four or five steps that produce a false claim: a value that IM has
//! applied and no process recorded, the old value back in the table, and a pass that ends before it has checked.

use super::interleavings::Interleaving;
use super::operation::{
    Answer, Command, CommandRun, ConfigVersion, Fault, FaultKind, Operation, ProcessFault, Selection, WatermarkUpdate,
    WriterAction,
};
use super::plan::Planner;

/// Crash points that leave a call without a recorded outcome.
const WITH_CALLS_IN_FLIGHT: [&str; 7] = [
    "intent: stored",
    "call: about to be sent",
    "call: answered",
    "call: answered",
    "push: sets have ended",
    "push: a batch was halved",
    "record: not committed",
];
/// Crash points that end the next process before it has sent anything again.
const BEFORE_CALLS: [&str; 8] = [
    "lease: the epoch is incremented",
    "intents: resolved, not committed",
    "intents: resolved",
    "transaction list: read",
    "page: read",
    "page: compared",
    "delivery: begins",
    "in doubt: looked up",
];
const IN_FULL: [&str; 6] = [
    "full: the position is stored",
    "full: the table is read",
    "full: the gone accounts are read",
    "removals: about to be sent",
    "removals: a chunk is enqueued",
    "pass: outcomes are recorded",
];

pub(super) fn pass(command: Command, fault: ProcessFault) -> Operation {
    Operation::CommandRun(CommandRun { command, fault, concurrent: Vec::new() })
}

pub(super) fn once() -> Operation {
    pass(Command::Once, ProcessFault::None)
}

pub(super) fn fault(kind: FaultKind, selection: Selection) -> Operation {
    Operation::Fault(Fault { kind, selection, account: None, attribute: None })
}

pub(super) const ALWAYS: Selection = Selection::Percent { chance: 100, seed: 0 };

impl Planner {
    pub(super) fn scenario(&mut self) {
        match self.rng.below(15) {
            10.. => {
                let interleaving = self.rng.pick(&Interleaving::ALL);
                self.interleaving(interleaving);
            }
            0..4 => self.unknown_outcome(),
            4 => self.unknown_outcome_of_daemon(),
            5 | 6 => self.removals(),
            7 | 8 => self.changed_configuration(),
            _ => self.full_speed(),
        }
    }

    pub(super) fn commit_actions(&mut self, actions: impl IntoIterator<Item = WriterAction>) {
        let writer = self.writer();
        for action in actions {
            self.operations.push(Operation::Write(writer, action));
        }
        self.operations.push(Operation::Write(writer, WriterAction::Commit));
    }

    /// Sets one of the first two values, which are listed for every attribute and can therefore be sent.
    pub(super) fn set_value(account: u64, column: usize, value: usize, update: WatermarkUpdate) -> WriterAction {
        WriterAction::Set { account, column, value, update }
    }

    /// A call of a one-shot command that IM may have applied, followed by a change of the row.
    fn unknown_outcome(&mut self) {
        let (account, column) = (self.account(), self.column());
        let other = self.account();
        self.commit_actions([
            Self::set_value(account, column, 0, WatermarkUpdate::Now),
            Self::set_value(other, column, 0, WatermarkUpdate::Now),
        ]);
        self.operations.extend([Operation::ClearFaults, once()]);
        self.commit_actions([
            Self::set_value(account, column, 1, WatermarkUpdate::Now),
            Self::set_value(other, column, 1, WatermarkUpdate::Now),
        ]);
        let command = match self.rng.below(4) {
            0 => Command::Backfill { force: false, allow_removals: false },
            1 => Command::Accounts(vec![account, other]),
            _ => Command::Once,
        };
        match self.rng.below(6) {
            0 | 1 => {
                let arrival = self.rng.between(1, 2);
                let point = self.rng.pick(&WITH_CALLS_IN_FLIGHT);
                self.operations.push(pass(command, ProcessFault::Crash(point, arrival)));
            }
            2 => {
                let answer = self.answer();
                let kind =
                    if self.rng.percent(50) { FaultKind::Fail(answer) } else { FaultKind::ApplyThenFail(answer) };
                // If only one account fails, the pass continues.
                let account = self.rng.percent(70).then_some(account);
                let lost = Operation::Fault(Fault { kind, selection: ALWAYS, account, attribute: None });
                self.operations.extend([lost, pass(command, ProcessFault::None), Operation::ClearFaults]);
            }
            3 => {
                let held = fault(FaultKind::ApplyThenHold(self.rng.between(1_100, 1_900)), Selection::Next(2));
                self.operations.extend([held, pass(command, ProcessFault::None), Operation::ClearFaults]);
            }
            4 => {
                let held = fault(FaultKind::ApplyThenHold(1_900), Selection::Next(2));
                let fault = ProcessFault::Kill(self.rng.between(200, 2_000));
                self.operations.extend([held, pass(command, fault), Operation::ClearFaults]);
            }
            _ => {
                // The call is applied and its answer lost, and the repeated call is refused.
                let lost = fault(FaultKind::ApplyThenFail(Answer::Close), Selection::Next(1));
                let code = self.rng.pick(&[90033, 70402, 60015]);
                let refused = fault(FaultKind::Refuse(code), Selection::Next(8));
                self.operations.extend([lost, refused, pass(command, ProcessFault::None), Operation::ClearFaults]);
            }
        }
        self.change_afterwards(account, column);
    }

    /// The same with a daemon that is killed.
    fn unknown_outcome_of_daemon(&mut self) {
        let (account, column) = (self.account(), self.column());
        self.commit_actions([Self::set_value(account, column, 0, WatermarkUpdate::Now)]);
        self.operations.extend([Operation::ClearFaults, once()]);
        let held = fault(FaultKind::ApplyThenHold(1_900), Selection::Next(2));
        self.operations.extend([Operation::Daemon(None), Operation::Pause(self.rng.between(100, 1_500)), held]);
        self.commit_actions([Self::set_value(account, column, 1, WatermarkUpdate::Now)]);
        self.operations.extend([
            Operation::Pause(self.rng.between(50, 900)),
            Operation::DaemonKill,
            Operation::ClearFaults,
        ]);
        self.change_afterwards(account, column);
    }

    /// The old value returns, or the row is gone, and the next process may be aborted too.
    fn change_afterwards(&mut self, account: u64, column: usize) {
        let back = match self.rng.below(8) {
            0 => WriterAction::Delete { account },
            1 => WriterAction::Gone { account, gone: true },
            2 => WriterAction::Bot { account, bot: true },
            3 => Self::set_value(account, column, 0, WatermarkUpdate::Now),
            4 => Self::set_value(account, column, 2, WatermarkUpdate::Now),
            // Only the query by account finds these.
            _ => {
                Self::set_value(account, column, 0, self.rng.pick(&[WatermarkUpdate::Untouched, WatermarkUpdate::Old]))
            }
        };
        if self.rng.percent(70) {
            self.commit_actions([back]);
        }
        if self.rng.percent(50) {
            let point = self.rng.pick(&BEFORE_CALLS);
            self.operations.push(pass(Command::Once, ProcessFault::Crash(point, 1)));
        }
        if self.rng.percent(50) {
            self.operations.push(once());
        }
    }

    /// Accounts become gone in every way, and IM or the process fails during their removal.
    fn removals(&mut self) {
        for _ in 0..self.rng.between(1, 4) {
            let account = self.account();
            let action = match self.rng.below(6) {
                0 => WriterAction::Gone { account, gone: true },
                1 => WriterAction::Bot { account, bot: true },
                2 => WriterAction::Rename { from: account, to: self.settings.accounts + self.rng.below(10) },
                _ => WriterAction::Delete { account },
            };
            self.commit_actions([action]);
        }
        let command = Command::Backfill { force: false, allow_removals: self.rng.percent(50) };
        match self.rng.below(3) {
            0 => {
                let point = self.rng.pick(&IN_FULL);
                self.operations.push(pass(command, ProcessFault::Crash(point, 1)));
            }
            1 => {
                let kind = FaultKind::ApplyThenFail(self.answer());
                self.operations.extend([
                    fault(kind, ALWAYS),
                    pass(command, ProcessFault::None),
                    Operation::ClearFaults,
                ]);
            }
            _ => self.operations.push(pass(command, ProcessFault::None)),
        }
        if self.rng.percent(40) {
            // An account is inserted again.
            let account = self.account();
            self.commit_actions([WriterAction::Insert { account, value: 0 }]);
        }
        self.operations.push(pass(Command::Backfill { force: false, allow_removals: true }, ProcessFault::None));
    }

    /// A full pass is interrupted and continues with another configuration.
    fn changed_configuration(&mut self) {
        const VERSIONS: [ConfigVersion; 4] =
            [ConfigVersion::First, ConfigVersion::WithoutLang, ConfigVersion::OtherPlan, ConfigVersion::NarrowFilter];
        let commands = [
            Command::Once,
            Command::Once,
            Command::Backfill { force: false, allow_removals: true },
            Command::Backfill { force: true, allow_removals: true },
        ];
        if self.rng.percent(70) {
            // Slow calls, so that the interruption hits the middle of the pass.
            self.operations.push(fault(FaultKind::Slow(150), ALWAYS));
        }
        for _ in 0..self.rng.between(1, 3) {
            let version = self.rng.pick(&VERSIONS);
            let command = commands[usize::try_from(self.rng.below(4)).expect("an index fits")].clone();
            let fault = match self.rng.below(3) {
                0 => ProcessFault::Crash(self.rng.pick(&IN_FULL), 1),
                1 => ProcessFault::Crash(self.rng.pick(&WITH_CALLS_IN_FLIGHT), self.rng.between(1, 8)),
                _ => ProcessFault::Term(self.rng.between(1_000, 2_500)),
            };
            self.operations.extend([Operation::Edit(version), pass(command, fault)]);
            if self.rng.percent(50) {
                let action = self.action();
                self.commit_actions([action]);
            }
        }
        let version = self.rng.pick(&VERSIONS);
        self.operations.extend([Operation::ClearFaults, Operation::Edit(version), once()]);
    }

    /// Several processes in sequence send as fast as they may.
    fn full_speed(&mut self) {
        let again = || Command::Backfill { force: true, allow_removals: false };
        self.operations.push(Operation::ClearFaults);
        for _ in 0..2 {
            let fault = match self.rng.below(3) {
                0 => ProcessFault::Kill(self.rng.between(1_200, 2_500)),
                1 => ProcessFault::Crash("call: answered", self.rng.between(10, 25)),
                _ => ProcessFault::None,
            };
            self.operations.push(pass(again(), fault));
        }
        self.operations.push(pass(again(), ProcessFault::None));
    }
}
