//! Tests accounts that Chat does not know: what they cost, that they harm no other account, and that they can be created.
//!
//! Owns: numbers of calls and outcomes where many accounts are unknown. Must not know: how imsync finds these accounts.

use std::collections::{BTreeMap, BTreeSet};

use super::state_truth::expect_truth;
use super::{account, environment_of, fault, rejected, violations};
use crate::support::{Setup, TestEnvironment};

/// Whether Chat knows an account, where it does not know `percent` of all accounts. They are scattered over the table.
fn is_known(number: u32, percent: u32) -> bool {
    (number * 37) % 100 >= percent
}

/// Chat does not know `percent` of the accounts.
async fn environment(people: u32, percent: u32, im: &str) -> TestEnvironment {
    let mut setup = Setup { im: format!("{im}\n"), ..Setup::default() };
    let known = (1..=people).filter(|number| is_known(*number, percent));
    setup.simulator.imported_accounts = Some(known.map(account).collect());
    environment_of(people, setup).await
}

/// What IM should hold for the accounts that Chat knows.
async fn wanted(env: &TestEnvironment, percent: u32) -> BTreeMap<String, BTreeMap<String, String>> {
    let known = |name: &String| name[1..].parse().is_ok_and(|number| is_known(number, percent));
    env.wanted_of_users().await.into_iter().filter(|(name, _)| known(name)).collect()
}

fn calls(env: &TestEnvironment) -> u64 {
    env.handle().counters().arrived
}

/// Calls of one endpoint.
fn calls_of(env: &TestEnvironment, endpoint: &str) -> u64 {
    env.handle().counters().endpoints.get(endpoint).map_or(0, |counters| counters.arrived)
}

const CHECK: &str = "im_open_login_svc/account_check";
const IMPORT: &str = "im_open_login_svc/multiaccount_import";

/// The accounts of `rejected --json`; every one is rejected as a whole, with 70107.
async fn rejected_accounts(env: &TestEnvironment) -> BTreeSet<String> {
    let list = rejected(env).await;
    for entry in &list {
        assert_eq!((&entry["code"], &entry["attribute"]), (&70107.into(), &serde_json::Value::Null), "{entry}");
    }
    list.iter().filter_map(|entry| entry["account"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_accounts_cost_at_most_three_calls_a_batch() {
    for (percent, service) in [
        (1, "all_member_push"),
        (45, "all_member_push"),
        (90, "all_member_push"),
        (98, "all_member_push"),
        (30, "timpush"),
        (90, "timpush"),
        (98, "timpush"),
    ] {
        let env = environment(1_500, percent, &format!("service = \"{service}\"")).await;
        env.imsync(&["backfill"]).await.expect_code(3);
        assert!(calls(&env) <= 3 * 15, "{percent} %: {} calls for 15 batches", calls(&env));
        let held = wanted(&env, percent).await;
        assert_eq!(env.handle().users(), held, "{percent} %");
        let unknown = (1..=1_500).map(account).filter(|account| !held.contains_key(account));
        assert_eq!(rejected_accounts(&env).await, unknown.collect(), "{percent} %");
        assert_eq!(violations(&env), vec![]);
        expect_truth(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_accounts_are_created_and_then_set() {
    for service in ["all_member_push", "timpush"] {
        let env = environment(1_200, 90, &format!("service = \"{service}\"\nunknown_accounts = \"import\"")).await;
        // IM cannot create one of them.
        let lost = account(100);
        fault(&env, &format!("refuse:70402:per-account:command=multiaccount_import:account={lost}"));
        env.imsync(&["backfill"]).await.expect_code(3);
        assert!(calls(&env) <= 3 * 12 + 1, "{} calls", calls(&env));
        let mut held = env.wanted_of_users().await;
        held.remove(&lost);
        assert_eq!(env.handle().users(), held, "{service}");
        assert_eq!(rejected_accounts(&env).await, BTreeSet::from([lost.clone()]));
        let reason = rejected(&env).await[0]["reason"].to_string();
        assert!(reason.contains("FailAccounts"), "{reason}");
        assert_eq!(violations(&env), vec![]);
        expect_truth(&env).await;

        // The retry creates it.
        env.handle().clear_faults();
        env.imsync(&["rejected", "retry"]).await.expect_code(0);
        env.imsync(&["run", "--once"]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await);
        expect_truth(&env).await;
    }
}

/// A row of which IM refuses the import as a whole harms no other one, and an app that may not import rejects as usual.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_import_rejects_the_unknown_accounts_alone() {
    let name = account(100);
    for rule in [
        format!("refuse:70402:command=multiaccount_import:account={name}"),
        "refuse:60017:command=multiaccount_import".to_owned(),
        "refuse:70398:command=multiaccount_import".to_owned(),
        "fail:http-403:command=multiaccount_import".to_owned(),
        "refuse:424242:command=multiaccount_import".to_owned(),
    ] {
        let env = environment(200, 10, "unknown_accounts = \"import\"").await;
        fault(&env, &rule);
        env.imsync(&["backfill"]).await.expect_code(3);
        let unknown: BTreeSet<String> = (1..=200).filter(|number| !is_known(*number, 10)).map(account).collect();
        let is_about_one = rule.contains("account=");
        let expected = if is_about_one { BTreeSet::from([name.clone()]) } else { unknown };
        assert_eq!(rejected_accounts(&env).await, expected, "{rule}");
        let mut held = env.wanted_of_users().await;
        held.retain(|account, _| !expected.contains(account));
        assert_eq!(env.handle().users(), held, "{rule}");
        assert_eq!(violations(&env), vec![]);
        expect_truth(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_usable_check_batches_are_split() {
    for rule in [
        "refuse:60017",
        "refuse:60009",
        "refuse:90009",
        "refuse:70003",
        "refuse:424242",
        "fail:http-403",
        "fail:http-502",
        "fail:html",
        "fail:garbage",
    ] {
        let env = environment(200, 2, "").await;
        fault(&env, &format!("{rule}:command=account_check"));
        let ran = env.imsync(&["backfill"]).await.expect_code(3);
        assert_eq!(ran.stderr.matches("account_check cannot be used").count(), 1, "{rule}: {}", ran.stderr);
        assert!(calls_of(&env, CHECK) <= 3 * 2, "{rule}: {} checks", calls_of(&env, CHECK));
        assert_eq!(env.handle().users(), wanted(&env, 2).await, "{rule}");
        assert_eq!(rejected_accounts(&env).await.len(), 4, "{rule}");
        assert_eq!(violations(&env), vec![]);
        expect_truth(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_accounts_are_checked_a_hundred_a_call() {
    let env = environment(1_000, 30, "").await;
    env.imsync(&["backfill"]).await.expect_code(3);
    env.run_until_no_full_pass_is_due().await;

    env.handle().clear_records();
    env.imsync(&["rejected", "retry"]).await.expect_code(0);
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!((calls(&env), calls_of(&env, CHECK)), (3, 3), "nobody has signed in meanwhile");
    assert_eq!(rejected_accounts(&env).await.len(), 300);

    // Some of them sign in. They are sent, with a call for each hundred that were checked.
    let unknown: Vec<String> = (1..=1_000).filter(|number| !is_known(*number, 30)).map(account).collect();
    let (signed_in, others) = unknown.split_at(70);
    for account in signed_in {
        env.handle().set_imported(account, true);
    }
    env.handle().clear_records();
    env.imsync(&["rejected", "retry"]).await.expect_code(0);
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert!(calls(&env) <= 6, "{:?}", env.handle().counters());
    assert_eq!(rejected_accounts(&env).await, others.iter().cloned().collect());
    let mut held = env.wanted_of_users().await;
    held.retain(|account, _| !others.contains(account));
    assert_eq!(env.handle().users(), held);
    assert_eq!(violations(&env), vec![]);
    expect_truth(&env).await;
}

/// The changes of the next pass do not wait for a thousand calls, whatever a check costs.
#[tokio::test(flavor = "multi_thread")]
async fn retries_of_unknown_accounts_keep_to_about_a_second_of_calls() {
    for (im, rule) in [
        ("", Some("refuse:70402:command=account_check")),
        ("users_per_call = 1", None),
        ("calls_per_second = 20", Some("refuse:70402:command=account_check")),
    ] {
        let env = environment(600, 80, im).await;
        env.imsync(&["backfill"]).await.expect_code(3);
        env.run_until_no_full_pass_is_due().await;
        if let Some(rule) = rule {
            fault(&env, rule);
        }
        env.imsync(&["rejected", "retry"]).await.expect_code(0);
        env.handle().clear_records();
        env.imsync(&["run", "--once"]).await.expect_code(3);
        let most = if im.starts_with("calls") { 60 } else { 260 };
        assert!(calls(&env) <= most, "{im:?}: {} calls", calls(&env));
        assert_eq!(rejected_accounts(&env).await.len(), 480, "{im:?}");
        assert_eq!(violations(&env), vec![]);
    }
}

/// An account that was deleted in Chat holds nothing, so there is nothing to remove.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_from_unknown_accounts_counts_as_done() {
    let env = environment(400, 0, "").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("DELETE FROM users WHERE right(id, 5)::int % 3 = 0").await;
    (1..=400).filter(|number| number % 2 == 0).for_each(|number| env.handle().set_imported(&account(number), false));
    env.handle().clear_records();
    env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0);
    assert!(calls(&env) <= 3 * 2, "{:?}", env.handle().counters());
    let gone = |name: &String| name[1..].parse::<u32>().is_ok_and(|number| number % 3 == 0);
    let left = env.number("SELECT count(*) FROM imsync.account WHERE right(account, 5)::int % 3 = 0").await;
    assert_eq!(left, 0, "the state claims nothing of them any more");
    assert!(
        env.handle()
            .users()
            .keys()
            .filter(|name| gone(name))
            .all(|name| name[1..].parse::<u32>().is_ok_and(|number| number % 2 == 0))
    );
    assert_eq!(violations(&env), vec![]);
}

/// If Chat knows no account, or hardly any, the app, the data centre or the prefix may be wrong.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_knows_hardly_any_account_stops_the_pass() {
    for service in ["all_member_push", "timpush"] {
        for known in 0..=1 {
            let env = environment(1_300, 100, &format!("service = \"{service}\"")).await;
            (1..=known).for_each(|number| env.handle().set_imported(&account(number), true));
            let ran = env.imsync(&["backfill"]).await.expect_code(1);
            ran.expect_all(&["70107", "im.max_rejected_share = 0.4"]);
            assert_eq!(env.handle().users().len(), usize::try_from(known).expect("a small number"), "{service}");
            assert_eq!(violations(&env), vec![]);
        }
    }
}

/// An account that is alone in its call costs one check, which proves that the account is the cause.
#[tokio::test(flavor = "multi_thread")]
async fn lone_unknown_accounts_are_proven_by_a_check() {
    let env = environment(1_100, 60, "users_per_call = 1").await;
    env.imsync(&["backfill"]).await.expect_code(3);
    let unknown = (1..=1_100).filter(|number| !is_known(*number, 60)).count();
    assert_eq!(rejected_accounts(&env).await.len(), unknown);
    assert_eq!(calls_of(&env, CHECK), u64::try_from(unknown).expect("a small number"));
    assert!(calls(&env) <= 1_100 + calls_of(&env, CHECK), "{:?}", env.handle().counters());
    assert_eq!(env.handle().users(), wanted(&env, 60).await);
    expect_truth(&env).await;
}

/// Without a check, an account that `FailAccounts` lists is rejected only if IM refuses to set it.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_cannot_be_imported_is_still_set() {
    let env = environment(200, 10, "unknown_accounts = \"import\"").await;
    // Chat knows this account, and fails to import it again.
    let known = (1..=200).find(|number| is_known(*number, 10)).map(account).expect("most accounts are known");
    fault(&env, &format!("refuse:70402:per-account:command=multiaccount_import:account={known}"));
    fault(&env, "refuse:60017:command=account_check");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// The table of docs/im-error-codes.md.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark of two minutes, run by `make bench-tests`"]
async fn bench_calls_for_accounts_unknown_to_chat() {
    for (what, im, split) in [
        ("split, without account_check", "max_rejected_share = 1.0", true),
        ("account_check", "", false),
        ("unknown_accounts = \"import\"", "unknown_accounts = \"import\"", false),
    ] {
        for percent in [1, 10, 30, 90] {
            let env = environment(5_000, percent, im).await;
            if split {
                fault(&env, "refuse:60009:command=account_check");
            }
            env.imsync(&["backfill"]).await;
            let held = env.handle().users().len();
            println!(
                "{what}, {percent} % unknown: {} calls ({} checks, {} imports), {held} accounts set",
                calls(&env),
                calls_of(&env, CHECK),
                calls_of(&env, IMPORT)
            );
            assert!(split || calls(&env) <= 3 * 50, "{} calls", calls(&env));
        }
    }
}

const DEVICES: &str = "service = \"timpush\"\naccount_type = \"registration_id\"\n";

/// `RegistrationIDs` have the form of a uuid, 36 bytes, in a column of the type uuid or text.
#[tokio::test(flavor = "multi_thread")]
async fn devices_are_accounts_of_36_bytes() {
    for column in ["uuid", "text"] {
        let mut setup = Setup { im: DEVICES.to_owned(), ..Setup::default() };
        // Chat has no UserID. A device is no UserID, so this must not matter.
        setup.simulator.imported_accounts = Some(Vec::new());
        let env = environment_of(0, setup).await;
        env.handle().set_device_attributes();
        env.execute(&format!(
            "ALTER TABLE users ALTER COLUMN id TYPE {column} USING id::{column};
             INSERT INTO users (id, city, plan, gender)
                 SELECT md5(g::text)::uuid::{column}, 'Oslo', 'pro', 'm' FROM generate_series(1, 250) g"
        ))
        .await;
        let ids: Vec<String> = sqlx::query_scalar("SELECT id::text FROM users ORDER BY 1 LIMIT 1")
            .fetch_all(&mut env.database.connect().await)
            .await
            .expect("a plain query");
        let unknown = &ids[0];
        fault(&env, &format!("refuse:70107:account={unknown}"));
        env.imsync(&["backfill"]).await.expect_code(3);
        let held = env.handle().users();
        assert_eq!(held.len(), 249, "{column}");
        assert!(held.keys().all(|account| account.len() == 36), "{column}");
        assert_eq!(rejected(&env).await.len(), 1, "{column}");
        assert_eq!(violations(&env), vec![]);

        // As UserIDs they are too long.
        env.edit("account_type = \"registration_id\"", "account_type = \"user_id\"");
        let expected = if column == "uuid" { 1 } else { 3 };
        env.execute("UPDATE users SET city = 'Lima', updated_at = now()").await;
        env.imsync(&["run", "--once"]).await.expect_code(expected);
        assert!(env.handle().users().values().all(|attributes| attributes["city"] == "Oslo"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_excludes_devices_is_named() {
    let env = environment_of(0, Setup { im: DEVICES.to_owned(), ..Setup::default() }).await;
    for (old, new, expected) in [
        ("service = \"timpush\"", "service = \"all_member_push\"", "needs im.service = \"timpush\""),
        ("[im]\n", "[im]\nunknown_accounts = \"import\"\n", "im.unknown_accounts = \"import\""),
        ("[source]\n", "[source]\naccount_format = \"hex\"\n", "source.account_format = \"hex\""),
    ] {
        env.edit(old, new);
        env.imsync(&["run", "--once"]).await.expect_code(2).expect_all(&["im.account_type", expected]);
        env.edit(new, old);
    }
    env.imsync(&["run", "--once"]).await.expect_code(0);
}
