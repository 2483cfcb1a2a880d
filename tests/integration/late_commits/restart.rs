//! Prepared transactions that are left behind. They survive a restart of the server, and their rows arrive when they
//! are committed.
//!
//! Owns: a server that is killed while they are prepared. Must not know: how imsync tells them apart.

use imsync::cluster::Cluster;
use serde_json::Value;

use super::single_passes::{city, finish_full_passes, incremental, pass_after_slack, run_once, status, wait_out_slack};
use super::{Reader, environment_on, open_transaction, people, private_server, run, setup, text, update_city};
use crate::support::{Setup, TestEnvironment, USERS};

async fn crash(mut server: Cluster) -> Cluster {
    let again = tokio::task::spawn_blocking(move || {
        server.kill().expect("the server can be killed");
        server.restart().expect("the server comes back");
        server
    });
    again.await.expect("the task ends")
}

async fn prepared(env: &TestEnvironment) -> String {
    let shown = "SELECT string_agg(gid || ' ' || left(virtualtransaction, 3), ', ' ORDER BY gid) FROM pg_prepared_xacts
        JOIN pg_locks ON locktype = 'transactionid' AND transactionid = transaction";
    text(env, shown).await
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_survive_a_killed_server() {
    let server = private_server(5, &[]).await;
    let env = environment_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    // The role cannot see when a transaction began, so only the transaction lists bound it.
    let reader = Reader::create(&env).await;
    finish_full_passes(&env).await;

    let (mut watched, mut unseen, mut rolled_back) =
        (open_transaction(&env).await, open_transaction(&env).await, open_transaction(&env).await);
    run(&mut watched, &update_city("u1", "watched")).await;
    run(&mut unseen, &update_city("u2", "unseen")).await;
    run(&mut rolled_back, &update_city("u3", "rolled back")).await;
    pass_after_slack(&env).await;
    // One is prepared between passes, the other after the last pass: its transaction id is new to the next pass.
    run(&mut watched, "PREPARE TRANSACTION 'watched'").await;
    pass_after_slack(&env).await;
    run(&mut unseen, "PREPARE TRANSACTION 'unseen'").await;
    let server = crash(server).await;
    assert_eq!(prepared(&env).await, "unseen -1/, watched -1/", "the prepared transactions have no backend any more");

    pass_after_slack(&env).await;
    let held = status(&env).await["held_back_by"].clone();
    assert!(held["pid"].is_null() && held["prepared"].is_string(), "{held}");
    env.execute("COMMIT PREPARED 'watched'").await;
    incremental(&env).await;
    assert_eq!(["u1", "u2", "u3"].map(|account| city(&env, account)), ["watched", "old", "old"]);

    // The other one survives another crash.
    let server = crash(server).await;
    pass_after_slack(&env).await;
    env.execute("COMMIT PREPARED 'unseen'").await;
    incremental(&env).await;
    assert_eq!(["u1", "u2", "u3"].map(|account| city(&env, account)), ["watched", "unseen", "old"]);
    pass_after_slack(&env).await;
    assert_eq!(status(&env).await["held_back_by"], Value::Null);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    drop((reader, server));
}

/// The transaction was prepared before this sync began, and nothing shows when it began: no lower bound leads back to
/// its rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_prepared_before_the_first_pass_is_found() {
    let server = private_server(5, &[]).await;
    let env = environment_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let mut ancient = open_transaction(&env).await;
    run(&mut ancient, &format!("{}; PREPARE TRANSACTION 'ancient'", update_city("u1", "ancient"))).await;
    wait_out_slack(&env).await;
    assert_eq!(run_once(&env).await["kind"], "full");
    assert_eq!(incremental(&env).await["calls"], 0);
    let server = crash(server).await;
    // Changes of others do not wait for it, even across the crash.
    env.execute(&update_city("u2", "concurrent")).await;
    incremental(&env).await;
    assert_eq!(city(&env, "u2"), "concurrent");
    assert_eq!(status(&env).await["full_pass_due"], Value::Null, "the prepared transaction is still open");
    env.execute("COMMIT PREPARED 'ancient'").await;
    incremental(&env).await;
    assert!(status(&env).await["full_pass_due"].is_string());
    assert_eq!(run_once(&env).await["kind"], "full");
    assert_eq!(city(&env, "u1"), "ancient");
    assert_eq!(incremental(&env).await["calls"], 0);
    drop(server);
}
