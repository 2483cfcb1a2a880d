//! A session that sits idle in a transaction. It does not delay other changes, costs one more read when it ends, and is
//! named in the status.
//!
//! Owns: what each poll reads during that time. Must not know: how lower bounds are kept.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::daemon::Daemon;
use super::{open_transaction, people, run, setup, text, update_city};
use crate::support::{Setup, TestEnvironment, USERS};

/// The value of this metric.
async fn metric(address: &str, name: &str) -> f64 {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the daemon listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let sample = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample.unwrap_or_else(|| panic!("no {name} in {answer}")).parse().expect("a number")
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").to_string()
}

async fn epoch(env: &TestEnvironment) -> f64 {
    text(env, "SELECT extract(epoch FROM clock_timestamp())::text").await.parse().expect("a number")
}

/// Late rows of other transactions arrive with the next poll: first single rows, then two hundred rows of one
/// transaction.
async fn expect_late_rows_arrive(env: &TestEnvironment, daemon: &Daemon<'_>) {
    for round in 1..=3 {
        let mut late = open_transaction(env).await;
        daemon.wait_for_polls(1).await;
        run(&mut late, &update_city(&format!("u{round}"), "late")).await;
        daemon.wait_for_polls(1).await;
        run(&mut late, "COMMIT").await;
        daemon.expect_next_poll_delivers(&format!("u{round}"), "late").await;
    }
    let mut bulk = open_transaction(env).await;
    run(&mut bulk, "UPDATE users SET city = 'bulk', updated_at = now() WHERE substr(id, 2)::int > 100").await;
    daemon.wait_for_polls(2).await;
    run(&mut bulk, "COMMIT").await;
    daemon.expect_next_poll_delivers("u300", "bulk").await;
    env.converges(Duration::from_secs(5)).await;
}

/// Rows older than the slack are not read again, however long the idle session stays open. A changed row is read
/// while it is young, and no other row with it.
async fn expect_only_changed_rows_are_read(env: &TestEnvironment, daemon: &Daemon<'_>) {
    daemon.wait_for_empty_polls().await;
    let from = daemon.incremental_passes().len();
    let mut late = open_transaction(env).await;
    run(&mut late, &update_city("u4", "late")).await;
    daemon.wait_for_polls(8).await;
    run(&mut late, "COMMIT").await;
    daemon.expect_next_poll_delivers("u4", "late").await;
    env.execute(&update_city("u5", "young")).await;
    daemon.expect_next_poll_delivers("u5", "young").await;
    daemon.wait_for_empty_polls().await;
    let read: Vec<u64> = daemon.incremental_passes()[from..].iter().map(|pass| pass.rows_read).collect();
    assert!(read.iter().all(|rows| *rows <= 2), "only two rows changed, but the polls read: {read:?}");
}

/// The idle session: its process id, and the server's clock before and after it began its transaction.
struct IdleSession {
    pid: i32,
    before: f64,
    began: f64,
}

fn seconds(value: &serde_json::Value) -> f64 {
    let time: DateTime<Utc> = value.as_str().and_then(|text| text.parse().ok()).expect("a time");
    #[expect(clippy::cast_precision_loss, reason = "a time in this century")]
    let micros = time.timestamp_micros() as f64;
    micros / 1e6
}

/// Status and metrics name the session, and since when it holds the watermark back.
async fn expect_session_is_reported(env: &TestEnvironment, address: &str, session: &IdleSession) {
    let IdleSession { pid, before, began } = *session;
    let status = env.imsync(&["status", "--json"]).await.expect_code(0).json();
    let held = &status["held_back_by"];
    assert_eq!((&held["pid"], &held["application"], &held["prepared"]), (&pid.into(), &"report".into(), &().into()));
    let now = epoch(env).await;
    // A transaction list reads the clock before the sessions, so its clock may be a moment older than the session.
    assert!((before - 1.0..now).contains(&seconds(&held["since"])), "{held} between {before} and {now}");
    assert!(seconds(&status["watermark"]) <= began, "{status}");
    assert!(metric(address, "imsync_watermark_timestamp_seconds").await <= began);
    let gauge = metric(address, "imsync_watermark_held_back_seconds").await;
    assert!(gauge > 1.0 && gauge <= epoch(env).await - before + 1.0, "{gauge}");
    env.eventually("the lag is gone, because the rows of the others are in IM", async || {
        metric(address, "imsync_lag_seconds").await < 5.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_idle_in_a_transaction_delays_no_change() {
    let address = free_address();
    let more = format!("[http]\nlisten = \"{address}\"\n");
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(300)), ..setup(&more) }).await;
    let mut daemon = Daemon::start(&env);
    daemon.wait_until_idle().await;

    let mut idle = env.database.connect().await;
    let before = epoch(&env).await;
    run(&mut idle, "SET application_name = 'report'; BEGIN; SELECT 1").await;
    let began = epoch(&env).await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut idle).await.expect("a plain query");

    expect_late_rows_arrive(&env, &daemon).await;
    expect_only_changed_rows_are_read(&env, &daemon).await;
    expect_session_is_reported(&env, &address, &IdleSession { pid, before, began }).await;

    // When the session ends, the rows that changed since it began are read once more, and nothing is sent.
    daemon.wait_for_empty_polls().await;
    let (from, ended) = (daemon.incremental_passes().len(), epoch(&env).await);
    run(&mut idle, "COMMIT").await;
    idle.close().await.expect("a session can be closed");
    env.eventually("the watermark moves on", async || {
        metric(&address, "imsync_watermark_timestamp_seconds").await > ended
    })
    .await;
    daemon.wait_for_empty_polls().await;
    let again: Vec<u64> =
        daemon.incremental_passes()[from..].iter().map(|pass| pass.rows_read).filter(|rows| *rows > 0).collect();
    assert_eq!(again, [205], "three late rows, two hundred rows at once and two more rows are read again");
    assert_eq!(daemon.incremental_passes()[from..].iter().map(|pass| pass.calls).sum::<u64>(), 0);
    // The next pass that records something also removes the session from the status.
    let mut round = 0;
    env.eventually("the status no longer names the session", async || {
        round += 1;
        let city = format!("round {round}");
        env.execute(&update_city("u6", &city)).await;
        daemon.wait_for_city("u6", &city).await;
        daemon.wait_for_polls(1).await;
        let status = env.imsync(&["status", "--json"]).await.expect_code(0).json();
        status["held_back_by"].is_null() && seconds(&status["watermark"]) > ended
    })
    .await;
    // A session of the server, or of this test, may be in a transaction at any poll.
    env.eventually("nothing holds the watermark back", async || {
        metric(&address, "imsync_watermark_held_back_seconds").await <= 0.0
    })
    .await;
    daemon.expect_no_further_full_pass();
    daemon.stop().await;
}

/// The cost of an idle poll: statements (transactions in autocommit, from `pg_stat_database`) and time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: make bench-tests"]
async fn bench_idle_poll() {
    let statements = "SELECT pg_stat_get_db_xact_commit(oid)::text FROM pg_database WHERE datname = current_database()";
    for (table, sessions) in [(1_000, 0), (100_000, 0), (100_000, 100)] {
        let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(table)), ..setup("") }).await;
        let mut open = Vec::new();
        let mut daemon = Daemon::start(&env);
        env.converges(Duration::from_mins(2)).await;
        for _ in 0..sessions {
            open.push(open_transaction(&env).await);
        }
        daemon.wait_for_empty_polls().await;
        // A session reports its counts when it has been idle for a second, or when it ends.
        let mut counts = Vec::new();
        for _ in 0..2 {
            daemon.wait_for_polls(25).await;
            let count: i64 = text(&env, statements).await.parse().expect("a number");
            counts.push((count, daemon.incremental_passes().len()));
        }
        let polls = &daemon.incremental_passes()[counts[0].1..counts[1].1];
        let mut times: Vec<f64> = polls.iter().map(|pass| pass.seconds * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{table} rows, {sessions} other sessions in transactions: {} polls, {} statements in total (including the \
             pings of the lease), median {:.0} ms, longest {:.0} ms",
            polls.len(),
            counts[1].0 - counts[0].0,
            times[times.len() / 2],
            times[times.len() - 1],
        );
        daemon.stop().await;
    }
}
