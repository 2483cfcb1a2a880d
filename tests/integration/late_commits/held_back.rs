//! The log names a transaction that holds the watermark back for long, once for each transaction. Status and metric are
//! tested in `idle`.
//!
//! Owns: the log messages. Must not know: from when a transaction counts as long.

use super::daemon::Daemon;
use super::single_passes::{finish_full_passes, run_once, status};
use super::{open_transaction, people, run, setup, text, update_city};
use crate::support::{Setup, TestEnvironment, USERS};

/// Makes the open transactions of the last transaction list two hours older.
const MAKE_TWO_HOURS_OLDER: &str = "UPDATE imsync.sync SET watermark_state = jsonb_set(watermark_state, '{open}',
    (SELECT jsonb_agg(member || jsonb_build_object('since', (member->>'since')::bigint - 7200000000))
     FROM jsonb_array_elements(watermark_state->'open') AS member))";

#[tokio::test(flavor = "multi_thread")]
async fn a_long_hold_of_the_watermark_is_logged_once() {
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    finish_full_passes(&env).await;
    let mut report = env.database.connect().await;
    run(&mut report, "SET application_name = 'report'; BEGIN; SELECT 1").await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut report).await.expect("a plain query");
    let young = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(!young.stderr.contains("holds the watermark back"), "{}", young.stderr);
    env.execute(MAKE_TWO_HOURS_OLDER).await;
    let sentence = format!("the transaction of pid {pid} (report) has been open since ");
    let logged = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(
        logged.stderr.contains(&sentence) && logged.stderr.contains("holds the watermark back"),
        "{}",
        logged.stderr
    );

    let mut daemon = Daemon::start(&env);
    daemon.wait_for_polls(4).await;
    assert_eq!(daemon.log().matches(&sentence).count(), 1, "{}", daemon.log());
    // Changes of other transactions still arrive.
    env.execute(&update_city("u1", "concurrent")).await;
    daemon.wait_for_city("u1", "concurrent").await;
    daemon.stop().await;
    run(&mut report, "COMMIT").await;

    // A prepared transaction is named by its global id.
    let gid = format!("{}_order", text(&env, "SELECT current_database()").await);
    let mut order = open_transaction(&env).await;
    run(&mut order, &format!("{}; PREPARE TRANSACTION '{gid}'", update_city("u2", "order"))).await;
    run_once(&env).await;
    env.execute(MAKE_TWO_HOURS_OLDER).await;
    let logged = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(
        logged.stderr.contains(&format!("the prepared transaction \"{gid}\" has been open since ")),
        "{}",
        logged.stderr
    );
    let held = status(&env).await["held_back_by"].clone();
    assert_eq!((&held["prepared"], &held["pid"]), (&gid.as_str().into(), &().into()));
    run(&mut order, &format!("COMMIT PREPARED '{gid}'")).await;
    run_once(&env).await;
    assert!(!env.imsync(&["run", "--once"]).await.stderr.contains("holds the watermark back"));
}
