//! Tests commands that run while another process holds the lease, and the standby that takes over.
//!
//! Owns: exit codes, messages and HTTP pages of holder and standby. Must not know: how the lease is stored.

use std::time::Duration;

use super::{ask, free_port, people, state_tables};
use crate::support::{Setup, TestEnvironment, ended, signal};

#[tokio::test(flavor = "multi_thread")]
async fn other_processes_stand_by_or_name_the_lease_holder() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    let ports = [free_port(), free_port()];
    let listen = |port: u16| format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[schedule]\ninterval = \"200ms\"\n");
    env.execute(&people(20)).await;
    env.configure(&Setup { more: listen(ports[0]), ..Setup::default() });
    let mut first = env.start("run", &["run"]);
    env.converges(Duration::from_secs(20)).await;
    env.eventually("the first daemon is ready", async || {
        ask(ports[0], "/readyz").await.is_some_and(|(code, body)| code == 200 && body.contains("\"leader\""))
    })
    .await;

    let holder = format!("imsync run (pid {}", first.id().unwrap());
    let accounts = state_tables(&env.database).await["account"].clone();
    let refused: [&[&str]; 4] =
        [&["run", "--once"], &["backfill"], &["backfill", "--force"], &["backfill", "--account", "u0001"]];
    for arguments in refused {
        env.imsync(arguments).await.expect_code(1).expect_all(&[&holder, "holds the lease"]);
    }
    assert_eq!(state_tables(&env.database).await["account"], accounts);
    // Read-only commands do not need the lease.
    for arguments in [["status", "-q"], ["preview", "-q"], ["check", "-q"], ["backfill", "--dry-run"]] {
        env.imsync(&arguments).await.expect_code(0);
    }

    env.configure(&Setup { more: listen(ports[1]), ..Setup::default() });
    let mut second = env.start("second", &["run"]);
    env.eventually("the second daemon stands by", async || {
        ask(ports[1], "/readyz")
            .await
            .is_some_and(|(code, body)| code == 200 && body.trim() == "{\"ready\":true,\"role\":\"standby\"}")
    })
    .await;
    let (_, metrics) = ask(ports[1], "/metrics").await.unwrap();
    assert!(metrics.contains("imsync_lease_held 0") && metrics.contains("imsync_ready 1"), "{metrics}");
    assert!(!metrics.contains("imsync_lag_seconds"), "a standby has no lag");
    let (_, metrics) = ask(ports[0], "/metrics").await.unwrap();
    assert!(metrics.contains("imsync_lease_held 1") && metrics.contains("imsync_lag_seconds "), "{metrics}");
    assert!(env.printed("second", "err").contains(&holder), "the log of the standby names the holder");

    signal(&first, "TERM");
    assert_eq!(ended(&mut first).await, Some(0));
    env.execute("UPDATE users SET city = 'after', updated_at = now() WHERE id = 'u0001'").await;
    env.converges(Duration::from_secs(15)).await;
    env.eventually("the second daemon holds the lease", async || {
        ask(ports[1], "/readyz").await.is_some_and(|(code, body)| code == 200 && body.contains("\"leader\""))
    })
    .await;
    let (_, metrics) = ask(ports[1], "/metrics").await.unwrap();
    assert!(metrics.contains("imsync_lag_seconds "), "{metrics}");
    signal(&second, "TERM");
    assert_eq!(ended(&mut second).await, Some(0));
}
