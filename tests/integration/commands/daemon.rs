//! SIGHUP: another configuration for a running daemon.

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
async fn a_new_mapping_takes_effect_and_a_bad_one_does_not() {
    let port = free_port();
    let env = TestEnvironment::set_up(setup(port, ATTRIBUTES)).await;
    env.execute(&people(50)).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(20)).await;

    // A bad one: everything that is wrong is said, and the old one stays.
    env.edit("plan = \"plan\"", "plan = 5\nhobby = \"hobby\"\n");
    env.edit("interval = \"200ms\"", "interval = \"soon\"");
    signal(&daemon, "HUP");
    env.eventually("the refusal in the metrics", async || metric(port, RELOADED).await == Some(0.0)).await;
    let said = env.printed("run", "err");
    for part in ["not reloaded, the old one stays in force", "attributes.plan", "schedule.interval"] {
        assert!(said.contains(part), "no {part:?}:\n{said}");
    }
    env.execute("UPDATE users SET plan = 'old rules', updated_at = now() WHERE id = 'u0001'").await;
    env.converges(Duration::from_secs(10)).await;

    // A fixed key.
    env.configure(&setup(port, ATTRIBUTES));
    env.edit("name = \"users\"", "name = \"others\"");
    signal(&daemon, "HUP");
    env.eventually("the refusal of a fixed key", async || {
        env.printed("run", "err").contains("name cannot change while the daemon runs")
    })
    .await;
    assert_eq!(metric(port, RELOADED).await, Some(0.0));

    // A good one: rows that did not change get what the new mapping wants of them.
    env.configure(&setup(port, &ATTRIBUTES.replace("city = \"city\"", "city = \"plan\"")));
    signal(&daemon, "HUP");
    env.eventually("the new mapping in IM", async || {
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
async fn a_new_mapping_ends_the_full_pass_under_way() {
    let port = free_port();
    let slowly = |attributes: &str| Setup {
        source: format!("{}page_size = 1000\n", crate::support::SOURCE),
        im: "max_in_flight = 20\ntimeout = \"30s\"\n".to_owned(),
        ..setup(port, attributes)
    };
    let env = TestEnvironment::set_up(slowly(ATTRIBUTES)).await;
    env.execute(&people(30_000)).await;
    // Not new, or the incremental passes in between would be at the same rows.
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.handle().add_fault("slow:1500ms:command=set_attr".parse().unwrap());
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the first calls of the full pass", async || env.handle().users().len() >= 1000).await;
    env.configure(&slowly(&ATTRIBUTES.replace("city = \"city\"", "city = \"plan\"")));
    signal(&daemon, "HUP");
    env.eventually("the reload in the middle of the pass", async || {
        env.printed("run", "err").contains("configuration reloaded")
    })
    .await;
    assert!(env.handle().users().len() < 30_000, "the pass was not waited for");
    env.handle().clear_faults();
    env.eventually("the new mapping in IM", async || {
        let users = env.handle().users();
        users.len() == 30_000 && users.values().all(|user| user.get("city") == user.get("plan"))
    })
    .await;
    env.eventually("both passes in the history", async || {
        let passes = env.imsync(&["status", "--json"]).await.json()["last_passes"].clone();
        let of = |outcome: &str| {
            passes.as_array().unwrap().iter().any(|pass| pass["kind"] == "full" && pass["outcome"] == outcome)
        };
        of("interrupted") && of("ok")
    })
    .await;
    assert_eq!(env.imsync(&["status", "--json"]).await.json()["in_doubt"], 0, "calls in flight were recorded");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
