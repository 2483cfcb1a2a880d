//! Tests the HTTP endpoints of the daemon.
//!
//! Owns: `/healthz`, `/readyz`, `/status` and `/metrics` as a client sees them. Must not know: how they are computed.

use std::time::Duration;

use sqlx::Executor as _;

use super::{ask, free_port, people};
use crate::support::{Setup, TestEnvironment, ended, signal};

/// Metric names and labels on which dashboards rely. All of them exist before the first pass.
const METRICS: [&str; 27] = [
    "imsync_build_info{version=",
    "imsync_sync_info{name=\"users\"} 1",
    "imsync_ready ",
    "imsync_lease_held ",
    "imsync_passes_total{kind=\"incremental\",outcome=\"ok\"} ",
    "imsync_passes_total{kind=\"full\",outcome=\"guard\"} 0",
    "imsync_passes_total{kind=\"full\",outcome=\"interrupted\"} 0",
    "imsync_pass_duration_seconds_bucket{kind=\"full\",le=",
    "imsync_rows_read_total{kind=\"incremental\"} ",
    "imsync_accounts ",
    "imsync_in_doubt_accounts 0",
    "imsync_accounts_pushed_total{op=\"set\"} ",
    "imsync_accounts_pushed_total{op=\"remove\"} 0",
    "imsync_rejections_total{code=",
    "imsync_rejected_accounts 0",
    "imsync_full_pass_repairs_total 0",
    "imsync_im_calls_total{code=\"0\",command=\"remove_attr\"} 0",
    "imsync_im_call_duration_seconds_bucket{command=\"set_attr\",le=",
    "imsync_im_retries_total 0",
    "imsync_throttle_wait_seconds_total ",
    "imsync_rate_limit_calls_per_second ",
    "imsync_watermark_timestamp_seconds ",
    "imsync_watermark_held_back_seconds ",
    "imsync_last_success_timestamp_seconds ",
    "imsync_config_last_reload_successful 1",
    "process_resident_memory_bytes ",
    "process_start_time_seconds ",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_a_table_reports_why_it_is_not_ready() {
    let port = free_port();
    let setup = Setup {
        more: format!(
            "[schedule]\ninterval = \"200ms\"\nnotify_channel = \"imsync\"\n[http]\nlisten = \"127.0.0.1:{port}\"\nshow_accounts = true\n"
        ),
        ..Setup::default()
    };
    let env = TestEnvironment::set_up(setup).await;
    env.execute("ALTER TABLE users RENAME TO people").await;
    let mut daemon = env.start("run", &["run"]);
    let mut reason = String::new();
    env.eventually("/readyz names the table", async || {
        let Some((503, body)) = ask(port, "/readyz").await else { return false };
        reason = serde_json::from_str::<serde_json::Value>(&body).unwrap()["reason"].as_str().unwrap().to_owned();
        reason.contains("users")
    })
    .await;
    assert_eq!(ask(port, "/healthz").await.unwrap().0, 200);
    let (_, metrics) = ask(port, "/metrics").await.unwrap();
    for name in METRICS {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} does not exist from the start:\n{metrics}");
    }
    assert!(metrics.lines().any(|line| line == "imsync_ready 0"));
    assert!(!metrics.contains("imsync_lag_seconds"), "the daemon does not hold the lease yet");
    let log = env.printed("run", "err");
    let warning = "http.show_accounts is set, but this version does not";
    assert!(
        log.contains(warning),
        "no warning:
{log}"
    );
    assert!(log.contains("imsync.toml"), "the log contains the path of the configuration:\n{log}");

    env.execute("ALTER TABLE people RENAME TO users").await;
    env.execute(&people(10)).await;
    env.converges(Duration::from_secs(20)).await;
    env.eventually("the daemon is ready", async || {
        ask(port, "/readyz")
            .await
            .is_some_and(|(code, body)| code == 200 && body.trim() == "{\"ready\":true,\"role\":\"leader\"}")
    })
    .await;
    // It is ready while its first pass runs, too.
    env.eventually("a pass has ended", async || env.number("SELECT count(*) FROM imsync.pass").await > 0).await;
    let (code, status) = ask(port, "/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let command = env.imsync(&["status", "--json"]).await.expect_code(0).json();
    assert_eq!(code, 200);
    let keys = |document: &serde_json::Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&status), keys(&command), "/status has the keys of `status --json`");
    assert_eq!((&status["accounts"], &status["last_passes"][0]["kind"]), (&10.into(), &"full".into()));
    let (_, metrics) = ask(port, "/metrics").await.unwrap();
    for line in ["imsync_ready 1", "imsync_accounts 10", "imsync_accounts_pushed_total{op=\"set\"} 10"] {
        assert!(metrics.lines().any(|found| found == line), "{line}:\n{metrics}");
    }
    assert!(metrics.contains("imsync_lag_seconds "));
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// Sessions of imsync that wait for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND application_name LIKE 'imsync%' AND wait_event_type = 'Lock'";

const SHORT: Duration = Duration::from_millis(150);

/// Many clients share one reading, and a reading that takes too long is cancelled in the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_the_database_holds_back_is_cancelled_there() {
    let port = free_port();
    let more = format!("[schedule]\ninterval = \"1h\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n");
    let env = TestEnvironment::set_up(Setup { more, ..Setup::default() }).await;
    env.execute(&people(10)).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(20)).await;
    env.eventually("/status answers", async || matches!(ask(port, "/status").await, Some((200, _)))).await;

    let mut lock = env.database.connect().await;
    lock.execute("BEGIN; LOCK TABLE imsync.account_count, imsync.pass IN ACCESS EXCLUSIVE MODE").await.unwrap();
    env.eventually("a new reading fails", async || matches!(ask(port, "/status").await, Some((503, _)))).await;
    // One client after the other hangs up before it has an answer.
    for _ in 0..12 {
        let abandoned = tokio::time::timeout(SHORT, ask(port, "/status")).await;
        assert!(!matches!(abandoned, Ok(Some((200, _)))), "{abandoned:?}");
    }
    assert!(env.number(WAITING).await <= 1, "at most one statement waits for all these clients");
    let all = futures_util::future::join_all((0..20).map(|_| ask(port, "/status"))).await;
    assert!(all.iter().all(|answer| matches!(answer, Some((503, _)))), "{all:?}");
    env.eventually("no statement is left in the server", async || env.number(WAITING).await == 0).await;
    assert_eq!(ask(port, "/healthz").await.unwrap().0, 200);
    lock.execute("ROLLBACK").await.unwrap();
    env.eventually("/status answers again", async || matches!(ask(port, "/status").await, Some((200, _)))).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
