//! Tests `status` before the first pass, after it, and while a daemon runs.
//!
//! Owns: the keys of `status --json` and the lines of `status`. Must not know: how they are computed.

use std::time::Duration;

use sqlx::Executor;

use super::{assert_keys, assert_time, people};
use crate::support::{Setup, TestEnvironment, ended, signal};

const KEYS: [&str; 12] = [
    "name",
    "watermark",
    "lag_seconds",
    "held_back_by",
    "accounts",
    "rejected",
    "in_doubt",
    "guard",
    "schema_version",
    "lease",
    "running",
    "last_passes",
];
pub(super) const PASS_KEYS: [&str; 11] = [
    "kind",
    "outcome",
    "started_at",
    "finished_at",
    "rows_read",
    "changed",
    "pushed",
    "removed",
    "rejected",
    "calls",
    "error",
];

#[tokio::test(flavor = "multi_thread")]
async fn status_before_first_use_and_with_a_held_back_watermark() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(30)).await;
    let before = env.imsync(&["status", "--json"]).await.expect_code(0).json();
    assert_keys(&before, &KEYS);
    for key in ["watermark", "lag_seconds", "held_back_by", "guard", "schema_version", "lease", "running"] {
        assert!(before[key].is_null(), "{key} before first use: {before:#}");
    }
    assert_eq!((&before["name"], &before["accounts"]), (&"users".into(), &0.into()));
    env.imsync(&["status"]).await.expect_code(0).expect_all(&["no state tables yet", "imsync backfill"]);

    let mut open = env.database.connect().await;
    open.execute("SET application_name = 'a batch job'; BEGIN").await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut open).await.unwrap();
    env.imsync(&["backfill"]).await.expect_code(0);
    // `status` names the oldest transaction. A session of the server itself can be equally old for a while.
    let mut after = serde_json::Value::Null;
    env.eventually("status names the open transaction", async || {
        env.imsync(&["run", "--once"]).await.expect_code(0);
        after = env.imsync(&["status", "--json"]).await.expect_code(0).json();
        after["held_back_by"]["pid"] == pid
    })
    .await;
    assert_keys(&after, &KEYS);
    assert_time(&after["watermark"]);
    assert!(after["lag_seconds"].as_f64().unwrap() < 60.0, "{after:#}");
    assert_eq!((&after["accounts"], &after["rejected"], &after["in_doubt"]), (&30.into(), &0.into(), &0.into()));
    assert!(after["schema_version"].as_i64().unwrap() >= 1);
    assert!(after["lease"].is_null() && after["running"].is_null());
    assert_keys(&after["held_back_by"], &["pid", "prepared", "application", "since"]);
    assert_eq!(after["held_back_by"]["application"], "a batch job");
    assert_time(&after["held_back_by"]["since"]);
    let pass = &after["last_passes"][0];
    assert_keys(pass, &PASS_KEYS);
    assert_eq!((&pass["kind"], &pass["outcome"], &pass["pushed"]), (&"full".into(), &"ok".into(), &30.into()));
    assert_time(&pass["started_at"]);
    assert_time(&pass["finished_at"]);
    assert!(pass["error"].is_null());
    env.imsync(&["status"]).await.expect_code(0).expect_all(&[
        "not held",
        "30 in IM",
        &format!("pid {pid}"),
        "a batch job",
        "full",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_the_daemon_its_pass_and_a_counter_watermark() {
    let env = TestEnvironment::set_up(Setup {
        sql: "CREATE SEQUENCE change; CREATE TABLE users (id text PRIMARY KEY, city text, plan text, gender text,
              deleted_at timestamptz, version bigint NOT NULL DEFAULT nextval('change'))"
            .to_owned(),
        source: "table = \"public.users\"\naccount_column = \"id\"\nwatermark_column = \"version\"\npage_size = 100\n"
            .to_owned(),
        im: "max_in_flight = 1\n".to_owned(),
        ..Setup::default()
    })
    .await;
    env.execute(&people(1000)).await;
    env.handle().add_fault("slow:1500ms:command=set_attr".parse().unwrap());
    let mut daemon = env.start("run", &["run"]);
    let mut seen = serde_json::Value::Null;
    env.eventually("status shows a running full pass", async || {
        seen = env.imsync(&["status", "--json"]).await.expect_code(0).json();
        seen["running"]["done"].as_u64().is_some_and(|done| done > 0)
    })
    .await;
    assert_keys(&seen["running"], &["kind", "started_at", "done", "total", "eta_seconds"]);
    assert_eq!(seen["running"]["kind"], "full");
    assert_time(&seen["running"]["started_at"]);
    let holder = seen["lease"]["holder"].as_str().unwrap();
    assert!(holder.contains(&format!("imsync run (pid {}", daemon.id().unwrap())), "{holder}");
    assert_time(&seen["lease"]["since"]);
    // Incremental passes that end meanwhile do not hide it.
    for _ in 0..30 {
        let shown = env.number("SELECT count(*) FROM imsync.sync WHERE running_pass->>'kind' = 'full'").await;
        assert_eq!(shown, 1, "the full pass is shown until it ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    env.imsync(&["status"]).await.expect_code(0).expect_all(&["lease       imsync run", "running     full pass"]);
    env.handle().clear_faults();
    env.converges(Duration::from_secs(20)).await;
    env.eventually("the pass has ended", async || {
        let status = env.imsync(&["status", "--json"]).await.json();
        status["running"].is_null() && status["watermark"] == "1000"
    })
    .await;
    signal(&daemon, "INT");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
