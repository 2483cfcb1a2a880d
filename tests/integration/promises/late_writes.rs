//! Calls that land late: after the client gave them up, on top of what came after. And accounts on which IM never answers.

use std::time::Duration;

use crate::support::{Setup, TestEnvironment, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{account, fault, in_flight_twice, stage_of, status};

fn impatient(more: &str) -> Setup {
    Setup { im: format!("timeout = \"2s\"\nretry_for = \"4s\"\n{more}"), ..Setup::default() }
}

async fn no_doubt_is_left(env: &TestEnvironment) {
    env.eventually("no doubt is left", async || status(env).await["in_doubt"] == 0).await;
}

/// What was sent for an account, in the order of arrival.
fn cities(env: &TestEnvironment, account: &str) -> Vec<String> {
    let calls = env.handle().calls();
    let users = calls.iter().filter(|call| call.endpoint.ends_with("set_attr")).flat_map(|call| &call.users);
    let mine = users.filter(|user| user.account == account).flat_map(|user| &user.attributes);
    mine.filter(|(name, _)| name == "city").filter_map(|(_, value)| value.clone()).collect()
}

/// "A" hangs and is given up, then "A" and "B" are acknowledged, then the first "A" lands: IM holds "A", and nothing that
/// imsync was told says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_value_that_lands_on_a_newer_one_is_put_right() {
    let env = stage_of(30, impatient("")).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_mins(1)).await;
    no_doubt_is_left(&env).await;
    let watch = StateWatcher::start(&env);
    env.handle().clear_records();
    // Lands 1.5 s after the client has gone, that is 3.5 s after it was sent: within twice the time-out.
    fault(&env, "ghost:1500ms:command=set_attr:account=u00001:times=1");
    env.execute("UPDATE users SET city = 'A', updated_at = now() WHERE id = 'u00001'").await;
    env.eventually("A is repeated", async || cities(&env, "u00001").len() >= 2).await;
    env.execute("UPDATE users SET city = 'B', updated_at = now() WHERE id = 'u00001'").await;
    env.eventually("B is sent", async || cities(&env, "u00001").last().is_some_and(|city| city == "B")).await;
    assert!(status(&env).await["in_doubt"].as_u64() >= Some(1), "a ghost may still land");
    env.eventually("the ghost lands", async || env.handle().user("u00001")["city"] == "A").await;
    env.converges(Duration::from_mins(1)).await;
    no_doubt_is_left(&env).await;
    assert_eq!(env.handle().user("u00001")["city"], "B");
    // Each poll reads the row again (the slack): what is acknowledged is not sent again before the ghost's time is over.
    let sent = cities(&env, "u00001");
    assert!(sent.len() <= 6, "{sent:?}");
    watch.end().await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
    assert_eq!(in_flight_twice(&env), vec![]);
}

/// The process dies while its call hangs, the row is set back, and the call lands after the next life has sent the row anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_killed_process_that_lands_late_is_put_right() {
    let env = stage_of(30, impatient("")).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let mut daemon = env.start("run", &["run"]);
    fault(&env, "ghost:2500ms:account=u00002:times=1");
    let arrived = env.handle().counters().arrived;
    env.execute("UPDATE users SET city = 'of a past life', plan = NULL, updated_at = now() WHERE id = 'u00002'").await;
    env.handle().wait_until(|counters| counters.arrived > arrived).await;
    daemon.kill().await.expect("the daemon can be killed");
    env.execute("UPDATE users SET city = 'today', plan = 'pro', updated_at = now() WHERE id = 'u00002'").await;
    // One-shot lives, as from cron: each does what is due and ends.
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().user("u00002")["city"], "today");
    assert_eq!(status(&env).await["in_doubt"], 1, "what the killed process had sent may still land");
    expect_truth(&env).await;
    env.eventually("the doubt is over", async || {
        env.imsync(&["run", "--once"]).await.expect_code(0);
        status(&env).await["in_doubt"] == 0
    })
    .await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
    let idle = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!(idle["calls"], 0, "{idle}");
}

/// A removal that lands late takes away what was set after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_lands_late_is_put_right() {
    let env = stage_of(30, impatient("")).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_mins(1)).await;
    fault(&env, "ghost:1500ms:command=remove_attr:account=u00003:times=1");
    env.handle().clear_records();
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00003'").await;
    let removals = || env.handle().calls().iter().filter(|call| call.endpoint.ends_with("remove_attr")).count();
    env.eventually("the removal is repeated", async || removals() >= 2).await;
    env.execute("UPDATE users SET plan = 'back', updated_at = now() WHERE id = 'u00003'").await;
    env.eventually("the plan is back", async || {
        env.handle().user("u00003").get("plan").is_some_and(|plan| plan == "back")
    })
    .await;
    env.eventually("the ghost takes it away", async || !env.handle().user("u00003").contains_key("plan")).await;
    env.converges(Duration::from_mins(1)).await;
    no_doubt_is_left(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// IM never answers for one account of a batch. The others of the batch arrive, later changes too, IM does not count as
/// away, and the account itself goes once IM answers.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_always_times_out_holds_up_nobody_else() {
    let setup = Setup { im: "timeout = \"1s\"\nretry_for = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = stage_of(100, setup).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_mins(1)).await;
    no_doubt_is_left(&env).await;
    let silent = fault(&env, "ghost:10m:account=u00042");
    let but_one = async |what: &str, city: &str| {
        env.eventually(what, async || {
            let users = env.handle().users();
            users.iter().filter(|(id, _)| *id != "u00042").all(|(_, attributes)| attributes["city"] == city)
        })
        .await;
    };
    env.execute("UPDATE users SET city = 'all at once', updated_at = now()").await;
    but_one("the others of the batch", "all at once").await;
    env.execute("UPDATE users SET city = 'and again', updated_at = now() WHERE id <> 'u00042'").await;
    but_one("their next change", "and again").await;
    env.eventually("one is left in doubt", async || status(&env).await["in_doubt"] == 1).await;
    assert_eq!(status(&env).await["rejected"], 0, "no answer is no refusal");
    // A removal of the silent one: nothing else is to be sent, so it alone must not pass for an absent IM.
    env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u00042'").await;
    env.execute("UPDATE users SET city = 'once more', updated_at = now() WHERE id = 'u00001'").await;
    env.eventually("a change beside it", async || env.handle().user(&account(1))["city"] == "once more").await;
    env.handle().remove_fault(silent);
    env.converges(Duration::from_mins(1)).await;
    no_doubt_is_left(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    // At the very first time-out nobody was known who could be asked instead: all accounts were in that batch.
    let away = env.printed("run", "err").matches("IM is unreachable").count();
    assert!(away <= 1, "{}", env.printed("run", "err"));
    expect_truth(&env).await;
}

/// The very first batch of a sync holds such an account, so nobody is known yet who could be asked instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_batch_with_an_account_that_always_times_out_arrives_but_for_it() {
    let setup = Setup { im: "timeout = \"1s\"\nretry_for = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = stage_of(40, setup).await;
    let silent = fault(&env, "ghost:10m:account=u00017");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the others are in IM", async || env.handle().users().len() == 39).await;
    env.handle().remove_fault(silent);
    env.converges(Duration::from_mins(1)).await;
    no_doubt_is_left(&env).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}
