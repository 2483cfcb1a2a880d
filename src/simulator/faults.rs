//! Misbehaviour as data: rules that say for which calls the vendor misbehaves, and how.
//!
//! Owns: rules, when they fire, and the plan they make for one call. Must not know: HTTP, the state, records.

mod text;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::code;
use super::endpoint::{Command, Endpoint, Service};
use super::window::SlidingSecond;
use super::wire::{AccountError, Request};

pub use text::{FORMS, RuleError};

/// Which calls a rule is about. The default is every call. All conditions given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matcher {
    pub service: Option<Service>,
    pub command: Option<Command>,
    /// The call carries one of these accounts; empty: any call.
    pub accounts: Vec<String>,
    /// The call carries this attribute for somebody (as a name being set, given or removed).
    pub attribute: Option<String>,
    /// Leave the first so many matching calls alone.
    pub after: u64,
    /// Only every nth of the matching calls.
    pub every: Option<u64>,
    /// No more than so many times.
    pub times: Option<u64>,
    /// With this probability, 0 to 1.
    pub chance: Option<f64>,
    /// Makes the chances repeatable.
    pub seed: u64,
}

/// What the vendor does to a call that a rule is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Apply nothing and answer with an error code. `per_account`: only the accounts that the rule names fail; a
    /// `timpush` call lists them in `ErrorList` and applies the others, an `all_member_push` call fails as a whole.
    Refuse { code: i64, per_account: bool },
    /// Apply nothing and answer wrongly.
    Fail(Wrong),
    /// Apply the call, then answer wrongly.
    ApplyThenFail(Wrong),
    /// Wait before applying, until released or for this long.
    Hold(Option<Duration>),
    /// Apply at once, and wait with the answer until released or for this long.
    ApplyThenHold(Option<Duration>),
    /// Wait before applying. Several `Slow` rules add up.
    Slow(Duration),
    /// Let no more than so many of the matching calls through per second and address; others are answered with 60007.
    Throttle(u32),
    /// Never answer; apply this long after the caller has gone away.
    Ghost(Duration),
}

/// An answer that is not the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The vendor's JSON with an error code.
    Code(i64),
    /// An HTTP status with a gateway's text.
    Http { status: u16, retry_after_seconds: Option<u64> },
    /// HTTP 200 with a page of HTML.
    Html,
    /// The right answer, cut in half by the end of the connection.
    Cut,
    /// The connection is closed without an answer.
    Close,
    /// HTTP 200 with JSON that is not the vendor's.
    Garbage,
    /// An answer of so many bytes.
    Huge(u64),
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub matcher: Matcher,
    pub action: Action,
}

/// Names a rule that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u64);

/// What the rules make of one call.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) delay: Duration,
    pub(super) hold: Option<Gate>,
    pub(super) hold_after: Option<Gate>,
    /// Answer with this code and apply nothing.
    pub(super) refuse: Option<i64>,
    pub(super) refused_accounts: Vec<AccountError>,
    pub(super) wrong: Option<Wrong>,
    /// Applied although the answer is wrong.
    pub(super) apply_before_wrong: bool,
    pub(super) ghost: Option<Duration>,
}

/// Where a held call waits.
pub(super) struct Gate {
    released: watch::Receiver<u64>,
    limit: Option<Duration>,
}

impl Gate {
    pub(super) async fn wait(mut self) {
        // A removed rule drops its sender, which ends the wait too.
        let released = self.released.changed();
        match self.limit {
            Some(limit) => drop(tokio::time::timeout(limit, released).await),
            None => drop(released.await),
        }
    }
}

impl Plan {
    /// The call is answered at once.
    pub(super) fn is_immediate(&self) -> bool {
        self.delay.is_zero() && self.hold.is_none() && self.hold_after.is_none() && self.ghost.is_none()
    }
}

/// A rule at work.
struct Active {
    id: RuleId,
    rule: Rule,
    matched: u64,
    fired: u64,
    dice: u64,
    windows: [SlidingSecond; Endpoint::COUNT],
    gate: watch::Sender<u64>,
}

/// The rules of one simulator, in the order they were added.
#[derive(Default)]
pub(super) struct Faults {
    rules: Vec<Active>,
    next_id: u64,
}

impl Faults {
    pub(super) fn add(&mut self, rule: Rule) -> RuleId {
        let id = RuleId(self.next_id);
        self.next_id += 1;
        let dice = rule.matcher.seed;
        let (matched, fired) = (0, 0);
        self.rules.push(Active {
            id,
            rule,
            matched,
            fired,
            dice,
            windows: Default::default(),
            gate: watch::Sender::new(0),
        });
        id
    }

    /// Remove a rule; calls it holds go on. False: there is no such rule.
    pub(super) fn remove(&mut self, id: RuleId) -> bool {
        let before = self.rules.len();
        self.rules.retain(|active| active.id != id);
        self.rules.len() < before
    }

    /// Remove all rules; calls they hold go on.
    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Let the calls that a rule holds go on; later calls are held as before. False: there is no such rule.
    pub(super) fn release(&self, id: RuleId) -> bool {
        let found = self.rules.iter().find(|active| active.id == id);
        found.map(|active| active.gate.send_modify(|times| *times += 1)).is_some()
    }

    /// Rules with how often each has fired.
    pub(super) fn list(&self) -> Vec<(RuleId, Rule, u64)> {
        self.rules.iter().map(|active| (active.id, active.rule.clone(), active.fired)).collect()
    }

    /// What the rules make of this call. Waiting adds up; of several rules that decide the answer, the first does.
    pub(super) fn plan(&mut self, endpoint: Endpoint, request: &Request<'_>, now: Instant) -> Plan {
        let mut plan = Plan::default();
        for active in &mut self.rules {
            if active.fires(endpoint, request) {
                active.act(endpoint, request, now, &mut plan);
            }
        }
        plan
    }
}

impl Active {
    fn fires(&mut self, endpoint: Endpoint, request: &Request<'_>) -> bool {
        let matcher = &self.rule.matcher;
        if matcher.times.is_some_and(|times| self.fired >= times) || !matcher.fits(endpoint, request) {
            return false;
        }
        self.matched += 1;
        let Some(counted) = self.matched.checked_sub(matcher.after).filter(|counted| *counted > 0) else {
            return false;
        };
        if matcher.every.is_some_and(|every| counted % every.max(1) != 0) {
            return false;
        }
        if matcher.chance.is_some_and(|chance| throw(&mut self.dice) >= chance) {
            return false;
        }
        self.fired += 1;
        true
    }

    fn act(&mut self, endpoint: Endpoint, request: &Request<'_>, now: Instant, plan: &mut Plan) {
        let gate = |limit| Some(Gate { released: self.gate.subscribe(), limit });
        let undecided = plan.refuse.is_none() && plan.wrong.is_none() && plan.ghost.is_none();
        match &self.rule.action {
            Action::Slow(delay) => plan.delay += *delay,
            Action::Hold(limit) => plan.hold = gate(*limit),
            Action::ApplyThenHold(limit) => plan.hold_after = gate(*limit),
            Action::Throttle(limit) => {
                if !self.windows[endpoint.index()].add_below(now, *limit as usize) && undecided {
                    plan.refuse = Some(code::TOO_OFTEN);
                }
            }
            Action::Refuse { code, per_account: false } if undecided => plan.refuse = Some(*code),
            Action::Refuse { code, .. } if undecided => {
                let named = &self.rule.matcher.accounts;
                let hit = request.accounts().filter(|account| named.iter().any(|name| name == account));
                let hit = hit.map(|account| AccountError { account: account.to_owned(), code: *code });
                plan.refused_accounts.extend(hit);
            }
            Action::Fail(wrong) if undecided => plan.wrong = Some(wrong.clone()),
            Action::ApplyThenFail(wrong) if undecided => {
                plan.wrong = Some(wrong.clone());
                plan.apply_before_wrong = true;
            }
            Action::Ghost(after) if undecided => plan.ghost = Some(*after),
            Action::Refuse { .. } | Action::Fail(_) | Action::ApplyThenFail(_) | Action::Ghost(_) => {}
        }
    }
}

impl Matcher {
    fn fits(&self, endpoint: Endpoint, request: &Request<'_>) -> bool {
        self.service.is_none_or(|service| service == endpoint.service)
            && self.command.is_none_or(|command| command == endpoint.command)
            && (self.accounts.is_empty()
                || request.accounts().any(|account| self.accounts.iter().any(|name| name == account)))
            && self.attribute.as_deref().is_none_or(|name| request.mentions(name))
    }
}

/// The next number in 0..1 of a repeatable row (`SplitMix64`).
fn throw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let top = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(top) / 4_294_967_296.0
}
