//! PostgreSQL fails between intent and record: its backends are killed, or the whole server stops at once.
//!
//! Owns: these two failures. Must not know: imsync's own crash points.

use std::process::Stdio;
use std::time::Duration;

use imsync::cluster::{Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::promises::state_truth::false_claims;
use crate::support::{Setup, TestEnvironment, USERS, ended, signal};

/// A server that loses every commit for which its session did not request durability. Only imsync's own session
/// settings then protect its commits.
const NOT_DURABLE: [(&str, &str); 3] =
    [("synchronous_commit", "off"), ("wal_writer_delay", "10s"), ("autovacuum", "off")];

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the task ends")
}

/// A connection, once the server accepts one.
async fn connect(url: &str) -> PgConnection {
    let connected = tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            if let Ok(connection) = PgConnection::connect(url).await {
                return connection;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    connected.await.expect("the server comes back")
}

async fn kill_backends_of_imsync(url: &str) {
    let pids: Vec<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'imsync%'")
        .fetch_all(&mut connect(url).await)
        .await
        .expect("a plain query");
    assert!(!pids.is_empty(), "imsync has sessions");
    for pid in pids {
        // The first backend that dies takes the others with it, so a later one may be gone already.
        let _ =
            std::process::Command::new("kill").args(["-s", "KILL", &pid.to_string()]).stderr(Stdio::null()).status();
    }
}

/// IM has applied a call and not answered it when the server fails. In the first round the server stops at once and
/// imsync is killed too, and the row is set back with its old timestamp: only the intent shows that IM holds another
/// value. In the second round imsync keeps running and finds its sessions gone when the answer comes.
#[tokio::test(flavor = "multi_thread")]
async fn an_intent_survives_a_server_crash() {
    let env = TestEnvironment::set_up(Setup { im: "timeout = \"20s\"\n".to_owned(), ..Setup::default() }).await;
    let settings = NOT_DURABLE.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let cluster = blocking(|| Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() })).await;
    let mut cluster = cluster.expect("a private server");
    let url = cluster.create_database("app").await.expect("a database");
    env.edit(env.database.url(), &url);
    let rows = "INSERT INTO users (id, city) SELECT 'u' || g, 'city ' || g FROM generate_series(1, 40) g";
    connect(&url).await.execute(AssertSqlSafe(format!("{USERS}{rows}"))).await.expect("the statements are valid");
    env.imsync(&["backfill"]).await.expect_code(0);
    let before = env.handle().users();
    assert_eq!(before.len(), 40);

    for at_once in [true, false] {
        let mut daemon = env.start("run", &["run"]);
        let hold = "apply-then-hold:command=set_attr".parse().expect("the fault rule is valid");
        let hold = env.handle().add_fault(hold);
        let change = "BEGIN; CREATE TABLE IF NOT EXISTS kept (at timestamptz); INSERT INTO kept SELECT updated_at FROM users WHERE id = 'u1'; \
            UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u1'; COMMIT";
        connect(&url).await.execute(sqlx::raw_sql(change)).await.expect("the statements are valid");
        env.handle().wait_until(|counters| counters.held == 1).await;
        assert_eq!(env.handle().user("u1")["city"], "moved", "IM has applied the unanswered call");

        // The daemon is suspended until the test has checked what the server kept.
        signal(&daemon, "STOP");
        if at_once {
            cluster = blocking(move || {
                cluster.kill().expect("the server can be stopped at once");
                cluster.restart().expect("the server comes back");
                cluster
            })
            .await;
        } else {
            kill_backends_of_imsync(&url).await;
        }
        let mut connection = connect(&url).await;
        let intents: Vec<Vec<String>> = sqlx::query_scalar("SELECT accounts FROM imsync.intent")
            .fetch_all(&mut connection)
            .await
            .expect("the state tables are there");
        assert_eq!(intents, [["u1"]], "an acknowledged intent is durable");
        assert_eq!(
            false_claims(&mut connection, env.handle()).await.expect("the claims can be read"),
            Vec::<String>::new()
        );
        let back = if at_once {
            "UPDATE users SET city = 'city 1', updated_at = (SELECT min(at) FROM kept) WHERE id = 'u1'"
        } else {
            "UPDATE users SET city = 'city 1', updated_at = now() WHERE id = 'u1'"
        };
        connection.execute(back).await.expect("a plain statement");
        if at_once {
            daemon.kill().await.expect("the daemon can be killed");
        }
        env.handle().remove_fault(hold);
        if at_once {
            daemon = env.start("run", &["run"]);
        } else {
            signal(&daemon, "CONT");
        }
        env.eventually("IM equals the table", async || env.handle().users() == before).await;
        signal(&daemon, "TERM");
        assert_eq!(ended(&mut daemon).await, Some(0), "{}", env.printed("run", "err"));
        assert_eq!(
            false_claims(&mut connection, env.handle()).await.expect("the claims can be read"),
            Vec::<String>::new()
        );
    }
    drop(cluster);
}
