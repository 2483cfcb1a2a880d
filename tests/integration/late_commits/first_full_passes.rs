//! Passes one by one, each a `run --once`: the watermark is carried by the state tables alone, and a test knows what
//! each pass has read.
//!
//! Owns: running them. Must not know: what a test does in between.

use serde_json::Value;

use super::{run, text};
use crate::support::TestEnvironment;

/// One pass; it went through.
pub(super) async fn once(env: &TestEnvironment) -> Value {
    env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json()
}

pub(super) async fn incremental(env: &TestEnvironment) -> Value {
    let pass = once(env).await;
    assert_eq!(pass["kind"], "incremental", "{pass}");
    pass
}

pub(super) async fn status(env: &TestEnvironment) -> Value {
    env.imsync(&["status", "--json"]).await.expect_code(0).json()
}

/// The first full pass, and the one that falls due when somebody was in a transaction at the very first fence (a session
/// that logs in to the server counts, until its database is known). Nobody has one open now.
pub(super) async fn settles(env: &TestEnvironment) {
    for _ in 0..20 {
        if once(env).await["kind"] == "incremental" {
            let status = status(env).await;
            if status["full_pass_due"].is_null() && status["held_back_by"].is_null() {
                return;
            }
        }
    }
    panic!("full passes without end: {}", status(env).await);
}

/// On the server's clock, so that what was stamped before is older than the slack of these tests.
pub(super) async fn longer_than_the_slack(env: &TestEnvironment) {
    run(&mut env.database.connect().await, "SELECT pg_sleep(1.2)").await;
}

/// Nothing but the floor of a transaction that is open now leads back to what it has stamped.
pub(super) async fn out_of_the_slack(env: &TestEnvironment) {
    longer_than_the_slack(env).await;
    assert_eq!(incremental(env).await["calls"], 0);
}

pub(super) fn city(env: &TestEnvironment, account: &str) -> String {
    env.handle().user(account).remove("city").unwrap_or_default()
}

/// Waits until a session waits for a lock on this relation, by the database's own list.
pub(super) async fn somebody_waits_for(env: &TestEnvironment, relation: &str) {
    let waiting = format!(
        "SELECT count(*)::text FROM pg_locks WHERE relation = '{relation}'::regclass AND NOT granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    env.eventually("a session that waits", async || text(env, &waiting).await != "0").await;
}
