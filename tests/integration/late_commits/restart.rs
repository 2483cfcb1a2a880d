//! PendingCommit transactions that nobody ends: they outlive the server, and their rows arrive when somebody does.
//!
//! Owns: a server that is killed under them. Must not know: how they are told from one another.

use imsync::cluster::Cluster;
use serde_json::Value;

use super::first_full_passes::{city, incremental, longer_than_the_slack, once, out_of_the_slack, settles, status};
use super::{Reader, begun, environment_on, moves, own_server, people, run, setup, text};
use crate::support::{Setup, TestEnvironment, USERS};

async fn crashes(mut server: Cluster) -> Cluster {
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
async fn orphans_of_a_server_that_was_killed() {
    let server = own_server(5, &[]).await;
    let env = environment_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    // The role may not see when a transaction began: fences alone tell.
    let reader = Reader::reads(&env).await;
    settles(&env).await;

    let (mut watched, mut unseen, mut rolled_back) = (begun(&env).await, begun(&env).await, begun(&env).await);
    run(&mut watched, &moves("u1", "watched")).await;
    run(&mut unseen, &moves("u2", "unseen")).await;
    run(&mut rolled_back, &moves("u3", "rolled back")).await;
    out_of_the_slack(&env).await;
    // One is prepared while passes look, the other after the last of them: that one's id is new to the next.
    run(&mut watched, "PREPARE TRANSACTION 'watched'").await;
    out_of_the_slack(&env).await;
    run(&mut unseen, "PREPARE TRANSACTION 'unseen'").await;
    let server = crashes(server).await;
    assert_eq!(prepared(&env).await, "unseen -1/, watched -1/", "no backend stands behind them any more");

    out_of_the_slack(&env).await;
    let held = status(&env).await["held_back_by"].clone();
    assert!(held["pid"].is_null() && held["prepared"].is_string(), "{held}");
    env.execute("COMMIT PREPARED 'watched'").await;
    incremental(&env).await;
    assert_eq!(["u1", "u2", "u3"].map(|account| city(&env, account)), ["watched", "old", "old"]);

    // The other is still there after another crash.
    let server = crashes(server).await;
    out_of_the_slack(&env).await;
    env.execute("COMMIT PREPARED 'unseen'").await;
    incremental(&env).await;
    assert_eq!(["u1", "u2", "u3"].map(|account| city(&env, account)), ["watched", "unseen", "old"]);
    out_of_the_slack(&env).await;
    assert_eq!(status(&env).await["held_back_by"], Value::Null);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    drop((reader, server));
}

/// It was prepared before this sync began, and nothing says since when it has been open: no bound leads back to its rows.
#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_from_before_the_first_pass() {
    let server = own_server(5, &[]).await;
    let env = environment_on(&server, Setup { sql: format!("{USERS} {}", people(20)), ..setup("") }).await;
    let mut ancient = begun(&env).await;
    run(&mut ancient, &format!("{}; PREPARE TRANSACTION 'ancient'", moves("u1", "ancient"))).await;
    longer_than_the_slack(&env).await;
    assert_eq!(once(&env).await["kind"], "full");
    assert_eq!(incremental(&env).await["calls"], 0);
    let server = crashes(server).await;
    // Others' changes do not wait for it, over the crash either.
    env.execute(&moves("u2", "beside")).await;
    incremental(&env).await;
    assert_eq!(city(&env, "u2"), "beside");
    assert_eq!(status(&env).await["full_pass_due"], Value::Null, "it is still open");
    env.execute("COMMIT PREPARED 'ancient'").await;
    incremental(&env).await;
    assert!(status(&env).await["full_pass_due"].is_string());
    assert_eq!(once(&env).await["kind"], "full");
    assert_eq!(city(&env, "u1"), "ancient");
    assert_eq!(incremental(&env).await["calls"], 0);
    drop(server);
}
