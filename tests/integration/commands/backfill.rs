//! `backfill` and its flags.

use super::status::PASS_KEYS;
use super::{assert_keys, assert_time, people, state_tables};
use crate::support::{Ran, Setup, Stage};

/// A dry run that has to send nothing, change nothing and end as the real pass would.
async fn dry_run(stage: &Stage, flags: &[&str], code: i32) -> Ran {
    let (before, calls) = (state_tables(&stage.database).await, stage.handle().counters().arrived);
    let mut arguments = vec!["backfill", "--dry-run"];
    arguments.extend(flags);
    let ran = stage.imsync(&arguments).await.expect_code(code);
    assert_eq!(stage.handle().counters().arrived, calls, "a dry run makes no call");
    assert_eq!(state_tables(&stage.database).await, before, "a dry run changes nothing");
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_foretells_the_pass_and_its_exit_code() {
    let stage = Stage::set_up(Setup::default()).await;
    stage.execute(&people(250)).await;
    let first = dry_run(&stage, &["--json"], 0).await.json();
    for (key, value) in [("rows_read", 250), ("set", 250), ("removed", 0), ("rejected", 0), ("calls", 3)] {
        assert_eq!(first[key], value, "{key}: {first:#}");
    }
    assert!(first["seconds_at_rate"].as_f64().unwrap() < 1.0);
    dry_run(&stage, &[], 0).await.expect_all(&[
        "250 set",
        "3 calls",
        "95 calls a second",
        "nothing was sent or changed",
    ]);
    let pass = stage.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_keys(&pass, &PASS_KEYS);
    assert_time(&pass["started_at"]);
    assert_eq!((&pass["kind"], &pass["pushed"], &pass["calls"]), (&"full".into(), &250.into(), &3.into()));
    assert_eq!(dry_run(&stage, &["--json"], 0).await.json()["calls"], 0);
    assert_eq!(dry_run(&stage, &["--force", "--json"], 0).await.json()["set"], 250);

    // A value that is refused here: 3, but only where that account is meant.
    stage.execute("UPDATE users SET gender = 'x', updated_at = now() WHERE id = 'u0001'").await;
    dry_run(&stage, &[], 3).await.expect_all(&["1 rejected"]);
    stage.imsync(&["backfill"]).await.expect_code(3).expect_all(&["1 rejected", "imsync rejected"]);
    dry_run(&stage, &[], 3).await;
    dry_run(&stage, &["--account", "u0001"], 3).await;
    dry_run(&stage, &["--account", "u0002"], 0).await;
    stage.imsync(&["backfill", "--account", "u0002"]).await.expect_code(0);
    stage.imsync(&["backfill", "--account", "u0001"]).await.expect_code(3);
    stage.imsync(&["run", "--once"]).await.expect_code(3);

    // The guard: 1, with the way out.
    stage.execute("UPDATE users SET gender = 'm' WHERE id = 'u0001'").await;
    dry_run(&stage, &[], 0).await.expect_all(&["1 set", "0 rejected"]);
    stage.execute("DELETE FROM users WHERE id > 'u0150'").await;
    dry_run(&stage, &[], 1).await.expect_all(&["100 of 250", "removal.max_share", "--allow-removals"]);
    let refused =
        stage.imsync(&["backfill", "--json"]).await.expect_code(1).expect_all(&["100 of 250", "--allow-removals"]);
    assert_eq!((&refused.json()["outcome"], &refused.json()["removed"]), (&"guard".into(), &0.into()));
    assert_eq!(stage.handle().users().len(), 250, "nothing is removed while the guard holds");
    let status = stage.imsync(&["status", "--json"]).await.json();
    assert_eq!((&status["guard"]["accounts"], &status["guard"]["known"]), (&100.into(), &250.into()));
    assert_time(&status["guard"]["since"]);
    stage.imsync(&["status"]).await.expect_all(&["guard       the removal guard holds removals back"]);
    assert_eq!(dry_run(&stage, &["--allow-removals", "--json"], 0).await.json()["removed"], 100);
    stage.imsync(&["backfill", "--allow-removals"]).await.expect_code(0).expect_all(&["100 removed"]);
    assert_eq!(stage.handle().users(), stage.wanted_of_users().await);
    assert!(stage.imsync(&["status", "--json"]).await.json()["guard"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn named_accounts_and_force() {
    let setup = Setup::default();
    let source = format!("{}account_prefix = \"shop-\"\n", setup.source);
    let stage = Stage::set_up(Setup { source, ..setup }).await;
    stage.execute(&people(20)).await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    stage
        .execute(
            "UPDATE users SET city = 'quiet' WHERE id IN ('u0001', 'u0002', 'u0003'); DELETE FROM users WHERE id IN ('u0004', 'u0005')",
        )
        .await;
    stage.handle().clear_records();
    // As IM knows it, or the column's own text; one that the table no longer has is gone.
    let arguments = ["backfill", "--account", "shop-u0001", "--account", "u0002", "--account", "shop-u0004", "--json"];
    let pass = stage.imsync(&arguments).await.expect_code(0).json();
    assert_eq!((&pass["kind"], &pass["pushed"], &pass["removed"]), (&"selected".into(), &2.into(), &1.into()));
    let im = stage.handle().users();
    assert_eq!((im["shop-u0001"]["city"].as_str(), im["shop-u0002"]["city"].as_str()), ("quiet", "quiet"));
    assert!(!im.contains_key("shop-u0004"));
    assert_eq!(im["shop-u0003"]["city"], "city 3", "not named, not touched");
    assert!(im.contains_key("shop-u0005"));

    // IM was edited behind our back: only --force sends what the state takes for settled.
    stage.handle().remove_user("shop-u0010");
    stage.imsync(&["backfill", "--account", "u0010"]).await.expect_code(0);
    assert!(stage.handle().user("shop-u0010").is_empty());
    stage.imsync(&["backfill", "--force", "--account", "u0010"]).await.expect_code(0);
    assert_eq!(stage.handle().user("shop-u0010")["city"], "city 3");
    stage.handle().remove_user("shop-u0011");
    stage.handle().clear_records();
    let forced = stage.imsync(&["backfill", "--force", "--json"]).await.expect_code(0).json();
    assert_eq!(forced["pushed"], 18, "every account again");
    assert_eq!(stage.handle().user("shop-u0011")["city"], "city 4");
    assert_eq!(stage.handle().users().len(), 18);
    let sets = stage.handle().calls().into_iter().flat_map(|call| call.users);
    let names = sets.flat_map(|user| user.attributes).filter(|(_, value)| value.is_some()).count();
    let wanted: usize = stage.wanted_of_users().await.values().map(std::collections::BTreeMap::len).sum();
    assert_eq!(names, wanted, "every attribute again");
}
