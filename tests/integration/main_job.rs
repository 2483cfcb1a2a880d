//! Tests the main job: changed columns arrive as attributes, and unchanged values are not sent.
//!
//! Owns: one backfill and one daemon without any fault. Must not know: the single commands and guarantees.

use std::time::Duration;

use crate::support::{Setup, TestEnvironment, ended, signal};

const PEOPLE: &str = "INSERT INTO users (id, city, plan, gender)
    SELECT 'u' || g, 'city ' || g % 7, CASE g % 3 WHEN 0 THEN 'pro' ELSE 'free' END, CASE g % 4 WHEN 0 THEN 'm' WHEN 1 THEN 'f' END
    FROM generate_series(1, 1000) g";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_backfill_only_changes_are_sent() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(PEOPLE).await;

    let backfill = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!((&backfill["kind"], &backfill["outcome"]), (&"full".into(), &"ok".into()));
    assert_eq!((&backfill["pushed"], &backfill["calls"]), (&1000.into(), &10.into()));
    assert_eq!(env.handle().users(), env.wanted_of_users().await);

    env.handle().clear_records();
    let idle = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!(idle["calls"], 0, "a pass over an unchanged table makes no call");
    assert_eq!(env.handle().counters().arrived, 0);

    env.execute(
        "UPDATE users SET plan = 'gold', updated_at = now() WHERE id IN (SELECT id FROM users ORDER BY id LIMIT 300)",
    )
    .await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    let calls = env.handle().calls();
    assert_eq!(calls.len(), 3, "300 users need three calls");
    for user in calls.iter().flat_map(|call| &call.users) {
        assert_eq!(
            user.attributes,
            [("plan".to_owned(), Some("gold".to_owned()))],
            "only the changed attribute is sent"
        );
    }
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_follows_the_table_and_stops_cleanly() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(PEOPLE).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(20)).await;
    env.execute(
        "UPDATE users SET city = 'moved', updated_at = now() WHERE id IN ('u1', 'u2');
             UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u3';
             UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u4';
             INSERT INTO users (id, city) VALUES ('new', 'Wien')",
    )
    .await;
    env.converges(Duration::from_secs(10)).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0), "{}", env.printed("run", "err"));
    assert_eq!(env.handle().violations(), vec![]);
    assert_eq!(env.imsync(&["status", "--json"]).await.expect_code(0).json()["lease"], serde_json::Value::Null);
}
