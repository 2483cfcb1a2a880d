//! The vendor's misbehaviour as fault rules of the simulator.
//!
//! Owns: rules and their names. Must not know: when they are in force.

use std::time::Duration;

use imsync::simulator::{CallMatcher, FaultAction, FaultRule, FaultyAnswer, SimulatedCommand};

use super::operation::{Answer, Fault, FaultKind, Selection};
use super::table::{COLUMNS, account};

pub(super) const NO_SUCH_ACCOUNT: i64 = 70107;
/// More than the 8 MiB of an answer that imsync reads.
const HUGE: u64 = 9 << 20;

impl Fault {
    pub(super) fn rule(&self) -> FaultRule {
        let mut matcher = CallMatcher {
            accounts: self.account.map(account).into_iter().collect(),
            attribute: self.attribute.map(|index| COLUMNS[index].1.to_owned()),
            // Only for sets: "no such account" means that there is nothing to remove, so imsync would rightly believe a
            // vendor who answers this for the removal of attributes that exist.
            command: (self.kind == FaultKind::RefuseAccount(NO_SUCH_ACCOUNT)).then_some(SimulatedCommand::SetAttr),
            ..CallMatcher::default()
        };
        match self.selection {
            Selection::Next(times) => matcher.times = Some(times),
            Selection::Percent { chance, seed } => {
                #[expect(clippy::cast_precision_loss, reason = "a percentage is below 2^53")]
                let share = chance as f64 / 100.0;
                (matcher.chance, matcher.seed) = (Some(share), seed);
            }
        }
        FaultRule { matcher, action: self.kind.action() }
    }
}

impl FaultKind {
    fn action(self) -> FaultAction {
        match self {
            Self::Refuse(code) => FaultAction::Refuse { code, per_account: false },
            Self::RefuseAccount(code) => FaultAction::Refuse { code, per_account: true },
            Self::Fail(answer) => FaultAction::Fail(answer.faulty()),
            Self::ApplyThenFail(answer) => FaultAction::ApplyThenFail(answer.faulty()),
            Self::Hold(millis) => FaultAction::Hold(Some(Duration::from_millis(millis))),
            Self::ApplyThenHold(millis) => FaultAction::ApplyThenHold(Some(Duration::from_millis(millis))),
            Self::Slow(millis) => FaultAction::Slow(Duration::from_millis(millis)),
            Self::Throttle(calls) => FaultAction::Throttle(calls),
            Self::LateWrite(millis) => FaultAction::ApplyAfterDisconnect(Duration::from_millis(millis)),
        }
    }
}

impl Answer {
    fn faulty(self) -> FaultyAnswer {
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

/// The name in the counts: what the fault does, without durations and accounts.
pub(super) fn name(rule: &FaultRule) -> String {
    let describe = |answer: &FaultyAnswer| match answer {
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
        FaultAction::Fail(answer) => format!("not applied, answered with {}", describe(answer)),
        FaultAction::ApplyThenFail(answer) => format!("applied, answered with {}", describe(answer)),
        FaultAction::Hold(_) => "held".to_owned(),
        FaultAction::ApplyThenHold(_) => "applied, answer held".to_owned(),
        FaultAction::Slow(_) => "slow".to_owned(),
        FaultAction::Throttle(_) => "throttled".to_owned(),
        FaultAction::ApplyAfterDisconnect(_) => "applied after the caller disconnected".to_owned(),
    }
}
