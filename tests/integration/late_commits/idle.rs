//! A session that sits idle in a transaction: it delays nobody, costs one reading when it ends, and is named.
//!
//! Owns: what each poll reads meanwhile. Must not know: how floors are kept.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::daemon::Daemon;
use super::{begun, moves, people, run, setup, text};
use crate::support::{Setup, TestEnvironment, USERS};

/// The sample of this name.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_session_idle_in_a_transaction_delays_nobody() {
    let address = free_address();
    let more = format!("[http]\nlisten = \"{address}\"\n");
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(300)), ..setup(&more) }).await;
    let mut daemon = Daemon::start(&env);
    daemon.comes_to_rest().await;

    let mut idle = env.database.connect().await;
    let before = epoch(&env).await;
    run(&mut idle, "SET application_name = 'report'; BEGIN; SELECT 1").await;
    let began = epoch(&env).await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut idle).await.expect("a plain query");

    // The late rows of others come with the next poll: single ones, and two hundred of one transaction.
    for round in 1..=3 {
        let mut late = begun(&env).await;
        daemon.polls(1).await;
        run(&mut late, &moves(&format!("u{round}"), "late")).await;
        daemon.polls(1).await;
        run(&mut late, "COMMIT").await;
        daemon.brings_at_once(&format!("u{round}"), "late").await;
    }
    let mut bulk = begun(&env).await;
    run(&mut bulk, "UPDATE users SET city = 'bulk', updated_at = now() WHERE substr(id, 2)::int > 100").await;
    daemon.polls(2).await;
    run(&mut bulk, "COMMIT").await;
    daemon.brings_at_once("u300", "bulk").await;
    env.converges(Duration::from_secs(5)).await;

    // What is older than the slack is not read again, however long that session stays; what changes is read while it is
    // young, and nothing with it.
    daemon.quiet().await;
    let from = daemon.incremental().len();
    let mut late = begun(&env).await;
    run(&mut late, &moves("u4", "late")).await;
    daemon.polls(8).await;
    run(&mut late, "COMMIT").await;
    daemon.brings_at_once("u4", "late").await;
    env.execute(&moves("u5", "young")).await;
    daemon.brings_at_once("u5", "young").await;
    daemon.quiet().await;
    let read: Vec<u64> = daemon.incremental()[from..].iter().map(|pass| pass.rows_read).collect();
    assert!(read.iter().all(|rows| *rows <= 2), "two rows have changed; read by each poll: {read:?}");

    // It is named, with what it holds back and since when.
    let status = env.imsync(&["status", "--json"]).await.expect_code(0).json();
    let held = &status["held_back_by"];
    assert_eq!((&held["pid"], &held["application"], &held["prepared"]), (&pid.into(), &"report".into(), &().into()));
    let seconds = |value: &serde_json::Value| {
        let time: DateTime<Utc> = value.as_str().and_then(|text| text.parse().ok()).expect("a time");
        #[expect(clippy::cast_precision_loss, reason = "a time in this century")]
        let micros = time.timestamp_micros() as f64;
        micros / 1e6
    };
    let now = epoch(&env).await;
    assert!((before..now).contains(&seconds(&held["since"])), "{held} between {before} and {now}");
    assert!(seconds(&status["watermark"]) <= began, "{status}");
    assert!(metric(&address, "imsync_watermark_timestamp_seconds").await <= began);
    let gauge = metric(&address, "imsync_watermark_held_back_seconds").await;
    assert!(gauge > 1.0 && gauge <= epoch(&env).await - before, "{gauge}");
    env.eventually("no lag: the others' rows are in IM", async || metric(&address, "imsync_lag_seconds").await < 5.0)
        .await;

    // When it ends, what has changed since it began is read once more, and nothing is sent.
    daemon.quiet().await;
    let (from, ended) = (daemon.incremental().len(), epoch(&env).await);
    run(&mut idle, "COMMIT").await;
    idle.close().await.expect("a session ends in order");
    env.eventually("a watermark that moves on", async || {
        metric(&address, "imsync_watermark_timestamp_seconds").await > ended
    })
    .await;
    daemon.quiet().await;
    let again: Vec<u64> =
        daemon.incremental()[from..].iter().map(|pass| pass.rows_read).filter(|rows| *rows > 0).collect();
    assert_eq!(again, [205], "three late ones, two hundred at once, two more");
    assert_eq!(daemon.incremental()[from..].iter().map(|pass| pass.calls).sum::<u64>(), 0);
    // The next pass that records something takes it from the status too.
    let mut round = 0;
    env.eventually("a status without it", async || {
        round += 1;
        let city = format!("round {round}");
        env.execute(&moves("u6", &city)).await;
        daemon.polls_until("u6", &city).await;
        daemon.polls(1).await;
        let status = env.imsync(&["status", "--json"]).await.expect_code(0).json();
        status["held_back_by"].is_null() && seconds(&status["watermark"]) > ended
    })
    .await;
    // A session of the server's own, or of this test, may be in a transaction at any poll.
    env.eventually("nothing holds it back", async || {
        metric(&address, "imsync_watermark_held_back_seconds").await <= 0.0
    })
    .await;
    daemon.has_made_no_further_full_pass();
    daemon.stop().await;
}

/// What an idle poll costs: statements (transactions in autocommit, by `pg_stat_database`) and time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: make bench"]
async fn bench_idle_poll() {
    let statements = "SELECT pg_stat_get_db_xact_commit(oid)::text FROM pg_database WHERE datname = current_database()";
    for (table, sessions) in [(1_000, 0), (100_000, 0), (100_000, 100)] {
        let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(table)), ..setup("") }).await;
        let mut open = Vec::new();
        let mut daemon = Daemon::start(&env);
        env.converges(Duration::from_mins(2)).await;
        for _ in 0..sessions {
            open.push(begun(&env).await);
        }
        daemon.quiet().await;
        // The counts come in when a session has been idle for a second, or at its end.
        let mut counts = Vec::new();
        for _ in 0..2 {
            daemon.polls(25).await;
            let count: i64 = text(&env, statements).await.parse().expect("a number");
            counts.push((count, daemon.incremental().len()));
        }
        let polls = &daemon.incremental()[counts[0].1..counts[1].1];
        let mut times: Vec<f64> = polls.iter().map(|pass| pass.seconds * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{table} rows, {sessions} other sessions in transactions: {} polls, {} statements in all (the lease's pings \
             included), median {:.0} ms, longest {:.0} ms",
            polls.len(),
            counts[1].0 - counts[0].0,
            times[times.len() / 2],
            times[times.len() - 1],
        );
        daemon.stop().await;
    }
}
