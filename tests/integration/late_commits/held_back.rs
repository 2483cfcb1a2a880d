//! Who holds the watermark back is told in the log once that lasts, once for each; status and metric are in `idle`.
//!
//! Owns: what is said. Must not know: since when a transaction counts as long.

use super::daemon::Daemon;
use super::first_full_passes::{once, settles, status};
use super::{begun, moves, people, run, setup, text};
use crate::support::{Setup, TestEnvironment, USERS};

/// As if the members of the last fence had been seen two hours earlier.
const SEEN_LONG_AGO: &str = "UPDATE imsync.sync SET watermark_state = jsonb_set(watermark_state, '{open}',
    (SELECT jsonb_agg(member || jsonb_build_object('since', (member->>'since')::bigint - 7200000000))
     FROM jsonb_array_elements(watermark_state->'open') AS member))";

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_holds_the_watermark_for_long_is_told_of_once() {
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    settles(&env).await;
    let mut report = env.database.connect().await;
    run(&mut report, "SET application_name = 'report'; BEGIN; SELECT 1").await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut report).await.expect("a plain query");
    let young = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(!young.stderr.contains("holds the watermark back"), "{}", young.stderr);
    env.execute(SEEN_LONG_AGO).await;
    let sentence = format!("the transaction of pid {pid} (report) has been open since ");
    let told = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(told.stderr.contains(&sentence) && told.stderr.contains("holds the watermark back"), "{}", told.stderr);

    let mut daemon = Daemon::start(&env);
    daemon.polls(4).await;
    assert_eq!(daemon.log().matches(&sentence).count(), 1, "{}", daemon.log());
    // Others' changes arrive all the same.
    env.execute(&moves("u1", "beside")).await;
    daemon.polls_until("u1", "beside").await;
    daemon.stop().await;
    run(&mut report, "COMMIT").await;

    // A prepared one is named by its gid.
    let gid = format!("{}_order", text(&env, "SELECT current_database()").await);
    let mut order = begun(&env).await;
    run(&mut order, &format!("{}; PREPARE TRANSACTION '{gid}'", moves("u2", "order"))).await;
    once(&env).await;
    env.execute(SEEN_LONG_AGO).await;
    let told = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(
        told.stderr.contains(&format!("the prepared transaction \"{gid}\" has been open since ")),
        "{}",
        told.stderr
    );
    let held = status(&env).await["held_back_by"].clone();
    assert_eq!((&held["prepared"], &held["pid"]), (&gid.as_str().into(), &().into()));
    run(&mut order, &format!("COMMIT PREPARED '{gid}'")).await;
    once(&env).await;
    assert!(!env.imsync(&["run", "--once"]).await.stderr.contains("holds the watermark back"));
}
