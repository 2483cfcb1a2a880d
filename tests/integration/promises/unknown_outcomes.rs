//! Tests calls whose outcome is unknown: after a kill, a lost answer or a false answer.
//!
//! Owns: IM applies a call and imsync does not learn it. Must not know: calls that IM applies after a time-out.

use std::time::Duration;

use crate::support::{Setup, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{account, attributes, environment_of, fault, in_flight_twice, status};

/// A state that is written only after the answer would fail here. IM holds the new value, the state still contains the
/// old value, and the table contains the old value again, so there would be no visible difference.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_does_not_lose_a_call_that_im_applied() {
    let env = environment_of(3, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let before = env.handle().user("u00001");
    assert_eq!(before["city"], "city 1");

    let mut daemon = env.start("run", &["run"]);
    let hold = fault(&env, "apply-then-hold:command=set_attr");
    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u00001'").await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    assert_eq!(env.handle().user("u00001")["city"], "moved", "IM has applied the call without an answer");
    daemon.kill().await.expect("the daemon can be killed");
    env.execute("UPDATE users SET city = 'city 1', updated_at = now() WHERE id = 'u00001'").await;
    env.handle().remove_fault(hold);
    assert_eq!(env.handle().user("u00001")["city"], "moved");

    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    assert_eq!(env.handle().user("u00001"), before);
    env.eventually("no account is in doubt", async || status(&env).await["in_doubt"] == 0).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// The same for a removal and a deleted row. The row has no new timestamp after the kill, and the next process is a
/// one-shot pass.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_outcomes_of_a_killed_process_are_resolved() {
    let env = environment_of(4, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let mut daemon = env.start("run", &["run"]);
    fault(&env, "apply-then-hold");
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00002'").await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    assert!(!env.handle().user("u00002").contains_key("plan"));
    daemon.kill().await.expect("the daemon can be killed");
    env.handle().clear_faults();
    // The row has the old value and an old timestamp, so only a query by account finds it.
    env.execute(
        "UPDATE users SET plan = 'free', updated_at = '2020-01-01' WHERE id = 'u00002';
             DELETE FROM users WHERE id = 'u00004'",
    )
    .await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().user("u00002")["plan"], "free");
    expect_truth(&env).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// IM applies calls and then reports a failure, in every possible way, while the table changes.
#[tokio::test(flavor = "multi_thread")]
async fn false_failure_answers_lead_to_the_right_values() {
    let setup = Setup {
        im: "timeout = \"1s\"\nretry_for = \"1s\"\nusers_per_call = 10\n".to_owned(),
        more: "[schedule]\ninterval = \"200ms\"\n[removal]\nmax_share = 1.0\n".to_owned(),
        ..Setup::default()
    };
    let env = environment_of(120, setup).await;
    for answer in ["http-502", "cut", "close", "html", "garbage", "91000"] {
        fault(&env, &format!("apply-then-fail:{answer}:chance=0.12:seed={}", answer.len()));
    }
    for answer in ["http-503", "close"] {
        fault(&env, &format!("fail:{answer}:chance=0.12:seed=9"));
    }
    let mut daemon = env.start("run", &["run"]);
    let watcher = StateWatcher::start(&env);
    for round in 0..12 {
        env.execute(&format!(
            "UPDATE users SET city = 'round {round}', updated_at = now() WHERE right(id, 1) = '{}';
             UPDATE users SET plan = CASE WHEN plan IS NULL THEN 'pro' END, updated_at = now() WHERE right(id, 2) IN ('{round:02}', '{}7')",
            round % 10,
            round % 10
        ))
        .await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    env.handle().clear_faults();
    env.converges(Duration::from_secs(20)).await;
    watcher.end().await;
    assert_eq!(in_flight_twice(&env), vec![]);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// The daemon is killed repeatedly while calls hang or fail and the table changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_at_any_moment_converges() {
    let env = environment_of(300, Setup { im: "users_per_call = 20\n".to_owned(), ..Setup::default() }).await;
    fault(&env, "slow:30ms");
    fault(&env, "apply-then-fail:close:chance=0.1:seed=3");
    let watcher = StateWatcher::start(&env);
    for round in 0..5_u64 {
        let mut daemon = env.start("run", &["run"]);
        env.execute(&format!(
            "UPDATE users SET city = 'run {round}', updated_at = now() WHERE right(id, 1) IN ('{round}', '7');
             UPDATE users SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END, updated_at = now() WHERE id = 'u0000{round}'"
        ))
        .await;
        let arrived = env.handle().counters().arrived;
        // Each run ends after a different number of calls, and so at a different point of the delivery.
        let some = env.handle().wait_until(|counters| counters.arrived > arrived + round * 3);
        tokio::time::timeout(Duration::from_mins(1), some).await.expect("the daemon makes calls");
        daemon.kill().await.expect("the daemon can be killed");
    }
    env.handle().clear_faults();
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    watcher.end().await;
    expect_truth(&env).await;
    let idle = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!(idle["calls"], 0, "{idle}");
    assert_eq!(attributes(&[]), env.handle().user(&account(99_999)));
}
