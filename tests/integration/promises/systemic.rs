//! Tests faults of the app or of the configuration: the pass stops with one message, and no account is rejected.
//!
//! Owns: unknown attribute names, a wrong key and refused credentials. Must not know: refusals of single accounts.

use std::time::Duration;

use crate::support::{Setup, ended, signal};

use super::{environment_of, rejected, status};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_attribute_name_stops_the_pass() {
    let mut setup = Setup::default();
    setup.simulator.attribute_names = vec!["city".to_owned(), "sex".to_owned()];
    let env = environment_of(10_000, setup).await;
    let ran = env.imsync(&["backfill"]).await.expect_code(1);
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("\"plan\"") && last.contains("90033"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("does not know the attribute").count(), 1, "logged once: {}", ran.stderr);
    assert!(env.handle().counters().arrived < 100, "{:?}", env.handle().counters());
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    assert_eq!(status(&env).await["last_passes"][0]["outcome"], "failed");

    env.handle().set_names(&["city", "sex", "plan"].map(str::to_owned));
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(super::violations(&env), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_key_stops_the_pass() {
    let env = environment_of(500, Setup::default()).await;
    let key = env.directory().join("secret_key");
    let valid = std::fs::read(&key).expect("the key can be read");
    std::fs::write(&key, "not-the-key-of-this-app").expect("the key can be written");
    let ran = env.imsync(&["backfill"]).await.expect_code(1);
    assert!(ran.stderr.contains("secret key"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("not-the-key"), "{}", ran.stderr);
    assert!(env.handle().counters().arrived <= 3, "{:?}", env.handle().counters());
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    // A refused call leaves no account in doubt.
    assert_eq!(status(&env).await["in_doubt"], 0);
    std::fs::write(&key, valid).expect("the key can be written");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

/// IM refuses the valid key for a while. The daemon keeps running, reports the reason, and continues afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_keeps_running_with_refused_credentials() {
    let (listen, port) = super::outages::free_address();
    let setup = Setup {
        more: format!("[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"{listen}\"\n"),
        ..Setup::default()
    };
    let env = environment_of(250, setup).await;
    super::fault(&env, "refuse:70003");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("/readyz returns 503 with the reason", async || {
        let (code, body) = super::outages::get(port, "/readyz").await;
        code == 503 && body.contains("70003")
    })
    .await;
    assert!(daemon.try_wait().expect("the exit status can be read").is_none(), "the daemon keeps running");
    assert_eq!(env.handle().users().len(), 0);
    env.handle().clear_faults();
    env.converges(Duration::from_secs(15)).await;
    env.eventually("the daemon is ready", async || super::outages::get(port, "/readyz").await.0 == 200).await;
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
