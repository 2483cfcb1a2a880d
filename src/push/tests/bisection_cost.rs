//! Tests of the calls that isolating refused accounts takes: the bound that `PushSession::deliver` states, and figures.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::fake_im::*;
use crate::model::AccountOutcome;
use crate::push::ChangeOrigin::{self, New, RejectionRetry};
use crate::push::{PushLimits, PushSession};

/// Where the refused accounts are in the delivery.
#[derive(Clone, Copy, Debug)]
enum Placement {
    Random,
    First,
    Last,
    /// In one block in the middle.
    Together,
    /// As far from each other as possible, which takes the most calls when batches are halved.
    Spread,
}

/// Deliveries in which IM refuses some accounts.
#[derive(Clone, Debug)]
struct BisectionCase {
    accounts: usize,
    /// How many of them IM refuses.
    bad: usize,
    placement: Placement,
    attributes: u16,
    code: i64,
    users_per_call: usize,
    /// The accounts are delivered in this many deliveries, one after the other.
    deliveries: usize,
    origin: ChangeOrigin,
    seed: u64,
}

/// A code that is about the account as a whole.
const ACCOUNT_CODE: i64 = 70107;

impl BisectionCase {
    /// The numbers of the refused accounts.
    fn refused_accounts(&self) -> BTreeSet<usize> {
        let Self { accounts: n, bad: k, .. } = *self;
        match self.placement {
            Placement::First => (0..k).collect(),
            Placement::Last => (n - k..n).collect(),
            Placement::Together => ((n - k) / 2..(n - k) / 2 + k).collect(),
            Placement::Spread => (0..k).map(|at| at * n / k.max(1)).collect(),
            Placement::Random => {
                let mut all: Vec<usize> = (0..n).collect();
                all.shuffle(&mut StdRng::seed_from_u64(self.seed));
                all.into_iter().take(k).collect()
            }
        }
    }

    /// The bound that `PushSession::deliver` states, with these accounts refused.
    fn max_calls(&self, refused: &BTreeSet<usize>) -> usize {
        let u = self.users_per_call;
        let halvings = usize::try_from(u.next_power_of_two().ilog2()).expect("small");
        let share = self.accounts.div_ceil(self.deliveries);
        let batch = |account: &usize| (account / share, account % share / u);
        let refused_batches: BTreeSet<_> = refused.iter().map(batch).collect();
        let batches = self.deliveries * share.div_ceil(u);
        let attributes = if self.code == ACCOUNT_CODE { 0 } else { usize::from(self.attributes) };
        // Two for a probe and for reading the app's names, one for a check of accounts that is not permitted.
        3 + batches + refused.len() * (2 * halvings + attributes) + refused_batches.len() * u.div_ceil(5)
    }
}

/// One delivery after the other, as in a first pass.
async fn deliver(case: &BisectionCase, pass: &PushSession) -> Vec<AccountOutcome> {
    let changes = sets(case.accounts, case.attributes);
    let mut outcomes = Vec::new();
    for page in changes.chunks(case.accounts.div_ceil(case.deliveries)) {
        outcomes.extend(pass.deliver_all(page.to_vec(), case.origin).await);
    }
    outcomes
}

/// Delivers everything, checks the outcomes, and returns the number of calls.
async fn calls(case: &BisectionCase, refused: &BTreeSet<usize>) -> usize {
    let fixture =
        PushFixture::with(PushLimits { users_per_call: case.users_per_call, max_rejected_share: 1.0, ..limits() });
    let (bad, code) = (refused.clone(), case.code);
    // If the code is not about the account, IM refuses its first attribute.
    fixture.refuse(move |account, name, _| {
        (bad.contains(&account_number(account)) && (code == ACCOUNT_CODE || name == NAMES[0])).then_some(code)
    });
    let pass = fixture.begin_pass_with_probe();
    let outcomes = deliver(case, &pass).await;
    assert_eq!(pass.stop_reason(), None, "{case:?}");
    for (at, account) in outcomes.iter().enumerate() {
        for (attribute, outcome) in &account.attributes {
            if refused.contains(&at) && (code == ACCOUNT_CODE || attribute.index() == 0) {
                assert!(refused_with(code)(outcome), "{case:?}: u{at} {attribute:?} {outcome:?}");
            } else {
                // A call that ends with an unknown code may have been applied.
                assert!(
                    done(outcome) || (account.may_be_overwritten && provisional(outcome)),
                    "{case:?}: u{at} {attribute:?} {outcome:?}"
                );
            }
        }
    }
    fixture.assert_limits_kept();
    usize::try_from(pass.calls()).expect("small")
}

fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

prop_compose! {
    fn case()(
        accounts in 1_usize..900,
        share in prop_oneof![Just(0.0), 0.0..0.05, 0.0..1.0, 0.9..1.0, Just(1.0)],
        placement in prop_oneof![
            Just(Placement::Random), Just(Placement::First), Just(Placement::Last), Just(Placement::Together), Just(Placement::Spread)
        ],
        attributes in 1_u16..=4,
        code in prop_oneof![Just(ACCOUNT_CODE), Just(90035), Just(90033), Just(70402), Just(90001), Just(424_242)],
        users_per_call in prop_oneof![3 => Just(100_usize), 1 => 1_usize..100],
        deliveries in 1_usize..4,
        known in any::<bool>(),
        seed in any::<u64>(),
    ) -> BisectionCase {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
        let bad = (accounts as f64 * share).round() as usize;
        // 90035 is about the account too, although one attribute causes it: the account is rejected as a whole.
        let code = if code == 90035 { ACCOUNT_CODE } else { code };
        let origin = if known { RejectionRetry } else { New };
        BisectionCase { accounts, bad, placement, attributes, code, users_per_call, deliveries, origin, seed }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn refused_accounts_are_found_within_the_stated_bound(case in case()) {
        let refused = case.refused_accounts();
        let calls = paused_runtime().block_on(calls(&case, &refused));
        prop_assert!(calls <= case.max_calls(&refused), "{calls} calls, allowed {}", case.max_calls(&refused));
    }
}

/// For example an app in which most users were never imported into Chat.
#[test]
fn more_refused_accounts_cost_fewer_calls_each() {
    println!("| refused | where | calls | per account | per refused account |\n|---:|---|---:|---:|---:|");
    let accounts = 5_000;
    for (percent, most) in
        [(1, 16.0), (5, 12.0), (10, 10.0), (25, 5.6), (50, 2.2), (75, 1.4), (90, 1.2), (99, 1.1), (100, 1.1)]
    {
        for placement in [Placement::Random, Placement::First, Placement::Spread] {
            let bad = accounts * percent / 100;
            let case = BisectionCase {
                accounts,
                bad,
                placement,
                attributes: 3,
                code: ACCOUNT_CODE,
                users_per_call: 100,
                deliveries: 5,
                origin: New,
                seed: 7,
            };
            let refused = case.refused_accounts();
            let calls = paused_runtime().block_on(calls(&case, &refused));
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let (each, each_refused) = (calls as f64 / accounts as f64, calls as f64 / bad as f64);
            println!("| {percent} % | {placement:?} | {calls} | {each:.3} | {each_refused:.2} |");
            assert!(each_refused <= most, "{percent} % {placement:?}: {each_refused:.2} calls per refused account");
            assert!(calls <= case.max_calls(&refused));
        }
    }
}

/// In one half of the table most accounts are refused, in the other few. The refusals of the first half say little
/// about the second.
#[test]
fn each_part_of_a_table_is_split_as_it_needs() {
    for bad_first in [true, false] {
        let mut rng = StdRng::seed_from_u64(3);
        let refused: BTreeSet<usize> = (0..10_000)
            .filter(|at| if (*at < 5_000) == bad_first { rng.random_bool(0.95) } else { at % 100 == 50 })
            .collect();
        let case = BisectionCase {
            accounts: 10_000,
            bad: refused.len(),
            placement: Placement::Random,
            attributes: 1,
            code: ACCOUNT_CODE,
            users_per_call: 100,
            deliveries: 10,
            origin: New,
            seed: 0,
        };
        let calls = paused_runtime().block_on(calls(&case, &refused));
        // 101 for each batch of the one part and 15 of the other, and one page more, which is split like the part
        // before it.
        assert!(calls <= 50 * 101 + 50 * 15 + 1_000, "bad first: {bad_first}: {calls} calls");
    }
}
