//! What it costs to find those that IM refuses among those that it takes: the bound of `PushSession::deliver`, and figures.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::im::*;
use crate::model::AccountOutcome;
use crate::push::ChangeOrigin::{self, New, RejectionRetry};
use crate::push::{PushLimits, PushSession};

/// Where the bad ones are.
#[derive(Clone, Copy, Debug)]
enum Place {
    Anywhere,
    /// As the oldest accounts of a table.
    First,
    Last,
    /// One block in the middle.
    Together,
    /// As far from each other as they can be: the dearest for halving.
    Spread,
}

#[derive(Clone, Debug)]
struct Case {
    accounts: usize,
    bad: usize,
    place: Place,
    attributes: u16,
    code: i64,
    users_per_call: usize,
    deliveries: usize,
    origin: ChangeOrigin,
    seed: u64,
}

const OF_ACCOUNT: i64 = 70107;

impl Case {
    fn who(&self) -> BTreeSet<usize> {
        let Self { accounts: n, bad: k, .. } = *self;
        match self.place {
            Place::First => (0..k).collect(),
            Place::Last => (n - k..n).collect(),
            Place::Together => ((n - k) / 2..(n - k) / 2 + k).collect(),
            Place::Spread => (0..k).map(|at| at * n / k.max(1)).collect(),
            Place::Anywhere => {
                let mut all: Vec<usize> = (0..n).collect();
                all.shuffle(&mut StdRng::seed_from_u64(self.seed));
                all.into_iter().take(k).collect()
            }
        }
    }

    /// The bound that `PushSession::deliver` states, for these places of the bad.
    fn dearest(&self, who: &BTreeSet<usize>) -> usize {
        let u = self.users_per_call;
        let halvings = usize::try_from(u.next_power_of_two().ilog2()).expect("small");
        let share = self.accounts.div_ceil(self.deliveries);
        let batch = |account: &usize| (account / share, account % share / u);
        let refused: BTreeSet<_> = who.iter().map(batch).collect();
        let batches = self.deliveries * share.div_ceil(u);
        let attributes = if self.code == OF_ACCOUNT { 0 } else { usize::from(self.attributes) };
        // A probe, and the app's names.
        2 + batches + who.len() * (2 * halvings + attributes) + refused.len() * u.div_ceil(5)
    }
}

/// Delivers one after the other, as a first pass does while IM refuses much.
async fn deliver(case: &Case, pass: &PushSession) -> Vec<AccountOutcome> {
    let changes = sets(case.accounts, case.attributes);
    let mut outcomes = Vec::new();
    for page in changes.chunks(case.accounts.div_ceil(case.deliveries)) {
        outcomes.extend(pass.deliver(page.to_vec(), case.origin).await);
    }
    outcomes
}

/// Calls made, after everybody has met their outcome.
async fn calls(case: &Case, who: &BTreeSet<usize>) -> usize {
    let stage = Stage::with(PushLimits { users_per_call: case.users_per_call, max_rejected_share: 1.0, ..limits() });
    let (bad, code) = (who.clone(), case.code);
    // Where it is not the account, it is one attribute of it.
    stage.refuse(move |account, name, _| {
        (bad.contains(&number(account)) && (code == OF_ACCOUNT || name == NAMES[0])).then_some(code)
    });
    let pass = stage.pass_with_probe();
    let outcomes = deliver(case, &pass).await;
    assert_eq!(pass.stopped(), None, "{case:?}");
    for (at, account) in outcomes.iter().enumerate() {
        for (attribute, outcome) in &account.attributes {
            if who.contains(&at) && (code == OF_ACCOUNT || attribute.index() == 0) {
                assert!(refused_with(code)(outcome), "{case:?}: u{at} {attribute:?} {outcome:?}");
            } else {
                // A code that nobody knows may come from a call that was applied.
                assert!(
                    done(outcome) || (account.may_be_overwritten && provisional(outcome)),
                    "{case:?}: u{at} {attribute:?} {outcome:?}"
                );
            }
        }
    }
    stage.assert_promises();
    usize::try_from(pass.calls()).expect("small")
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

prop_compose! {
    fn case()(
        accounts in 1_usize..900,
        share in prop_oneof![Just(0.0), 0.0..0.05, 0.0..1.0, 0.9..1.0, Just(1.0)],
        place in prop_oneof![
            Just(Place::Anywhere), Just(Place::First), Just(Place::Last), Just(Place::Together), Just(Place::Spread)
        ],
        attributes in 1_u16..=4,
        code in prop_oneof![Just(OF_ACCOUNT), Just(90035), Just(90033), Just(70402), Just(90001), Just(424_242)],
        users_per_call in prop_oneof![3 => Just(100_usize), 1 => 1_usize..100],
        deliveries in 1_usize..4,
        known in any::<bool>(),
        seed in any::<u64>(),
    ) -> Case {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
        let bad = (accounts as f64 * share).round() as usize;
        // 90035 is a code of the account as well, but one attribute can bring it about: then the account goes as a whole.
        let code = if code == 90035 { OF_ACCOUNT } else { code };
        let origin = if known { RejectionRetry } else { New };
        Case { accounts, bad, place, attributes, code, users_per_call, deliveries, origin, seed }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_bad_are_found_for_no_more_calls_than_stated(case in case()) {
        let who = case.who();
        let calls = paused().block_on(calls(&case, &who));
        prop_assert!(calls <= case.dearest(&who), "{calls} calls, allowed {}", case.dearest(&who));
    }
}

/// An app of which most users were never imported into Chat.
#[test]
fn the_more_are_refused_the_less_each_of_them_costs() {
    println!("| refused | where | calls | an account | a refused account |\n|---:|---|---:|---:|---:|");
    let accounts = 5_000;
    for (percent, most) in
        [(1, 16.0), (5, 12.0), (10, 10.0), (25, 5.6), (50, 2.2), (75, 1.4), (90, 1.2), (99, 1.1), (100, 1.1)]
    {
        for place in [Place::Anywhere, Place::First, Place::Spread] {
            let bad = accounts * percent / 100;
            let case = Case {
                accounts,
                bad,
                place,
                attributes: 3,
                code: OF_ACCOUNT,
                users_per_call: 100,
                deliveries: 5,
                origin: New,
                seed: 7,
            };
            let who = case.who();
            let calls = paused().block_on(calls(&case, &who));
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let (each, each_refused) = (calls as f64 / accounts as f64, calls as f64 / bad as f64);
            println!("| {percent} % | {place:?} | {calls} | {each:.3} | {each_refused:.2} |");
            assert!(each_refused <= most, "{percent} % {place:?}: {each_refused:.2} calls a refused account");
            assert!(calls <= case.dearest(&who));
        }
    }
}

/// A table whose oldest accounts are bad and whose others are good, and the other way round: what was learned from the
/// first says little about the second.
#[test]
fn what_was_learned_of_one_part_of_the_table_does_not_make_another_dear() {
    for bad_first in [true, false] {
        let mut rng = StdRng::seed_from_u64(3);
        let who: BTreeSet<usize> = (0..10_000)
            .filter(|at| if (*at < 5_000) == bad_first { rng.random_bool(0.95) } else { at % 100 == 50 })
            .collect();
        let case = Case {
            accounts: 10_000,
            bad: who.len(),
            place: Place::Anywhere,
            attributes: 1,
            code: OF_ACCOUNT,
            users_per_call: 100,
            deliveries: 10,
            origin: New,
            seed: 0,
        };
        let calls = paused().block_on(calls(&case, &who));
        // 101 for each batch of the bad part and 15 of the other, but for a page at the edge that is taken for the wrong kind.
        assert!(calls <= 50 * 101 + 50 * 15 + 1_000, "bad first: {bad_first}: {calls} calls");
    }
}
