//! A full pass counts what it had to put right although incremental passes had gone before.

use std::time::Duration;

use serde_json::Value;

use crate::commands::{free_port, metric};
use crate::support::{Setup, Stage, ended, signal};

use super::guard::settled;
use super::truth::expect_truth;
use super::{stage_of, status};

async fn repaired(stage: &Stage, arguments: &[&str], code: i32) -> Value {
    stage.imsync(arguments).await.expect_code(code);
    status(stage).await["last_passes"][0]["repaired"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_tells_how_many_accounts_it_had_to_mend() {
    let stage = stage_of(100, Setup::default()).await;
    assert_eq!(repaired(&stage, &["backfill"], 0).await, 0, "a first sync mends nothing");
    stage.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    assert_eq!(repaired(&stage, &["backfill"], 0).await, 0);
    stage.comes_to_rest().await;

    // No stamp tells of any of these.
    stage
        .execute(
            "UPDATE users SET city = 'unstamped' WHERE id <= 'u00005';
             UPDATE users SET plan = NULL WHERE id = 'u00006';
             DELETE FROM users WHERE id IN ('u00007', 'u00008');
             INSERT INTO users (id, city, updated_at) VALUES ('u00101', 'restored', '2020-01-01')",
        )
        .await;
    let pass = stage.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!((&pass["kind"], &pass["changed"]), (&"incremental".into(), &0.into()), "{pass}");
    assert_eq!(repaired(&stage, &["backfill"], 0).await, 9);
    assert_eq!(stage.handle().users(), stage.wanted_of_users().await);

    // What is sent again on request was not wrong.
    assert_eq!(repaired(&stage, &["backfill", "--force"], 0).await, 0);
    expect_truth(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guard_holds_back_is_not_mended_until_it_goes() {
    let stage = settled(100, Setup::default()).await;
    stage
        .execute(
            "UPDATE users SET updated_at = '2020-01-01'; UPDATE users SET city = 'unstamped' WHERE id >= 'u00098';
             DELETE FROM users WHERE id <= 'u00030'",
        )
        .await;
    assert_eq!(repaired(&stage, &["backfill"], 1).await, 3);
    assert_eq!(repaired(&stage, &["backfill", "--allow-removals"], 0).await, 30);
    assert_eq!(stage.handle().users(), stage.wanted_of_users().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_metric_counts_it_too() {
    let port = free_port();
    let setup = Setup {
        more: format!("[schedule]\ninterval = \"200ms\"\nfull_every = \"1s\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n"),
        ..Setup::default()
    };
    let stage = stage_of(20, setup).await;
    stage.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    let mut daemon = stage.start("run", &["run"]);
    stage.converges(Duration::from_secs(20)).await;
    let full_passes = async || metric(port, "imsync_passes_total{kind=\"full\",outcome=\"ok\"}").await;
    stage.eventually("a full pass that finds nothing", async || full_passes().await >= Some(2.0)).await;
    assert_eq!(metric(port, "imsync_full_pass_repairs_total").await, Some(0.0));
    stage.execute("UPDATE users SET city = 'unstamped' WHERE id <= 'u00003'").await;
    stage.converges(Duration::from_secs(20)).await;
    // The pass is counted at its end, a moment after IM has everything.
    stage
        .eventually("the metric tells of it", async || {
            metric(port, "imsync_full_pass_repairs_total").await == Some(3.0)
        })
        .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
