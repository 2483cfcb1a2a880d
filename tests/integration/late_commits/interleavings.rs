//! Single interleavings of transactions and polls, with the daemon running.
//!
//! Owns: which session begins, writes and commits between which polls. Must not know: how lower bounds are computed.

use std::time::Duration;

use imsync::simulator::{CallMatcher, FaultAction, FaultRule};

use super::daemon::Daemon;
use super::{Reader, open_transaction, people, run, setup, text, update_city};
use crate::support::{Setup, TestEnvironment, USERS};

async fn environment_with_accounts(count: u32) -> TestEnvironment {
    TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(count)), ..setup("") }).await
}

/// After this many polls, the rows read by the first are older than the slack, so that no later poll reads them again
/// only for being young.
const POLLS_BEYOND_SLACK: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn short_long_and_prepared_transactions_arrive() {
    let env = environment_with_accounts(50).await;
    let reader = Reader::create_with_owner_state(&env).await;
    let mut daemon = Daemon::start(&env);
    daemon.wait_until_idle().await;

    // The transaction holds no lock while several transaction lists are taken, and writes afterwards.
    let mut late_writer = open_transaction(&env).await;
    daemon.wait_for_polls(2).await;
    run(&mut late_writer, &update_city("u1", "late_writer")).await;
    daemon.wait_for_polls(POLLS_BEYOND_SLACK).await;
    run(&mut late_writer, "COMMIT").await;
    daemon.expect_next_poll_delivers("u1", "late_writer").await;

    // A short transaction does not wait for long ones.
    let mut long = open_transaction(&env).await;
    run(&mut long, &update_city("u2", "long")).await;
    let mut longer = open_transaction(&env).await;
    daemon.wait_for_polls(1).await;
    let mut short = open_transaction(&env).await;
    run(&mut short, &update_city("u3", "short")).await;
    daemon.wait_for_polls(POLLS_BEYOND_SLACK).await;
    run(&mut short, "COMMIT").await;
    daemon.expect_next_poll_delivers("u3", "short").await;
    run(&mut long, "COMMIT").await;
    daemon.expect_next_poll_delivers("u2", "long").await;

    // Prepared transactions: the daemon is killed, started, stopped and started before another session ends them. One
    // was prepared while the daemon was running, the other while it was not.
    let database = text(&env, "SELECT current_database()").await;
    let mut orphan = open_transaction(&env).await;
    run(&mut orphan, &update_city("u4", "orphan")).await;
    run(&mut longer, &update_city("u5", "unseen")).await;
    daemon.wait_for_polls(1).await;
    run(&mut orphan, &format!("PREPARE TRANSACTION '{database}_orphan'")).await;
    daemon.wait_for_polls(1).await;
    daemon.kill().await;
    run(&mut longer, &format!("PREPARE TRANSACTION '{database}_unseen'")).await;
    daemon.restart();
    daemon.wait_for_polls(POLLS_BEYOND_SLACK).await;
    let held = env.imsync(&["status", "--json"]).await.expect_code(0).json()["held_back_by"].clone();
    assert_eq!(held["pid"], serde_json::Value::Null, "{held}");
    daemon.stop().await;
    daemon.restart();
    daemon.wait_for_polls(2).await;
    run(&mut orphan, &format!("COMMIT PREPARED '{database}_orphan'")).await;
    daemon.expect_next_poll_delivers("u4", "orphan").await;
    daemon.wait_for_polls(POLLS_BEYOND_SLACK).await;
    run(&mut orphan, &format!("COMMIT PREPARED '{database}_unseen'")).await;
    daemon.expect_next_poll_delivers("u5", "unseen").await;

    // A transaction that writes and commits while no daemon is running.
    let mut unwatched = open_transaction(&env).await;
    daemon.wait_for_polls(1).await;
    daemon.kill().await;
    run(&mut unwatched, &format!("{}; COMMIT", update_city("u6", "unwatched"))).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    daemon.restart();
    daemon.wait_for_city("u6", "unwatched").await;

    daemon.expect_no_further_full_pass();
    daemon.stop().await;
    reader.drop_role(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_pass_keeps_the_lower_bounds() {
    let env = environment_with_accounts(20).await;
    let reader = Reader::create_with_owner_state(&env).await;
    let mut daemon = Daemon::start(&env);
    daemon.wait_until_idle().await;

    let (mut ends, mut ends_after_the_kill) = (open_transaction(&env).await, open_transaction(&env).await);
    run(&mut ends, &update_city("u1", "late")).await;
    run(&mut ends_after_the_kill, &update_city("u2", "later")).await;
    daemon.wait_for_polls(POLLS_BEYOND_SLACK).await;
    let action = FaultAction::Refuse { code: 91000, per_account: false };
    let away = env.handle().add_fault(FaultRule { matcher: CallMatcher::default(), action });
    env.execute(&update_city("u3", "tried")).await;
    daemon.wait_for_failed_passes(1).await;
    // The next transaction list shows it as ended, in a pass that fails, and so does the one after.
    run(&mut ends, "COMMIT").await;
    daemon.wait_for_failed_passes(2).await;
    daemon.kill().await;
    daemon.restart();
    run(&mut ends_after_the_kill, "COMMIT").await;
    daemon.wait_for_failed_passes(1).await;
    assert_eq!(["u1", "u2", "u3"].map(|account| env.handle().user(account)["city"].clone()), ["old"; 3]);
    env.handle().remove_fault(away);
    daemon.wait_for_city("u1", "late").await;
    daemon.wait_for_city("u2", "later").await;
    daemon.wait_for_city("u3", "tried").await;
    daemon.expect_no_further_full_pass();
    daemon.stop().await;
    reader.drop_role(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_with_shared_and_future_timestamps_arrive() {
    let mut setup = Setup { sql: format!("{USERS} {}", people(1_000)), ..setup("") };
    setup.source += "page_size = 50\n";
    let env = TestEnvironment::set_up(setup).await;
    let mut daemon = Daemon::start(&env);
    daemon.wait_until_idle().await;

    // A bulk update commits late: a thousand rows with one timestamp, and younger rows of others after them.
    let mut bulk = open_transaction(&env).await;
    run(&mut bulk, "UPDATE users SET city = 'bulk', updated_at = now() WHERE id <> 'u7'").await;
    daemon.wait_for_polls(POLLS_BEYOND_SLACK).await;
    env.execute(&update_city("u7", "concurrent")).await;
    daemon.expect_next_poll_delivers("u7", "concurrent").await;
    let before = daemon.incremental_passes().len();
    run(&mut bulk, "COMMIT").await;
    env.converges(Duration::from_secs(10)).await;
    daemon.wait_for_empty_polls().await;
    let most = daemon.incremental_passes()[before..].iter().map(|pass| pass.rows_read).max();
    assert!(most.is_some_and(|rows| (999..=1_000).contains(&rows)), "each row is read once per pass: {most:?}");
    assert!(text(&env, "SELECT count(DISTINCT updated_at)::text FROM users").await == "2");

    // A row dated tomorrow arrives and does not move the watermark.
    env.execute("UPDATE users SET city = 'tomorrow', updated_at = now() + interval '1 day' WHERE id = 'u8'").await;
    daemon.expect_next_poll_delivers("u8", "tomorrow").await;
    let mut open = open_transaction(&env).await;
    run(&mut open, &update_city("u9", "today")).await;
    daemon.wait_for_polls(POLLS_BEYOND_SLACK).await;
    env.execute(&update_city("u10", "today")).await;
    daemon.expect_next_poll_delivers("u10", "today").await;
    run(&mut open, "COMMIT").await;
    daemon.expect_next_poll_delivers("u9", "today").await;
    let watermark = "SELECT (watermark::timestamptz <= now())::text FROM imsync.sync";
    assert_eq!(text(&env, watermark).await, "true");
    daemon.expect_no_further_full_pass();
    daemon.stop().await;
}

/// The row's timestamp is older than every lower bound that could be known for the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_open_before_the_first_pass_arrives() {
    let env = environment_with_accounts(20).await;
    let reader = Reader::create_with_owner_state(&env).await;
    let mut open = open_transaction(&env).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut daemon = Daemon::start(&env);
    env.converges(Duration::from_secs(20)).await;
    run(&mut open, &update_city("u1", "before")).await;
    daemon.wait_for_polls(POLLS_BEYOND_SLACK).await;
    run(&mut open, "COMMIT").await;
    env.converges(Duration::from_secs(20)).await;
    daemon.wait_for_full_passes(2).await;
    daemon.wait_for_polls(3).await;
    assert_eq!(daemon.full_pass_count(), 2, "one more full pass runs when the last open transaction has ended");
    daemon.stop().await;
    reader.drop_role(&env).await;
}

/// The first pass has already read past the row, so it does not count as the full pass that is due.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_ends_during_the_first_pass_arrives() {
    // Small pages, so that incremental passes run between them.
    let mut setup = Setup { sql: format!("{USERS} {}", people(6_000)), ..setup("") };
    setup.source += "page_size = 60\n";
    // 60 calls at this rate take six seconds, so the first pass outlasts the steps below.
    setup.im += "calls_per_second = 10\n";
    let env = TestEnvironment::set_up(setup).await;
    let reader = Reader::create_with_owner_state(&env).await;
    let mut open = open_transaction(&env).await;
    run(&mut open, &update_city("u1", "before")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut daemon = Daemon::start(&env);
    env.eventually("the first pass has sent the row", async || env.handle().user("u1").contains_key("city")).await;
    run(&mut open, "COMMIT").await;
    daemon.wait_for_polls(2).await;
    assert_eq!(daemon.full_pass_count(), 0, "the first pass is still running");
    env.converges(Duration::from_secs(20)).await;
    daemon.wait_for_full_passes(2).await;
    daemon.wait_for_polls(3).await;
    assert_eq!(daemon.full_pass_count(), 2, "one more full pass runs when the last open transaction has ended");
    daemon.stop().await;
    reader.drop_role(&env).await;
}
