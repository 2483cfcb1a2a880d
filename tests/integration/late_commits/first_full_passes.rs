//! Passes one by one, each a `run --once`: the watermark is carried by the state tables alone, and a test knows what
//! each pass has read.
//!
//! Owns: running them. Must not know: what a test does in between.

use serde_json::Value;

use super::{run, text};
use crate::support::Stage;

/// One pass; it went through.
pub(super) async fn once(stage: &Stage) -> Value {
    stage.imsync(&["run", "--once", "--json"]).await.expect_code(0).json()
}

pub(super) async fn incremental(stage: &Stage) -> Value {
    let pass = once(stage).await;
    assert_eq!(pass["kind"], "incremental", "{pass}");
    pass
}

pub(super) async fn status(stage: &Stage) -> Value {
    stage.imsync(&["status", "--json"]).await.expect_code(0).json()
}

/// The first full pass, and the one that falls due when somebody was in a transaction at the very first fence (a session
/// that logs in to the server counts, until its database is known). Nobody has one open now.
pub(super) async fn settles(stage: &Stage) {
    for _ in 0..20 {
        if once(stage).await["kind"] == "incremental" {
            let status = status(stage).await;
            if status["full_pass_due"].is_null() && status["held_back_by"].is_null() {
                return;
            }
        }
    }
    panic!("full passes without end: {}", status(stage).await);
}

/// On the server's clock, so that what was stamped before is older than the slack of these tests.
pub(super) async fn longer_than_the_slack(stage: &Stage) {
    run(&mut stage.database.connect().await, "SELECT pg_sleep(1.2)").await;
}

/// Nothing but the floor of a transaction that is open now leads back to what it has stamped.
pub(super) async fn out_of_the_slack(stage: &Stage) {
    longer_than_the_slack(stage).await;
    assert_eq!(incremental(stage).await["calls"], 0);
}

pub(super) fn city(stage: &Stage, account: &str) -> String {
    stage.handle().user(account).remove("city").unwrap_or_default()
}

/// Waits until a session waits for a lock on this relation, by the database's own list.
pub(super) async fn somebody_waits_for(stage: &Stage, relation: &str) {
    let waiting = format!(
        "SELECT count(*)::text FROM pg_locks WHERE relation = '{relation}'::regclass AND NOT granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    stage.eventually("a session that waits", async || text(stage, &waiting).await != "0").await;
}
