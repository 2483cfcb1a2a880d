//! Tests that a notification of the source starts a pass at once, and that polls stay the truth.
//!
//! Owns: the trigger that notifies, the times from commit to IM. Must not know: how imsync listens.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use imsync::simulator::AttributeChange;
use tokio::sync::broadcast;

use super::environment_of;
use crate::support::latencies::{Latencies, now};
use crate::support::{Setup, TestEnvironment, ended, signal};

/// As `docs/operating.md` shows it: one notification for each statement.
const TRIGGER: &str = "
CREATE FUNCTION imsync_notify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NOTIFY imsync; RETURN NULL; END $$;
CREATE TRIGGER imsync_notify AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH STATEMENT EXECUTE FUNCTION imsync_notify();";

/// Polls are a minute apart.
async fn environment(accounts: u32) -> TestEnvironment {
    let more = "[schedule]\ninterval = \"1m\"\nnotify_channel = \"imsync\"\n".to_owned();
    let env = environment_of(accounts, Setup { more, ..Setup::default() }).await;
    env.execute(TRIGGER).await;
    env
}

async fn started(env: &TestEnvironment, accounts: usize) -> tokio::process::Child {
    let daemon = env.start("run", &["run"]);
    env.eventually("the first pass is done", async || env.handle().users().len() == accounts).await;
    env.eventually("it listens", async || listening(env).await == 1).await;
    daemon
}

async fn stop(mut daemon: tokio::process::Child) {
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// Sessions of the daemon whose last statement was LISTEN, or the question whether they still answer.
async fn listening(env: &TestEnvironment) -> i64 {
    env.number("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'imsync %' AND query ILIKE 'LISTEN%' AND datname = current_database()").await
}

/// Changes the city of an account, and waits until it is in IM. Returns the time from the commit on.
async fn arrival(env: &TestEnvironment, account: &str, city: &str) -> Duration {
    env.execute(&format!("UPDATE users SET city = '{city}', updated_at = now() WHERE id = '{account}'")).await;
    let committed = now();
    env.eventually("the change is in IM", async || {
        env.handle().user(account).get("city").is_some_and(|held| held == city)
    })
    .await;
    committed.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_starts_a_pass_at_once() {
    let env = environment(50).await;
    let daemon = started(&env, 50).await;
    for number in 0..3 {
        let taken = arrival(&env, "u00007", &format!("city {number}")).await;
        assert!(taken < Duration::from_secs(20), "polls are a minute apart: {taken:?}");
    }
    stop(daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_notifications_makes_few_passes() {
    let port = crate::commands::free_port();
    let env = environment(50).await;
    env.edit("[schedule]", &format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[schedule]"));
    let daemon = started(&env, 50).await;
    let passes = async || {
        let (_, metrics) = crate::commands::ask(port, "/metrics").await.unwrap();
        let line = "imsync_passes_total{kind=\"incremental\",outcome=\"ok\"} ";
        metrics.lines().find_map(|found| found.strip_prefix(line)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = passes().await;
    env.execute("DO $$ BEGIN FOR n IN 1..500 LOOP PERFORM pg_notify('imsync', n::text); END LOOP; END $$").await;
    arrival(&env, "u00007", "after the burst").await;
    env.eventually("the pass has ended", async || passes().await > before).await;
    let made = passes().await - before;
    assert!((1..=10).contains(&made), "{made} passes for a burst of 500 notifications and one change");
    stop(daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_listens_again() {
    let env = environment(50).await;
    let daemon = started(&env, 50).await;
    for round in 0..3 {
        env.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'imsync %' AND query ILIKE 'LISTEN%'
             AND datname = current_database()",
        )
        .await;
        // Committed while nobody listens.
        let taken = arrival(&env, "u00009", &format!("round {round}")).await;
        assert!(taken < Duration::from_secs(30), "{taken:?}");
        env.eventually("it listens again", async || listening(&env).await == 1).await;
        let taken = arrival(&env, "u00009", &format!("round {round}, later")).await;
        assert!(taken < Duration::from_secs(20), "{taken:?}");
    }
    stop(daemon).await;
}

/// When each of so many cities that begin with `r` arrived in IM.
async fn arrivals(mut changes: broadcast::Receiver<AttributeChange>, count: usize) -> HashMap<String, Instant> {
    let mut at = HashMap::new();
    while at.len() < count
        && let Ok(Ok(change)) = tokio::time::timeout(Duration::from_secs(20), changes.recv()).await
    {
        if let Some(city) = change.new.filter(|city| city.starts_with('r')) {
            at.entry(city).or_insert_with(now);
        }
    }
    at
}

/// The time from commit to IM at several rates.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark, run by `make bench-tests`"]
async fn bench_time_from_commit_to_im() {
    let env = environment(5_000).await;
    let daemon = started(&env, 5_000).await;
    for (rate, changes) in [(1_u32, 30_u32), (10, 300), (100, 2_000)] {
        let mut connection = env.database.connect().await;
        let mut committed = HashMap::new();
        let begun = now();
        let receive = tokio::spawn(arrivals(env.handle().subscribe(), changes as usize));
        for number in 0..changes {
            let due = begun + Duration::from_secs(1) * number / rate;
            tokio::time::sleep(due.saturating_duration_since(now())).await;
            let city = format!("r{rate} n{number}");
            let account = format!("u{:05}", 1 + number % 5_000);
            sqlx::query("UPDATE users SET city = $1, updated_at = now() WHERE id = $2")
                .bind(&city)
                .bind(&account)
                .execute(&mut connection)
                .await
                .unwrap();
            committed.insert(city, now());
        }
        let at = receive.await.unwrap();
        let times: Vec<Duration> = committed
            .iter()
            .filter_map(|(city, since)| Some(at.get(city)?.saturating_duration_since(*since)))
            .collect();
        let latencies = Latencies::of(times);
        println!(
            "{rate} changes a second: {} of {changes} arrived, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            latencies.len(),
            latencies.quantile(0.5).as_secs_f64() * 1e3,
            latencies.quantile(0.99).as_secs_f64() * 1e3,
            latencies.quantile(1.0).as_secs_f64() * 1e3,
        );
    }
    stop(daemon).await;
}
