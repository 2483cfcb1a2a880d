//! Tests outages of IM and PostgreSQL: the daemon keeps running, reports the outage, and catches up afterwards.
//!
//! Owns: each kind of outage as a whole. Must not know: single calls that fail.

use std::net::SocketAddr;
use std::time::Duration;

use imsync::cluster::{self, Cluster};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Setup, TestEnvironment, USERS, ended, signal};

use super::state_truth::{StateWatcher, expect_truth, false_claims};
use super::{environment_of, fault, in_flight_twice, people, rejected, start_im, status, stop_im};

/// A local address on which nothing listens, and its port.
pub(super) fn free_address() -> (SocketAddr, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port exists");
    let address = listener.local_addr().expect("a listener has an address");
    (address, address.port())
}

/// Requests a page and returns the status code and the response. The code is 0 if there is no answer.
pub(super) async fn get(port: u16, path: &str) -> (u16, String) {
    let request = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = request.await.unwrap_or_default();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, answer)
}

fn with_http(listen: SocketAddr, im: &str) -> Setup {
    Setup {
        im: im.to_owned(),
        more: format!("[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"{listen}\"\n"),
        ..Setup::default()
    }
}

/// IM fails in each possible way, one after the other, and the table changes during each outage.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_recovers_from_each_kind_of_im_failure() {
    let (listen, port) = free_address();
    let env = environment_of(150, with_http(listen, "timeout = \"1s\"\nretry_for = \"1s\"\n")).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    let watcher = StateWatcher::start(&env);
    for (round, outage) in ["fail:http-502", "fail:html", "hold", "apply-then-fail:close"].into_iter().enumerate() {
        let rule = fault(&env, outage);
        env.execute(&format!(
            "UPDATE users SET city = 'after {round}', updated_at = now() WHERE right(id, 1) = '{round}';
                 UPDATE users SET plan = NULL, updated_at = now() WHERE right(id, 2) = '9{round}'"
        ))
        .await;
        env.eventually("/readyz returns 503 with the reason", async || {
            let (code, body) = get(port, "/readyz").await;
            code == 503 && body.contains("IM is unreachable")
        })
        .await;
        assert_eq!(get(port, "/healthz").await.0, 200);
        assert!(
            daemon.try_wait().expect("the exit status can be read").is_none(),
            "{outage}: the daemon keeps running"
        );
        if round == 2 {
            let status = status(&env).await;
            assert!(status["in_doubt"].as_u64() > Some(0), "calls without an answer leave accounts in doubt: {status}");
            assert_eq!(status["last_passes"][0]["outcome"], "failed");
        }
        env.handle().remove_fault(rule);
        env.converges(Duration::from_secs(20)).await;
        env.eventually("the daemon is ready again", async || get(port, "/readyz").await.0 == 200).await;
    }
    env.eventually("no account is in doubt", async || status(&env).await["in_doubt"] == 0).await;
    watcher.end().await;
    expect_truth(&env).await;
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    assert_eq!(in_flight_twice(&env), vec![]);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// Nothing listens at the address of IM when the daemon starts, and again later.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_recovers_after_im_was_unreachable() {
    let (listen, port) = free_address();
    let mut env = environment_of(150, with_http(listen, "timeout = \"1s\"\nretry_for = \"1s\"\n")).await;
    let stopped = stop_im(&mut env).await;

    let mut daemon = env.start("run", &["run"]);
    let unreachable = async || {
        let (code, body) = get(port, "/readyz").await;
        code == 503 && body.contains("IM is unreachable")
    };
    env.eventually("/readyz reports that IM is unreachable", unreachable).await;
    let backfill = env.imsync(&["backfill"]).await.expect_code(1);
    assert!(backfill.stderr.contains("holds the lease"), "{backfill:?}");
    start_im(&mut env, stopped).await;
    env.converges(Duration::from_secs(20)).await;

    let stopped = stop_im(&mut env).await;
    env.execute("UPDATE users SET city = 'while away', updated_at = now() WHERE right(id, 1) = '3'").await;
    env.eventually("/readyz reports that IM is unreachable", unreachable).await;
    env.execute("UPDATE users SET city = 'later', updated_at = now() WHERE right(id, 1) = '4'").await;
    start_im(&mut env, stopped).await;
    env.converges(Duration::from_secs(20)).await;
    env.eventually("the daemon is ready again", async || get(port, "/readyz").await.0 == 200).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// The test repeatedly terminates every session of imsync while it works.
#[tokio::test(flavor = "multi_thread")]
async fn passes_recover_after_terminated_sessions() {
    let env = environment_of(
        1_500,
        Setup { im: "users_per_call = 25\n".to_owned(), source: small_pages(), ..Setup::default() },
    )
    .await;
    fault(&env, "slow:20ms");
    let watcher = StateWatcher::start(&env);
    let terminate_sessions = async || {
        env.cut_sessions().await;
    };
    // A backfill may fail, and then exits with 1. After a backfill that exits with 0, IM equals the table.
    let mut code = None;
    for round in 0..4_u64 {
        let mut backfill = env.start("run", &["backfill"]);
        let arrived = env.handle().counters().arrived;
        let some = env.handle().wait_until(|counters| counters.arrived > arrived + 2 + round);
        let _ = tokio::time::timeout(Duration::from_secs(5), some).await;
        terminate_sessions().await;
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
        terminate_sessions().await;
    }
    assert!(daemon.try_wait().expect("the exit status can be read").is_none(), "the daemon keeps running");
    env.converges(Duration::from_secs(30)).await;
    watcher.end().await;
    assert_eq!(in_flight_twice(&env), vec![]);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

fn small_pages() -> String {
    format!("{}page_size = 200\n", crate::support::SOURCE)
}

/// A private server is killed and started again.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_recovers_after_postgres_was_killed() {
    let (listen, port) = free_address();
    let env = TestEnvironment::set_up(with_http(listen, "")).await;
    let mut cluster = tokio::task::spawn_blocking(|| Cluster::start(cluster::ClusterOptions::default()))
        .await
        .expect("the task finishes")
        .expect("the private server starts");
    let url = cluster.create_database("app").await.expect("the database can be created");
    let text = std::fs::read_to_string(env.config()).expect("the configuration can be read");
    std::fs::write(env.config(), text.replace(env.database.url(), &url)).expect("the configuration can be written");
    let execute = async |sql: &str| {
        let mut connection = PgConnection::connect(&url).await.expect("the server accepts connections");
        connection.execute(AssertSqlSafe(sql.to_owned())).await.expect("the statements are valid");
    };
    execute(&format!("{USERS}{}", people(300))).await;

    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.users >= 300).await;
    execute("UPDATE users SET city = 'before the kill', updated_at = now() WHERE right(id, 1) = '1'").await;
    let mut cluster = tokio::task::spawn_blocking(move || {
        cluster.kill().expect("the server can be killed");
        cluster
    })
    .await
    .expect("the task finishes");
    env.eventually("/readyz returns 503 with a reason", async || {
        let (code, body) = get(port, "/readyz").await;
        code == 503 && body.contains("reason")
    })
    .await;
    assert_eq!(get(port, "/healthz").await.0, 200);
    assert!(daemon.try_wait().expect("the exit status can be read").is_none(), "the daemon keeps running");
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.restart().expect("the server starts again");
        cluster
    })
    .await
    .expect("the task finishes");
    let mut connection = PgConnection::connect(&url).await.expect("the server listens on the same port again");
    connection
        .execute("UPDATE users SET city = 'after the restart', updated_at = now() WHERE right(id, 1) = '2'")
        .await
        .expect("the statement succeeds");
    env.eventually("both changes are in IM", async || {
        let users = env.handle().users();
        let with_city = |city: &str| users.values().filter(|attributes| attributes["city"] == city).count();
        with_city("before the kill") == 30 && with_city("after the restart") == 30
    })
    .await;
    env.eventually("the daemon is ready again", async || get(port, "/readyz").await.0 == 200).await;
    let found = false_claims(&mut connection, env.handle()).await.expect("the state tables can be read");
    assert_eq!(found, Vec::<String>::new());
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0), "{}", env.printed("run", "err"));
    drop(cluster);
}
