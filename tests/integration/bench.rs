//! Measures a first sync at the vendor's limit, a full comparison, and a pass without changes. `make bench-tests` runs it.
//!
//! Owns: the measured times. It asserts nothing about them, because machines differ. Must not know: imsync's code.

use std::time::Instant;

use crate::support::{Setup, TestEnvironment};

const ROWS: u32 = 100_000;

#[expect(clippy::disallowed_methods, reason = "the benchmark measures wall-clock time")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark, run by `make bench-tests`"]
async fn bench_first_sync_full_compare_and_idle_pass() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&format!(
        "INSERT INTO users (id, city, plan, gender) SELECT 'u' || g, 'city ' || g % 700, 'free', 'm' FROM generate_series(1, {ROWS}) g; ANALYZE users"
    ))
    .await;
    for (what, arguments) in [
        ("first sync at 95 calls a second", &["backfill", "--json"][..]),
        ("full pass, nothing changed", &["backfill", "--json"][..]),
        ("incremental pass, nothing changed, with start-up time", &["run", "--once", "--json"][..]),
    ] {
        let started = now();
        let pass = env.imsync(arguments).await.expect_code(0).json();
        let seconds = started.elapsed().as_secs_f64();
        let rows = pass["rows_read"].as_f64().unwrap_or_default();
        println!("{what}: {seconds:.2} s, {rows} rows ({:.0} rows/s), {} calls", rows / seconds, pass["calls"]);
    }
    let bytes = env.number("SELECT pg_total_relation_size('imsync.account')").await;
    println!("state: {} bytes for each of {ROWS} accounts of 3 attributes", bytes / i64::from(ROWS));
}
