//! Tests `backfill` and its flags.
//!
//! Owns: dry runs, selected accounts, `--force` and `--allow-removals`. Must not know: how a full pass resumes.

use super::status::PASS_KEYS;
use super::{assert_keys, assert_time, people, state_tables};
use crate::support::{CommandOutput, Setup, TestEnvironment};

/// Runs a dry run. Asserts that it sends nothing, changes nothing, and exits with the code that the pass would have.
async fn dry_run(env: &TestEnvironment, flags: &[&str], code: i32) -> CommandOutput {
    let (before, calls) = (state_tables(&env.database).await, env.handle().counters().arrived);
    let mut arguments = vec!["backfill", "--dry-run"];
    arguments.extend(flags);
    let ran = env.imsync(&arguments).await.expect_code(code);
    assert_eq!(env.handle().counters().arrived, calls, "a dry run makes no call");
    assert_eq!(state_tables(&env.database).await, before, "a dry run changes nothing");
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_predicts_the_pass_and_its_exit_code() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(250)).await;
    let first = dry_run(&env, &["--json"], 0).await.json();
    for (key, value) in [("rows_read", 250), ("set", 250), ("removed", 0), ("rejected", 0), ("calls", 3)] {
        assert_eq!(first[key], value, "{key}: {first:#}");
    }
    assert!(first["seconds_at_rate"].as_f64().unwrap() < 1.0);
    dry_run(&env, &[], 0).await.expect_all(&["250 set", "3 calls", "95 calls a second", "nothing was sent or changed"]);
    let pass = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_keys(&pass, &PASS_KEYS);
    assert_time(&pass["started_at"]);
    assert_eq!((&pass["kind"], &pass["pushed"], &pass["calls"]), (&"full".into(), &250.into(), &3.into()));
    assert_eq!(dry_run(&env, &["--json"], 0).await.json()["calls"], 0);
    assert_eq!(dry_run(&env, &["--force", "--json"], 0).await.json()["set"], 250);

    // imsync refuses a value. The exit code is 3 if the pass includes that account.
    env.execute("UPDATE users SET gender = 'x', updated_at = now() WHERE id = 'u0001'").await;
    dry_run(&env, &[], 3).await.expect_all(&["1 rejected"]);
    env.imsync(&["backfill"]).await.expect_code(3).expect_all(&["1 rejected", "imsync rejected"]);
    dry_run(&env, &[], 3).await;
    dry_run(&env, &["--account", "u0001"], 3).await;
    dry_run(&env, &["--account", "u0002"], 0).await;
    env.imsync(&["backfill", "--account", "u0002"]).await.expect_code(0);
    env.imsync(&["backfill", "--account", "u0001"]).await.expect_code(3);
    env.imsync(&["run", "--once"]).await.expect_code(3);

    // The removal guard trips. The exit code is 1, and the message names the flag that allows the removals.
    env.execute("UPDATE users SET gender = 'm' WHERE id = 'u0001'").await;
    dry_run(&env, &[], 0).await.expect_all(&["1 set", "0 rejected"]);
    env.execute("DELETE FROM users WHERE id > 'u0150'").await;
    dry_run(&env, &[], 1).await.expect_all(&["100 of 250", "removal.max_share", "--allow-removals"]);
    let refused =
        env.imsync(&["backfill", "--json"]).await.expect_code(1).expect_all(&["100 of 250", "--allow-removals"]);
    assert_eq!((&refused.json()["outcome"], &refused.json()["removed"]), (&"guard".into(), &0.into()));
    assert_eq!(env.handle().users().len(), 250, "nothing is removed while the guard is tripped");
    let status = env.imsync(&["status", "--json"]).await.json();
    assert_eq!((&status["guard"]["accounts"], &status["guard"]["known"]), (&100.into(), &250.into()));
    assert_time(&status["guard"]["since"]);
    env.imsync(&["status"]).await.expect_all(&["guard       the removal guard holds removals back"]);
    assert_eq!(dry_run(&env, &["--allow-removals", "--json"], 0).await.json()["removed"], 100);
    env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0).expect_all(&["100 removed"]);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert!(env.imsync(&["status", "--json"]).await.json()["guard"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_sends_selected_accounts_and_obeys_force() {
    let setup = Setup::default();
    let source = format!("{}account_prefix = \"shop-\"\n", setup.source);
    let env = TestEnvironment::set_up(Setup { source, ..setup }).await;
    env.execute(&people(20)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute(
        "UPDATE users SET city = 'quiet' WHERE id IN ('u0001', 'u0002', 'u0003'); DELETE FROM users WHERE id IN ('u0004', 'u0005')",
    )
    .await;
    env.handle().clear_records();
    // An account can be named as in IM or as in the column. An account that is no longer in the table is removed.
    let arguments = ["backfill", "--account", "shop-u0001", "--account", "u0002", "--account", "shop-u0004", "--json"];
    let pass = env.imsync(&arguments).await.expect_code(0).json();
    assert_eq!((&pass["kind"], &pass["pushed"], &pass["removed"]), (&"selected".into(), &2.into(), &1.into()));
    let im = env.handle().users();
    assert_eq!((im["shop-u0001"]["city"].as_str(), im["shop-u0002"]["city"].as_str()), ("quiet", "quiet"));
    assert!(!im.contains_key("shop-u0004"));
    assert_eq!(im["shop-u0003"]["city"], "city 3", "an account that is not selected does not change");
    assert!(im.contains_key("shop-u0005"));

    // Another client has changed IM. Only `--force` sends values that the state considers acknowledged.
    env.handle().remove_user("shop-u0010");
    env.imsync(&["backfill", "--account", "u0010"]).await.expect_code(0);
    assert!(env.handle().user("shop-u0010").is_empty());
    env.imsync(&["backfill", "--force", "--account", "u0010"]).await.expect_code(0);
    assert_eq!(env.handle().user("shop-u0010")["city"], "city 3");
    env.handle().remove_user("shop-u0011");
    env.handle().clear_records();
    let forced = env.imsync(&["backfill", "--force", "--json"]).await.expect_code(0).json();
    assert_eq!(forced["pushed"], 18, "every account is sent again");
    assert_eq!(env.handle().user("shop-u0011")["city"], "city 4");
    assert_eq!(env.handle().users().len(), 18);
    let sets = env.handle().calls().into_iter().flat_map(|call| call.users);
    let names = sets.flat_map(|user| user.attributes).filter(|(_, value)| value.is_some()).count();
    let wanted: usize = env.wanted_of_users().await.values().map(std::collections::BTreeMap::len).sum();
    assert_eq!(names, wanted, "every attribute is sent again");
}
