//! Property tests: with generated changes, refusals and faults, every good attribute arrives, every bad one is
//! rejected, and all limits are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;

use super::fake_im::*;
use crate::im::Code;
use crate::model::{AccountOutcome, AttributeIndex, AttributeOutcome, Change};
use crate::push::ChangeOrigin::New;
use crate::push::PushLimits;

/// The changes of a pass, and the accounts, attributes and calls that fail.
#[derive(Clone, Debug)]
struct GeneratedPass {
    /// By account: how many attributes are set, and how many of the others are removed.
    accounts: Vec<(u16, u16)>,
    bad_accounts: BTreeSet<usize>,
    bad_attributes: BTreeMap<(usize, u16), i64>,
    /// Faults by the number of the call; they do not depend on what it carries.
    faults: BTreeMap<usize, CallFault>,
    lists: bool,
    users_per_call: usize,
    deliveries: usize,
}

fn fault() -> impl Strategy<Value = CallFault> {
    prop_oneof![
        Just(CallFault::Fail(Code::Timeout)),
        Just(CallFault::ApplyThenFail(Code::Vendor(91000))),
        Just(CallFault::Fail(Code::Connect)),
        Just(CallFault::Fail(Code::Http(502))),
        Just(CallFault::Fail(Code::Vendor(60011))),
        Just(CallFault::RetryAfter(Code::Http(429), Duration::from_secs(2))),
        Just(CallFault::Slow(Duration::from_secs(3))),
        prop::collection::vec((0_usize..400, prop_oneof![Just(91000_i64), Just(60007)]), 1..5).prop_map(|listed| {
            CallFault::List(
                listed.into_iter().map(|(number, code)| (format!("u{number}"), Code::Vendor(code))).collect(),
            )
        }),
    ]
}

prop_compose! {
    fn generated()(
        accounts in prop::collection::vec((0_u16..=4, 0_u16..=2), 1..400),
        bad_accounts in prop::collection::btree_set(0_usize..400, 0..18),
        bad_attributes in prop::collection::btree_map(
            (0_usize..400, 0_u16..4),
            prop_oneof![Just(90033_i64), Just(70402), Just(90001), Just(424_242)],
            0..18,
        ),
        faults in prop::collection::btree_map(0_usize..60, fault(), 0..12),
        lists in any::<bool>(),
        users_per_call in prop_oneof![Just(100_usize), 1_usize..100],
        deliveries in 1_usize..5,
    ) -> GeneratedPass {
        GeneratedPass { accounts, bad_accounts, bad_attributes, faults, lists, users_per_call, deliveries }
    }
}

impl GeneratedPass {
    fn changes(&self) -> Vec<Change> {
        let changes = self.accounts.iter().enumerate().map(|(number, (sets, removes))| Change {
            remove: (*sets..4).take(usize::from(*removes)).map(AttributeIndex).collect(),
            ..set(number, *sets)
        });
        changes.filter(|change| !change.set.is_empty() || !change.remove.is_empty()).collect()
    }

    fn code(&self, account: &str, attribute: u16, sets: bool) -> Option<i64> {
        let number = account_number(account);
        if self.bad_accounts.contains(&number) {
            // A removal from an account that does not exist counts as done.
            return sets.then_some(70107);
        }
        self.bad_attributes.get(&(number, attribute)).copied().filter(|_| sets)
    }

    /// The bound that `PushSession::deliver` states, for a pass without faults.
    fn max_calls(&self, changes: &[Change]) -> usize {
        let size = self.users_per_call;
        let halvings = usize::try_from(size.next_power_of_two().ilog2()).expect("small");
        let batches = changes.len() / size + self.deliveries;
        let bad: BTreeSet<usize> = changes
            .iter()
            .map(|change| account_number(change.account.as_str()))
            .filter(|number| {
                self.bad_accounts.contains(number) || self.bad_attributes.keys().any(|(bad, _)| bad == number)
            })
            .collect();
        // Each refused batch contains at least one bad account.
        let samples = batches.min(bad.len()) * size.div_ceil(5);
        // Sets and removals have batches of their own, and a bad account is isolated once in each.
        2 * (batches + samples + bad.len() * 2 * halvings) + bad.len() * 4 + 1
    }
}

async fn run(generated: &GeneratedPass) {
    let fixture = PushFixture::with(PushLimits { users_per_call: generated.users_per_call, ..limits() });
    fixture.im.state().lists = generated.lists;
    let refuse = generated.clone();
    fixture.refuse(move |account, name, value| {
        if account == "probe_account" {
            return None;
        }
        if value.is_none() && refuse.bad_accounts.contains(&account_number(account)) {
            return Some(70107);
        }
        let attribute = NAMES.iter().position(|known| *known == name).expect("a known name");
        refuse.code(account, u16::try_from(attribute).expect("small"), value.is_some())
    });
    let faults = Mutex::new(generated.faults.clone());
    fixture.inject(move |call, _| faults.lock().expect("not poisoned").remove(&call));

    let changes = generated.changes();
    let pass = fixture.begin_pass_with_probe();
    let share = changes.len().div_ceil(generated.deliveries).max(1);
    let outcomes = join_all(changes.chunks(share).map(|page| pass.deliver_all(page.to_vec(), New))).await.concat();

    fixture.assert_limits_kept();
    assert_eq!(pass.stop_reason(), None);
    assert_eq!(outcomes.len(), changes.len());
    for (change, account) in changes.iter().zip(&outcomes) {
        assert_eq!(account.account, change.account);
        let attributes: Vec<AttributeIndex> =
            change.set.iter().map(|(attribute, _)| *attribute).chain(change.remove.iter().copied()).collect();
        assert_eq!(account.attributes.iter().map(|(attribute, _)| *attribute).collect::<Vec<_>>(), attributes);
        for (at, (attribute, outcome)) in account.attributes.iter().enumerate() {
            let sets = at < change.set.len();
            match generated.code(change.account.as_str(), attribute.0, sets) {
                None => {
                    assert!(
                        done(outcome)
                            || (account.may_be_overwritten && provisional(outcome))
                            || (account.may_be_overwritten && unknown(outcome)),
                        "{} {attribute:?}: {outcome:?}",
                        change.account
                    );
                }
                Some(code) => {
                    let unanswered = account.may_be_overwritten && unknown(outcome);
                    assert!(
                        refused_with(code)(outcome) || unanswered,
                        "{} {attribute:?}: {outcome:?} for {code}",
                        change.account
                    );
                }
            }
            if let AttributeOutcome::Refused(refusal) = outcome {
                assert!(!refusal.reason.contains("value-"), "{}", refusal.reason);
            }
        }
    }
    let is_unanswered = |outcome: &&AccountOutcome| outcome.attributes.iter().any(|(_, outcome)| unknown(outcome));
    let unanswered: Vec<&str> = outcomes.iter().filter(is_unanswered).map(|outcome| outcome.account.as_str()).collect();
    // A batch without an answer is split in ten parts. Only a further fault keeps one of them without an answer.
    let is_timeout = |fault: &CallFault| matches!(fault, CallFault::Fail(Code::Timeout));
    let timed_out = generated.faults.values().any(is_timeout);
    let allowed = if timed_out { 10 * (generated.faults.len() - 1) } else { 0 };
    assert!(unanswered.len() <= allowed, "{} without an answer, of {:?}", unanswered.len(), generated.faults);
    assert_holds(&fixture, &changes, generated, &unanswered);
    if generated.faults.is_empty() {
        let calls = fixture.im.state().sent.len();
        assert_eq!(u64::try_from(calls).ok(), Some(pass.calls()));
        assert!(calls <= generated.max_calls(&changes), "{calls} calls, allowed {}", generated.max_calls(&changes));
    }
}

/// The fake IM holds the accepted values and nothing else, accounts that had no answer aside.
fn assert_holds(fixture: &PushFixture, changes: &[Change], generated: &GeneratedPass, unanswered: &[&str]) {
    let mut expected = BTreeMap::new();
    for change in changes.iter().filter(|change| !unanswered.contains(&change.account.as_str())) {
        for (attribute, value) in &change.set {
            if generated.code(change.account.as_str(), attribute.0, true).is_none() {
                let key = (change.account.as_str().to_owned(), NAMES[attribute.index()].to_owned());
                expected.insert(key, value.to_string());
            }
        }
    }
    let mut holds = fixture.im.state().holds.clone();
    holds.retain(|(account, _), _| account != "probe_account" && !unanswered.contains(&account.as_str()));
    assert_eq!(holds, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn every_attribute_has_its_outcome_and_limits_are_kept(generated in generated()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(&generated));
    }

    #[test]
    fn bad_accounts_are_isolated_within_the_stated_bound(generated in generated()) {
        let generated = GeneratedPass { faults: BTreeMap::new(), ..generated };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(&generated));
    }
}
