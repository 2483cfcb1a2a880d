//! A pass that is stopped, or killed, between two of its steps.
//!
//! Owns: what happens to the table meanwhile. Must not know: the steps that follow.

use sqlx::PgConnection;

use super::first_full_passes::{
    city, incremental, longer_than_the_slack, once, out_of_the_slack, settles, somebody_waits_for,
};
use super::{Reader, begun, environment_on, moves, own_server, people, run, setup};
use crate::support::{SOURCE, Setup, TestEnvironment, USERS, ended, signal};

/// Nobody gets past this into the list of sessions, in this database, until it is taken back: a pass waits there for its
/// fence.
async fn shut(env: &TestEnvironment) -> PgConnection {
    let mut door = env.database.connect().await;
    run(&mut door, "SET allow_system_table_mods = on").await;
    run(&mut door, "BEGIN; ALTER VIEW pg_catalog.pg_stat_activity SET (security_barrier = true)").await;
    door
}

/// What commits while the fence is taken is in the rows that are read after it. Were they read before it, the fence
/// would say that the transaction has ended, and nobody would have seen its rows.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_after_the_fence() {
    let server = own_server(0, &[]).await;
    let env = environment_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let _reader = Reader::reads(&env).await;
    settles(&env).await;
    let mut late = begun(&env).await;
    run(&mut late, &moves("u1", "during the fence")).await;
    out_of_the_slack(&env).await;
    out_of_the_slack(&env).await;

    let mut door = shut(&env).await;
    let mut pass = env.start("run", &["run", "--once"]);
    somebody_waits_for(&env, "pg_catalog.pg_stat_activity").await;
    run(&mut late, "COMMIT").await;
    run(&mut door, "ROLLBACK").await;
    assert_eq!(ended(&mut pass).await, Some(0), "{}", env.printed("run", "err"));
    out_of_the_slack(&env).await;
    assert_eq!(city(&env, "u1"), "during the fence");
    drop(server);
}

/// The fence finds the transaction ended, and the pass fails before it has read a row: the next pass has to read them all
/// the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_fails_between_fence_and_read_keeps_the_floors() {
    let server = own_server(0, &[]).await;
    let env = environment_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let _reader = Reader::reads(&env).await;
    settles(&env).await;
    let mut late = begun(&env).await;
    run(&mut late, &moves("u1", "late")).await;
    out_of_the_slack(&env).await;
    out_of_the_slack(&env).await;
    run(&mut late, "COMMIT").await;

    let mut door = shut(&env).await;
    let mut pass = env.start("run", &["run", "--once"]);
    somebody_waits_for(&env, "pg_catalog.pg_stat_activity").await;
    let mut lock = env.database.connect().await;
    run(&mut lock, "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    run(&mut door, "ROLLBACK").await;
    somebody_waits_for(&env, "public.users").await;
    run(&mut lock, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted")
        .await;
    assert_eq!(ended(&mut pass).await, Some(1), "{}", env.printed("run", "err"));
    run(&mut lock, "ROLLBACK").await;
    assert_eq!(city(&env, "u1"), "old");
    incremental(&env).await;
    assert_eq!(city(&env, "u1"), "late");
    drop(server);
}

/// The first watermark is of the moment at which the first pass began, and outlives it: what changes behind that pass
/// while it is under way is read by the first incremental one, although the pass is killed and goes on much later.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_behind_a_first_pass_that_is_killed() {
    let mut setup = Setup { sql: format!("{USERS} {}", people(3_000)), ..setup("") };
    setup.source = format!("{SOURCE}page_size = 100\n");
    setup.im = "timeout = \"60s\"\nretry_for = \"60s\"\nmax_in_flight = 4\n".to_owned();
    let env = TestEnvironment::set_up(setup).await;
    let held = env.handle().add_fault("hold:account=u999".parse().expect("a form that the simulator knows"));
    let mut first = env.start("run", &["run", "--once"]);
    let stored = "SELECT count(*) FROM imsync.sync WHERE full_pass_position IS NOT NULL";
    env.eventually("all but the last page, and a position", async || {
        env.handle().users().len() >= 2_900 && env.number(stored).await == 1
    })
    .await;
    // `u1` is the first in the order of the full pass.
    env.execute(&moves("u1", "behind it")).await;
    longer_than_the_slack(&env).await;
    signal(&first, "KILL");
    ended(&mut first).await;
    env.handle().remove_fault(held);
    assert_eq!(city(&env, "u1"), "old");

    let second = once(&env).await;
    assert_eq!(second["kind"], "full");
    assert!(second["rows_read"].as_u64() < Some(3_000), "it goes on where it was: {second}");
    assert_eq!(city(&env, "u1"), "old", "that page was done");
    // A pass that leaves a doubt of the killed one says so (exit 1); the next settles it.
    let next = env.imsync(&["run", "--once", "--json"]).await;
    assert!(matches!(next.code, Some(0 | 1)), "{next:?}");
    assert_eq!(next.json()["kind"], "incremental", "{next:?}");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}
