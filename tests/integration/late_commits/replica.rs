//! The source is a streaming replica: it shows nothing of the primary's transactions, so its clock is what it has
//! replayed, and the grace is the only protection.
//!
//! Owns: a primary and its standby, one machine. Must not know: how a fence is taken.

use imsync::cluster::Cluster;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::daemon::Daemon;
use super::first_full_passes::{city, incremental, longer_than_the_slack, once, status};
use super::{begun, environment_on, moves, own_server, people, run, setup, text};
use crate::support::{Setup, TestEnvironment, USERS};

const WARNING: &str = "the source is a replica, where the primary's open transactions cannot be seen: only \
                       source.watermark_grace protects against late commits";

/// A env whose statements go to the primary, where the state is too, and whose source is the standby.
struct PrimaryAndStandby {
    env: TestEnvironment,
    standby: PgConnection,
    _servers: [Cluster; 2],
}

impl PrimaryAndStandby {
    async fn new(setup: Setup) -> Self {
        let primary = own_server(0, &[("wal_level", "replica"), ("max_wal_senders", "3")]).await;
        let env = environment_on(&primary, setup).await;
        let both = tokio::task::spawn_blocking(move || primary.standby().map(|standby| [primary, standby])).await;
        let servers = both.expect("the task ends").expect("a standby");
        let url = servers[1].url("app");
        env.edit(env.database.url(), &url);
        let standby = PgConnection::connect(&url).await.expect("the standby takes connections");
        Self { env, standby, _servers: servers }
    }

    async fn asks(&mut self, sql: &str) -> String {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(&mut self.standby).await.expect("a plain query")
    }

    /// Waits until the standby shows what is committed now.
    async fn replayed(&mut self) {
        let position = text(&self.env, "SELECT pg_current_wal_lsn()::text").await;
        let reached = format!("SELECT (pg_last_wal_replay_lsn() >= '{position}'::pg_lsn)::text");
        for _ in 0..1_200 {
            if self.asks(&reached).await == "true" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("the standby has not come to {position}");
    }

    /// A change of the primary's, replayed: the replica's clock moves with it.
    async fn changes(&mut self, account: &str, city: &str) {
        self.env.execute(&moves(account, city)).await;
        self.replayed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_replica_the_grace_is_the_only_protection() {
    let mut pair = PrimaryAndStandby::new(Setup { sql: format!("{USERS} {}", people(50)), ..setup("") }).await;
    pair.replayed().await;

    // It is said, and what is replayed arrives.
    let first = pair.env.imsync(&["run", "--once", "--json"]).await.expect_code(0);
    assert!(first.stderr.contains(WARNING), "{}", first.stderr);
    assert_eq!(first.json()["kind"], "full");
    assert_eq!(pair.env.handle().users(), pair.env.wanted_of_users().await);
    pair.changes("u1", "replayed").await;
    incremental(&pair.env).await;
    assert_eq!(city(&pair.env, "u1"), "replayed");

    // What is committed and not replayed is not claimed, however long that lasts: the watermark stays behind it.
    pair.asks("SELECT pg_wal_replay_pause()::text").await;
    while pair.asks("SELECT pg_get_wal_replay_pause_state()").await != "paused" {
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    pair.env.execute(&moves("u2", "not replayed")).await;
    longer_than_the_slack(&pair.env).await;
    longer_than_the_slack(&pair.env).await;
    incremental(&pair.env).await;
    assert_eq!(city(&pair.env, "u2"), "old");
    let watermark = status(&pair.env).await["watermark"].as_str().expect("a watermark").to_owned();
    let behind = format!("SELECT ('{watermark}'::timestamptz < updated_at)::text FROM users WHERE id = 'u2'");
    assert_eq!(text(&pair.env, &behind).await, "true", "{watermark}");
    pair.asks("SELECT pg_wal_replay_resume()::text").await;
    pair.replayed().await;
    incremental(&pair.env).await;
    assert_eq!(city(&pair.env, "u2"), "not replayed");

    // A late commit within the grace arrives, although the watermark has gone past its stamp.
    pair.env.edit("watermark_grace = \"1s\"", "watermark_grace = \"1h\"");
    let mut late = begun(&pair.env).await;
    run(&mut late, &moves("u3", "within")).await;
    longer_than_the_slack(&pair.env).await;
    pair.changes("u4", "beside").await;
    incremental(&pair.env).await;
    assert_eq!(["u3", "u4"].map(|account| city(&pair.env, account)), ["old", "beside"]);
    assert!(status(&pair.env).await["held_back_by"].is_null(), "nobody sees the primary's transactions");
    run(&mut late, "COMMIT").await;
    pair.replayed().await;
    incremental(&pair.env).await;
    assert_eq!(city(&pair.env, "u3"), "within");

    // One beyond it does not. The full pass finds it, and counts it.
    pair.env.edit("watermark_grace = \"1h\"", "watermark_grace = \"1s\"");
    let mut late = begun(&pair.env).await;
    run(&mut late, &moves("u5", "beyond")).await;
    longer_than_the_slack(&pair.env).await;
    pair.changes("u6", "beside").await;
    incremental(&pair.env).await;
    run(&mut late, "COMMIT").await;
    pair.replayed().await;
    assert_eq!(incremental(&pair.env).await["calls"], 0);
    assert_eq!(["u5", "u6"].map(|account| city(&pair.env, account)), ["old", "beside"]);
    let full = pair.env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!((&full["changed"], &full["repaired"]), (&1.into(), &1.into()), "{full}");
    assert_eq!(pair.env.handle().users(), pair.env.wanted_of_users().await);

    // The daemon says it too.
    let mut daemon = Daemon::start(&pair.env);
    pair.env.execute(&moves("u7", "daemon")).await;
    daemon.polls_until("u7", "daemon").await;
    assert_eq!(daemon.log().matches(WARNING).count(), 1, "{}", daemon.log());
    daemon.stop().await;
    assert_eq!(once(&pair.env).await["calls"], 0);
}
