//! Tests that unknown outcomes are resolved without a full pass, whatever the outcome of the pass that left them.
//!
//! Owns: fixed cases from generated tests and reviews about unknown outcomes. Must not know: how they are resolved.

use std::time::Duration;

use crate::support::{Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{environment_of, fault, in_flight_twice, rejected, start_im, stop_im};

const NO_FULL_PASS: &str = "[schedule]\ninterval = \"200ms\"\nfull_every = \"never\"\n";

fn setup(im: &str) -> Setup {
    Setup {
        im: format!("timeout = \"1s\"\nretry_for = \"1s\"\n{im}\n"),
        more: NO_FULL_PASS.to_owned(),
        ..Setup::default()
    }
}

/// An environment after a backfill, with a daemon that holds the lease. No row is newer than the watermark.
async fn start_daemon(count: u32, setup: Setup) -> (TestEnvironment, tokio::process::Child) {
    let env = environment_of(count, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    env.execute("DELETE FROM imsync.pass").await;
    let daemon = env.start("run", &["run"]);
    env.eventually("the daemon holds the lease", async || env.printed("run", "err").contains("leading")).await;
    (env, daemon)
}

async fn in_doubt(env: &TestEnvironment) -> i64 {
    env.number("SELECT count(*) FROM imsync.account WHERE in_doubt_retry_at IS NOT NULL").await
}

async fn full_passes(env: &TestEnvironment) -> i64 {
    env.number("SELECT count(*) FROM imsync.pass WHERE kind = 'full'").await
}

/// Waits until IM equals the table and nothing is in doubt. Asserts that no account is rejected and no full pass has
/// run.
async fn expect_resolved(env: &TestEnvironment, mut daemon: tokio::process::Child) {
    env.converges(Duration::from_secs(20)).await;
    env.eventually("no account is in doubt", async || in_doubt(env).await == 0).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(env).await;
    assert_eq!(rejected(env).await, Vec::<serde_json::Value>::new());
    assert_eq!(full_passes(env).await, 0, "no full pass has run");
    assert_eq!(in_flight_twice(env), vec![]);
}

/// IM answers one call of a pass with "try again later" until imsync gives up, and accepts another call of the same
/// pass.
async fn refused_for_now(im: &str, refusal: &str) {
    let (env, daemon) = start_daemon(6, setup(im)).await;
    let rule = fault(&env, refusal);
    env.execute(
        "UPDATE users SET city = 'moved', updated_at = now() WHERE id IN ('u00001', 'u00002');
             UPDATE users SET plan = 'gold', updated_at = now() WHERE id = 'u00003'",
    )
    .await;
    env.eventually("the other accounts arrive", async || env.handle().user("u00003")["plan"] == "gold").await;
    env.eventually("the account is in doubt", async || in_doubt(&env).await == 1).await;
    // The pass has ended with the outcome `ok`, and its watermark has moved past the row.
    env.eventually("the watermark has moved on", async || {
        env.execute("UPDATE users SET plan = CASE plan WHEN 'pro' THEN 'free' ELSE 'pro' END, updated_at = now() WHERE id = 'u00006'").await;
        let past = "SELECT count(*) FROM imsync.sync, users WHERE users.id = 'u00001' \
                    AND watermark::timestamptz > users.updated_at";
        env.number(past).await == 1
    })
    .await;
    assert_ne!(env.handle().user("u00001")["city"], "moved");
    env.handle().remove_fault(rule);
    expect_resolved(&env, daemon).await;
    assert_eq!(env.handle().user("u00001")["city"], "moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_im_never_accepted_arrives_later() {
    tokio::join!(
        refused_for_now("users_per_call = 1", "refuse:60011:account=u00001"),
        refused_for_now("users_per_call = 1", "refuse:60007:account=u00001"),
        refused_for_now("service = \"timpush\"", "refuse:60007:per-account:account=u00001"),
    );
}

/// IM stops in the middle of a pass. It has accepted some of the calls, and the other calls cannot connect.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_cannot_connect_arrive_when_im_is_back() {
    let (mut env, daemon) = start_daemon(100, setup("users_per_call = 1\nmax_in_flight = 8")).await;
    env.handle().clear_records();
    // IM accepts some calls, holds some when it stops, and receives none of the others.
    fault(&env, "hold:after=40");
    env.execute("UPDATE users SET city = 'moved', updated_at = now()").await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    let stopped = stop_im(&mut env).await;
    let ended_ok = "SELECT count(*) FROM imsync.pass WHERE outcome = 'ok' AND calls > 40";
    env.eventually("the pass has ended with the outcome ok", async || env.number(ended_ok).await > 0).await;
    assert!(in_doubt(&env).await > 0);
    // From now on imsync finds the accounts only because they are in doubt.
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    let missing = stopped.users.values().filter(|attributes| attributes["city"] != "moved").count();
    assert!(missing > 0);
    start_im(&mut env, stopped).await;
    expect_resolved(&env, daemon).await;
}

/// The outcome of a removal is unknown. The next passes stop before they can send it again.
async fn removal_without_an_answer(held: &str) {
    let (env, daemon) = start_daemon(4, setup("")).await;
    fault(&env, &format!("{held}:times=1"));
    // Refused credentials then stop every pass at its removals, before the outcome is known.
    fault(&env, "refuse:70003:command=remove_attr:after=1");
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00002'").await;
    env.eventually("the account is in doubt", async || in_doubt(&env).await == 1).await;
    // From now on imsync finds the account only because it is in doubt.
    env.execute("UPDATE users SET updated_at = '2020-01-01' WHERE id = 'u00002'").await;
    let stopped = || env.handle().calls().iter().filter(|call| call.code == Some(70003)).count();
    let before = stopped();
    env.eventually("several passes have stopped at the removal", async || stopped() >= before + 3).await;
    assert_eq!(in_doubt(&env).await, 1);
    env.handle().clear_faults();
    expect_resolved(&env, daemon).await;
    assert!(!env.handle().user("u00002").contains_key("plan"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_without_an_answer_is_resolved() {
    tokio::join!(
        removal_without_an_answer("hold:command=remove_attr"),
        removal_without_an_answer("apply-then-hold:command=remove_attr"),
    );
}
