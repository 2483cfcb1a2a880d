//! Applying the fault rules to a call.
//!
//! Owns: the active rules, which calls they apply to, and the plan they produce for one call. Must not know: how the
//! plan is carried out.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::rule::{CallMatcher, FaultAction, FaultRule, FaultRuleId, FaultyAnswer};
use crate::simulator::answer::RefusedAccount;
use crate::simulator::endpoint::SimulatedEndpoint;
use crate::simulator::error_code;
use crate::simulator::request::ParsedRequest;
use crate::simulator::sliding_window::SlidingWindow;

/// What the rules require for one call.
#[derive(Default)]
pub(crate) struct FaultPlan {
    /// Delay before the call is applied.
    pub(crate) delay: Duration,
    /// Hold the call before it is applied.
    pub(crate) hold: Option<ReleaseSignal>,
    /// Hold the answer after the call is applied.
    pub(crate) hold_answer: Option<ReleaseSignal>,
    /// Answer with this code and apply nothing.
    pub(crate) refuse: Option<i64>,
    /// Refuse these accounts only.
    pub(crate) refused_accounts: Vec<RefusedAccount>,
    /// Send this answer instead of the right one.
    pub(crate) faulty_answer: Option<FaultyAnswer>,
    /// Apply the call although `faulty_answer` is sent.
    pub(crate) apply_before_fault: bool,
    /// Apply the call this long after the caller has disconnected, and never answer.
    pub(crate) apply_after_disconnect: Option<Duration>,
}

impl FaultPlan {
    /// Whether the call is answered without waiting.
    pub(crate) fn is_immediate(&self) -> bool {
        self.delay.is_zero()
            && self.hold.is_none()
            && self.hold_answer.is_none()
            && self.apply_after_disconnect.is_none()
    }

    /// Whether no rule has determined the answer yet.
    fn is_undecided(&self) -> bool {
        self.refuse.is_none() && self.faulty_answer.is_none() && self.apply_after_disconnect.is_none()
    }
}

/// Ends the wait of a held call: when the rule is released or removed, or after a time limit.
pub(crate) struct ReleaseSignal {
    releases: watch::Receiver<u64>,
    limit: Option<Duration>,
}

impl ReleaseSignal {
    pub(crate) async fn wait(mut self) {
        // Removing a rule drops its sender, which ends the wait with an error; that is the same as a release.
        let released = self.releases.changed();
        match self.limit {
            Some(limit) => drop(tokio::time::timeout(limit, released).await),
            None => drop(released.await),
        }
    }
}

/// A rule of a running simulator, with its counts.
struct ActiveRule {
    id: FaultRuleId,
    rule: FaultRule,
    /// Calls that met the conditions, before `after`, `every` and `chance`.
    matched: u64,
    /// Calls that the rule was applied to.
    applied: u64,
    rng_state: u64,
    /// The calls that `throttle` has accepted, by endpoint.
    accepted: [SlidingWindow; SimulatedEndpoint::COUNT],
    /// Counts the releases.
    releases: watch::Sender<u64>,
}

/// The rules of a running simulator, in the order in which they were added.
#[derive(Default)]
pub(crate) struct FaultRules {
    rules: Vec<ActiveRule>,
    next_id: u64,
}

impl FaultRules {
    pub(crate) fn add(&mut self, rule: FaultRule) -> FaultRuleId {
        let id = FaultRuleId(self.next_id);
        self.next_id += 1;
        self.rules.push(ActiveRule {
            id,
            matched: 0,
            applied: 0,
            rng_state: rule.matcher.seed,
            accepted: Default::default(),
            releases: watch::Sender::new(0),
            rule,
        });
        id
    }

    /// Removes a rule and releases the calls that it holds. Returns whether the rule existed.
    pub(crate) fn remove(&mut self, id: FaultRuleId) -> bool {
        let before = self.rules.len();
        self.rules.retain(|active| active.id != id);
        self.rules.len() < before
    }

    /// Removes all rules and releases the calls that they hold.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Releases the calls that a rule holds now; the rule holds later calls as before. Returns whether the rule exists.
    pub(crate) fn release(&self, id: FaultRuleId) -> bool {
        let found = self.rules.iter().find(|active| active.id == id);
        found.map(|active| active.releases.send_modify(|count| *count += 1)).is_some()
    }

    /// The rules, each with the number of calls that it was applied to.
    pub(crate) fn list(&self) -> Vec<(FaultRuleId, FaultRule, u64)> {
        self.rules.iter().map(|active| (active.id, active.rule.clone(), active.applied)).collect()
    }

    /// The plan for one call. Delays add up. If several rules determine the answer, the first one applies.
    pub(crate) fn plan(
        &mut self,
        endpoint: SimulatedEndpoint,
        request: &ParsedRequest<'_>,
        body: &[u8],
        now: Instant,
    ) -> FaultPlan {
        let mut plan = FaultPlan::default();
        for active in &mut self.rules {
            if active.count_call(endpoint, request, body) {
                active.add_to_plan(endpoint, request, now, &mut plan);
            }
        }
        plan
    }
}

impl ActiveRule {
    /// Counts a call. Returns whether the rule applies to it.
    fn count_call(&mut self, endpoint: SimulatedEndpoint, request: &ParsedRequest<'_>, body: &[u8]) -> bool {
        let matcher = &self.rule.matcher;
        if matcher.times.is_some_and(|times| self.applied >= times) || !matcher.matches(endpoint, request, body) {
            return false;
        }
        self.matched += 1;
        let Some(counted) = self.matched.checked_sub(matcher.after).filter(|counted| *counted > 0) else {
            return false;
        };
        if matcher.every.is_some_and(|every| counted % every.max(1) != 0) {
            return false;
        }
        if matcher.chance.is_some_and(|chance| next_random(&mut self.rng_state) >= chance) {
            return false;
        }
        self.applied += 1;
        true
    }

    fn add_to_plan(
        &mut self,
        endpoint: SimulatedEndpoint,
        request: &ParsedRequest<'_>,
        now: Instant,
        plan: &mut FaultPlan,
    ) {
        let release_signal = |limit| Some(ReleaseSignal { releases: self.releases.subscribe(), limit });
        let undecided = plan.is_undecided();
        match &self.rule.action {
            FaultAction::Slow(delay) => plan.delay += *delay,
            FaultAction::Hold(limit) => plan.hold = release_signal(*limit),
            FaultAction::ApplyThenHold(limit) => plan.hold_answer = release_signal(*limit),
            FaultAction::Throttle(limit) => {
                if !self.accepted[endpoint.index()].try_add(now, *limit as usize) && undecided {
                    plan.refuse = Some(error_code::TOO_OFTEN);
                }
            }
            FaultAction::Refuse { code, per_account: false } if undecided => plan.refuse = Some(*code),
            FaultAction::Refuse { code, .. } if undecided => {
                let named = &self.rule.matcher.accounts;
                let refused = request.accounts().filter(|account| named.iter().any(|name| name == account));
                let refused = refused.map(|account| RefusedAccount { account: account.to_owned(), code: *code });
                plan.refused_accounts.extend(refused);
            }
            FaultAction::Fail(answer) if undecided => plan.faulty_answer = Some(answer.clone()),
            FaultAction::ApplyThenFail(answer) if undecided => {
                plan.faulty_answer = Some(answer.clone());
                plan.apply_before_fault = true;
            }
            FaultAction::ApplyAfterDisconnect(delay) if undecided => plan.apply_after_disconnect = Some(*delay),
            FaultAction::Refuse { .. }
            | FaultAction::Fail(_)
            | FaultAction::ApplyThenFail(_)
            | FaultAction::ApplyAfterDisconnect(_) => {}
        }
    }
}

impl CallMatcher {
    /// Whether a call meets the conditions that do not depend on earlier calls.
    fn matches(&self, endpoint: SimulatedEndpoint, request: &ParsedRequest<'_>, body: &[u8]) -> bool {
        self.service.is_none_or(|service| service == endpoint.service)
            && self.command.is_none_or(|command| command == endpoint.command)
            && (self.accounts.is_empty()
                || request.accounts().any(|account| self.accounts.iter().any(|name| name == account)))
            && self.attribute.as_deref().is_none_or(|name| request.has_attribute(name))
            && self.larger_than.is_none_or(|bytes| body.len() > bytes)
            && self.contains.as_deref().is_none_or(|text| contains(body, text.as_bytes()))
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

/// The next number of a repeatable sequence (`SplitMix64`), from 0 to below 1.
fn next_random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let top = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(top) / 4_294_967_296.0
}
