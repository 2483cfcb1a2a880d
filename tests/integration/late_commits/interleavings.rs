//! The single cases, each with the daemon at work.
//!
//! Owns: who begins, writes and commits when, between which polls. Must not know: the arithmetic behind it.

use std::time::Duration;

use imsync::simulator::{CallMatcher, FaultAction, FaultRule};

use super::daemon::Daemon;
use super::{Reader, begun, moves, people, run, setup, text};
use crate::support::{Setup, TestEnvironment, USERS};

async fn env(count: u32) -> TestEnvironment {
    TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(count)), ..setup("") }).await
}

/// Enough polls that what was read at their beginning is older than the slack at their end: none of them comes back to it.
const LONG: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn short_long_and_prepared_transactions() {
    let env = env(50).await;
    let reader = Reader::on(&env).await;
    let mut daemon = Daemon::start(&env);
    daemon.comes_to_rest().await;

    // It holds nothing while several fences are taken, and writes then.
    let mut patient = begun(&env).await;
    daemon.polls(2).await;
    run(&mut patient, &moves("u1", "patient")).await;
    daemon.polls(LONG).await;
    run(&mut patient, "COMMIT").await;
    daemon.brings_at_once("u1", "patient").await;

    // A short one among long-open ones does not wait for them.
    let mut long = begun(&env).await;
    run(&mut long, &moves("u2", "long")).await;
    let mut longer = begun(&env).await;
    daemon.polls(1).await;
    let mut short = begun(&env).await;
    run(&mut short, &moves("u3", "short")).await;
    daemon.polls(LONG).await;
    run(&mut short, "COMMIT").await;
    daemon.brings_at_once("u3", "short").await;
    run(&mut long, "COMMIT").await;
    daemon.brings_at_once("u2", "long").await;

    // PendingCommit and orphaned: the daemon is killed, started, stopped and started before somebody ends them. One was
    // prepared while the daemon looked, one while there was none.
    let database = text(&env, "SELECT current_database()").await;
    let mut orphan = begun(&env).await;
    run(&mut orphan, &moves("u4", "orphan")).await;
    run(&mut longer, &moves("u5", "unseen")).await;
    daemon.polls(1).await;
    run(&mut orphan, &format!("PREPARE TRANSACTION '{database}_orphan'")).await;
    daemon.polls(1).await;
    daemon.kill().await;
    run(&mut longer, &format!("PREPARE TRANSACTION '{database}_unseen'")).await;
    daemon.start_again();
    daemon.polls(LONG).await;
    let held = env.imsync(&["status", "--json"]).await.expect_code(0).json()["held_back_by"].clone();
    assert_eq!(held["pid"], serde_json::Value::Null, "{held}");
    daemon.stop().await;
    daemon.start_again();
    daemon.polls(2).await;
    run(&mut orphan, &format!("COMMIT PREPARED '{database}_orphan'")).await;
    daemon.brings_at_once("u4", "orphan").await;
    daemon.polls(LONG).await;
    run(&mut orphan, &format!("COMMIT PREPARED '{database}_unseen'")).await;
    daemon.brings_at_once("u5", "unseen").await;

    // All of it while nobody looks.
    let mut unwatched = begun(&env).await;
    daemon.polls(1).await;
    daemon.kill().await;
    run(&mut unwatched, &format!("{}; COMMIT", moves("u6", "unwatched"))).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    daemon.start_again();
    daemon.polls_until("u6", "unwatched").await;

    daemon.has_made_no_further_full_pass();
    daemon.stop().await;
    reader.leave(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_pass_forgets_no_floor() {
    let env = env(20).await;
    let reader = Reader::on(&env).await;
    let mut daemon = Daemon::start(&env);
    daemon.comes_to_rest().await;

    let (mut ends, mut ends_after_the_kill) = (begun(&env).await, begun(&env).await);
    run(&mut ends, &moves("u1", "late")).await;
    run(&mut ends_after_the_kill, &moves("u2", "later")).await;
    daemon.polls(LONG).await;
    let action = FaultAction::Refuse { code: 91000, per_account: false };
    let away = env.handle().add_fault(FaultRule { matcher: CallMatcher::default(), action });
    env.execute(&moves("u3", "tried")).await;
    daemon.failed_polls(1).await;
    // The next fence finds it ended, in a pass that fails, and so does the one after.
    run(&mut ends, "COMMIT").await;
    daemon.failed_polls(2).await;
    daemon.kill().await;
    daemon.start_again();
    run(&mut ends_after_the_kill, "COMMIT").await;
    daemon.failed_polls(1).await;
    assert_eq!(["u1", "u2", "u3"].map(|account| env.handle().user(account)["city"].clone()), ["old"; 3]);
    env.handle().remove_fault(away);
    daemon.polls_until("u1", "late").await;
    daemon.polls_until("u2", "later").await;
    daemon.polls_until("u3", "tried").await;
    daemon.has_made_no_further_full_pass();
    daemon.stop().await;
    reader.leave(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stamp_over_many_pages_and_a_stamp_of_tomorrow() {
    let mut setup = Setup { sql: format!("{USERS} {}", people(1_000)), ..setup("") };
    setup.source += "page_size = 50\n";
    let env = TestEnvironment::set_up(setup).await;
    let mut daemon = Daemon::start(&env);
    daemon.comes_to_rest().await;

    // A bulk update is committed late: a thousand rows of one stamp, others' younger rows after them.
    let mut bulk = begun(&env).await;
    run(&mut bulk, "UPDATE users SET city = 'bulk', updated_at = now() WHERE id <> 'u7'").await;
    daemon.polls(LONG).await;
    env.execute(&moves("u7", "beside")).await;
    daemon.brings_at_once("u7", "beside").await;
    let before = daemon.incremental().len();
    run(&mut bulk, "COMMIT").await;
    env.converges(Duration::from_secs(10)).await;
    daemon.quiet().await;
    let most = daemon.incremental()[before..].iter().map(|pass| pass.rows_read).max();
    assert!(most.is_some_and(|rows| (999..=1_000).contains(&rows)), "each row is read once a pass: {most:?}");
    assert!(text(&env, "SELECT count(DISTINCT updated_at)::text FROM users").await == "2");

    // A row of tomorrow arrives, and drags nothing along.
    env.execute("UPDATE users SET city = 'tomorrow', updated_at = now() + interval '1 day' WHERE id = 'u8'").await;
    daemon.brings_at_once("u8", "tomorrow").await;
    let mut open = begun(&env).await;
    run(&mut open, &moves("u9", "today")).await;
    daemon.polls(LONG).await;
    env.execute(&moves("u10", "today")).await;
    daemon.brings_at_once("u10", "today").await;
    run(&mut open, "COMMIT").await;
    daemon.brings_at_once("u9", "today").await;
    let watermark = "SELECT (watermark::timestamptz <= now())::text FROM imsync.sync";
    assert_eq!(text(&env, watermark).await, "true");
    daemon.has_made_no_further_full_pass();
    daemon.stop().await;
}

/// The stamp of what it writes is older than anything that is known of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_before_the_first_pass_arrives_by_itself() {
    let env = env(20).await;
    let reader = Reader::on(&env).await;
    let mut open = begun(&env).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut daemon = Daemon::start(&env);
    env.converges(Duration::from_secs(20)).await;
    run(&mut open, &moves("u1", "before")).await;
    daemon.polls(LONG).await;
    run(&mut open, "COMMIT").await;
    env.converges(Duration::from_secs(20)).await;
    daemon.full_passes(2).await;
    daemon.polls(3).await;
    assert_eq!(daemon.full(), 2, "one full pass when the last of them has ended");
    daemon.stop().await;
    reader.leave(&env).await;
}

/// The first pass has gone past its row, so that pass does not count as the one that falls due.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_before_the_first_pass_and_ends_during_it_arrives_by_itself() {
    // Pages so small that incremental passes go between them.
    let mut setup = Setup { sql: format!("{USERS} {}", people(6_000)), ..setup("") };
    setup.source += "page_size = 60\n";
    // 60 calls at this rate take six seconds: the first pass outlasts what happens below.
    setup.im += "calls_per_second = 10\n";
    let env = TestEnvironment::set_up(setup).await;
    let reader = Reader::on(&env).await;
    let mut open = begun(&env).await;
    run(&mut open, &moves("u1", "before")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut daemon = Daemon::start(&env);
    env.eventually("its row in the first pass", async || env.handle().user("u1").contains_key("city")).await;
    run(&mut open, "COMMIT").await;
    daemon.polls(2).await;
    assert_eq!(daemon.full(), 0, "the first pass is under way");
    env.converges(Duration::from_secs(20)).await;
    daemon.full_passes(2).await;
    daemon.polls(3).await;
    assert_eq!(daemon.full(), 2, "one full pass when the last of them has ended");
    daemon.stop().await;
    reader.leave(&env).await;
}
