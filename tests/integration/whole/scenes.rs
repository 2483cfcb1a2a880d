//! Short histories that go for a weak spot: a doubt and a value that returns, a full pass that is interrupted and asked
//! for something else, accounts that leave while removals fail.
//!
//! Owns: what these have in common. Must not know: how anything is carried out.
//!
//! Chance alone seldom puts the four or five steps together that a lie needs: a value that IM has applied and nobody
//! recorded, the old value back in the table, and a pass that ends before it has looked.

use super::operation::{Answer, Command, Deed, Edition, Fault, Kind, Mishap, Operation, Pass, Stamp, Which};
use super::plan::Planner;

/// Where a crash leaves a call behind whose outcome is not recorded.
const WITH_CALLS: [&str; 7] = [
    "intent: stored",
    "call: about to go",
    "call: answered",
    "call: answered",
    "push: sets have ended",
    "push: a batch was halved",
    "record: not committed",
];
/// Where one ends the next process before it has sent anything again.
const BEFORE_CALLS: [&str; 8] = [
    "lease: the epoch rose",
    "intents: settled, not committed",
    "intents: settled",
    "transaction list: read",
    "page: read",
    "page: compared",
    "delivery: begins",
    "doubts: looked up",
];
const IN_FULL: [&str; 6] = [
    "full: the position is stored",
    "full: the table is walked",
    "full: the gone are walked",
    "removals: about to go",
    "removals: a chunk is taken",
    "pass: all is recorded",
];

fn pass(command: Command, mishap: Mishap) -> Operation {
    Operation::Pass(Pass { command, mishap, beside: Vec::new() })
}

fn once() -> Operation {
    pass(Command::Once, Mishap::None)
}

fn fault(kind: Kind, which: Which) -> Operation {
    Operation::Fault(Fault { kind, which, account: None, attribute: None })
}

const ALWAYS: Which = Which::Percent { chance: 100, seed: 0 };

impl Planner {
    pub(super) fn scene(&mut self) {
        match self.dice.below(10) {
            0..4 => self.doubt(),
            4 => self.doubt_of_a_daemon(),
            5 | 6 => self.leaving(),
            7 | 8 => self.another_mind(),
            _ => self.haste(),
        }
    }

    fn committed(&mut self, deeds: impl IntoIterator<Item = Deed>) {
        let writer = self.writer();
        for deed in deeds {
            self.operations.push(Operation::Write(writer, deed));
        }
        self.operations.push(Operation::Write(writer, Deed::Commit));
    }

    /// Two values that are listed everywhere, so that they can be sent.
    fn there(account: u64, column: usize, value: usize, stamp: Stamp) -> Deed {
        Deed::Set { account, column, value, stamp }
    }

    /// A call of a one-shot command that IM may have applied, and what the table says afterwards.
    fn doubt(&mut self) {
        let (account, column) = (self.account(), self.column());
        let other = self.account();
        self.committed([Self::there(account, column, 0, Stamp::Now), Self::there(other, column, 0, Stamp::Now)]);
        self.operations.extend([Operation::ClearFaults, once()]);
        self.committed([Self::there(account, column, 1, Stamp::Now), Self::there(other, column, 1, Stamp::Now)]);
        let command = match self.dice.below(4) {
            0 => Command::Backfill { force: false, allow_removals: false },
            1 => Command::Accounts(vec![account, other]),
            _ => Command::Once,
        };
        match self.dice.below(6) {
            0 | 1 => {
                let arrival = self.dice.between(1, 2);
                let point = self.dice.pick(&WITH_CALLS);
                self.operations.push(pass(command, Mishap::Crash(point, arrival)));
            }
            2 => {
                let answer = self.answer();
                let kind = if self.dice.percent(50) { Kind::Fail(answer) } else { Kind::ApplyThenFail(answer) };
                // Where only one account is lost, the pass goes on.
                let account = self.dice.percent(70).then_some(account);
                let lost = Operation::Fault(Fault { kind, which: ALWAYS, account, attribute: None });
                self.operations.extend([lost, pass(command, Mishap::None), Operation::ClearFaults]);
            }
            3 => {
                let held = fault(Kind::ApplyThenHold(self.dice.between(1_100, 1_900)), Which::Next(2));
                self.operations.extend([held, pass(command, Mishap::None), Operation::ClearFaults]);
            }
            4 => {
                let held = fault(Kind::ApplyThenHold(1_900), Which::Next(2));
                let mishap = Mishap::Kill(self.dice.between(200, 2_000));
                self.operations.extend([held, pass(command, mishap), Operation::ClearFaults]);
            }
            _ => {
                // Applied and lost; and when it is repeated, refused.
                let lost = fault(Kind::ApplyThenFail(Answer::Close), Which::Next(1));
                let code = self.dice.pick(&[90033, 70402, 60015]);
                let refused = fault(Kind::Refuse(code), Which::Next(8));
                self.operations.extend([lost, refused, pass(command, Mishap::None), Operation::ClearFaults]);
            }
        }
        self.afterwards(account, column);
    }

    /// The same with a daemon that is killed.
    fn doubt_of_a_daemon(&mut self) {
        let (account, column) = (self.account(), self.column());
        self.committed([Self::there(account, column, 0, Stamp::Now)]);
        self.operations.extend([Operation::ClearFaults, once()]);
        let held = fault(Kind::ApplyThenHold(1_900), Which::Next(2));
        self.operations.extend([Operation::Daemon(None), Operation::Pause(self.dice.between(100, 1_500)), held]);
        self.committed([Self::there(account, column, 1, Stamp::Now)]);
        self.operations.extend([
            Operation::Pause(self.dice.between(50, 900)),
            Operation::DaemonKill,
            Operation::ClearFaults,
        ]);
        self.afterwards(account, column);
    }

    /// The old value is back, or the row is gone; and the next process may not live long either.
    fn afterwards(&mut self, account: u64, column: usize) {
        let back = match self.dice.below(8) {
            0 => Deed::Delete { account },
            1 => Deed::Gone { account, gone: true },
            2 => Deed::Bot { account, bot: true },
            3 => Self::there(account, column, 0, Stamp::Now),
            4 => Self::there(account, column, 2, Stamp::Now),
            // Nothing but the look-up by account finds these.
            _ => Self::there(account, column, 0, self.dice.pick(&[Stamp::Untouched, Stamp::Old])),
        };
        if self.dice.percent(70) {
            self.committed([back]);
        }
        if self.dice.percent(50) {
            let point = self.dice.pick(&BEFORE_CALLS);
            self.operations.push(pass(Command::Once, Mishap::Crash(point, 1)));
        }
        if self.dice.percent(50) {
            self.operations.push(once());
        }
    }

    /// Accounts leave, by all ways, and IM or the process fails at their removal.
    fn leaving(&mut self) {
        for _ in 0..self.dice.between(1, 4) {
            let account = self.account();
            let deed = match self.dice.below(6) {
                0 => Deed::Gone { account, gone: true },
                1 => Deed::Bot { account, bot: true },
                2 => Deed::Rename { from: account, to: self.settings.accounts + self.dice.below(10) },
                _ => Deed::Delete { account },
            };
            self.committed([deed]);
        }
        let command = Command::Backfill { force: false, allow_removals: self.dice.percent(50) };
        match self.dice.below(3) {
            0 => {
                let point = self.dice.pick(&IN_FULL);
                self.operations.push(pass(command, Mishap::Crash(point, 1)));
            }
            1 => {
                let kind = Kind::ApplyThenFail(self.answer());
                self.operations.extend([fault(kind, ALWAYS), pass(command, Mishap::None), Operation::ClearFaults]);
            }
            _ => self.operations.push(pass(command, Mishap::None)),
        }
        if self.dice.percent(40) {
            // Somebody comes back.
            let account = self.account();
            self.committed([Deed::Insert { account, value: 0 }]);
        }
        self.operations.push(pass(Command::Backfill { force: false, allow_removals: true }, Mishap::None));
    }

    /// A full pass is interrupted, and what goes on is asked for something else.
    fn another_mind(&mut self) {
        const EDITIONS: [Edition; 4] =
            [Edition::First, Edition::WithoutLang, Edition::OtherPlan, Edition::NarrowFilter];
        let commands = [
            Command::Once,
            Command::Once,
            Command::Backfill { force: false, allow_removals: true },
            Command::Backfill { force: true, allow_removals: true },
        ];
        if self.dice.percent(70) {
            // So that there is a middle to be interrupted in.
            self.operations.push(fault(Kind::Slow(150), ALWAYS));
        }
        for _ in 0..self.dice.between(1, 3) {
            let edition = self.dice.pick(&EDITIONS);
            let command = commands[usize::try_from(self.dice.below(4)).expect("a place fits")].clone();
            let mishap = match self.dice.below(3) {
                0 => Mishap::Crash(self.dice.pick(&IN_FULL), 1),
                1 => Mishap::Crash(self.dice.pick(&WITH_CALLS), self.dice.between(1, 8)),
                _ => Mishap::Term(self.dice.between(1_000, 2_500)),
            };
            self.operations.extend([Operation::Edit(edition), pass(command, mishap)]);
            if self.dice.percent(50) {
                let deed = self.deed();
                self.committed([deed]);
            }
        }
        let edition = self.dice.pick(&EDITIONS);
        self.operations.extend([Operation::ClearFaults, Operation::Edit(edition), once()]);
    }

    /// One process after the other sends as fast as it may.
    fn haste(&mut self) {
        let again = || Command::Backfill { force: true, allow_removals: false };
        self.operations.push(Operation::ClearFaults);
        for _ in 0..2 {
            let mishap = match self.dice.below(3) {
                0 => Mishap::Kill(self.dice.between(1_200, 2_500)),
                1 => Mishap::Crash("call: answered", self.dice.between(10, 25)),
                _ => Mishap::None,
            };
            self.operations.push(pass(again(), mishap));
        }
        self.operations.push(pass(again(), Mishap::None));
    }
}
