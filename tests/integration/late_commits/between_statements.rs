//! A pass that is stopped, or killed, between two of its steps.
//!
//! Owns: what happens to the table meanwhile. Must not know: the steps that follow.

use sqlx::PgConnection;

use super::first_full_passes::{
    city, incremental, longer_than_the_slack, once, out_of_the_slack, settles, somebody_waits_for,
};
use super::{Reader, begun, moves, own_server, people, run, setup, stage_on};
use crate::support::{SOURCE, Setup, Stage, USERS, ended, signal};

/// Nobody gets past this into the list of sessions, in this database, until it is taken back: a pass waits there for its
/// fence.
async fn shut(stage: &Stage) -> PgConnection {
    let mut door = stage.database.connect().await;
    run(&mut door, "SET allow_system_table_mods = on").await;
    run(&mut door, "BEGIN; ALTER VIEW pg_catalog.pg_stat_activity SET (security_barrier = true)").await;
    door
}

/// What commits while the fence is taken is in the rows that are read after it. Were they read before it, the fence
/// would say that the transaction has ended, and nobody would have seen its rows.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_after_the_fence() {
    let server = own_server(0, &[]).await;
    let stage = stage_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let _reader = Reader::reads(&stage).await;
    settles(&stage).await;
    let mut late = begun(&stage).await;
    run(&mut late, &moves("u1", "during the fence")).await;
    out_of_the_slack(&stage).await;
    out_of_the_slack(&stage).await;

    let mut door = shut(&stage).await;
    let mut pass = stage.start("run", &["run", "--once"]);
    somebody_waits_for(&stage, "pg_catalog.pg_stat_activity").await;
    run(&mut late, "COMMIT").await;
    run(&mut door, "ROLLBACK").await;
    assert_eq!(ended(&mut pass).await, Some(0), "{}", stage.printed("run", "err"));
    out_of_the_slack(&stage).await;
    assert_eq!(city(&stage, "u1"), "during the fence");
    drop(server);
}

/// The fence finds the transaction ended, and the pass fails before it has read a row: the next pass has to read them all
/// the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_fails_between_fence_and_read_keeps_the_floors() {
    let server = own_server(0, &[]).await;
    let stage = stage_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let _reader = Reader::reads(&stage).await;
    settles(&stage).await;
    let mut late = begun(&stage).await;
    run(&mut late, &moves("u1", "late")).await;
    out_of_the_slack(&stage).await;
    out_of_the_slack(&stage).await;
    run(&mut late, "COMMIT").await;

    let mut door = shut(&stage).await;
    let mut pass = stage.start("run", &["run", "--once"]);
    somebody_waits_for(&stage, "pg_catalog.pg_stat_activity").await;
    let mut lock = stage.database.connect().await;
    run(&mut lock, "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    run(&mut door, "ROLLBACK").await;
    somebody_waits_for(&stage, "public.users").await;
    run(&mut lock, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted")
        .await;
    assert_eq!(ended(&mut pass).await, Some(1), "{}", stage.printed("run", "err"));
    run(&mut lock, "ROLLBACK").await;
    assert_eq!(city(&stage, "u1"), "old");
    incremental(&stage).await;
    assert_eq!(city(&stage, "u1"), "late");
    drop(server);
}

/// The first watermark is of the moment at which the first pass began, and outlives it: what changes behind that pass
/// while it is under way is read by the first incremental one, although the pass is killed and goes on much later.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_behind_a_first_pass_that_is_killed() {
    let mut setup = Setup { sql: format!("{USERS} {}", people(3_000)), ..setup("") };
    setup.source = format!("{SOURCE}page_size = 100\n");
    setup.im = "timeout = \"60s\"\nretry_for = \"60s\"\nmax_in_flight = 4\n".to_owned();
    let stage = Stage::set_up(setup).await;
    let held = stage.handle().add_fault("hold:account=u999".parse().expect("a form that the simulator knows"));
    let mut first = stage.start("run", &["run", "--once"]);
    let stored = "SELECT count(*) FROM imsync.sync WHERE full_pass_position IS NOT NULL";
    stage
        .eventually("all but the last page, and a position", async || {
            stage.handle().users().len() >= 2_900 && stage.number(stored).await == 1
        })
        .await;
    // `u1` is the first in the order of the full pass.
    stage.execute(&moves("u1", "behind it")).await;
    longer_than_the_slack(&stage).await;
    signal(&first, "KILL");
    ended(&mut first).await;
    stage.handle().remove_fault(held);
    assert_eq!(city(&stage, "u1"), "old");

    let second = once(&stage).await;
    assert_eq!(second["kind"], "full");
    assert!(second["rows_read"].as_u64() < Some(3_000), "it goes on where it was: {second}");
    assert_eq!(city(&stage, "u1"), "old", "that page was done");
    // A pass that leaves a doubt of the killed one says so (exit 1); the next settles it.
    let next = stage.imsync(&["run", "--once", "--json"]).await;
    assert!(matches!(next.code, Some(0 | 1)), "{next:?}");
    assert_eq!(next.json()["kind"], "incremental", "{next:?}");
    assert_eq!(stage.handle().users(), stage.wanted_of_users().await);
}
