//! IM or PostgreSQL away: the daemon stays up, says so, and catches up.

use std::net::SocketAddr;
use std::time::Duration;

use imsync::cluster::{self, Cluster};
use imsync::simulator::{Simulator, SimulatorOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Setup, TestEnvironment, USERS, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{fault, in_flight_twice, people, rejected, stage_of, status};

/// An address of this machine where nobody listens.
pub(super) fn free_address() -> (SocketAddr, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address");
    (address, address.port())
}

/// Status and body of a page; 0 when nobody answers.
pub(super) async fn get(port: u16, path: &str) -> (u16, String) {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = asked.await.unwrap_or_default();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, answer)
}

fn watched(listen: SocketAddr, im: &str) -> Setup {
    Setup {
        im: im.to_owned(),
        more: format!("[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"{listen}\"\n"),
        ..Setup::default()
    }
}

/// Every way in which IM can be out of order as a whole, one after the other, with changes in each.
#[tokio::test(flavor = "multi_thread")]
async fn im_is_out_of_order_for_a_while() {
    let (listen, port) = free_address();
    let env = stage_of(150, watched(listen, "timeout = \"1s\"\nretry_for = \"1s\"\n")).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    let watch = StateWatcher::start(&env);
    for (round, trouble) in ["fail:http-502", "fail:html", "hold", "apply-then-fail:close"].into_iter().enumerate() {
        let rule = fault(&env, trouble);
        env.execute(&format!(
            "UPDATE users SET city = 'after {round}', updated_at = now() WHERE right(id, 1) = '{round}';
                 UPDATE users SET plan = NULL, updated_at = now() WHERE right(id, 2) = '9{round}'"
        ))
        .await;
        env.eventually("503 with the reason", async || {
            let (code, body) = get(port, "/readyz").await;
            code == 503 && body.contains("IM is unreachable")
        })
        .await;
        assert_eq!(get(port, "/healthz").await.0, 200);
        assert!(daemon.try_wait().expect("a child can be asked").is_none(), "{trouble}: the daemon stays up");
        if round == 2 {
            let status = status(&env).await;
            assert!(status["in_doubt"].as_u64() > Some(0), "calls without an answer leave doubts: {status}");
            assert_eq!(status["last_passes"][0]["outcome"], "failed");
        }
        env.handle().remove_fault(rule);
        env.converges(Duration::from_secs(20)).await;
        env.eventually("ready again", async || get(port, "/readyz").await.0 == 200).await;
    }
    env.eventually("no doubt is left", async || status(&env).await["in_doubt"] == 0).await;
    watch.end().await;
    expect_truth(&env).await;
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    assert_eq!(in_flight_twice(&env), vec![]);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// Nobody listens where IM should be, at the start of the daemon and again later.
#[tokio::test(flavor = "multi_thread")]
async fn im_cannot_be_reached() {
    let (listen, port) = free_address();
    let mut env = stage_of(150, watched(listen, "timeout = \"1s\"\nretry_for = \"1s\"\n")).await;
    let options = |listen| SimulatorOptions { listen, ..Setup::default().simulator };
    let address = env.im.address();
    let spare = Simulator::start(SimulatorOptions::default()).await.expect("a simulator starts");
    std::mem::replace(&mut env.im, spare).stop().await;

    let mut daemon = env.start("run", &["run"]);
    let away = async || {
        let (code, body) = get(port, "/readyz").await;
        code == 503 && body.contains("IM is unreachable")
    };
    env.eventually("503: IM is unreachable", away).await;
    let backfill_beside = env.imsync(&["backfill"]).await.expect_code(1);
    assert!(backfill_beside.stderr.contains("holds the lease"), "{backfill_beside:?}");
    env.im = Simulator::start(options(address)).await.expect("IM comes back");
    env.converges(Duration::from_secs(20)).await;

    let users = env.handle().users();
    let spare = Simulator::start(SimulatorOptions::default()).await.expect("a simulator starts");
    std::mem::replace(&mut env.im, spare).stop().await;
    env.execute("UPDATE users SET city = 'while away', updated_at = now() WHERE right(id, 1) = '3'").await;
    env.eventually("503: IM is unreachable", away).await;
    env.execute("UPDATE users SET city = 'later', updated_at = now() WHERE right(id, 1) = '4'").await;
    env.im = Simulator::start(options(address)).await.expect("IM comes back");
    for (account, attributes) in &users {
        env.handle().set_user(account, attributes).expect("the names are the same");
    }
    env.converges(Duration::from_secs(20)).await;
    env.eventually("ready again", async || get(port, "/readyz").await.0 == 200).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// Every session that imsync has is cut, again and again, in the middle of its work.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_cuts_every_session_again_and_again() {
    let env =
        stage_of(1_500, Setup { im: "users_per_call = 25\n".to_owned(), source: small_pages(), ..Setup::default() })
            .await;
    fault(&env, "slow:20ms");
    let watch = StateWatcher::start(&env);
    let cut = async || {
        env.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name LIKE 'imsync%'",
        )
        .await;
    };
    // One-shot: it may fail, and says so with exit 1; in the end it has done what it says.
    let mut code = None;
    for round in 0..4_u64 {
        let mut backfill = env.start("run", &["backfill"]);
        let arrived = env.handle().counters().arrived;
        let some = env.handle().wait_until(|counters| counters.arrived > arrived + 2 + round);
        let _ = tokio::time::timeout(Duration::from_secs(5), some).await;
        cut().await;
        code = ended(&mut backfill).await;
        assert!(matches!(code, Some(0 | 1)), "{code:?}: {}", env.printed("run", "err"));
    }
    if code != Some(0) {
        env.imsync(&["backfill"]).await.expect_code(0);
    }
    assert_eq!(env.handle().users(), env.wanted_of_users().await);

    let mut daemon = env.start("run", &["run"]);
    for round in 0..3 {
        env.execute(&format!(
            "UPDATE users SET city = 'cut {round}', updated_at = now() WHERE right(id, 1) = '{round}'"
        ))
        .await;
        let arrived = env.handle().counters().arrived;
        let some = env.handle().wait_until(|counters| counters.arrived > arrived);
        let _ = tokio::time::timeout(Duration::from_secs(5), some).await;
        cut().await;
    }
    assert!(daemon.try_wait().expect("a child can be asked").is_none(), "the daemon stays up");
    env.converges(Duration::from_secs(30)).await;
    watch.end().await;
    assert_eq!(in_flight_twice(&env), vec![]);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

fn small_pages() -> String {
    format!("{}page_size = 200\n", crate::support::SOURCE)
}

/// A server of one's own that is killed and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_killed_and_comes_back() {
    let (listen, port) = free_address();
    let env = TestEnvironment::set_up(watched(listen, "")).await;
    let mut cluster = tokio::task::spawn_blocking(|| Cluster::start(cluster::ClusterOptions::default()))
        .await
        .expect("the task ends")
        .expect("a private server");
    let url = cluster.create_database("app").await.expect("a database");
    let text = std::fs::read_to_string(env.config()).expect("the configuration is there");
    std::fs::write(env.config(), text.replace(env.database.url(), &url)).expect("it can be written");
    let execute = async |sql: &str| {
        let mut connection = PgConnection::connect(&url).await.expect("the server is there");
        connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("the statements are valid");
    };
    execute(&format!("{USERS}{}", people(300))).await;

    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.users >= 300).await;
    execute("UPDATE users SET city = 'before the end', updated_at = now() WHERE right(id, 1) = '1'").await;
    let mut cluster = tokio::task::spawn_blocking(move || {
        cluster.kill().expect("the server can be killed");
        cluster
    })
    .await
    .expect("the task ends");
    env.eventually("503: the database is unreachable", async || {
        let (code, body) = get(port, "/readyz").await;
        code == 503 && body.contains("reason")
    })
    .await;
    assert_eq!(get(port, "/healthz").await.0, 200);
    assert!(daemon.try_wait().expect("a child can be asked").is_none(), "the daemon stays up");
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.restart().expect("the server comes back");
        cluster
    })
    .await
    .expect("the task ends");
    let mut connection = PgConnection::connect(&url).await.expect("the server is back on the same port");
    connection
        .execute("UPDATE users SET city = 'after the return', updated_at = now() WHERE right(id, 1) = '2'")
        .await
        .expect("a plain statement");
    env.eventually("both changes are in IM", async || {
        let users = env.handle().users();
        let of = |city: &str| users.values().filter(|attributes| attributes["city"] == city).count();
        of("before the end") == 30 && of("after the return") == 30
    })
    .await;
    env.eventually("ready again", async || get(port, "/readyz").await.0 == 200).await;
    let lies = super::state_truth::lies(&mut connection, env.handle()).await.expect("the state can be read");
    assert_eq!(lies, Vec::<String>::new());
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0), "{}", env.printed("run", "err"));
    drop(cluster);
}
