//! SIGHUP: another configuration for a running daemon.

use std::time::Duration;

use super::{ask, free_port, metric, people};
use crate::support::{ATTRIBUTES, Setup, Stage, ended, signal};

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
    let stage = Stage::set_up(setup(port, ATTRIBUTES)).await;
    stage.execute(&people(50)).await;
    let mut daemon = stage.start("run", &["run"]);
    stage.converges(Duration::from_secs(20)).await;

    // A bad one: everything that is wrong is said, and the old one stays.
    stage.edit("plan = \"plan\"", "plan = 5\nhobby = \"hobby\"\n");
    stage.edit("interval = \"200ms\"", "interval = \"soon\"");
    signal(&daemon, "HUP");
    stage.eventually("the refusal in the metrics", async || metric(port, RELOADED).await == Some(0.0)).await;
    let said = stage.printed("run", "err");
    for part in ["not reloaded, the old one stays in force", "attributes.plan", "schedule.interval"] {
        assert!(said.contains(part), "no {part:?}:\n{said}");
    }
    stage.execute("UPDATE users SET plan = 'old rules', updated_at = now() WHERE id = 'u0001'").await;
    stage.converges(Duration::from_secs(10)).await;

    // A fixed key.
    stage.configure(&setup(port, ATTRIBUTES));
    stage.edit("name = \"users\"", "name = \"others\"");
    signal(&daemon, "HUP");
    stage
        .eventually("the refusal of a fixed key", async || {
            stage.printed("run", "err").contains("name cannot change while the daemon runs")
        })
        .await;
    assert_eq!(metric(port, RELOADED).await, Some(0.0));

    // A good one: rows that did not change get what the new mapping wants of them.
    stage.configure(&setup(port, &ATTRIBUTES.replace("city = \"city\"", "city = \"plan\"")));
    signal(&daemon, "HUP");
    stage
        .eventually("the new mapping in IM", async || {
            let users = stage.handle().users();
            users.len() == 50 && users.values().all(|user| user.get("city") == user.get("plan"))
        })
        .await;
    assert_eq!(metric(port, RELOADED).await, Some(1.0));
    assert!(stage.printed("run", "err").contains("configuration reloaded"));
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
    let stage = Stage::set_up(slowly(ATTRIBUTES)).await;
    stage.execute(&people(30_000)).await;
    // Not new, or the incremental passes in between would be at the same rows.
    stage.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    stage.handle().add_fault("slow:1500ms:command=set_attr".parse().unwrap());
    let mut daemon = stage.start("run", &["run"]);
    stage.eventually("the first calls of the full pass", async || stage.handle().users().len() >= 1000).await;
    stage.configure(&slowly(&ATTRIBUTES.replace("city = \"city\"", "city = \"plan\"")));
    signal(&daemon, "HUP");
    stage
        .eventually("the reload in the middle of the pass", async || {
            stage.printed("run", "err").contains("configuration reloaded")
        })
        .await;
    assert!(stage.handle().users().len() < 30_000, "the pass was not waited for");
    stage.handle().clear_faults();
    stage
        .eventually("the new mapping in IM", async || {
            let users = stage.handle().users();
            users.len() == 30_000 && users.values().all(|user| user.get("city") == user.get("plan"))
        })
        .await;
    stage
        .eventually("both passes in the history", async || {
            let passes = stage.imsync(&["status", "--json"]).await.json()["last_passes"].clone();
            let of = |outcome: &str| {
                passes.as_array().unwrap().iter().any(|pass| pass["kind"] == "full" && pass["outcome"] == outcome)
            };
            of("interrupted") && of("ok")
        })
        .await;
    assert_eq!(stage.imsync(&["status", "--json"]).await.json()["in_doubt"], 0, "calls in flight were recorded");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
