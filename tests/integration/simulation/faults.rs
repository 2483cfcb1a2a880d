//! The vendor's misbehaviour in the simulator's words.
//!
//! Owns: rules and their names. Must not know: when they are in force.

use std::time::Duration;

use imsync::simulator::{Action, Command, Matcher, Rule, Wrong};

use super::operation::{Answer, Fault, FaultKind, Which};
use super::table::{COLUMNS, account};

pub(super) const NO_SUCH_ACCOUNT: i64 = 70107;
/// Over the 8 MiB that imsync reads of an answer.
const HUGE: u64 = 9 << 20;

impl Fault {
    pub(super) fn rule(&self) -> Rule {
        let mut matcher = Matcher {
            accounts: self.account.map(account).into_iter().collect(),
            attribute: self.attribute.map(|place| COLUMNS[place].1.to_owned()),
            // Of an account that does not exist nothing has to be removed: a vendor who says so of one that has
            // attributes would be believed.
            command: (self.kind == FaultKind::RefuseAccount(NO_SUCH_ACCOUNT)).then_some(Command::SetAttr),
            ..Matcher::default()
        };
        match self.which {
            Which::Next(times) => matcher.times = Some(times),
            Which::Percent { chance, seed } => {
                #[expect(clippy::cast_precision_loss, reason = "below a hundred")]
                let share = chance as f64 / 100.0;
                (matcher.chance, matcher.seed) = (Some(share), seed);
            }
        }
        Rule { matcher, action: self.kind.action() }
    }
}

impl FaultKind {
    fn action(self) -> Action {
        match self {
            Self::Refuse(code) => Action::Refuse { code, per_account: false },
            Self::RefuseAccount(code) => Action::Refuse { code, per_account: true },
            Self::Fail(answer) => Action::Fail(answer.wrong()),
            Self::ApplyThenFail(answer) => Action::ApplyThenFail(answer.wrong()),
            Self::Hold(millis) => Action::Hold(Some(Duration::from_millis(millis))),
            Self::ApplyThenHold(millis) => Action::ApplyThenHold(Some(Duration::from_millis(millis))),
            Self::Slow(millis) => Action::Slow(Duration::from_millis(millis)),
            Self::Throttle(calls) => Action::Throttle(calls),
            Self::Ghost(millis) => Action::Ghost(Duration::from_millis(millis)),
        }
    }
}

impl Answer {
    fn wrong(self) -> Wrong {
        match self {
            Self::Code(code) => Wrong::Code(code),
            Self::Http(status) => Wrong::Http { status, retry_after_seconds: None },
            Self::RetryLater => Wrong::Http { status: 429, retry_after_seconds: Some(1) },
            Self::Html => Wrong::Html,
            Self::Cut => Wrong::Cut,
            Self::Close => Wrong::Close,
            Self::Garbage => Wrong::Garbage,
            Self::Huge => Wrong::Huge(HUGE),
        }
    }
}

/// For the counts: what it does, without how long and to whom.
pub(super) fn name(rule: &Rule) -> String {
    let wrong = |wrong: &Wrong| match wrong {
        Wrong::Code(_) => "an error code",
        Wrong::Http { retry_after_seconds: Some(_), .. } => "429 with Retry-After",
        Wrong::Http { .. } => "a gateway's 502 or 503",
        Wrong::Html => "HTML",
        Wrong::Cut => "a cut body",
        Wrong::Close => "a closed connection",
        Wrong::Garbage => "foreign JSON",
        Wrong::Huge(_) => "9 MiB",
    };
    match &rule.action {
        Action::Refuse { per_account: false, .. } => "refused".to_owned(),
        Action::Refuse { .. } => "refused for one account".to_owned(),
        Action::Fail(answer) => format!("not applied, answered with {}", wrong(answer)),
        Action::ApplyThenFail(answer) => format!("applied, answered with {}", wrong(answer)),
        Action::Hold(_) => "held".to_owned(),
        Action::ApplyThenHold(_) => "applied, answer held".to_owned(),
        Action::Slow(_) => "slow".to_owned(),
        Action::Throttle(_) => "throttled".to_owned(),
        Action::Ghost(_) => "ghost".to_owned(),
    }
}
