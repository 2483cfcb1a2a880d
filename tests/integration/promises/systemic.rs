//! A fault of the app or of the configuration stops the pass with one sentence; nobody is rejected for it.

use std::time::Duration;

use crate::support::{Setup, ended, signal};

use super::{rejected, stage_of, status};

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_app_does_not_know() {
    let mut setup = Setup::default();
    setup.simulator.attribute_names = vec!["city".to_owned(), "sex".to_owned()];
    let env = stage_of(10_000, setup).await;
    let ran = env.imsync(&["backfill"]).await.expect_code(1);
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("\"plan\"") && last.contains("90033"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("does not know the attribute").count(), 1, "said once: {}", ran.stderr);
    assert!(env.handle().counters().arrived < 100, "{:?}", env.handle().counters());
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    assert_eq!(status(&env).await["last_passes"][0]["outcome"], "failed");

    env.handle().set_names(&["city", "sex", "plan"].map(str::to_owned));
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(super::violations(&env), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_key() {
    let env = stage_of(500, Setup::default()).await;
    let key = env.directory().join("secret_key");
    let right = std::fs::read(&key).expect("the key is there");
    std::fs::write(&key, "not-the-key-of-this-app").expect("the key can be written");
    let ran = env.imsync(&["backfill"]).await.expect_code(1);
    assert!(ran.stderr.contains("secret key"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("not-the-key"), "{}", ran.stderr);
    assert!(env.handle().counters().arrived <= 3, "{:?}", env.handle().counters());
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    // A call that was not taken leaves no doubt.
    assert_eq!(status(&env).await["in_doubt"], 0);
    std::fs::write(&key, right).expect("the key can be written");
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

/// The key is right and the app refuses it for a while: the daemon stays, says so, and goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_outlives_credentials_that_im_refuses() {
    let (listen, port) = super::outages::free_address();
    let setup = Setup {
        more: format!("[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"{listen}\"\n"),
        ..Setup::default()
    };
    let env = stage_of(250, setup).await;
    super::fault(&env, "refuse:70003");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("not ready, with the reason", async || {
        let (code, body) = super::outages::get(port, "/readyz").await;
        code == 503 && body.contains("70003")
    })
    .await;
    assert!(daemon.try_wait().expect("a child can be asked").is_none(), "the daemon stays up");
    assert_eq!(env.handle().users().len(), 0);
    env.handle().clear_faults();
    env.converges(Duration::from_secs(15)).await;
    env.eventually("ready", async || super::outages::get(port, "/readyz").await.0 == 200).await;
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
