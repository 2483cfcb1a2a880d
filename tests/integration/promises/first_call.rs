//! Tests when the first call of a process starts: at once, unless an earlier holder of the lease, or another sync of the app,
//! may have called within the last second.
//!
//! Owns: arrivals at the simulator beside the time of the lease. Must not know: how the wait is computed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use imsync::clock::now_utc;

use super::{environment_of, fault};
use crate::support::{Setup, TestEnvironment};

/// On a busy machine a process takes some hundred milliseconds to its first call. One of so many is quick.
const TRIES: usize = 4;

/// As if the process before had ended in order.
const TWO_SECONDS_AGO: &str = "UPDATE imsync.sync SET last_call_at = now() - interval '2 seconds' WHERE name = 'users'";

async fn lease_taken_at(env: &TestEnvironment, sync: &str) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT lease_taken_at FROM imsync.sync WHERE name = $1")
        .bind(sync)
        .fetch_one(&mut env.database.connect().await)
        .await
        .expect("the lease was taken")
}

/// Adds a row and runs `backfill` until its first call arrives, which IM does not answer. Returns the time between lease and
/// arrival, and kills the process.
async fn first_call_after_lease(env: &TestEnvironment) -> Duration {
    env.execute("INSERT INTO users (id, city) SELECT 'n' || count(*), 'new' FROM users").await;
    let held = fault(env, "hold:command=set_attr");
    let arrived = env.handle().counters().arrived;
    let mut process = env.start("backfill", &["backfill"]);
    env.handle().wait_until(|counters| counters.arrived > arrived).await;
    let took = now_utc() - lease_taken_at(env, "users").await;
    process.kill().await.expect("the process can be killed");
    env.handle().remove_fault(held);
    took.to_std().expect("the lease was taken before")
}

/// The shortest time of several new processes after `prepare`.
async fn shortest(env: &TestEnvironment, prepare: impl AsyncFn()) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..TRIES {
        prepare().await;
        shortest = shortest.min(first_call_after_lease(env).await);
        if shortest < Duration::from_millis(900) {
            break;
        }
    }
    shortest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_state_makes_its_first_call_at_once() {
    let env = environment_of(300, Setup::default()).await;
    let took = shortest(&env, async || env.execute("DROP SCHEMA IF EXISTS imsync CASCADE").await).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_first_call_waits_a_second() {
    let env = environment_of(300, Setup::default()).await;
    first_call_after_lease(&env).await;
    // However long ago that was: nobody knows when the killed process made its last call.
    env.execute("UPDATE imsync.sync SET lease_taken_at = now() - interval '1 day'").await;
    let took = first_call_after_lease(&env).await;
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_end_the_second_counts_from_the_last_call() {
    let env = environment_of(300, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let last: DateTime<Utc> = sqlx::query_scalar("SELECT last_call_at FROM imsync.sync")
        .fetch_one(&mut env.database.connect().await)
        .await
        .expect("a clean end stores the time");
    let took = first_call_after_lease(&env).await;
    let since = (lease_taken_at(&env, "users").await - last).to_std().expect("the lease was taken later") + took;
    assert!(since >= Duration::from_secs(1), "{since:?} after the last call");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_call_that_is_two_seconds_old_costs_no_wait() {
    let env = environment_of(300, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let took = shortest(&env, async || env.execute(TWO_SECONDS_AGO).await).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// The other sync is not running. When it called last decides, and whether it has ever run.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_waits_for_another_sync_that_was_killed() {
    let env = environment_of(300, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let other = "INSERT INTO imsync.sync (name, binding, lease_epoch, last_call_at)
                 SELECT 'other', binding, 1, NULL FROM imsync.sync WHERE name = 'users'";
    env.execute(other).await;
    let prepare = async || env.execute(TWO_SECONDS_AGO).await;
    prepare().await;
    let took = first_call_after_lease(&env).await;
    assert!(took >= Duration::from_secs(1), "{took:?}");

    for harmless in ["lease_epoch = 0", "lease_epoch = 1, last_call_at = now() - interval '2 seconds'"] {
        env.execute(&format!("UPDATE imsync.sync SET {harmless} WHERE name = 'other'")).await;
        let took = shortest(&env, prepare).await;
        assert!(took < Duration::from_secs(1), "{harmless}: {took:?}");
    }
}

/// Questions that only serve warnings take seconds on a large table. The pass does not wait for them, and their answers are
/// printed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn slow_advice_does_not_delay_the_first_call() {
    let setup = Setup { source: crate::support::SOURCE.replace("public.users", "public.slow"), ..Setup::default() };
    let env = environment_of(300, setup).await;
    // Only what counts unusual stamps asks for `-infinity`: the function is slow for that comparison alone.
    env.execute(
        "CREATE FUNCTION slow_stamp(at timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$ BEGIN
           IF current_query() LIKE '%count(*)%' THEN PERFORM pg_sleep(20); END IF; RETURN at; END $$;
         CREATE VIEW slow AS SELECT id, city, plan, gender, slow_stamp(updated_at) AS updated_at, deleted_at FROM users",
    )
    .await;
    let held = fault(&env, "hold:command=set_attr");
    let mut process = env.start("backfill", &["backfill"]);
    env.handle().wait_until(|counters| counters.arrived > 0).await;
    assert!(!env.printed("backfill", "err").contains("could not be counted"));
    env.handle().remove_fault(held);
    assert_eq!(crate::support::ended(&mut process).await, Some(0));
    let printed = env.printed("backfill", "err");
    assert!(printed.contains("these rows could not be counted"), "{printed}");
}
