//! Tests that a full pass counts its repairs: differences that the incremental passes before it have missed.
//!
//! Owns: the number of repairs in `status` and in the metric. Must not know: how a full pass compares.

use std::time::Duration;

use serde_json::Value;

use crate::commands::{free_port, metric};
use crate::support::{Setup, TestEnvironment, ended, signal};

use super::removal_guard::backfilled;
use super::state_truth::expect_truth;
use super::{environment_of, status};

/// Runs a command and returns the number of accounts that its pass has repaired.
async fn repaired(env: &TestEnvironment, arguments: &[&str], code: i32) -> Value {
    env.imsync(arguments).await.expect_code(code);
    status(env).await["last_passes"][0]["repaired"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_reports_how_many_accounts_it_repaired() {
    let env = environment_of(100, Setup::default()).await;
    assert_eq!(repaired(&env, &["backfill"], 0).await, 0, "a first sync repairs nothing");
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    assert_eq!(repaired(&env, &["backfill"], 0).await, 0);
    env.run_until_no_full_pass_is_due().await;

    // None of these changes has a new timestamp.
    env.execute(
        "UPDATE users SET city = 'unstamped' WHERE id <= 'u00005';
             UPDATE users SET plan = NULL WHERE id = 'u00006';
             DELETE FROM users WHERE id IN ('u00007', 'u00008');
             INSERT INTO users (id, city, updated_at) VALUES ('u00101', 'restored', '2020-01-01')",
    )
    .await;
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!((&pass["kind"], &pass["changed"]), (&"incremental".into(), &0.into()), "{pass}");
    assert_eq!(repaired(&env, &["backfill"], 0).await, 9);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);

    // Values that are sent again on request are not repairs.
    assert_eq!(repaired(&env, &["backfill", "--force"], 0).await, 0);
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_back_removals_count_as_repairs_once_removed() {
    let env = backfilled(100, Setup::default()).await;
    env.execute(
        "UPDATE users SET updated_at = '2020-01-01'; UPDATE users SET city = 'unstamped' WHERE id >= 'u00098';
             DELETE FROM users WHERE id <= 'u00030'",
    )
    .await;
    assert_eq!(repaired(&env, &["backfill"], 1).await, 3);
    assert_eq!(repaired(&env, &["backfill", "--allow-removals"], 0).await, 30);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metric_of_the_daemon_counts_repairs() {
    let port = free_port();
    let setup = Setup {
        more: format!("[schedule]\ninterval = \"200ms\"\nfull_every = \"1s\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n"),
        ..Setup::default()
    };
    let env = environment_of(20, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(20)).await;
    let full_passes = async || metric(port, "imsync_passes_total{kind=\"full\",outcome=\"ok\"}").await;
    env.eventually("a second full pass has ended without repairs", async || full_passes().await >= Some(2.0)).await;
    assert_eq!(metric(port, "imsync_full_pass_repairs_total").await, Some(0.0));
    env.execute("UPDATE users SET city = 'unstamped' WHERE id <= 'u00003'").await;
    env.converges(Duration::from_secs(20)).await;
    // The repairs are counted at the end of the pass, a moment after IM has all values.
    env.eventually("the metric counts the repairs", async || {
        metric(port, "imsync_full_pass_repairs_total").await == Some(3.0)
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
