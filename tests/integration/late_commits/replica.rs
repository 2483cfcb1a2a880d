//! The source is a streaming replica. It does not show the primary's open transactions, so the replayed position serves
//! as its clock, and the grace is the only protection.
//!
//! Owns: a primary and its standby on one machine. Must not know: how a transaction list is taken.

use imsync::cluster::Cluster;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::daemon::Daemon;
use super::single_passes::{city, incremental, run_once, status, wait_out_slack};
use super::{environment_on, open_transaction, people, private_server, run, setup, text, update_city};
use crate::support::{Setup, TestEnvironment, USERS};

const WARNING: &str = "the source is a replica, where the primary's open transactions cannot be seen: only \
                       source.watermark_grace protects against late commits";

/// An environment whose statements and state use the primary, and whose source is the standby.
struct PrimaryAndStandby {
    env: TestEnvironment,
    standby: PgConnection,
    servers: [Cluster; 2],
}

impl PrimaryAndStandby {
    async fn new(setup: Setup) -> Self {
        let mut primary = private_server(0, &[("wal_level", "replica"), ("max_wal_senders", "3")]).await;
        let env = environment_on(&primary, setup).await;
        let both = tokio::task::spawn_blocking(move || primary.standby().map(|standby| [primary, standby])).await;
        let servers = both.expect("the task ends").expect("a standby");
        let url = servers[1].url("app");
        env.edit(env.database.url(), &url);
        let standby = PgConnection::connect(&url).await.expect("the standby takes connections");
        Self { env, standby, servers }
    }

    async fn query(&mut self, sql: &str) -> String {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(&mut self.standby).await.expect("a plain query")
    }

    /// Waits until the standby shows everything that is committed now.
    async fn wait_until_replayed(&mut self) {
        let position = text(&self.env, "SELECT pg_current_wal_lsn()::text").await;
        let reached = format!("SELECT (pg_last_wal_replay_lsn() >= '{position}'::pg_lsn)::text");
        for _ in 0..1_200 {
            if self.query(&reached).await == "true" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("the standby has not replayed {position}");
    }

    /// Commits a change on the primary and waits until it is replayed, which also moves the replica's clock.
    async fn change_and_replay(&mut self, account: &str, city: &str) {
        self.env.execute(&update_city(account, city)).await;
        self.wait_until_replayed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_replica_the_grace_is_the_only_protection() {
    let mut pair = PrimaryAndStandby::new(Setup { sql: format!("{USERS} {}", people(50)), ..setup("") }).await;
    pair.wait_until_replayed().await;

    // The pass logs the warning, and replayed rows arrive.
    let first = pair.env.imsync(&["run", "--once", "--json"]).await.expect_code(0);
    assert!(first.stderr.contains(WARNING), "{}", first.stderr);
    assert_eq!(first.json()["kind"], "full");
    assert_eq!(pair.env.handle().users(), pair.env.wanted_of_users().await);
    pair.change_and_replay("u1", "replayed").await;
    incremental(&pair.env).await;
    assert_eq!(city(&pair.env, "u1"), "replayed");

    // The watermark stays behind rows that are committed but not replayed, however long the replay is paused.
    pair.query("SELECT pg_wal_replay_pause()::text").await;
    while pair.query("SELECT pg_get_wal_replay_pause_state()").await != "paused" {
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    pair.env.execute(&update_city("u2", "not replayed")).await;
    wait_out_slack(&pair.env).await;
    wait_out_slack(&pair.env).await;
    incremental(&pair.env).await;
    assert_eq!(city(&pair.env, "u2"), "old");
    let watermark = status(&pair.env).await["watermark"].as_str().expect("a watermark").to_owned();
    let behind = format!("SELECT ('{watermark}'::timestamptz < updated_at)::text FROM users WHERE id = 'u2'");
    assert_eq!(text(&pair.env, &behind).await, "true", "{watermark}");
    pair.query("SELECT pg_wal_replay_resume()::text").await;
    pair.wait_until_replayed().await;
    incremental(&pair.env).await;
    assert_eq!(city(&pair.env, "u2"), "not replayed");

    // A late commit within the grace arrives, although the watermark has passed its timestamp.
    pair.env.edit("watermark_grace = \"1s\"", "watermark_grace = \"1h\"");
    let mut late = open_transaction(&pair.env).await;
    run(&mut late, &update_city("u3", "within")).await;
    wait_out_slack(&pair.env).await;
    pair.change_and_replay("u4", "concurrent").await;
    incremental(&pair.env).await;
    assert_eq!(["u3", "u4"].map(|account| city(&pair.env, account)), ["old", "concurrent"]);
    assert!(status(&pair.env).await["held_back_by"].is_null(), "the primary's transactions are not visible");
    run(&mut late, "COMMIT").await;
    pair.wait_until_replayed().await;
    incremental(&pair.env).await;
    assert_eq!(city(&pair.env, "u3"), "within");

    // A late commit beyond the grace does not arrive. The full pass finds and counts it.
    pair.env.edit("watermark_grace = \"1h\"", "watermark_grace = \"1s\"");
    let mut late = open_transaction(&pair.env).await;
    run(&mut late, &update_city("u5", "beyond")).await;
    wait_out_slack(&pair.env).await;
    pair.change_and_replay("u6", "concurrent").await;
    incremental(&pair.env).await;
    run(&mut late, "COMMIT").await;
    pair.wait_until_replayed().await;
    assert_eq!(incremental(&pair.env).await["calls"], 0);
    assert_eq!(["u5", "u6"].map(|account| city(&pair.env, account)), ["old", "concurrent"]);
    let full = pair.env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!((&full["changed"], &full["repaired"]), (&1.into(), &1.into()), "{full}");
    assert_eq!(pair.env.handle().users(), pair.env.wanted_of_users().await);

    // The daemon logs the warning too.
    let mut daemon = Daemon::start(&pair.env);
    pair.env.execute(&update_city("u7", "daemon")).await;
    daemon.wait_for_city("u7", "daemon").await;
    assert_eq!(daemon.log().matches(WARNING).count(), 1, "{}", daemon.log());
    daemon.stop().await;
    assert_eq!(run_once(&pair.env).await["calls"], 0);
}

/// What the standby of a provider denies, or does not have.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hides_its_time_is_reported() {
    let mut pair = PrimaryAndStandby::new(Setup { sql: format!("{USERS} {}", people(50)), ..setup("") }).await;
    let role = "CREATE ROLE reader LOGIN PASSWORD 'sesame'; GRANT SELECT ON users TO reader;
        REVOKE EXECUTE ON FUNCTION pg_last_xact_replay_timestamp, pg_control_checkpoint FROM PUBLIC";
    pair.env.execute(role).await;
    pair.wait_until_replayed().await;
    let source = pair.servers[1].url("app");
    let after_password = source.split_once('@').expect("the URL has a password").1;
    pair.env.edit(&source, &format!("postgres://reader:sesame@{after_password}"));

    let remedy = ["primary", "remove watermark_column"];
    let check = pair.env.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  source.replica_clock: "]);
    check.expect_all(&remedy);
    pair.env.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&remedy);
    assert!(pair.env.handle().users().is_empty());

    // Either remedy works. Here: no watermark.
    pair.env.edit("watermark_column = \"updated_at\"\n", "");
    pair.env.edit("watermark_grace = \"1s\"\n", "");
    pair.env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(pair.env.handle().users(), pair.env.wanted_of_users().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_on_a_standby_is_reported() {
    let mut pair = PrimaryAndStandby::new(Setup { sql: format!("{USERS} {}", people(50)), ..setup("") }).await;
    pair.wait_until_replayed().await;
    let [primary, standby] = [0, 1].map(|server: usize| pair.servers[server].url("state"));
    pair.env.edit(&primary, &standby);
    let remedy = ["leads to a standby", "set [state] url to the primary"];
    pair.env.imsync(&["check"]).await.expect_code(1).expect_all(&["FAIL  state.writable: "]).expect_all(&remedy);
    for command in [&["run", "--once"][..], &["backfill"], &["migrate"]] {
        pair.env.imsync(command).await.expect_code(1).expect_all(&remedy);
    }
    let mut daemon = pair.env.start("daemon", &["run"]);
    pair.env.eventually("the daemon says so", async || pair.env.printed("daemon", "err").contains(remedy[1])).await;
    daemon.kill().await.expect("the daemon can be killed");
    assert!(pair.env.handle().users().is_empty());
}
