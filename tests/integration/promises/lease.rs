//! Tests that only the lease holder writes, and that an idle holder writes nothing.
//!
//! Owns: a suspended holder, a lost lease, and an idle daemon. Must not know: how the lease is stored.

use std::time::Duration;

use crate::support::{Setup, TestEnvironment, ended, signal};

use super::state_truth::{StateWatcher, expect_truth};
use super::{environment_of, fault, in_flight_twice, status};

async fn pid_of_holder(env: &TestEnvironment) -> Option<u32> {
    let holder = status(env).await["lease"]["holder"].as_str()?.to_owned();
    holder.split("pid ").nth(1)?.split(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_leader_is_replaced_and_stands_by_afterwards() {
    let env =
        environment_of(400, Setup { im: "users_per_call = 10\ntimeout = \"10s\"\n".to_owned(), ..Setup::default() })
            .await;
    fault(&env, "slow:40ms");
    let first = env.start("first", &["run"]);
    let watcher = StateWatcher::start(&env);
    let first_pid = first.id();
    env.eventually("the first daemon holds the lease", async || pid_of_holder(&env).await == first_pid).await;
    let mut second = env.start("run", &["run"]);
    env.eventually("the second daemon stands by", async || env.printed("run", "err").contains("standing by")).await;

    // SIGSTOP suspends the first daemon while it sends.
    env.execute("UPDATE users SET city = 'work', updated_at = now()").await;
    let arrived = env.handle().counters().arrived;
    env.handle().wait_until(|counters| counters.arrived > arrived + 2).await;
    signal(&first, "STOP");
    let second_pid = second.id();
    env.eventually("the second daemon holds the lease", async || pid_of_holder(&env).await == second_pid).await;
    env.converges(Duration::from_secs(20)).await;

    // The first daemon continues with unsent changes, and makes no call.
    env.execute("UPDATE users SET city = 'newer', updated_at = now()").await;
    env.converges(Duration::from_secs(20)).await;
    env.eventually("no account is in doubt", async || status(&env).await["in_doubt"] == 0).await;
    let before = env.handle().counters().arrived;
    signal(&first, "CONT");
    env.eventually("the first daemon stands by", async || {
        let printed = env.printed("first", "err");
        printed.rfind("standing by:") > printed.rfind(" leading") && printed.contains("standing by:")
    })
    .await;
    assert_eq!(env.handle().counters().arrived, before, "the table does not change, so no call is needed");
    env.execute("UPDATE users SET city = 'newest', updated_at = now() WHERE right(id, 1) = '1'").await;
    env.converges(Duration::from_secs(20)).await;
    watcher.end().await;
    expect_truth(&env).await;

    // The second daemon is killed, and the first takes over again.
    second.kill().await.expect("the daemon can be killed");
    env.execute("UPDATE users SET city = 'last', updated_at = now() WHERE right(id, 1) = '2'").await;
    env.converges(Duration::from_secs(20)).await;
    assert_eq!(pid_of_holder(&env).await, first_pid);
    let mut first = first;
    signal(&first, "TERM");
    assert_eq!(ended(&mut first).await, Some(0));
    assert_eq!(in_flight_twice(&env), vec![]);
    expect_truth(&env).await;
}

/// A transaction that no client ends keeps its locks, so the server has to end it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_suspended_within_a_transaction_is_replaced() {
    let env = environment_of(100, Setup::default()).await;
    let first = env.start("first", &["run"]);
    env.converges(Duration::from_secs(20)).await;
    let mut second = env.start("run", &["run"]);
    env.eventually("the second daemon stands by", async || env.printed("run", "err").contains("standing by")).await;

    let mut blocker = env.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE imsync.account IN SHARE MODE")
        .execute(&mut blocker)
        .await
        .expect("the table can be locked");
    env.execute("UPDATE users SET city = 'work', updated_at = now()").await;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'imsync.account'::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    env.eventually("the first daemon records outcomes", async || env.number(waits).await > 0).await;
    signal(&first, "STOP");
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.expect("the lock can be released");

    let second_pid = second.id();
    env.eventually("the second daemon holds the lease", async || pid_of_holder(&env).await == second_pid).await;
    env.converges(Duration::from_secs(20)).await;
    signal(&first, "CONT");
    env.eventually("the first daemon stands by", async || env.printed("first", "err").contains("standing by:")).await;
    signal(&second, "TERM");
    assert_eq!(ended(&mut second).await, Some(0));
    assert_eq!(in_flight_twice(&env), vec![]);
    expect_truth(&env).await;
}

/// The epoch rises as if another process had taken the lease unnoticed. The writes of the former holder are rolled
/// back, and it takes the lease again.
#[tokio::test(flavor = "multi_thread")]
async fn a_higher_epoch_rolls_back_writes_of_the_former_holder() {
    let env = environment_of(100, Setup::default()).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    env.eventually("the daemon holds the lease", async || !status(&env).await["lease"].is_null()).await;
    let hold = fault(&env, "hold:command=set_attr");
    env.execute("UPDATE users SET city = 'held', updated_at = now() WHERE id = 'u00001'").await;
    env.handle().wait_until(|counters| counters.held >= 1).await;
    // The call is in flight and its intent is stored. Now the epoch rises.
    env.execute("UPDATE imsync.sync SET lease_epoch = lease_epoch + 100").await;
    let all = "SELECT md5(string_agg(account || acknowledged::text, ',' ORDER BY account))::text FROM imsync.account";
    let digest = async || {
        let digest: String =
            sqlx::query_scalar(all).fetch_one(&mut env.database.connect().await).await.expect("the query succeeds");
        digest
    };
    let before = digest().await;
    let epoch = env.number("SELECT lease_epoch FROM imsync.sync").await;
    env.handle().remove_fault(hold);
    env.eventually("the daemon has taken the lease again", async || {
        env.number("SELECT lease_epoch FROM imsync.sync").await > epoch
    })
    .await;
    assert!(env.printed("run", "err").contains("was lost to another imsync"), "{}", env.printed("run", "err"));
    env.converges(Duration::from_secs(15)).await;
    env.eventually("the new holder has recorded the change", async || digest().await != before).await;
    env.eventually("no intent remains", async || env.number("SELECT count(*) FROM imsync.intent").await == 0).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// A daemon that finds no change polls the table without a write and without a call.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_daemon_makes_no_write_and_no_call() {
    let setup = Setup { more: "[schedule]\ninterval = \"100ms\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(100, setup).await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    env.execute("UPDATE users SET city = 'x', updated_at = now() WHERE id = 'u00001'").await;
    env.converges(Duration::from_secs(15)).await;
    let writes =
        "SELECT (sum(n_tup_ins + n_tup_upd + n_tup_del))::bigint FROM pg_stat_user_tables WHERE schemaname = 'imsync'";
    let reads = "SELECT (sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)))::bigint FROM pg_stat_user_tables WHERE schemaname = 'public'";
    // The first passes store their results, and later one pass a minute does. PostgreSQL publishes statistics after up
    // to a second. The statistics cover only this database, so other tests on the server do not matter.
    env.eventually("ten polls without a write or a call", async || {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let before = (env.number(writes).await, env.handle().counters().arrived);
        let polls = env.number(reads).await;
        env.eventually("ten polls have run", async || env.number(reads).await >= polls + 10).await;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        (env.number(writes).await, env.handle().counters().arrived) == before
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
