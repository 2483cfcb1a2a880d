//! Single passes, each a `run --once`. Only the state tables carry the watermark from one to the next, and a test knows
//! what each pass read.
//!
//! Owns: running them. Must not know: what a test does in between.

use serde_json::Value;

use super::{run, text};
use crate::support::TestEnvironment;

/// Runs one pass, which must succeed.
pub(super) async fn run_once(env: &TestEnvironment) -> Value {
    env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json()
}

pub(super) async fn incremental(env: &TestEnvironment) -> Value {
    let pass = run_once(env).await;
    assert_eq!(pass["kind"], "incremental", "{pass}");
    pass
}

pub(super) async fn status(env: &TestEnvironment) -> Value {
    env.imsync(&["status", "--json"]).await.expect_code(0).json()
}

/// Runs the first full pass, and the second one that becomes due if any session was in a transaction at the first
/// transaction list. A session that is logging in to the server counts until its database is known. No transaction of
/// the test may be open.
pub(super) async fn finish_full_passes(env: &TestEnvironment) {
    for _ in 0..20 {
        if run_once(env).await["kind"] == "incremental" {
            let status = status(env).await;
            if status["full_pass_due"].is_null() && status["held_back_by"].is_null() {
                return;
            }
        }
    }
    panic!("full passes remain due: {}", status(env).await);
}

/// Sleeps on the server until earlier timestamps are older than the slack of these tests.
pub(super) async fn wait_out_slack(env: &TestEnvironment) {
    run(&mut env.database.connect().await, "SELECT pg_sleep(1.2)").await;
}

/// Runs a pass after the slack. From then on, only the lower bound of an open transaction leads back to the rows that
/// it has written.
pub(super) async fn pass_after_slack(env: &TestEnvironment) {
    wait_out_slack(env).await;
    assert_eq!(incremental(env).await["calls"], 0);
}

pub(super) fn city(env: &TestEnvironment, account: &str) -> String {
    env.handle().user(account).remove("city").unwrap_or_default()
}

/// Waits until a session of this database waits for a lock on this relation.
pub(super) async fn wait_for_blocked_session(env: &TestEnvironment, relation: &str) {
    let waiting = format!(
        "SELECT count(*)::text FROM pg_locks WHERE relation = '{relation}'::regclass AND NOT granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    env.eventually("a session waits for the lock", async || text(env, &waiting).await != "0").await;
}
