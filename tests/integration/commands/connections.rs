//! Tests connections that imsync cannot rely on: a server that vanishes without closing them, a pooler, a connection for
//! each try.
//!
//! Owns: what a user sees in these cases. Must not know: how imsync finds out.

use std::time::Duration;

use imsync::clock::monotonic;
use tokio::process::Child;

use super::{ask, free_port, has_state_schema, people};
use crate::support::{Setup, TcpProxy, TestEnvironment, TransactionPooler, ended, run, signal};

/// A command on a vanished server ends by then: two seconds of silence, ten of a new connection, and what the command
/// had done before.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

fn listen(port: u16) -> Setup {
    Setup {
        more: format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[schedule]\ninterval = \"200ms\"\n"),
        ..Setup::default()
    }
}

/// Starts a daemon that takes these URLs from its environment.
fn start_with(env: &TestEnvironment, name: &str, urls: &[(&str, &str)]) -> Child {
    let log = std::fs::File::create(env.directory().join(format!("{name}.err"))).unwrap();
    env.command(&["run"]).envs(urls.iter().copied()).stderr(log).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_server_that_vanishes_during_any_statement_ends_a_command_soon() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(20)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // Each command with a text of the statement during which the server vanishes.
    let cases: [(&[&str], &'static str); 12] = [
        (&["status"], "to_regclass"),
        (&["status"], "lease_taken_at"),
        (&["status"], "pg_locks"),
        (&["rejected"], "FROM rejection"),
        (&["check"], "lease_taken_at"),
        (&["preview", "--full"], "account = w.account"),
        (&["migrate"], "pg_advisory_xact_lock"),
        (&["migrate", "--print"], "pg_namespace"),
        (&["backfill"], "INSERT INTO sync"),
        (&["backfill"], "idle_session_timeout"),
        (&["run", "--once"], "pg_try_advisory_lock"),
        (&["run", "--once"], "last_call_at = coalesce"),
    ];
    let mut commands = Vec::new();
    for (arguments, text) in cases {
        let proxy = TcpProxy::start(&env.database, Some(text)).await;
        let mut command = env.command(arguments);
        command.env("IMSYNC_STATE_URL", proxy.url());
        commands.push(async move {
            let started = monotonic();
            let output = run(command).await;
            drop(proxy);
            (arguments, text, started.elapsed(), output)
        });
    }
    for (arguments, text, took, output) in futures_util::future::join_all(commands).await {
        assert!(took < NOTICED_WITHIN, "{arguments:?} at {text:?} took {took:?}: {output:?}");
        if text == "last_call_at = coalesce" {
            // The pass is complete, and only the time of its last call could not be stored.
            continue;
        }
        output.expect_code(1).expect_all(&["the state database is unreachable", "no answer"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_vanishes_during_a_statement_is_reported_soon() {
    let port = free_port();
    let env = TestEnvironment::set_up(listen(port)).await;
    env.execute(&people(5)).await;
    let proxy = TcpProxy::start(&env.database, None).await;
    let urls = [("IMSYNC_SOURCE_URL", proxy.url()), ("IMSYNC_STATE_URL", env.database.url())];
    let mut daemon = start_with(&env, "run", &urls);
    env.converges(Duration::from_secs(20)).await;
    proxy.set_silent(true);
    let started = monotonic();
    env.eventually("/readyz says that the source is unreachable", async || {
        ask(port, "/readyz")
            .await
            .is_some_and(|(code, body)| code == 503 && body.contains("the source database is unreachable"))
    })
    .await;
    assert!(started.elapsed() < NOTICED_WITHIN, "{:?}", started.elapsed());
    proxy.set_silent(false);
    env.execute("UPDATE users SET city = 'back', updated_at = now()").await;
    env.converges(Duration::from_mins(1)).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_keeps_one_session_and_notices_that_the_server_vanished() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(5)).await;
    let mut leader = env.start("leader", &["run"]);
    env.converges(Duration::from_secs(20)).await;
    let port = free_port();
    env.configure(&listen(port));
    let proxy = TcpProxy::start(&env.database, None).await;
    let mut standby = start_with(&env, "standby", &[("IMSYNC_STATE_URL", proxy.url())]);
    let stands_by = async || ask(port, "/readyz").await.is_some_and(|(_, body)| body.contains("standby"));
    env.eventually("the second daemon stands by", stands_by).await;

    let (connections, packets) = (proxy.connections(), proxy.packets());
    env.eventually("it has tried several times", async || proxy.packets() >= packets + 10).await;
    assert_eq!(proxy.connections(), connections, "each try uses the same session");

    proxy.set_silent(true);
    let started = monotonic();
    env.eventually("it no longer knows whether another instance leads", async || {
        ask(port, "/readyz")
            .await
            .is_some_and(|(code, body)| code == 503 && body.contains("the state database is unreachable"))
    })
    .await;
    assert!(started.elapsed() < NOTICED_WITHIN, "{:?}", started.elapsed());
    proxy.set_silent(false);
    env.eventually("it stands by again", stands_by).await;
    signal(&leader, "TERM");
    assert_eq!(ended(&mut leader).await, Some(0));
    env.eventually("it takes over", async || {
        ask(port, "/readyz").await.is_some_and(|(code, body)| code == 200 && body.contains("leader"))
    })
    .await;
    signal(&standby, "TERM");
    assert_eq!(ended(&mut standby).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler_is_refused_for_source_and_state() {
    let port = free_port();
    let env = TestEnvironment::set_up(listen(port)).await;
    env.execute(&people(5)).await;
    let pooler = TransactionPooler::start(&env.database).await;
    for (variable, key) in [("IMSYNC_STATE_URL", "[state] url"), ("IMSYNC_SOURCE_URL", "source.url")] {
        let direct = if variable == "IMSYNC_STATE_URL" { "IMSYNC_SOURCE_URL" } else { "IMSYNC_STATE_URL" };
        let commands: [&[&str]; 6] =
            [&["backfill"], &["run", "--once"], &["backfill", "--dry-run"], &["preview"], &["check"], &["status"]];
        for arguments in commands {
            if arguments == ["status"] && variable == "IMSYNC_SOURCE_URL" {
                continue; // It does not connect to the source.
            }
            let mut command = env.command(arguments);
            command.env(variable, pooler.url()).env(direct, env.database.url());
            run(command).await.expect_code(1).expect_all(&[key, "pooler in transaction mode", "session mode"]);
        }
        let mut daemon = start_with(&env, "run", &[(variable, pooler.url()), (direct, env.database.url())]);
        env.eventually("/readyz names the pooler", async || {
            ask(port, "/readyz").await.is_some_and(|(code, body)| code == 503 && body.contains("transaction mode"))
        })
        .await;
        signal(&daemon, "TERM");
        assert_eq!(ended(&mut daemon).await, Some(0));
        assert!(!has_state_schema(&env).await, "nothing was created through the pooler");
    }
}

/// The tables of the state are created in a transaction that stays open until the source has been examined.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_waits_for_a_busy_source() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(5)).await;
    let mut blocker = env.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").execute(&mut blocker).await.unwrap();
    let mut backfill = env.start("backfill", &["backfill"]);
    // Longer than the server lets a writer be idle within a transaction.
    tokio::time::sleep(Duration::from_secs(6)).await;
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    assert_eq!(ended(&mut backfill).await, Some(0), "{}", env.printed("backfill", "err"));
    assert_eq!(env.handle().users().len(), 5);
}
