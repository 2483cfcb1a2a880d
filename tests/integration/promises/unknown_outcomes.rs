//! Calls whose outcome is not known: killed processes, answers that are lost, answers that are wrong.

use std::time::Duration;

use crate::support::{Setup, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{account, attributes, fault, in_flight_twice, stage_of, status};

/// The case that a state kept only after the answer gets wrong: IM holds the new value, the state still says the old one,
/// and the table says the old one again, so nothing seems to differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_does_not_forget_a_call_that_im_applied() {
    let env = stage_of(3, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let before = env.handle().user("u00001");
    assert_eq!(before["city"], "city 1");

    let mut daemon = env.start("run", &["run"]);
    let hold = fault(&env, "apply-then-hold:command=set_attr");
    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u00001'").await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    assert_eq!(env.handle().user("u00001")["city"], "moved", "IM has applied what it does not answer");
    daemon.kill().await.expect("the daemon can be killed");
    env.execute("UPDATE users SET city = 'city 1', updated_at = now() WHERE id = 'u00001'").await;
    env.handle().remove_fault(hold);
    assert_eq!(env.handle().user("u00001")["city"], "moved");

    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    assert_eq!(env.handle().user("u00001"), before);
    env.eventually("no doubt is left", async || status(&env).await["in_doubt"] == 0).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// The same, with the row not touched in the source after the kill and the one-shot command as the heir.
#[tokio::test(flavor = "multi_thread")]
async fn doubts_of_a_killed_process_are_settled_by_account_also_for_removals_and_gone_accounts() {
    let env = stage_of(4, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let mut daemon = env.start("run", &["run"]);
    fault(&env, "apply-then-hold");
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00002'").await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    assert!(!env.handle().user("u00002").contains_key("plan"));
    daemon.kill().await.expect("the daemon can be killed");
    env.handle().clear_faults();
    // Back to the old value, with a stamp of long ago: only the look-up by account finds it.
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

/// IM applies what it is sent and then says that it failed, in every way it can, while the table changes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lies_leads_to_the_right_value_and_to_no_claim_that_is_not_so() {
    let setup = Setup {
        im: "timeout = \"1s\"\nretry_for = \"1s\"\nusers_per_call = 10\n".to_owned(),
        more: "[schedule]\ninterval = \"200ms\"\n[removal]\nmax_share = 1.0\n".to_owned(),
        ..Setup::default()
    };
    let env = stage_of(120, setup).await;
    for wrong in ["http-502", "cut", "close", "html", "garbage", "91000"] {
        fault(&env, &format!("apply-then-fail:{wrong}:chance=0.12:seed={}", wrong.len()));
    }
    for wrong in ["http-503", "close"] {
        fault(&env, &format!("fail:{wrong}:chance=0.12:seed=9"));
    }
    let mut daemon = env.start("run", &["run"]);
    let watch = StateWatcher::start(&env);
    for round in 0..12 {
        env
            .execute(&format!(
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
    watch.end().await;
    assert_eq!(in_flight_twice(&env), vec![]);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// Killed again and again while calls hang or fail and the table goes on.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_it_converges() {
    let env = stage_of(300, Setup { im: "users_per_call = 20\n".to_owned(), ..Setup::default() }).await;
    fault(&env, "slow:30ms");
    fault(&env, "apply-then-fail:close:chance=0.1:seed=3");
    let watch = StateWatcher::start(&env);
    for round in 0..5_u64 {
        let mut daemon = env.start("run", &["run"]);
        env
            .execute(&format!(
                "UPDATE users SET city = 'life {round}', updated_at = now() WHERE right(id, 1) IN ('{round}', '7');
                 UPDATE users SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END, updated_at = now() WHERE id = 'u0000{round}'"
            ))
            .await;
        let arrived = env.handle().counters().arrived;
        // Each life ends at another number of calls, so at another place in a delivery.
        let some = env.handle().wait_until(|counters| counters.arrived > arrived + round * 3);
        tokio::time::timeout(Duration::from_mins(1), some).await.expect("the daemon makes calls");
        daemon.kill().await.expect("the daemon can be killed");
    }
    env.handle().clear_faults();
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    watch.end().await;
    expect_truth(&env).await;
    let idle = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!(idle["calls"], 0, "{idle}");
    assert_eq!(attributes(&[]), env.handle().user(&account(99_999)));
}
