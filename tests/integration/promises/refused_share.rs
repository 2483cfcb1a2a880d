//! Of a pass IM refuses more than it may be: the pass stops and says why, or goes on where that is expected.
//!
//! Owns: large shares of refused accounts, and what they cost. Must not know: single rejections and their retries.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::state_truth::expect_truth;
use super::{account, stage_of, status, violations};
use crate::support::{Setup, TestEnvironment};

/// Only accounts for whose number this holds were ever imported into Chat.
fn setup(people: u32, imported: impl Fn(u32) -> bool, im: &str) -> Setup {
    let mut setup = Setup { im: format!("{im}\ntimeout = \"5s\"\nretry_for = \"5s\"\n"), ..Setup::default() };
    setup.simulator.imported_accounts = Some((1..=people).filter(|number| imported(*number)).map(account).collect());
    setup
}

/// What IM should hold of those that it knows.
async fn wanted(env: &TestEnvironment, imported: impl Fn(u32) -> bool) -> BTreeMap<String, BTreeMap<String, String>> {
    let known = |name: &String| name[1..].parse().is_ok_and(&imported);
    env.wanted_of_users().await.into_iter().filter(|(name, _)| known(name)).collect()
}

fn sent(env: &TestEnvironment) -> BTreeSet<String> {
    env.handle().calls().into_iter().flat_map(|call| call.users).map(|user| user.account).collect()
}

/// `timpush` lists those that it refuses, so that ten thousand are tried in a hundred calls.
#[tokio::test(flavor = "multi_thread")]
async fn most_of_ten_thousand_were_never_imported() {
    let imported = |number: u32| number.is_multiple_of(10);
    let env = stage_of(10_000, setup(10_000, imported, "service = \"timpush\"")).await;

    let ran = env.imsync(&["backfill"]).await.expect_code(1);
    let last = ran.stderr.lines().last().unwrap_or_default();
    for said in ["70107", "of this pass (90 %)", "im.max_rejected_share = 0.4", "Import it there"] {
        assert!(last.contains(said), "no {said:?} in {last:?}");
    }
    let pass = status(&env).await["last_passes"][0].clone();
    assert_eq!(pass["outcome"], "failed");
    assert!(pass["error"].as_str().is_some_and(|error| error.contains("im.max_rejected_share")), "{pass}");
    // What IM took is kept, and so is what it refused.
    let held = env.handle().users();
    let rejected = env.number("SELECT count(*) FROM imsync.rejection").await;
    assert!(held.len() >= 100 && rejected >= 900, "{} held, {rejected} rejected", held.len());
    let acknowledged = "SELECT count(*) FROM imsync.account WHERE in_doubt_retry_at IS NULL";
    assert_eq!(env.number(acknowledged).await, i64::try_from(held.len()).expect("small"));
    expect_truth(&env).await;

    // It is meant: the higher share lets it through, and nobody who has been answered for is sent again.
    env.edit("[attributes]", "max_rejected_share = 1.0\n[attributes]");
    env.handle().clear_records();
    let pass = env.imsync(&["backfill", "--json"]).await.expect_code(3).json();
    assert_eq!(pass["outcome"], "rejected");
    assert_eq!(env.handle().users(), wanted(&env, imported).await);
    assert_eq!(env.number("SELECT count(*) FROM imsync.rejection").await, 9_000);
    let again: Vec<String> = sent(&env).into_iter().filter(|name| held.contains_key(name)).collect();
    assert_eq!(again, Vec::<String>::new());
    assert!(env.handle().counters().arrived <= 101, "{:?}", env.handle().counters());
    expect_truth(&env).await;
    // Nothing that stands is tried again before its time.
    env.handle().clear_records();
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(env.handle().counters().arrived, 0);
    assert_eq!(violations(&env), vec![]);
}

/// The other service refuses whole calls, so that most of them stand alone before they are known.
#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_is_too_large_stops_the_pass_and_keeps_what_was_acknowledged() {
    let imported = |number: u32| number > 550;
    let env = stage_of(1_300, setup(1_300, imported, "max_rejected_share = 0.25")).await;
    env.imsync(&["backfill"]).await.expect_code(1).expect_all(&["70107", "im.max_rejected_share = 0.25"]);
    let (held, all) = (env.handle().users(), wanted(&env, imported).await);
    assert!(held.iter().all(|(name, attributes)| all.get(name) == Some(attributes)));
    let taken = i64::try_from(held.len()).expect("small");
    let refused = env.number("SELECT count(*) FROM imsync.rejection").await;
    // It stops at the 251st or later, when 1,000 are answered for; what is in flight by then is counted too.
    assert!(refused > 250 && (1_000..=1_100).contains(&(refused + taken)), "{refused} rejected, {taken} taken");
    assert_eq!(env.number("SELECT count(*) FROM imsync.account WHERE in_doubt_retry_at IS NULL").await, taken);
    // A call for each of thirteen batches, and for each of the refused; some samples were not at their end.
    let calls = i64::try_from(env.handle().counters().arrived).expect("small");
    assert!(calls <= 13 + refused + refused / 10 + 20, "{calls} calls for {refused} refused");
    expect_truth(&env).await;

    env.edit("max_rejected_share = 0.25", "max_rejected_share = 1");
    env.handle().clear_records();
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.number("SELECT count(*) FROM imsync.rejection").await, 550);
    assert!(sent(&env).iter().all(|name| !held.contains_key(name)), "who was acknowledged is not sent again");
    let (calls, left) = (i64::try_from(env.handle().counters().arrived).expect("small"), 1_300 - refused - taken);
    assert!(calls <= 8 + left + left / 10, "{calls} calls for {left} that were left");
    assert_eq!(env.handle().users(), all);
    expect_truth(&env).await;
    assert_eq!(violations(&env), vec![]);
}

/// A few culprits, of several codes, at places drawn by lot.
#[tokio::test(flavor = "multi_thread")]
async fn finding_a_few_culprits_costs_what_is_stated() {
    for seed in [3_u32, 11] {
        let env = stage_of(1_200, setup(1_200, |_| true, "")).await;
        // A full-period generator (Hull and Dobell) draws twelve of them without repetition.
        let mut drawn = seed;
        let mut draw = |count: usize| -> Vec<String> {
            let next = || {
                drawn = (drawn * 421 + 17) % 1_200;
                account(drawn + 1)
            };
            std::iter::repeat_with(next).take(count).collect()
        };
        let (whole, one) = (draw(6), draw(6));
        super::fault(&env, &format!("refuse:70107:per-account:account={}", whole.join(",")));
        for name in &one {
            super::fault(&env, &format!("refuse:70402:per-account:account={name}:attribute=plan"));
        }
        let culprits: HashSet<&String> = whole.iter().chain(&one).collect();
        // `plan` is refused in a call that gives it to anybody, so a culprit is refused whatever of it goes beside others.
        env.imsync(&["backfill"]).await.expect_code(3);
        let list = super::rejected(&env).await;
        let named = |code: i64| -> BTreeSet<&str> {
            list.iter().filter(|entry| entry["code"] == code).filter_map(|entry| entry["account"].as_str()).collect()
        };
        assert_eq!(named(70107), whole.iter().map(String::as_str).collect());
        assert_eq!(named(70402), one.iter().map(String::as_str).collect());
        for entry in &list {
            let attribute = if entry["code"] == 70107 { serde_json::Value::Null } else { "plan".into() };
            assert_eq!(entry["attribute"], attribute, "{entry}");
        }
        let (k, batches) = (culprits.len(), 13);
        let refused = env.handle().calls().iter().filter(|call| call.users.len() > 50 && call.code != Some(0)).count();
        let calls = usize::try_from(env.handle().counters().arrived).expect("small");
        let stated = batches + k * 14 + one.len() * 3 + refused * 21;
        assert!(calls <= stated, "seed {seed}: {calls} calls for {k} culprits, {stated} stated");
        for name in &one {
            let held = env.handle().user(name);
            assert_eq!(held.keys().collect::<Vec<_>>(), ["city", "sex"], "the other attributes of {name} went");
        }
        assert_eq!(env.handle().users().len(), 1_200 - whole.len());
        expect_truth(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes and measures: make bench"]
async fn bench_nine_in_ten_were_never_imported() {
    let imported = |number: u32| number.is_multiple_of(10);
    let mut setup = setup(10_000, imported, "max_rejected_share = 1.0");
    setup.simulator.latency = Duration::from_millis(50);
    let env = stage_of(10_000, setup).await;
    let begun = imsync::clock::monotonic();
    let mut backfill = env.start("backfill", &["backfill"]);
    let ended = tokio::time::timeout(Duration::from_mins(5), backfill.wait()).await;
    assert_eq!(ended.expect("it ends").expect("a child can be waited for").code(), Some(3));
    let (calls, took) = (env.handle().counters().arrived, begun.elapsed().as_secs());
    println!("10,000 accounts of which 9,000 were never imported: {calls} calls, {took} s at 95 calls a second");
    assert!(calls <= 9_000 * 12 / 10, "{calls} calls");
    assert_eq!(env.handle().users(), wanted(&env, imported).await);
}
