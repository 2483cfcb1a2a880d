//! A full pass counts what it had to put right although incremental passes had gone before.

use std::time::Duration;

use serde_json::Value;

use crate::commands::{free_port, metric};
use crate::support::{Setup, TestEnvironment, ended, signal};

use super::removal_guard::settled;
use super::state_truth::expect_truth;
use super::{stage_of, status};

async fn repaired(env: &TestEnvironment, arguments: &[&str], code: i32) -> Value {
    env.imsync(arguments).await.expect_code(code);
    status(env).await["last_passes"][0]["repaired"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_tells_how_many_accounts_it_had_to_mend() {
    let env = stage_of(100, Setup::default()).await;
    assert_eq!(repaired(&env, &["backfill"], 0).await, 0, "a first sync mends nothing");
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    assert_eq!(repaired(&env, &["backfill"], 0).await, 0);
    env.comes_to_rest().await;

    // No stamp tells of any of these.
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

    // What is sent again on request was not wrong.
    assert_eq!(repaired(&env, &["backfill", "--force"], 0).await, 0);
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guard_holds_back_is_not_mended_until_it_goes() {
    let env = settled(100, Setup::default()).await;
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
async fn the_daemons_metric_counts_it_too() {
    let port = free_port();
    let setup = Setup {
        more: format!("[schedule]\ninterval = \"200ms\"\nfull_every = \"1s\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n"),
        ..Setup::default()
    };
    let env = stage_of(20, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(20)).await;
    let full_passes = async || metric(port, "imsync_passes_total{kind=\"full\",outcome=\"ok\"}").await;
    env.eventually("a full pass that finds nothing", async || full_passes().await >= Some(2.0)).await;
    assert_eq!(metric(port, "imsync_full_pass_repairs_total").await, Some(0.0));
    env.execute("UPDATE users SET city = 'unstamped' WHERE id <= 'u00003'").await;
    env.converges(Duration::from_secs(20)).await;
    // The pass is counted at its end, a moment after IM has everything.
    env.eventually("the metric tells of it", async || {
        metric(port, "imsync_full_pass_repairs_total").await == Some(3.0)
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
