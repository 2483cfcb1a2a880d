//! Tests that new changes do not wait for a running full pass. `make bench-tests` measures this at the vendor's limit, and
//! `make test` runs a short form.
//!
//! Owns: the stream of new changes and the time until each is in IM. Must not know: how passes are interleaved.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::latencies::{Latencies, now};
use crate::support::{Setup, TestEnvironment, ended, signal};

/// Runs a first full pass over a table of this size. While the pass sends all accounts, one account after the other
/// gets a new city. Returns the latency of these changes and the duration of the pass.
async fn change_during_full_pass(rows: u32, im: &str) -> (Latencies, Duration) {
    let setup = Setup { im: im.to_owned(), ..Setup::default() };
    let env = TestEnvironment::set_up(setup).await;
    // The rows have old timestamps. Otherwise the first incremental passes would send the same rows.
    env.execute(&format!(
        "ALTER TABLE users SET (autovacuum_enabled = false);
             INSERT INTO users (id, city, plan, gender, updated_at)
             SELECT 'u' || lpad(g::text, 7, '0'), 'old', 'free', 'm', '2020-01-01' FROM generate_series(1, {rows}) g;
             ANALYZE users"
    ))
    .await;
    let started = now();
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the full pass has started", async || env.handle().counters().users > 200).await;
    let mut database = env.database.connect().await;
    let mut pending: BTreeMap<String, (String, Instant)> = BTreeMap::new();
    let mut latencies = Vec::new();
    let mut number = 0_u32;
    // The changes are spread over the table, so that the full pass is sending some of the changed accounts.
    while env.handle().counters().users < u64::from(rows) * 97 / 100 || !pending.is_empty() {
        if env.handle().counters().users < u64::from(rows) * 95 / 100 {
            number += 1;
            let account = format!("u{:07}", u64::from(number) * 7919 % u64::from(rows) + 1);
            let city = format!("new {number}");
            sqlx::query("UPDATE users SET city = $2, updated_at = now() WHERE id = $1")
                .bind(&account)
                .bind(&city)
                .execute(&mut database)
                .await
                .expect("the statement succeeds");
            // If an earlier change of the account has not arrived yet, this change replaces it in the measurement.
            pending.insert(account, (city, now()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        pending.retain(|account, (city, committed)| {
            let arrived = env.handle().user(account).get("city") == Some(city);
            if arrived {
                latencies.push(committed.elapsed());
            }
            !arrived
        });
    }
    env.converges(Duration::from_mins(2)).await;
    let took = started.elapsed();
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(env.handle().violations().is_empty(), "{:?}", env.handle().violations());
    (Latencies::of(latencies), took)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark, run by `make bench-tests`"]
async fn bench_new_changes_during_a_full_pass_of_200_000_changes() {
    let (latencies, took) = change_during_full_pass(200_000, "calls_per_second = 95\n").await;
    let [half, most, nearly_all, worst] = [0.5, 0.95, 0.99, 1.0].map(|share| latencies.quantile(share).as_secs_f64());
    println!(
        "{} new changes during a full pass of 200,000 changes ({:.1} s, 95 calls a second, interval 200ms): commit to IM \
         {half:.2} s median, {most:.2} s at 95 %, {nearly_all:.2} s at 99 %, {worst:.2} s at most",
        latencies.len(),
        took.as_secs_f64(),
    );
    assert!(nearly_all <= 2.0, "{nearly_all} s");
}

/// At 20 calls a second the 15,000 changes take 7.5 s. A new change that waited for them would take seconds, too.
#[tokio::test(flavor = "multi_thread")]
async fn new_changes_do_not_wait_for_a_full_pass() {
    let (latencies, took) = change_during_full_pass(15_000, "calls_per_second = 20\n").await;
    let half = latencies.quantile(0.5);
    assert!(latencies.len() >= 20, "only {} changes in {took:?}", latencies.len());
    assert!(half < took / 4, "half of the new changes took over {half:?} during a pass of {took:?}");
}
