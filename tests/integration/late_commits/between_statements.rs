//! A pass that fails or is killed between two of its steps.
//!
//! Owns: the changes to the table in that moment. Must not know: the steps that follow.

use sqlx::PgConnection;

use super::single_passes::{
    city, finish_full_passes, incremental, pass_after_slack, run_once, wait_for_blocked_session, wait_out_slack,
};
use super::{Reader, environment_on, open_transaction, people, private_server, run, setup, update_city};
use crate::support::{SOURCE, Setup, TestEnvironment, USERS, ended, signal};

/// Locks the view that lists the sessions of this database. A pass waits there for its transaction list until the lock
/// is released.
async fn block_activity_view(env: &TestEnvironment) -> PgConnection {
    let mut view_lock = env.database.connect().await;
    run(&mut view_lock, "SET allow_system_table_mods = on").await;
    run(&mut view_lock, "BEGIN; ALTER VIEW pg_catalog.pg_stat_activity SET (security_barrier = true)").await;
    view_lock
}

/// A transaction that commits while the transaction list is taken is among the rows that are read after it. If the rows
/// were read first, the list would show the transaction as ended, and its rows would be lost.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_after_the_transaction_list() {
    let server = private_server(0, &[]).await;
    let env = environment_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let _reader = Reader::create(&env).await;
    finish_full_passes(&env).await;
    let mut late = open_transaction(&env).await;
    run(&mut late, &update_city("u1", "during the list")).await;
    pass_after_slack(&env).await;
    pass_after_slack(&env).await;

    let mut view_lock = block_activity_view(&env).await;
    let mut pass = env.start("run", &["run", "--once"]);
    wait_for_blocked_session(&env, "pg_catalog.pg_stat_activity").await;
    run(&mut late, "COMMIT").await;
    run(&mut view_lock, "ROLLBACK").await;
    assert_eq!(ended(&mut pass).await, Some(0), "{}", env.printed("run", "err"));
    pass_after_slack(&env).await;
    assert_eq!(city(&env, "u1"), "during the list");
    drop(server);
}

/// The transaction list shows the transaction as ended, and the pass fails before it has read a row. The next pass must
/// still read its rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_failing_before_its_read_keeps_the_lower_bounds() {
    let server = private_server(0, &[]).await;
    let env = environment_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let _reader = Reader::create(&env).await;
    finish_full_passes(&env).await;
    let mut late = open_transaction(&env).await;
    run(&mut late, &update_city("u1", "late")).await;
    pass_after_slack(&env).await;
    pass_after_slack(&env).await;
    run(&mut late, "COMMIT").await;

    let mut view_lock = block_activity_view(&env).await;
    let mut pass = env.start("run", &["run", "--once"]);
    wait_for_blocked_session(&env, "pg_catalog.pg_stat_activity").await;
    let mut lock = env.database.connect().await;
    run(&mut lock, "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    run(&mut view_lock, "ROLLBACK").await;
    wait_for_blocked_session(&env, "public.users").await;
    run(&mut lock, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted")
        .await;
    assert_eq!(ended(&mut pass).await, Some(1), "{}", env.printed("run", "err"));
    run(&mut lock, "ROLLBACK").await;
    assert_eq!(city(&env, "u1"), "old");
    incremental(&env).await;
    assert_eq!(city(&env, "u1"), "late");
    drop(server);
}

/// The first watermark is the time at which the first pass began. The first incremental pass therefore reads what
/// changed behind the first full pass, even if that pass was killed and resumed much later.
#[tokio::test(flavor = "multi_thread")]
async fn changes_behind_a_killed_first_pass_arrive() {
    let mut setup = Setup { sql: format!("{USERS} {}", people(3_000)), ..setup("") };
    setup.source = format!("{SOURCE}page_size = 100\n");
    setup.im = "timeout = \"60s\"\nretry_for = \"60s\"\nmax_in_flight = 4\n".to_owned();
    let env = TestEnvironment::set_up(setup).await;
    let held = env.handle().add_fault("hold:account=u999".parse().expect("the fault rule is valid"));
    let mut first = env.start("run", &["run", "--once"]);
    let stored = "SELECT count(*) FROM imsync.sync WHERE full_pass_position IS NOT NULL";
    env.eventually("all but the last page is sent and a position is stored", async || {
        env.handle().users().len() >= 2_900 && env.number(stored).await == 1
    })
    .await;
    // `u1` is the first account in the order of the full pass.
    env.execute(&update_city("u1", "behind the pass")).await;
    wait_out_slack(&env).await;
    signal(&first, "KILL");
    ended(&mut first).await;
    env.handle().remove_fault(held);
    assert_eq!(city(&env, "u1"), "old");

    let second = run_once(&env).await;
    assert_eq!(second["kind"], "full");
    assert!(second["rows_read"].as_u64() < Some(3_000), "the second pass resumes at the stored position: {second}");
    assert_eq!(city(&env, "u1"), "old", "the page of u1 was already read");
    // Exit code 1 reports that an outcome of the killed pass is still unknown. The next pass resolves it.
    let next = env.imsync(&["run", "--once", "--json"]).await;
    assert!(matches!(next.code, Some(0 | 1)), "{next:?}");
    assert_eq!(next.json()["kind"], "incremental", "{next:?}");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}
