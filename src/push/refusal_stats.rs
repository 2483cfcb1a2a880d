//! What IM has accepted and refused in one pass, and what the counts say about the cause of a refusal.
//!
//! Owns: the counts of a pass and their thresholds. Must not know: calls, probes, messages.

use std::collections::{HashMap, HashSet};

use super::batch::Operation;
use crate::im::Code;
use crate::model::AttributeIndex;

/// Refusals of accounts alone in their call, with nothing accepted, from which the app is suspected.
const MIN_REFUSALS_TO_SUSPECT_APP: u32 = 20;
/// Answered accounts from which the refused share of a pass counts.
const MIN_ACCOUNTS_FOR_SHARE: u64 = 1000;
/// Of so many answered accounts IM must have accepted one, so that the app and the form of the accounts count as right.
/// A few accounts exist in every app, for example the administrator.
const ACCOUNTS_FOR_EACH_ACCEPTED: u64 = 100;
/// Answered accounts from which refusals can be called rare.
const MIN_ACCOUNTS_FOR_RARE: u32 = 20;
/// About this many answered accounts count as recent, because one part of a table says little about the next.
const RECENT_ACCOUNTS: u32 = 256;

/// The cause of a refusal of an account or attribute that was alone in its call, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RefusalCause {
    /// The account or its value.
    Row,
    /// Possibly the app. Too few were refused to find out.
    Unclear,
    /// Possibly the app. So many were refused that a probe finds out.
    NeedsProbe(Suspect),
}

/// What the app or the configuration may be at fault for: all refusals with a code, or those of one attribute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Suspect {
    pub op: Operation,
    pub code: Code,
    /// `None`: several attributes of the account were in the call.
    pub attribute: Option<AttributeIndex>,
}

/// The accounts that were refused with one code, of those answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RejectedShare {
    pub refused: u64,
    pub answered: u64,
}

/// The counts of one pass.
#[derive(Debug)]
pub(super) struct RefusalStats {
    max_rejected_share: f64,
    set: AcceptedAttributes,
    removed: AcceptedAttributes,
    /// Refusals of accounts and attributes that were alone in their call.
    refused_alone: HashMap<Suspect, u32>,
    /// Codes of which is known that rows cause them.
    row_codes: HashSet<Code>,
    answered: u64,
    accepted: u64,
    refused: HashMap<Code, u64>,
    /// Accounts of which is proven that Chat does not know them. They are not among `refused`.
    proven_unknown: u64,
    recent: RecentAnswers,
    gateway: GatewayStats,
}

/// What a gateway before IM has passed on and refused.
#[derive(Debug, Default)]
struct GatewayStats {
    /// Answers that show that calls with harmless content reach IM.
    passed: u64,
    /// Lone accounts and attributes refused since the last of these.
    refused_since: u32,
    /// A probe has shown that rows are at fault for these.
    cleared: HashSet<Suspect>,
}

/// What IM has accepted of one operation.
#[derive(Debug)]
struct AcceptedAttributes {
    any: bool,
    /// By attribute index.
    by_attribute: Vec<bool>,
}

/// About the last [`RECENT_ACCOUNTS`] answered accounts; older ones count half, a quarter, and so on.
#[derive(Clone, Copy, Debug, Default)]
struct RecentAnswers {
    answered: u32,
    refused: u32,
}

impl RefusalStats {
    /// `attributes`: the number of attribute names of the sync.
    pub(super) fn new(max_rejected_share: f64, attributes: usize) -> Self {
        let none = || AcceptedAttributes { any: false, by_attribute: vec![false; attributes] };
        Self {
            max_rejected_share,
            set: none(),
            removed: none(),
            refused_alone: HashMap::new(),
            row_codes: HashSet::new(),
            answered: 0,
            accepted: 0,
            refused: HashMap::new(),
            proven_unknown: 0,
            recent: RecentAnswers::default(),
            gateway: GatewayStats::default(),
        }
    }

    /// IM accepted this attribute of an account.
    pub(super) fn record_accepted(&mut self, op: Operation, attribute: AttributeIndex) {
        let accepted = match op {
            Operation::Set => &mut self.set,
            Operation::Remove => &mut self.removed,
        };
        accepted.any = true;
        accepted.by_attribute[attribute.index()] = true;
    }

    /// For the rest of the pass, rows are the cause of this code.
    pub(super) fn record_row_code(&mut self, code: Code) {
        self.row_codes.insert(code);
    }

    /// A call has reached IM, so a gateway before IM does not refuse every call.
    pub(super) fn record_passed(&mut self) {
        self.gateway.passed += 1;
        self.gateway.refused_since = 0;
    }

    /// Harmless content reaches IM. For the rest of the pass, rows are the cause of this suspect's refusals, as long as calls
    /// go on to reach IM.
    pub(super) fn record_content_refused(&mut self, suspect: Suspect) {
        self.record_passed();
        self.gateway.cleared.insert(suspect);
    }

    /// How often a call has reached IM. A refusal by a gateway is an account's fault only if the number has grown since.
    pub(super) fn passed(&self) -> u64 {
        self.gateway.passed
    }

    /// A gateway before IM refused an account or attribute that was alone in its call.
    pub(super) fn record_refused_by_gateway(&mut self) {
        self.gateway.refused_since += 1;
    }

    /// Too many lone refusals by a gateway with nothing passed in between to be the fault of rows.
    pub(super) fn gateway_is_suspected(&self) -> bool {
        self.gateway.refused_since >= MIN_REFUSALS_TO_SUSPECT_APP
    }

    /// A suspect that a probe was to check needs none any more.
    pub(super) fn is_cleared(&self, suspect: Suspect) -> bool {
        if suspect.code.comes_from_gateway() {
            let cleared = self.gateway.cleared.contains(&suspect) || !self.is_strong(suspect);
            return self.gateway.refused_since == 0 && cleared;
        }
        self.cause(suspect, 0) == RefusalCause::Row
    }

    /// IM refused an account or attribute that was alone in its call.
    pub(super) fn record_refused_alone(&mut self, suspect: Suspect) {
        *self.refused_alone.entry(suspect).or_default() += 1;
    }

    fn is_strong(&self, suspect: Suspect) -> bool {
        self.refused_alone.get(&suspect).is_some_and(|count| *count >= MIN_REFUSALS_TO_SUSPECT_APP)
    }

    /// The cause of such a refusal, by the counts so far. `passed_before`: the number of [`RefusalStats::passed`] at the
    /// time of the refusal.
    pub(super) fn cause(&self, suspect: Suspect, passed_before: u64) -> RefusalCause {
        let Suspect { op, code, attribute } = suspect;
        let accepted = match op {
            Operation::Set => &self.set,
            Operation::Remove => &self.removed,
        };
        let accepted_too = attribute.map_or(accepted.any, |attribute| accepted.by_attribute[attribute.index()]);
        if code.comes_from_gateway() {
            let passes = self.gateway.passed > passed_before;
            let known_as_row = accepted_too || self.gateway.cleared.contains(&suspect);
            return if passes && (known_as_row || !self.is_strong(suspect)) {
                RefusalCause::Row
            } else if passes || self.gateway_is_suspected() {
                RefusalCause::NeedsProbe(suspect)
            } else {
                RefusalCause::Unclear
            };
        }
        if code.concerns_account() || accepted_too || self.row_codes.contains(&code) {
            return RefusalCause::Row;
        }
        let all_attributes = Suspect { attribute: None, ..suspect };
        if self.is_strong(suspect) {
            RefusalCause::NeedsProbe(suspect)
        } else if !accepted.any && self.is_strong(all_attributes) {
            RefusalCause::NeedsProbe(all_attributes)
        } else {
            RefusalCause::Unclear
        }
    }

    /// IM answered for one more account of the pass.
    pub(super) fn record_answered(&mut self) {
        self.answered += 1;
        self.recent.answered += 1;
        if self.recent.answered >= RECENT_ACCOUNTS {
            self.recent = RecentAnswers { answered: self.recent.answered / 2, refused: self.recent.refused / 2 };
        }
    }

    /// IM accepted one more account, which is among those answered.
    pub(super) fn record_account_accepted(&mut self) {
        self.accepted += 1;
    }

    /// The service of accounts does not know one more account, which is among those answered.
    pub(super) fn record_proven_unknown(&mut self) {
        self.proven_unknown += 1;
    }

    /// IM refused one more account with this code.
    pub(super) fn record_refused(&mut self, code: Code) {
        *self.refused.entry(code).or_default() += 1;
        self.recent.refused += 1;
    }

    /// Less than a quarter of the recent accounts was refused.
    pub(super) fn refusals_are_rare(&self) -> bool {
        self.recent.answered >= MIN_ACCOUNTS_FOR_RARE && self.recent.refused * 4 < self.recent.answered
    }

    /// The share of accounts refused with this code, where it is over `max_rejected_share`. Accounts that are proven to be
    /// unknown count only while IM accepts hardly any account: then the app or the form of the accounts may be wrong.
    pub(super) fn share_over_limit(&self, code: Code) -> Option<RejectedShare> {
        let mut refused = self.refused.get(&code).copied().unwrap_or_default();
        if code.means_unknown_account() && self.accepted * ACCOUNTS_FOR_EACH_ACCEPTED < self.answered {
            refused += self.proven_unknown;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of accounts are far below 2^52")]
        let over = refused as f64 > self.max_rejected_share * self.answered as f64;
        (self.answered >= MIN_ACCOUNTS_FOR_SHARE && over).then_some(RejectedShare { refused, answered: self.answered })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: Code = Code::Vendor(70402);

    fn suspect(attribute: Option<u16>) -> Suspect {
        Suspect { op: Operation::Set, code: CODE, attribute: attribute.map(AttributeIndex) }
    }

    fn refused(stats: &mut RefusalStats, suspect: Suspect, times: u32) {
        for _ in 0..times {
            stats.record_refused_alone(suspect);
        }
    }

    #[test]
    fn twenty_refusals_without_a_success_need_a_probe() {
        let mut stats = RefusalStats::new(0.4, 2);
        refused(&mut stats, suspect(Some(0)), 19);
        assert_eq!(stats.cause(suspect(Some(0)), 0), RefusalCause::Unclear);
        refused(&mut stats, suspect(Some(0)), 1);
        assert_eq!(stats.cause(suspect(Some(0)), 0), RefusalCause::NeedsProbe(suspect(Some(0))));
        stats.record_accepted(Operation::Remove, AttributeIndex(0));
        assert_ne!(stats.cause(suspect(Some(0)), 0), RefusalCause::Row, "a removal says nothing about a set");
        stats.record_accepted(Operation::Set, AttributeIndex(0));
        assert_eq!(stats.cause(suspect(Some(0)), 0), RefusalCause::Row);
    }

    #[test]
    fn refusals_of_several_attributes_suspect_all_of_them() {
        let mut stats = RefusalStats::new(0.4, 2);
        refused(&mut stats, suspect(None), 20);
        assert_eq!(stats.cause(suspect(Some(1)), 0), RefusalCause::NeedsProbe(suspect(None)));
        stats.record_accepted(Operation::Set, AttributeIndex(0));
        assert_eq!(stats.cause(suspect(Some(1)), 0), RefusalCause::Unclear);
        stats.record_row_code(CODE);
        assert_eq!(stats.cause(suspect(Some(1)), 0), RefusalCause::Row);
    }

    #[test]
    fn a_gateways_refusal_is_a_row_once_another_call_has_passed() {
        let mut stats = RefusalStats::new(0.4, 1);
        let suspect = Suspect { op: Operation::Set, code: Code::Http(403), attribute: Some(AttributeIndex(0)) };
        stats.record_passed();
        let before = stats.passed();
        stats.record_refused_by_gateway();
        assert_eq!(stats.cause(suspect, before), RefusalCause::Unclear, "the gateway may have closed since");
        stats.record_passed();
        assert_eq!(stats.cause(suspect, before), RefusalCause::Row);
        for _ in 0..20 {
            stats.record_refused_by_gateway();
        }
        assert_eq!(stats.cause(suspect, stats.passed()), RefusalCause::NeedsProbe(suspect));
        assert!(!stats.is_cleared(suspect));
        stats.record_passed();
        assert!(stats.is_cleared(suspect));
    }

    #[test]
    fn the_share_counts_from_a_thousand_accounts_on() {
        let mut stats = RefusalStats::new(0.4, 1);
        let mut over = Vec::new();
        for account in 0..1_000 {
            stats.record_answered();
            if account % 2 == 0 {
                stats.record_refused(CODE);
            }
            over.push(stats.share_over_limit(CODE));
        }
        assert_eq!(over.pop(), Some(Some(RejectedShare { refused: 500, answered: 1_000 })));
        assert!(over.iter().all(Option::is_none));
    }

    #[test]
    fn proven_unknown_accounts_count_below_one_percent_accepted() {
        for (accepted, unproven, over) in [
            (0, 0, Some(1_000)),
            (1, 0, Some(999)),
            (9, 0, Some(991)),
            (10, 0, None),
            (20, 0, None),
            (20, 400, None),
            (20, 401, Some(401)),
        ] {
            let mut stats = RefusalStats::new(0.4, 1);
            for account in 0..1_000 {
                stats.record_answered();
                if account < accepted {
                    stats.record_account_accepted();
                } else if account < accepted + unproven {
                    stats.record_refused(Code::UNKNOWN_ACCOUNT);
                } else {
                    stats.record_proven_unknown();
                }
            }
            let over = over.map(|refused| RejectedShare { refused, answered: 1_000 });
            assert_eq!(stats.share_over_limit(Code::UNKNOWN_ACCOUNT), over, "{accepted} accepted, {unproven} unproven");
            assert_eq!(stats.share_over_limit(CODE), None);
        }
    }

    #[test]
    fn refusals_are_rare_below_a_quarter_of_the_recent() {
        let mut stats = RefusalStats::new(1.0, 1);
        let mut answer = |accounts: u32, refused_each: u32| {
            for account in 0..accounts {
                stats.record_answered();
                if refused_each > 0 && account % refused_each == 0 {
                    stats.record_refused(CODE);
                }
            }
            stats.refusals_are_rare()
        };
        assert!(!answer(19, 0), "too few to tell");
        assert!(answer(1, 0));
        assert!(!answer(2_000, 2));
        assert!(answer(2_000, 10), "what is long past is forgotten");
    }
}
