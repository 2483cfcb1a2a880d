//! Tests what concerns all rejections of a sync at once: it happens in steps, and a step that is cut short is repeated.
//!
//! Owns: an edited mapping, `rejected retry` and a new generation beside thousands of rejections. Must not know: how many
//! rejections a step takes.

use crate::crash_points::abort_at;
use crate::support::{ATTRIBUTES, Setup, TestEnvironment};

use super::state_truth::expect_truth;
use super::{environment_of, status};

const WAITING: &str = "SELECT count(*) FROM imsync.rejection WHERE next_at = 'infinity'";
const SOME_LEFT: &str = "SELECT count(*) FROM imsync.rejection";

/// 50 accounts in IM, and this many rejections of accounts that the table does not have, two for each account. None is due.
async fn rejected(count: u32, setup: Setup) -> TestEnvironment {
    let env = environment_of(50, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    env.execute(&format!(
        "INSERT INTO imsync.rejection (sync_id, account, attribute, code, reason, desired_digest, first_at, last_at, attempts, next_at)
         SELECT sync.id, 'x' || g / 2, CASE g % 2 WHEN 0 THEN 'city' ELSE 'plan' END, 70107, 'as before', 0, now(), now(), 1, 'infinity'
         FROM imsync.sync, generate_series(0, {count} - 1) g"
    ))
    .await;
    env
}

/// `rejected retry` makes all of them due and prints how many accounts these are.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_all_rejections_takes_every_step() {
    let env = rejected(22_000, Setup::default()).await;
    assert_eq!(status(&env).await["rejected"], 11_000);
    env.imsync(&["rejected", "retry", "--account", "x7", "--account", "nobody"])
        .await
        .expect_code(0)
        .expect_all(&["1 account"]);
    assert_eq!(env.number(WAITING).await, 21_998);
    env.imsync(&["rejected", "retry"]).await.expect_code(0).expect_all(&["11,000 accounts"]);
    assert_eq!(env.number(WAITING).await, 0);
    expect_truth(&env).await;
}

/// The process is killed after the first step. The next ones go on where it stopped, and every account is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_mapping_retries_all_rejections_over_a_kill() {
    let env = environment_of(50, Setup::default()).await;
    // imsync refuses these values itself, before and after the edit.
    env.execute("INSERT INTO users (id, gender) SELECT 'x' || g, 'unlisted' FROM generate_series(1, 12000) g").await;
    env.imsync(&["backfill"]).await.expect_code(3);
    env.execute("UPDATE imsync.rejection SET next_at = 'infinity'").await;
    env.configure(&Setup { attributes: ATTRIBUTES.replace("\"male\"", "\"man\""), ..Setup::default() });
    abort_at(&env, &["run", "--once"], "rejections: a step is due").await;
    let waiting = env.number(WAITING).await;
    assert!(waiting > 0 && waiting < 12_000, "the first step is one of several: {waiting}");
    env.eventually("all rejections have been due", async || {
        env.imsync(&["run", "--once"]).await.expect_code(3);
        env.number(WAITING).await == 0
    })
    .await;
    assert_eq!(env.handle().users()["u00002"]["sex"], "man");
    expect_truth(&env).await;
}

const OLD: &str = "sdk_app_id = 1400000000";
const NEW: &str = "sdk_app_id = 1400000001";

/// The rejections of another app do not keep back a single value of the new one, also after a kill between two steps.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_generation_deletes_all_rejections_over_a_kill() {
    let env = rejected(22_000, Setup::default()).await;
    env.edit(OLD, NEW);
    abort_at(&env, &["migrate", "--rebind"], "generation: incremented").await;
    assert!(env.number(SOME_LEFT).await > 0, "they are deleted in several steps");
    env.edit(NEW, OLD);
    env.imsync(&["migrate", "--rebind"]).await.expect_code(0);
    abort_at(&env, &["run", "--once"], "pass: begins").await;
    assert_eq!(env.number(SOME_LEFT).await, 0, "no pass begins before all are deleted");
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(status(&env).await["rejected"], 0);
    expect_truth(&env).await;
}
