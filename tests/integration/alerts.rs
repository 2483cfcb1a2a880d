//! Alerts: what the webhook receives from a real daemon, and what a receiver that fails does not disturb.
//!
//! Owns: daemons with a local receiver. Must not know: how alerts are decided.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::{ask, free_port};
use crate::support::latencies::now;
use crate::support::{AlertReceiver, Reception, Setup, TestEnvironment, USERS, ended, signal};

/// A part of the URL that must appear nowhere.
const SECRET: &str = "Secret-Hook-4711";

async fn set_up(receiver: &AlertReceiver, schedule: &str) -> TestEnvironment {
    let url = receiver.url(SECRET);
    let more = format!("[schedule]\ninterval = \"200ms\"\n{schedule}\n[alerts]\nwebhook = \"{url}\"\n");
    let people = "INSERT INTO users (id, city) SELECT 'u' || g, 'Lima' FROM generate_series(1, 40) g";
    let sql = format!("{USERS} {people};");
    TestEnvironment::set_up(Setup { sql, more, ..Setup::default() }).await
}

/// Changes rows, and waits until the receiver has accepted these alerts and no others.
async fn expect(env: &TestEnvironment, receiver: &AlertReceiver, sql: &str, told: &mut Vec<String>, next: &[&str]) {
    env.execute(sql).await;
    told.extend(next.iter().map(|change| (*change).to_owned()));
    env.eventually(&format!("{next:?} after {sql}"), async || receiver.changes().len() >= told.len()).await;
    assert_eq!(receiver.changes(), *told);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_told_once_by_the_leader_alone() {
    let receiver = AlertReceiver::start(Reception::Answer(200)).await;
    let env = set_up(&receiver, "full_every = \"4s\"").await;
    let mut leader = env.start("leader", &["run"]);
    env.eventually("it leads", async || env.printed("leader", "err").contains("leading")).await;
    let mut standby = env.start("standby", &["run"]);
    env.eventually("it stands by", async || env.printed("standby", "err").contains("standing by")).await;
    env.converges(Duration::from_secs(20)).await;
    let mut told = Vec::new();
    for (sql, next) in [
        ("UPDATE users SET city = repeat('x', 60), updated_at = now() WHERE id = 'u1'", ["rejected firing"]),
        ("UPDATE users SET city = 'Oslo', updated_at = now() WHERE id = 'u1'", ["rejected resolved"]),
        ("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id > 'u2'", ["guard firing"]),
        ("UPDATE users SET deleted_at = NULL, updated_at = '2020-01-01'", ["guard resolved"]),
    ] {
        expect(&env, &receiver, sql, &mut told, &next).await;
    }
    let unmoved = "UPDATE users SET city = 'Kyoto' WHERE id = 'u9'";
    expect(&env, &receiver, unmoved, &mut told, &["missed_changes firing", "missed_changes resolved"]).await;
    // Two instances that both cannot use the table would each tell it.
    signal(&standby, "TERM");
    assert_eq!(ended(&mut standby).await, Some(0));
    let broken = "ALTER TABLE users RENAME TO people";
    expect(&env, &receiver, broken, &mut told, &["failing firing"]).await;
    let repaired = "ALTER TABLE people RENAME TO users";
    expect(&env, &receiver, repaired, &mut told, &["failing resolved"]).await;
    let failing = &receiver.accepted()[told.len() - 2];
    assert_eq!((&failing["sync"], &failing["severity"]), (&json!("users"), &json!("error")));
    assert!(failing["details"]["reason"].as_str().is_some_and(|reason| reason.contains("users")), "{failing}");
    for document in receiver.accepted() {
        let text = document["text"].as_str().expect("a chat shows the text");
        assert!(text.starts_with("[imsync users] ") && document["content"]["text"] == text, "{document}");
        assert!(!document.to_string().contains("u9"), "no account is told: {document}");
    }
    signal(&leader, "TERM");
    assert_eq!(ended(&mut leader).await, Some(0));
    assert_eq!(receiver.changes(), told, "a stop tells nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_disturbs_nothing_and_is_shown() {
    let receiver = AlertReceiver::start(Reception::Hang).await;
    let port = free_port();
    let env = set_up(&receiver, &format!("full_every = \"never\"\n[http]\nlisten = \"127.0.0.1:{port}\"")).await;
    env.execute("UPDATE users SET city = repeat('x', 60) WHERE id = 'u1'").await;
    let mut daemon = env.start("run", &["run", "-vv"]);
    env.eventually("an alert is under way", async || receiver.attempts() > 0).await;
    let began = now();
    env.execute("UPDATE users SET city = 'Oslo', updated_at = now() WHERE id <> 'u1'").await;
    let oslo = async || env.handle().user("u2").get("city").is_some_and(|city| city == "Oslo");
    env.eventually("a pass goes on", oslo).await;
    assert!(began.elapsed() < Duration::from_secs(8), "no pass waits for the receiver: {:?}", began.elapsed());
    assert_eq!(ask(port, "/readyz").await.map(|(code, _)| code), Some(200));
    assert_eq!(receiver.attempts(), 1, "the receiver has not answered yet");
    receiver.set(Reception::Answer(500));
    let warning = async || env.printed("run", "err").contains("the receiver answered 500");
    env.eventually("the log shows why", warning).await;
    assert!(env.printed("run", "err").contains("the receiver has not answered within 10 s"));
    let status = env.imsync(&["status"]).await.expect_code(0);
    status.expect_all(&["alerts      the webhook has accepted none since ", "the receiver answered 500"]);
    env.eventually("it is tried again", async || receiver.attempts() >= 4).await;
    receiver.set(Reception::Answer(200));
    env.eventually("the alert arrives", async || receiver.changes() == ["rejected firing"]).await;
    let stored = async || env.imsync(&["status", "--json"]).await.json()["alerts"]["undelivered"] == Value::Null;
    env.eventually("it is no longer shown", stored).await;
    let shown = env.imsync(&["status", "-vv"]).await.expect_all(&["alerts      told: rejected since "]);
    let mut outputs = shown.stdout + &shown.stderr + &env.printed("run", "err");
    for path in ["/status", "/metrics", "/readyz"] {
        outputs += &ask(port, path).await.expect("the daemon answers").1;
    }
    assert!(!outputs.contains(SECRET) && !outputs.contains(&receiver.url("")), "{outputs}");
    assert_eq!(env.number(&format!("SELECT count(*) FROM imsync.sync AS s WHERE s::text LIKE '%{SECRET}%'")).await, 0);

    receiver.set(Reception::Hang);
    let attempts = receiver.attempts();
    env.execute("UPDATE users SET city = 'Oslo', updated_at = now() WHERE id = 'u1'").await;
    env.eventually("another alert is under way", async || receiver.attempts() > attempts).await;
    let began = now();
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "a stop does not wait for it: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_only_what_has_changed() {
    let receiver = AlertReceiver::start(Reception::Answer(200)).await;
    let env = set_up(&receiver, "full_every = \"never\"").await;
    let file = env.directory().join("hook");
    write_private(&file, &receiver.url("first"));
    env.edit(&format!("webhook = \"{}\"", receiver.url(SECRET)), "webhook_file = \"hook\"");
    env.execute("UPDATE users SET city = repeat('x', 60) WHERE id = 'u1'").await;
    let mut told = Vec::new();
    let mut daemon = env.start("first", &["run"]);
    expect(&env, &receiver, "SELECT 1", &mut told, &["rejected firing"]).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));

    // What a verification of the stopped daemon's successor would store.
    let drift = "UPDATE imsync.sync SET verification = '{\"ended_at\": \"2026-01-01T00:00:00Z\", \"sample\": true, \
        \"checked\": 9, \"drifted\": 2, \"repaired\": 0, \"attributes\": {\"city\": 2}, \"examples\": [\"u3\"]}'";
    env.execute(drift).await;
    daemon = env.start("second", &["run"]);
    expect(&env, &receiver, "SELECT 1", &mut told, &["drift firing"]).await;
    daemon.kill().await.expect("the daemon can be killed");

    // The receiver has another URL, and refuses the old one.
    let other = AlertReceiver::start(Reception::Answer(200)).await;
    receiver.set(Reception::Answer(404));
    daemon = env.start("third", &["run"]);
    env.eventually("it leads", async || env.printed("third", "err").contains("leading")).await;
    write_private(&file, &other.url("second"));
    env.execute("UPDATE users SET city = 'Oslo', updated_at = now() WHERE id = 'u1'").await;
    env.eventually("the new URL is used", async || other.changes() == ["rejected resolved"]).await;
    assert_eq!(receiver.changes(), told);
    assert!(other.paths().iter().all(|path| path == "/second"), "{:?}", other.paths());
    assert!(env.printed("third", "err").contains("a rotated secret is in use"));
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_never_connected_tells_that_it_fails() {
    let receiver = AlertReceiver::start(Reception::Answer(200)).await;
    let env = set_up(&receiver, "").await;
    env.execute("ALTER TABLE users RENAME TO people").await;
    let mut told = Vec::new();
    let mut daemon = env.start("run", &["run"]);
    expect(&env, &receiver, "SELECT 1", &mut told, &["failing firing"]).await;
    expect(&env, &receiver, "ALTER TABLE people RENAME TO users", &mut told, &["failing resolved"]).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// `promtool check metrics` reads the whole page of a daemon that has worked.
#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_no_fault_in_the_metrics() {
    let receiver = AlertReceiver::start(Reception::Answer(200)).await;
    let port = free_port();
    let env = set_up(&receiver, &format!("[http]\nlisten = \"127.0.0.1:{port}\"")).await;
    env.execute("UPDATE users SET city = repeat('x', 60) WHERE id = 'u1'").await;
    let mut daemon = env.start("run", &["run"]);
    let lag = async || ask(port, "/metrics").await.is_some_and(|(_, text)| text.contains("imsync_lag_seconds "));
    env.eventually("a pass has ended", lag).await;
    let page = env.directory().join("metrics");
    std::fs::write(&page, ask(port, "/metrics").await.expect("the daemon answers").1).expect("a file can be written");
    let page = std::fs::File::open(page).expect("the file can be read");
    let checked = std::process::Command::new("promtool").args(["check", "metrics"]).stdin(page).output();
    match checked {
        Err(_) => println!("promtool is not installed: the metrics are not checked by it"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.trim().is_empty(), "{said}");
        }
    }
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the file can be written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private).expect("the file can be made private");
}
