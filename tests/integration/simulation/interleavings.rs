//! Scenarios of two things that happen beside each other: a full pass and a tripped guard, a probe and a slow answer, a pass
//! and a change of the schema, a silent account and everybody else.
//!
//! Owns: the common part of these scenarios. Must not know: how an operation is executed.

use super::operation::{
    Alteration, Answer, Command, CommandRun, Fault, FaultKind, FaultTarget, Operation, ProcessFault, Selection,
    ViewVersion, WatermarkUpdate, WriterAction,
};
use super::plan::Planner;
use super::scenarios::{ALWAYS, fault, once, pass};
use super::settings::GUARDED_SHARE;
use super::table::COLUMNS;

/// Crash points around a deferred account.
const WITH_DEFERRED: [&str; 6] = [
    "accounts: deferred",
    "delivery: recorded",
    "delivery: about to be recorded",
    "record: committed",
    "pass: the watermark is stored",
    "deferrals: ended",
];
/// A city, which is the first attribute that a probe may carry.
const CITY: usize = 0;

/// The scenarios of this file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Interleaving {
    Guard,
    Probe,
    Alteration,
    Raising,
    Silent,
}

impl Interleaving {
    pub(super) const ALL: [Self; 5] = [Self::Guard, Self::Probe, Self::Alteration, Self::Raising, Self::Silent];
}

fn backfill() -> Command {
    Command::Backfill { force: false, allow_removals: false }
}

fn of_account(kind: FaultKind, account: u64) -> Operation {
    Operation::Fault(Fault { kind, selection: ALWAYS, account: Some(account), attribute: None })
}

fn of_attribute(kind: FaultKind, attribute: usize) -> Operation {
    Operation::Fault(Fault { kind, selection: ALWAYS, account: None, attribute: Some(attribute) })
}

impl Planner {
    pub(super) fn interleaving(&mut self, interleaving: Interleaving) {
        match interleaving {
            Interleaving::Guard => self.guard_beside_full_pass(),
            Interleaving::Probe => self.probe_beside_slow_answers(),
            Interleaving::Alteration => self.alteration_of_the_source(),
            Interleaving::Raising => self.rows_that_raise(),
            Interleaving::Silent => self.silent_account(),
        }
    }

    pub(super) fn alteration(&mut self) -> Alteration {
        let modulus = self.rng.between(2, 5);
        let rest = self.rng.below(modulus);
        match self.rng.below(if self.settings.view { 8 } else { 4 }) {
            0 | 1 => Alteration::WatermarkType,
            2 => Alteration::Table { modulus, rest },
            3 => Alteration::Column { column: self.column(), modulus, rest },
            _ => Alteration::View(self.rng.pick(&[
                ViewVersion::Plain,
                ViewVersion::WithoutSome,
                ViewVersion::OtherCity,
                ViewVersion::OtherCity,
            ])),
        }
    }

    fn pause(&mut self, low: u64, high: u64) {
        let millis = self.rng.between(low, high);
        self.operations.push(Operation::Pause(millis));
    }

    /// A full pass is interrupted, accounts that it has compared already become gone, and it resumes: what it sees then is
    /// not the whole table.
    fn guard_beside_full_pass(&mut self) {
        let accounts = self.settings.accounts;
        if self.settings.max_share != GUARDED_SHARE || accounts < 30 {
            return self.rows_that_raise();
        }
        let all = WriterAction::GoneBelow { below: accounts + 10, gone: false };
        let permitted = pass(Command::Backfill { force: false, allow_removals: true }, ProcessFault::None);
        self.operations.push(Operation::ClearFaults);
        self.commit_actions([all]);
        self.operations.push(permitted);
        // Two changes, so that at least one of them differs from what IM holds.
        let value = usize::try_from(self.rng.below(2)).expect("an index fits");
        for column in [CITY, 1] {
            self.commit_actions([WriterAction::Bulk { column, value, modulus: 1, rest: 0 }]);
        }
        let gone = WriterAction::GoneBelow { below: self.rng.between(23, accounts * 3 / 4), gone: true };
        // The calls of the last accounts are slow, so that everything before them is done when the pass is interrupted.
        for account in accounts.saturating_sub(4)..accounts {
            self.operations.push(of_account(FaultKind::Slow(900), account));
        }
        if self.settings.full_every == 1 && self.rng.percent(50) {
            self.operations.push(Operation::Daemon(None));
            self.pause(300, 1_500);
            self.commit_actions([gone]);
            for _ in 0..3 {
                self.pause(100, 900);
                self.operations.push(Operation::Cut(FaultTarget::All));
            }
            self.pause(500, 2_500);
            self.operations.extend([Operation::DaemonTerm, Operation::ClearFaults]);
        } else {
            let interruption = match self.rng.below(5) {
                0 => ProcessFault::Crash("full: the position is stored", self.rng.between(1, 2)),
                1 => ProcessFault::Crash("full: the table is read", 1),
                _ => ProcessFault::Term(self.rng.between(300, 1_100)),
            };
            self.operations.push(pass(backfill(), interruption));
            self.commit_actions([gone]);
            self.operations.extend([Operation::ClearFaults, once()]);
        }
        self.operations.extend([pass(backfill(), ProcessFault::None), once()]);
        if self.rng.percent(50) {
            self.operations.push(Operation::Quiesce);
        }
    }

    /// IM refuses an attribute for everybody, so probes are sent while other calls are applied and not yet answered.
    fn probe_beside_slow_answers(&mut self) {
        let refused = usize::try_from(self.rng.between(1, COLUMNS.len() as u64 - 1)).expect("an index fits");
        self.operations.push(Operation::ClearFaults);
        self.commit_actions([WriterAction::Bulk { column: CITY, value: 0, modulus: 1, rest: 0 }]);
        self.operations.extend([once(), Operation::Daemon(None)]);
        self.pause(200, 500);
        let kind = match self.rng.below(4) {
            0 => FaultKind::RefuseAccount(self.rng.pick(&[60015, 90035])),
            1 => FaultKind::Refuse(self.rng.pick(&[70402, 12345])),
            _ => FaultKind::Fail(Answer::Http(403)),
        };
        self.operations.push(of_attribute(kind, refused));
        self.operations.push(of_attribute(FaultKind::ApplyThenHold(self.rng.between(600, 900)), CITY));
        for round in 0..self.rng.between(2, 4) {
            // Of half of the accounts the city is under way; the attribute of the other half is refused.
            let rest = self.rng.below(2);
            let value = usize::from(round % 2 == 0);
            self.commit_actions([WriterAction::Bulk { column: CITY, value, modulus: 2, rest }]);
            self.pause(150, 350);
            let value = usize::from(round % 2 == 1);
            self.commit_actions([WriterAction::Bulk { column: refused, value, modulus: 2, rest: 1 - rest }]);
            self.pause(200, 500);
            self.pause(400, 1_500);
        }
        let end = if self.rng.percent(30) { Operation::DaemonKill } else { Operation::DaemonTerm };
        self.operations.extend([end, Operation::ClearFaults]);
    }

    /// The schema changes between two processes, under a daemon, or beside a pass.
    fn alteration_of_the_source(&mut self) {
        let alteration = Operation::Alter(self.alteration());
        let account = self.account();
        let change = Self::set_value(account, CITY, 1, WatermarkUpdate::Now);
        self.operations.extend([Operation::ClearFaults, once()]);
        match self.rng.below(3) {
            0 => self.operations.push(alteration),
            1 => {
                let crash = self.rng.percent(20).then(|| self.crash());
                self.operations.push(Operation::Daemon(crash));
                self.pause(100, 900);
                self.operations.push(alteration);
                self.pause(1, 900);
                let end = if self.rng.percent(50) { Operation::DaemonKill } else { Operation::DaemonTerm };
                self.operations.push(end);
            }
            _ => {
                let concurrent = vec![Operation::Pause(self.rng.between(50, 600)), alteration];
                let fault = if self.rng.percent(40) {
                    let (point, arrival) = self.crash();
                    ProcessFault::Crash(point, arrival)
                } else {
                    ProcessFault::None
                };
                let command = if self.rng.percent(50) { Command::Once } else { backfill() };
                self.operations.push(Operation::CommandRun(CommandRun { command, fault, concurrent }));
            }
        }
        self.commit_actions([change]);
        if self.rng.percent(70) {
            self.operations.push(Operation::Quiesce);
        }
    }

    /// Rows for which the filter raises an error, beside others that change. Some are corrected.
    fn rows_that_raise(&mut self) {
        let first = self.account();
        for _ in 0..self.rng.between(1, 5) {
            let account = self.account();
            let (extra, column) = (self.rng.pick(&[2, 3, 4]), self.column());
            self.commit_actions([
                WriterAction::Extra { account, extra },
                Self::set_value(account, column, 1, WatermarkUpdate::Now),
                Self::set_value(first, CITY, 0, WatermarkUpdate::Now),
            ]);
        }
        self.operations.push(once());
        if self.rng.percent(50) {
            self.operations.push(pass(backfill(), ProcessFault::None));
        }
        if self.rng.percent(40) {
            self.operations.push(Operation::Quiesce);
        }
        for _ in 0..3 {
            let account = self.account();
            self.commit_actions([WriterAction::Extra { account, extra: 0 }]);
        }
        self.operations.push(once());
    }

    /// IM does not answer for one account, whose row goes on changing.
    fn silent_account(&mut self) {
        let (account, column) = (self.rng.below(self.settings.accounts), self.rng.pick(&[CITY, 1, 5]));
        self.operations.extend([Operation::ClearFaults, once()]);
        let crash = self.rng.percent(30).then(|| (self.rng.pick(&WITH_DEFERRED), self.rng.between(1, 6)));
        self.operations.push(Operation::Daemon(crash));
        self.pause(200, 600);
        for _ in 0..self.rng.between(2, 4) {
            // Answered late, or not before the time-out.
            let timeout = self.settings.timeout;
            let kind = if self.rng.percent(70) {
                FaultKind::Slow(self.rng.between(timeout * 3 / 4, timeout * 9 / 10))
            } else {
                FaultKind::ApplyThenHold(self.rng.between(timeout + 100, timeout * 3 / 2))
            };
            self.operations.push(of_account(kind, account));
            for value in 0..2 {
                let other = self.account();
                self.commit_actions([Self::set_value(account, column, value, WatermarkUpdate::Now)]);
                self.commit_actions([Self::set_value(other, column, value, WatermarkUpdate::Now)]);
                self.pause(200, 600);
            }
            // A later row moves the position past these before the call is answered.
            self.pause(1_000, 1_300);
            let other = self.account();
            self.commit_actions([Self::set_value(other, CITY, 2, WatermarkUpdate::Now)]);
            self.pause(500, 2_500);
            self.operations.push(Operation::ClearFaults);
            if self.rng.percent(30) {
                self.operations.extend([Operation::DaemonKill, Operation::Daemon(None)]);
            }
        }
        self.operations.push(Operation::ClearFaults);
        self.pause(1, 1_500);
        let end = if self.rng.percent(50) { Operation::DaemonKill } else { Operation::DaemonTerm };
        self.operations.push(end);
        if self.rng.percent(50) {
            let selection = Selection::Next(self.rng.between(1, 3));
            self.operations.extend([fault(FaultKind::Slow(100), selection), once()]);
        }
        self.operations.push(Operation::Quiesce);
    }
}
