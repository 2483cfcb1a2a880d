//! The vendor's misbehaviour in the simulator's words.
//!
//! Owns: rules and their names. Must not know: when they are in force.

use std::time::Duration;

use imsync::simulator::{CallMatcher, FaultAction, FaultRule, FaultyAnswer, SimulatedCommand};

use super::operation::{Answer, Fault, Kind, Which};
use super::table::{COLUMNS, account};

pub(super) const NO_SUCH_ACCOUNT: i64 = 70107;
/// Over the 8 MiB that imsync reads of an answer.
const HUGE: u64 = 9 << 20;

impl Fault {
    pub(super) fn rule(&self) -> FaultRule {
        let mut matcher = CallMatcher {
            accounts: self.account.map(account).into_iter().collect(),
            attribute: self.attribute.map(|place| COLUMNS[place].1.to_owned()),
            // Of an account that does not exist nothing has to be removed: a vendor who says so of one that has
            // attributes would be believed.
            command: (self.kind == Kind::RefuseAccount(NO_SUCH_ACCOUNT)).then_some(SimulatedCommand::SetAttr),
            ..CallMatcher::default()
        };
        match self.which {
            Which::Next(times) => matcher.times = Some(times),
            Which::Percent { chance, seed } => {
                #[expect(clippy::cast_precision_loss, reason = "below a hundred")]
                let share = chance as f64 / 100.0;
                (matcher.chance, matcher.seed) = (Some(share), seed);
            }
        }
        FaultRule { matcher, action: self.kind.action() }
    }
}

impl Kind {
    fn action(self) -> FaultAction {
        match self {
            Self::Refuse(code) => FaultAction::Refuse { code, per_account: false },
            Self::RefuseAccount(code) => FaultAction::Refuse { code, per_account: true },
            Self::Fail(answer) => FaultAction::Fail(answer.wrong()),
            Self::ApplyThenFail(answer) => FaultAction::ApplyThenFail(answer.wrong()),
            Self::Hold(millis) => FaultAction::Hold(Some(Duration::from_millis(millis))),
            Self::ApplyThenHold(millis) => FaultAction::ApplyThenHold(Some(Duration::from_millis(millis))),
            Self::Slow(millis) => FaultAction::Slow(Duration::from_millis(millis)),
            Self::Throttle(calls) => FaultAction::Throttle(calls),
            Self::Ghost(millis) => FaultAction::ApplyAfterDisconnect(Duration::from_millis(millis)),
        }
    }
}

impl Answer {
    fn wrong(self) -> FaultyAnswer {
        match self {
            Self::Code(code) => FaultyAnswer::Code(code),
            Self::Http(status) => FaultyAnswer::Http { status, retry_after_seconds: None },
            Self::RetryLater => FaultyAnswer::Http { status: 429, retry_after_seconds: Some(1) },
            Self::Html => FaultyAnswer::Html,
            Self::Cut => FaultyAnswer::Cut,
            Self::Close => FaultyAnswer::Close,
            Self::Garbage => FaultyAnswer::Garbage,
            Self::Huge => FaultyAnswer::Huge(HUGE),
        }
    }
}

/// For the tally: what it does, without how long and to whom.
pub(super) fn name(rule: &FaultRule) -> String {
    let wrong = |wrong: &FaultyAnswer| match wrong {
        FaultyAnswer::Code(_) => "an error code",
        FaultyAnswer::Http { retry_after_seconds: Some(_), .. } => "429 with Retry-After",
        FaultyAnswer::Http { .. } => "a gateway's 502 or 503",
        FaultyAnswer::Html => "HTML",
        FaultyAnswer::Cut => "a cut body",
        FaultyAnswer::Close => "a closed connection",
        FaultyAnswer::Garbage => "foreign JSON",
        FaultyAnswer::Huge(_) => "9 MiB",
    };
    match &rule.action {
        FaultAction::Refuse { per_account: false, .. } => "refused".to_owned(),
        FaultAction::Refuse { .. } => "refused for one account".to_owned(),
        FaultAction::Fail(answer) => format!("not applied, answered with {}", wrong(answer)),
        FaultAction::ApplyThenFail(answer) => format!("applied, answered with {}", wrong(answer)),
        FaultAction::Hold(_) => "held".to_owned(),
        FaultAction::ApplyThenHold(_) => "applied, answer held".to_owned(),
        FaultAction::Slow(_) => "slow".to_owned(),
        FaultAction::Throttle(_) => "throttled".to_owned(),
        FaultAction::ApplyAfterDisconnect(_) => "ghost".to_owned(),
    }
}
