//! Fresh changes beside a full pass: they go first. `make bench` measures it at the vendor's limit, `make test` a short form.
//!
//! Owns: the stream of fresh changes and how long each takes to be in IM. Must not know: how passes are interleaved.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{Setup, TestEnvironment, ended, signal};

#[expect(clippy::disallowed_methods, reason = "it is a wall clock that is asked for")]
fn now() -> Instant {
    Instant::now()
}

/// How long fresh changes took.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len());
        self.0[rank - 1]
    }
}

/// A mapping is edited so that every account changes; while the full pass sends that, one account after the other gets a
/// fresh city, until the pass has ended.
async fn beside_a_full_pass(rows: u32, im: &str) -> (Latencies, Duration) {
    let setup = Setup { im: im.to_owned(), ..Setup::default() };
    let env = TestEnvironment::set_up(setup).await;
    // Not new, or the first incremental passes would be at the same rows.
    env.execute(&format!(
        "ALTER TABLE users SET (autovacuum_enabled = false);
             INSERT INTO users (id, city, plan, gender, updated_at)
             SELECT 'u' || lpad(g::text, 7, '0'), 'old', 'free', 'm', '2020-01-01' FROM generate_series(1, {rows}) g;
             ANALYZE users"
    ))
    .await;
    let begun = now();
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the full pass has begun", async || env.handle().counters().users > 200).await;
    let mut database = env.database.connect().await;
    let mut pending: BTreeMap<String, (String, Instant)> = BTreeMap::new();
    let mut latencies = Vec::new();
    let mut number = 0_u32;
    // Spread over the table, so that some are in the full pass's hands at that moment.
    while env.handle().counters().users < u64::from(rows) * 97 / 100 || !pending.is_empty() {
        if env.handle().counters().users < u64::from(rows) * 95 / 100 {
            number += 1;
            let account = format!("u{:07}", u64::from(number) * 7919 % u64::from(rows) + 1);
            let city = format!("fresh {number}");
            sqlx::query("UPDATE users SET city = $2, updated_at = now() WHERE id = $1")
                .bind(&account)
                .bind(&city)
                .execute(&mut database)
                .await
                .expect("a plain statement");
            // Where an earlier change of it is still under way, this one counts in its place.
            pending.insert(account, (city, now()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        pending.retain(|account, (city, committed)| {
            let there = env.handle().user(account).get("city") == Some(city);
            if there {
                latencies.push(committed.elapsed());
            }
            !there
        });
    }
    env.converges(Duration::from_mins(2)).await;
    let took = begun.elapsed();
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(env.handle().violations().is_empty(), "{:?}", env.handle().violations());
    latencies.sort();
    (Latencies(latencies), took)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run by `make bench`"]
async fn bench_fresh_changes_beside_a_full_pass_of_200_000_changes() {
    let (latencies, took) = beside_a_full_pass(200_000, "calls_per_second = 95\n").await;
    let [half, most, nearly_all, worst] = [0.5, 0.95, 0.99, 1.0].map(|share| latencies.quantile(share).as_secs_f64());
    println!(
        "{} fresh changes beside a full pass of 200,000 changes ({:.1} s, 95 calls a second, interval 200ms): commit to IM \
         {half:.2} s median, {most:.2} s at 95 %, {nearly_all:.2} s at 99 %, {worst:.2} s at most",
        latencies.0.len(),
        took.as_secs_f64(),
    );
    assert!(nearly_all <= 2.0, "{nearly_all} s");
}

/// At 20 calls a second the 15,000 changes take 7.5 s; a fresh change that waited for them would take seconds, too.
#[tokio::test(flavor = "multi_thread")]
async fn fresh_changes_do_not_wait_for_a_full_pass() {
    let (latencies, took) = beside_a_full_pass(15_000, "calls_per_second = 20\n").await;
    let half = latencies.quantile(0.5);
    assert!(latencies.0.len() >= 20, "only {} changes in {took:?}", latencies.0.len());
    assert!(half < took / 4, "half of the fresh changes took over {half:?} beside a pass of {took:?}");
}
