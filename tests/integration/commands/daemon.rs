//! Tests SIGHUP, which makes a running daemon reload its configuration.
//!
//! Owns: valid and invalid new configurations, and a reload during a full pass. Must not know: the other signals.

use std::time::Duration;

use super::{ask, free_port, metric, people};
use crate::support::{ATTRIBUTES, Setup, TestEnvironment, ended, signal};

fn setup(port: u16, attributes: &str) -> Setup {
    Setup {
        attributes: attributes.to_owned(),
        more: format!("[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n"),
        ..Setup::default()
    }
}

const RELOADED: &str = "imsync_config_last_reload_successful";

#[tokio::test(flavor = "multi_thread")]
async fn sighup_applies_a_valid_mapping_and_refuses_an_invalid_one() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port, ATTRIBUTES)).await;
    env.execute(&people(50)).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(20)).await;

    // An invalid configuration: the log names every problem, and the old configuration stays in use.
    env.edit("plan = \"plan\"", "plan = 5\nhobby = \"hobby\"\n");
    env.edit("interval = \"200ms\"", "interval = \"soon\"");
    signal(&daemon, "HUP");
    env.eventually("the metrics show the failed reload", async || metric(port, RELOADED).await == Some(0.0)).await;
    let log = env.printed("run", "err");
    for part in ["not reloaded, the old one stays in force", "attributes.plan", "schedule.interval"] {
        assert!(log.contains(part), "no {part:?} in:\n{log}");
    }
    env.execute("UPDATE users SET plan = 'old rules', updated_at = now() WHERE id = 'u0001'").await;
    env.converges(Duration::from_secs(10)).await;

    // A key that cannot change while the daemon runs.
    env.configure(&setup(port, ATTRIBUTES));
    env.edit("name = \"users\"", "name = \"others\"");
    signal(&daemon, "HUP");
    env.eventually("the log names the key that cannot change", async || {
        env.printed("run", "err").contains("name cannot change while the daemon runs")
    })
    .await;
    assert_eq!(metric(port, RELOADED).await, Some(0.0));

    // A valid configuration: the new mapping also applies to rows that have not changed.
    env.configure(&setup(port, &ATTRIBUTES.replace("city = \"city\"", "city = \"plan\"")));
    signal(&daemon, "HUP");
    env.eventually("IM holds the values of the new mapping", async || {
        let users = env.handle().users();
        users.len() == 50 && users.values().all(|user| user.get("city") == user.get("plan"))
    })
    .await;
    assert_eq!(metric(port, RELOADED).await, Some(1.0));
    assert!(env.printed("run", "err").contains("configuration reloaded"));
    assert_eq!(ask(port, "/healthz").await.unwrap().0, 200);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mapping_interrupts_the_running_full_pass() {
    let port = free_port();
    let slow_setup = |attributes: &str| Setup {
        source: format!("{}page_size = 1000\n", crate::support::SOURCE),
        im: "max_in_flight = 20\ntimeout = \"30s\"\n".to_owned(),
        ..setup(port, attributes)
    };
    let env = TestEnvironment::set_up(slow_setup(ATTRIBUTES)).await;
    env.execute(&people(30_000)).await;
    // The rows have old timestamps. Otherwise the incremental passes in between would send the same rows.
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.handle().add_fault("slow:1500ms:command=set_attr".parse().unwrap());
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the first calls of the full pass arrive", async || env.handle().users().len() >= 1000).await;
    env.configure(&slow_setup(&ATTRIBUTES.replace("city = \"city\"", "city = \"plan\"")));
    signal(&daemon, "HUP");
    env.eventually("the configuration is reloaded during the pass", async || {
        env.printed("run", "err").contains("configuration reloaded")
    })
    .await;
    assert!(env.handle().users().len() < 30_000, "the reload does not wait for the end of the pass");
    env.handle().clear_faults();
    env.eventually("IM holds the values of the new mapping", async || {
        let users = env.handle().users();
        users.len() == 30_000 && users.values().all(|user| user.get("city") == user.get("plan"))
    })
    .await;
    env.eventually("status lists the interrupted pass and the complete one", async || {
        let passes = env.imsync(&["status", "--json"]).await.json()["last_passes"].clone();
        let has_full = |outcome: &str| {
            passes.as_array().unwrap().iter().any(|pass| pass["kind"] == "full" && pass["outcome"] == outcome)
        };
        has_full("interrupted") && has_full("ok")
    })
    .await;
    assert_eq!(
        env.imsync(&["status", "--json"]).await.json()["in_doubt"],
        0,
        "the outcomes of calls in flight are recorded"
    );
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
