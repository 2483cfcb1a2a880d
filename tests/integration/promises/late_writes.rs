//! Tests late writes: IM applies a call after the client has given it up, and so overwrites a newer value. Tests
//! accounts for which IM never answers.
//!
//! Owns: calls that time out although IM is reachable. Must not know: outages of the whole service.

use std::time::Duration;

use crate::support::{Setup, TestEnvironment, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{account, environment_of, fault, in_flight_twice, status};

fn short_timeouts(more: &str) -> Setup {
    Setup { im: format!("timeout = \"2s\"\nretry_for = \"4s\"\n{more}"), ..Setup::default() }
}

async fn wait_until_nothing_is_in_doubt(env: &TestEnvironment) {
    env.eventually("no account is in doubt", async || status(env).await["in_doubt"] == 0).await;
}

/// The cities that were sent for an account, in the order of arrival.
fn cities(env: &TestEnvironment, account: &str) -> Vec<String> {
    let calls = env.handle().calls();
    let users = calls.iter().filter(|call| call.endpoint.ends_with("set_attr")).flat_map(|call| &call.users);
    let sent = users.filter(|user| user.account == account).flat_map(|user| &user.attributes);
    sent.filter(|(name, _)| name == "city").filter_map(|(_, value)| value.clone()).collect()
}

/// A call with "A" times out. Then IM acknowledges "A" and "B". Then IM applies the first call: it holds "A", and no
/// answer shows that.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_value_that_overwrites_a_new_one_is_corrected() {
    let env = environment_of(30, short_timeouts("")).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_mins(1)).await;
    wait_until_nothing_is_in_doubt(&env).await;
    let watcher = StateWatcher::start(&env);
    env.handle().clear_records();
    // IM applies the call 1.5 s after the client has disconnected. That is 3.5 s after the send, within twice the
    // time-out.
    fault(&env, "late:1500ms:command=set_attr:account=u00001:times=1");
    env.execute("UPDATE users SET city = 'A', updated_at = now() WHERE id = 'u00001'").await;
    env.eventually("A is sent again", async || cities(&env, "u00001").len() >= 2).await;
    env.execute("UPDATE users SET city = 'B', updated_at = now() WHERE id = 'u00001'").await;
    env.eventually("B is sent", async || cities(&env, "u00001").last().is_some_and(|city| city == "B")).await;
    assert!(status(&env).await["in_doubt"].as_u64() >= Some(1), "a late write is still possible");
    env.eventually("the late write arrives", async || env.handle().user("u00001")["city"] == "A").await;
    env.converges(Duration::from_mins(1)).await;
    wait_until_nothing_is_in_doubt(&env).await;
    assert_eq!(env.handle().user("u00001")["city"], "B");
    // Each poll reads the row again because of the watermark grace. An acknowledged value is sent again only after the
    // time in which a late write is possible.
    let sent = cities(&env, "u00001");
    assert!(sent.len() <= 6, "{sent:?}");
    watcher.end().await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
    assert_eq!(in_flight_twice(&env), vec![]);
}

/// The process is killed while a call hangs. IM applies that call after the next process has sent newer values of the
/// row.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_of_a_killed_process_is_corrected() {
    let env = environment_of(30, short_timeouts("")).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let mut daemon = env.start("run", &["run"]);
    fault(&env, "late:2500ms:account=u00002:times=1");
    let arrived = env.handle().counters().arrived;
    env.execute("UPDATE users SET city = 'before the kill', plan = NULL, updated_at = now() WHERE id = 'u00002'").await;
    env.handle().wait_until(|counters| counters.arrived > arrived).await;
    daemon.kill().await.expect("the daemon can be killed");
    env.execute("UPDATE users SET city = 'today', plan = 'pro', updated_at = now() WHERE id = 'u00002'").await;
    // One-shot passes, as from cron: each does what is due and exits.
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(cities(&env, "u00002").last().expect("the city is sent"), "today");
    assert_eq!(status(&env).await["in_doubt"], 1, "the call of the killed process may still be applied");
    expect_truth(&env).await;
    env.eventually("no account is in doubt", async || {
        env.imsync(&["run", "--once"]).await.expect_code(0);
        status(&env).await["in_doubt"] == 0
    })
    .await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
    let idle = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!(idle["calls"], 0, "{idle}");
}

/// A removal that IM applies late removes a value that was set after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_removal_is_corrected() {
    let env = environment_of(30, short_timeouts("")).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_mins(1)).await;
    fault(&env, "late:1500ms:command=remove_attr:account=u00003:times=1");
    env.handle().clear_records();
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00003'").await;
    let removals = || env.handle().calls().iter().filter(|call| call.endpoint.ends_with("remove_attr")).count();
    env.eventually("the removal is sent again", async || removals() >= 2).await;
    env.execute("UPDATE users SET plan = 'back', updated_at = now() WHERE id = 'u00003'").await;
    env.eventually("the plan is set again", async || {
        env.handle().user("u00003").get("plan").is_some_and(|plan| plan == "back")
    })
    .await;
    env.eventually("the late removal arrives", async || !env.handle().user("u00003").contains_key("plan")).await;
    env.converges(Duration::from_mins(1)).await;
    wait_until_nothing_is_in_doubt(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// IM never answers for one account of a batch. The other accounts and their later changes arrive, and imsync does not
/// consider IM unreachable. The account itself arrives as soon as IM answers.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_always_times_out_delays_no_other_account() {
    let setup = Setup { im: "timeout = \"1s\"\nretry_for = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(100, setup).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_mins(1)).await;
    wait_until_nothing_is_in_doubt(&env).await;
    let unresponsive = fault(&env, "late:10m:account=u00042");
    let others_have = async |what: &str, city: &str| {
        env.eventually(what, async || {
            let users = env.handle().users();
            users.iter().filter(|(id, _)| *id != "u00042").all(|(_, attributes)| attributes["city"] == city)
        })
        .await;
    };
    env.execute("UPDATE users SET city = 'all at once', updated_at = now()").await;
    others_have("the other accounts of the batch arrive", "all at once").await;
    env.execute("UPDATE users SET city = 'and again', updated_at = now() WHERE id <> 'u00042'").await;
    others_have("the next change of the other accounts arrives", "and again").await;
    env.eventually("one account is in doubt", async || status(&env).await["in_doubt"] == 1).await;
    assert_eq!(status(&env).await["rejected"], 0, "a missing answer is not a rejection");
    // A removal of the unresponsive account, with nothing else to send. Its time-out alone must not look like an
    // unreachable IM.
    env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u00042'").await;
    env.execute("UPDATE users SET city = 'once more', updated_at = now() WHERE id = 'u00001'").await;
    env.eventually("a change of another account arrives", async || {
        env.handle().user(&account(1))["city"] == "once more"
    })
    .await;
    env.handle().remove_fault(unresponsive);
    env.converges(Duration::from_mins(1)).await;
    wait_until_nothing_is_in_doubt(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    // At the first time-out there was no other account for a probe, because all accounts were in that batch.
    let reports = env.printed("run", "err").matches("IM is unreachable").count();
    assert!(reports <= 1, "{}", env.printed("run", "err"));
    expect_truth(&env).await;
}

/// The first batch of a sync contains an unresponsive account, so there is no other account for a probe yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_batch_arrives_without_its_unresponsive_account() {
    let setup = Setup { im: "timeout = \"1s\"\nretry_for = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(40, setup).await;
    let unresponsive = fault(&env, "late:10m:account=u00017");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the other accounts are in IM", async || env.handle().users().len() == 39).await;
    env.handle().remove_fault(unresponsive);
    env.converges(Duration::from_mins(1)).await;
    wait_until_nothing_is_in_doubt(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// A value that imsync refuses is recorded although a call for another account of the same delivery hangs. The pass does not
/// wait for that call, so a crash after it would lose the rejection.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_value_is_recorded_before_a_call_that_hangs_ends() {
    let im = "timeout = \"1m\"\nretry_for = \"1m\"\n".to_owned();
    let env =
        environment_of(100, Setup { im, more: "[schedule]\ninterval = \"1s\"\n".to_owned(), ..Setup::default() }).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    fault(&env, "late:10m:command=set_attr:account=u00042");
    let mut daemon = env.start("run", &["run"]);
    env.execute(
        "UPDATE users SET city = CASE id WHEN 'u00042' THEN 'new' ELSE repeat('x', 60) END, updated_at = now() \
         WHERE id IN ('u00042', 'u00043')",
    )
    .await;
    env.eventually("the rejection is recorded while the call hangs", async || {
        env.number("SELECT (SELECT count(*) FROM imsync.rejection) * (SELECT count(*) FROM imsync.intent)").await == 1
    })
    .await;
    daemon.kill().await.expect("the daemon can be killed");
    assert_eq!(status(&env).await["rejected"], 1);
    expect_truth(&env).await;
}
