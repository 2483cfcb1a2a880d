//! Tests passes of which IM refuses a large share. The pass stops with the reason, or continues if the limit allows it.
//!
//! Owns: large shares of refused accounts, and the number of calls. Must not know: single rejections and their retries.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::state_truth::expect_truth;
use super::{account, environment_of, status, violations};
use crate::support::{Setup, TestEnvironment};

/// Chat has imported only the accounts for whose number `imported` returns true.
fn setup(people: u32, imported: impl Fn(u32) -> bool, im: &str) -> Setup {
    let mut setup = Setup { im: format!("{im}\ntimeout = \"5s\"\nretry_for = \"5s\"\n"), ..Setup::default() };
    setup.simulator.imported_accounts = Some((1..=people).filter(|number| imported(*number)).map(account).collect());
    setup
}

/// What IM should hold for the imported accounts.
async fn wanted(env: &TestEnvironment, imported: impl Fn(u32) -> bool) -> BTreeMap<String, BTreeMap<String, String>> {
    let known = |name: &String| name[1..].parse().is_ok_and(&imported);
    env.wanted_of_users().await.into_iter().filter(|(name, _)| known(name)).collect()
}

/// The accounts that have been sent.
fn sent(env: &TestEnvironment) -> BTreeSet<String> {
    env.handle().calls().into_iter().flat_map(|call| call.users).map(|user| user.account).collect()
}

/// `timpush` lists the accounts that it refuses, so a hundred calls are enough for ten thousand accounts. No check confirms
/// the refusals, so they count.
#[tokio::test(flavor = "multi_thread")]
async fn most_of_ten_thousand_accounts_were_never_imported() {
    let imported = |number: u32| number.is_multiple_of(10);
    let mut setup = setup(10_000, imported, "service = \"timpush\"");
    setup.simulator.faults.push("refuse:60009:command=account_check".parse().expect("the fault rule is valid"));
    let env = environment_of(10_000, setup).await;

    let ran = env.imsync(&["backfill"]).await.expect_code(1);
    let last = ran.stderr.lines().last().unwrap_or_default();
    for part in ["70107", "of this pass (90 %)", "im.max_rejected_share = 0.4", "Import it there"] {
        assert!(last.contains(part), "no {part:?} in {last:?}");
    }
    let pass = status(&env).await["last_passes"][0].clone();
    assert_eq!(pass["outcome"], "failed");
    assert!(pass["error"].as_str().is_some_and(|error| error.contains("im.max_rejected_share")), "{pass}");
    // The state keeps what IM has accepted and what it has refused.
    let held = env.handle().users();
    let rejected = env.number("SELECT count(*) FROM imsync.rejection").await;
    assert!(held.len() >= 100 && rejected >= 900, "{} held, {rejected} rejected", held.len());
    let acknowledged = "SELECT count(*) FROM imsync.account WHERE in_doubt_retry_at IS NULL";
    assert_eq!(env.number(acknowledged).await, i64::try_from(held.len()).expect("the number is small"));
    expect_truth(&env).await;

    // A higher limit lets the pass continue. Accounts whose outcome is known are not sent again.
    env.edit("[attributes]", "max_rejected_share = 1.0\n[attributes]");
    env.handle().clear_records();
    let pass = env.imsync(&["backfill", "--json"]).await.expect_code(3).json();
    assert_eq!(pass["outcome"], "rejected");
    assert_eq!(env.handle().users(), wanted(&env, imported).await);
    assert_eq!(env.number("SELECT count(*) FROM imsync.rejection").await, 9_000);
    let again: Vec<String> = sent(&env).into_iter().filter(|name| held.contains_key(name)).collect();
    assert_eq!(again, Vec::<String>::new());
    // Several batches may be in flight before the first check is refused.
    let checks = env.handle().counters().endpoints["im_open_login_svc/account_check"].arrived;
    assert!(env.handle().counters().arrived <= 101 + checks, "{:?}", env.handle().counters());
    assert!(checks <= 64, "{checks} checks");
    expect_truth(&env).await;
    // No rejection is retried before its time.
    env.handle().clear_records();
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(env.handle().counters().arrived, 0);
    assert_eq!(violations(&env), vec![]);
}

/// The other service refuses whole calls, so that bisection sends most refused accounts in calls of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_refused_share_stops_the_pass_and_keeps_results() {
    let imported = |number: u32| number > 550;
    let env = environment_of(1_300, setup(1_300, |_| true, "max_rejected_share = 0.25")).await;
    // The code is about the account, and no check of the accounts explains it.
    let refused: Vec<String> = (1..=1_300).filter(|number| !imported(*number)).map(account).collect();
    super::fault(&env, &format!("refuse:60015:per-account:account={}", refused.join(",")));
    env.imsync(&["backfill"]).await.expect_code(1).expect_all(&["60015", "im.max_rejected_share = 0.25"]);
    let (held, all) = (env.handle().users(), wanted(&env, imported).await);
    assert!(held.iter().all(|(name, attributes)| all.get(name) == Some(attributes)));
    let accepted = i64::try_from(held.len()).expect("the number is small");
    let refused = env.number("SELECT count(*) FROM imsync.rejection").await;
    // The pass stops at the 251st rejection or later, when the outcome of 1,000 accounts is known. Outcomes of calls in
    // flight at that moment count, too.
    assert!(
        refused > 250 && (1_000..=1_100).contains(&(refused + accepted)),
        "{refused} rejected, {accepted} accepted"
    );
    assert_eq!(env.number("SELECT count(*) FROM imsync.account WHERE in_doubt_retry_at IS NULL").await, accepted);
    // One call for each of thirteen batches and for each refused account. Some bisections were not complete.
    let calls = i64::try_from(env.handle().counters().arrived).expect("the number is small");
    assert!(calls <= 13 + refused + refused / 10 + 20, "{calls} calls for {refused} refused");
    expect_truth(&env).await;

    env.edit("max_rejected_share = 0.25", "max_rejected_share = 1");
    env.handle().clear_records();
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.number("SELECT count(*) FROM imsync.rejection").await, 550);
    assert!(sent(&env).iter().all(|name| !held.contains_key(name)), "an acknowledged account is not sent again");
    let (calls, left) =
        (i64::try_from(env.handle().counters().arrived).expect("the number is small"), 1_300 - refused - accepted);
    assert!(calls <= 8 + left + left / 10, "{calls} calls for {left} remaining accounts");
    assert_eq!(env.handle().users(), all);
    expect_truth(&env).await;
    assert_eq!(violations(&env), vec![]);
}

/// IM refuses a few accounts at random positions, with two different codes.
#[tokio::test(flavor = "multi_thread")]
async fn bisection_stays_within_its_stated_number_of_calls() {
    for seed in [3_u32, 11] {
        let env = environment_of(1_200, setup(1_200, |_| true, "")).await;
        // A full-period generator (Hull and Dobell) draws twelve accounts without repetition.
        let mut drawn = seed;
        let mut draw = |count: usize| -> Vec<String> {
            let next = || {
                drawn = (drawn * 421 + 17) % 1_200;
                account(drawn + 1)
            };
            std::iter::repeat_with(next).take(count).collect()
        };
        let (as_a_whole, one_attribute) = (draw(6), draw(6));
        super::fault(&env, &format!("refuse:70107:per-account:account={}", as_a_whole.join(",")));
        for name in &one_attribute {
            super::fault(&env, &format!("refuse:70402:per-account:account={name}:attribute=plan"));
        }
        let refused_accounts: HashSet<&String> = as_a_whole.iter().chain(&one_attribute).collect();
        // IM refuses a call if it sets `plan` of any account and contains the refused account with any attribute.
        env.imsync(&["backfill"]).await.expect_code(3);
        let list = super::rejected(&env).await;
        let rejected_with = |code: i64| -> BTreeSet<&str> {
            list.iter().filter(|entry| entry["code"] == code).filter_map(|entry| entry["account"].as_str()).collect()
        };
        assert_eq!(rejected_with(70107), as_a_whole.iter().map(String::as_str).collect());
        assert_eq!(rejected_with(70402), one_attribute.iter().map(String::as_str).collect());
        for entry in &list {
            let attribute = if entry["code"] == 70107 { serde_json::Value::Null } else { "plan".into() };
            assert_eq!(entry["attribute"], attribute, "{entry}");
        }
        let (count, batches) = (refused_accounts.len(), 13);
        let refused = env.handle().calls().iter().filter(|call| call.users.len() > 50 && call.code != Some(0)).count();
        let calls = usize::try_from(env.handle().counters().arrived).expect("the number is small");
        let limit = batches + count * 14 + one_attribute.len() * 3 + refused * 21;
        assert!(calls <= limit, "seed {seed}: {calls} calls for {count} refused accounts, the limit is {limit}");
        for name in &one_attribute {
            let held = env.handle().user(name);
            assert_eq!(held.keys().collect::<Vec<_>>(), ["city", "sex"], "the other attributes of {name} arrive");
        }
        assert_eq!(env.handle().users().len(), 1_200 - as_a_whole.len());
        expect_truth(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark of two minutes, run by `make bench-tests`"]
async fn bench_nine_in_ten_accounts_were_never_imported() {
    let imported = |number: u32| number.is_multiple_of(10);
    // Without checks, which take 300 calls.
    let mut setup = setup(10_000, imported, "max_rejected_share = 1.0");
    setup.simulator.latency = Duration::from_millis(50);
    setup.simulator.faults.push("refuse:60009:command=account_check".parse().expect("the fault rule is valid"));
    let env = environment_of(10_000, setup).await;
    let started = imsync::clock::monotonic();
    let mut backfill = env.start("backfill", &["backfill"]);
    let ended = tokio::time::timeout(Duration::from_mins(5), backfill.wait()).await;
    assert_eq!(ended.expect("the backfill exits in time").expect("the exit status can be read").code(), Some(3));
    let (calls, took) = (env.handle().counters().arrived, started.elapsed().as_secs());
    println!("10,000 accounts of which 9,000 were never imported: {calls} calls, {took} s at 95 calls a second");
    assert!(calls <= 9_000 * 12 / 10, "{calls} calls");
    assert_eq!(env.handle().users(), wanted(&env, imported).await);
}
