//! Upgrades on a real server, with lists of migrations that no release has. Each test has a database of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{MIGRATIONS, Migration, Migrator};
use crate::cluster::{self, Cluster, ClusterOptions};
use crate::postgres::{Connector, PgUrl, PgVariables};
use crate::state::{Access, PoolerProbe, State, StateError};

/// As a later release could upgrade the tables: a new column without a default, filled from what is stored.
const SECOND: Migration = Migration {
    version: 2,
    name: "length",
    sql: "ALTER TABLE account ADD COLUMN length int;\n\
          UPDATE account SET length = json_array_length(acknowledged);\n\
          ALTER TABLE account ALTER COLUMN length SET NOT NULL;\n",
};

/// Fails after its first statement.
const FAILING: Migration =
    Migration { version: 3, name: "failing", sql: "CREATE TABLE unfinished ();\nSELECT 1 / 0;\n" };

const FILL: &str = "
    INSERT INTO imsync.sync (name, binding) VALUES ('users', '{}');
    INSERT INTO imsync.account (digest, acknowledged_at, sync_id, generation, account, acknowledged)
    SELECT n, now(), 1, 1, 'u' || n, '[\"a\",null,\"b\"]' FROM generate_series(1, 1000) AS n;
    INSERT INTO imsync.intent (sync_id, accounts, set_attributes, remove_attributes) VALUES (1, '{u1}', '{1}', '{0}');
    INSERT INTO imsync.rejection VALUES (1, 'u2', '', 70107, 'no such account', 0, now(), now(), 1, now());
    INSERT INTO imsync.removal VALUES (1, 'u3', now());
    INSERT INTO imsync.pass (sync_id, kind, outcome, started_at, finished_at, rows_read, changed, pushed, removed, rejected, calls, repaired)
    VALUES (1, 'full', 'ok', now(), now(), 1000, 1000, 1000, 0, 0, 10, 0);";

/// The rows of every table as they were before the second migration.
const CONTENT: &str = "
    SELECT md5(concat_ws('|',
        (SELECT string_agg(sync::text, ',' ORDER BY id) FROM imsync.sync),
        (SELECT string_agg(concat_ws(',', digest, acknowledged_at, sync_id, generation, account, acknowledged), ';' ORDER BY account)
         FROM imsync.account),
        (SELECT string_agg(intent::text, ',' ORDER BY id) FROM imsync.intent),
        (SELECT string_agg(rejection::text, ',' ORDER BY account) FROM imsync.rejection),
        (SELECT string_agg(removal::text, ',' ORDER BY account) FROM imsync.removal),
        (SELECT string_agg(pass::text, ',' ORDER BY id) FROM imsync.pass)))";

fn first_and(others: Vec<Migration>) -> Vec<Migration> {
    let Migration { version, name, sql } = MIGRATIONS[0];
    std::iter::once(Migration { version, name, sql }).chain(others).collect()
}

fn server() -> String {
    static PRIVATE: OnceLock<Cluster> = OnceLock::new();
    if let Ok(url) = std::env::var("IMSYNC_TEST_PG_URL") {
        return url;
    }
    // Statics are not dropped. The supervisor of the server stops it when this process has ended.
    PRIVATE.get_or_init(|| Cluster::start(ClusterOptions::default()).expect("a private PostgreSQL")).url("postgres")
}

struct MigrationDatabase {
    url: String,
}

impl MigrationDatabase {
    async fn create() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = tokio::task::spawn_blocking(server).await.unwrap();
        let name = format!("imsync_state_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { url: cluster::create_database(&server, &name, "template0").await.unwrap() }
    }

    async fn state(&self, access: Access) -> State {
        State::open_with(
            Connector::new(&PgUrl::parse(&self.url, &PgVariables::default()).unwrap(), None, "imsync"),
            ("imsync", "users"),
            access,
            PoolerProbe::Needed,
        )
        .await
        .unwrap()
    }

    async fn execute(&self, script: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        connection.execute(sqlx::raw_sql(AssertSqlSafe(script.to_owned()))).await.unwrap();
    }

    async fn text(&self, query: &'static str) -> String {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
    }

    async fn versions(&self) -> String {
        self.text("SELECT string_agg(version || ' ' || name, ', ' ORDER BY version) FROM imsync.migration").await
    }

    /// Tables of the first version with rows in each of them.
    async fn filled() -> (Self, State) {
        let database = Self::create().await;
        let state = database.state(Access::ReadWrite).await;
        let applied = Migrator { state: &state, migrations: &first_and(vec![]) }.migrate().await.unwrap();
        assert_eq!(applied, (None, 1));
        database.execute(FILL).await;
        (database, state)
    }
}

#[track_caller]
fn expect_refusal<T: std::fmt::Debug>(result: Result<T, StateError>, parts: &[&str]) {
    let error = result.expect_err("the schema does not fit");
    assert!(matches!(error, StateError::Unmet(_)), "{error:?}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

#[test]
fn versions_count_from_one_and_name_their_files() {
    let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let listed: Vec<String> =
        MIGRATIONS.iter().map(|migration| format!("{:04}_{}.sql", migration.version, migration.name)).collect();
    assert_eq!(files, listed);
    let versions: Vec<i32> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    assert_eq!(versions, (1..=super::LATEST_VERSION).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_pending_migration_keeps_every_row() {
    let (database, state) = MigrationDatabase::filled().await;
    let before = database.text(CONTENT).await;
    let migrations = first_and(vec![SECOND]);
    let migrator = Migrator { state: &state, migrations: &migrations };
    assert_eq!(migrator.supported_version().await.unwrap(), Some(1));
    assert_eq!(migrator.migrate().await.unwrap(), (Some(1), 2));
    assert_eq!(database.text(CONTENT).await, before);
    assert_eq!(database.text("SELECT sum(length)::text FROM imsync.account").await, "3000");
    assert_eq!(database.versions().await, "1 state, 2 length");
    assert_eq!(migrator.supported_version().await.unwrap(), Some(2));

    // Nothing is pending any more.
    assert_eq!(migrator.migrate().await.unwrap(), (Some(2), 2));
    assert_eq!(migrator.pending_sql().await.unwrap(), "");
    assert_eq!(database.text(CONTENT).await, before);
}

#[tokio::test]
async fn a_failing_migration_changes_nothing() {
    let (database, state) = MigrationDatabase::filled().await;
    let before = database.text(CONTENT).await;
    let migrations = first_and(vec![SECOND, FAILING]);
    let migrator = Migrator { state: &state, migrations: &migrations };
    let error = migrator.migrate().await.expect_err("it divides by zero").to_string();
    assert!(error.contains("division by zero"), "{error}");
    assert_eq!(database.versions().await, "1 state", "the second migration is rolled back with the third");
    assert_eq!(database.text(CONTENT).await, before);
    assert_eq!(database.text("SELECT (to_regclass('imsync.unfinished') IS NULL)::text").await, "true");

    // The connection is usable, and the schema can still be upgraded.
    let migrations = first_and(vec![SECOND]);
    assert_eq!(Migrator { state: &state, migrations: &migrations }.migrate().await.unwrap(), (Some(1), 2));
}

#[tokio::test]
async fn an_older_binary_refuses_a_newer_schema() {
    let (database, state) = MigrationDatabase::filled().await;
    let newer = first_and(vec![SECOND]);
    Migrator { state: &state, migrations: &newer }.migrate().await.unwrap();
    let before = database.text(CONTENT).await;
    let older = first_and(vec![]);
    let migrator = Migrator { state: &state, migrations: &older };
    let parts = ["is at version 2", "supports version 1 at most"];
    expect_refusal(migrator.migrate().await, &parts);
    expect_refusal(migrator.supported_version().await, &parts);
    expect_refusal(migrator.pending_sql().await, &parts);
    expect_refusal(migrator.ensure_schema(true).await, &parts);
    expect_refusal(migrator.ensure_schema(false).await, &parts);
    assert_eq!(state.schema_version().await.unwrap(), Some(2), "the version can still be shown");
    assert_eq!(database.versions().await, "1 state, 2 length");
    assert_eq!(database.text(CONTENT).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_apply_each_once() {
    let database = MigrationDatabase::create().await;
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        // A state of its own stands for a process of its own: the connections are not shared.
        let state = database.state(Access::ReadWrite).await;
        starts.spawn(async move {
            let migrations = first_and(vec![SECOND]);
            Migrator { state: &state, migrations: &migrations }.migrate().await
        });
    }
    let befores: Vec<Option<i32>> = starts.join_all().await.into_iter().map(|done| done.unwrap().0).collect();
    assert_eq!(befores.iter().filter(|before| before.is_none()).count(), 1, "one process creates: {befores:?}");
    assert_eq!(befores.iter().filter(|before| **before == Some(2)).count(), 7, "the others find it: {befores:?}");
    assert_eq!(database.versions().await, "1 state, 2 length");
}

#[tokio::test]
async fn the_printed_sql_is_what_is_pending() {
    let (database, state) = MigrationDatabase::filled().await;
    let before = database.text(CONTENT).await;
    let migrations = first_and(vec![SECOND]);
    let script = Migrator { state: &state, migrations: &migrations }.pending_sql().await.unwrap();
    assert!(script.contains("-- migration 2: length"), "{script}");
    assert!(!script.contains("CREATE TABLE"), "the first migration is not pending:\n{script}");
    database.execute(&script).await;
    assert_eq!(database.versions().await, "1 state, 2 length");
    assert_eq!(database.text(CONTENT).await, before);
    assert_eq!(database.text("SELECT sum(length)::text FROM imsync.account").await, "3000");
}

#[tokio::test]
async fn an_outdated_schema_is_upgraded_only_when_allowed() {
    let (database, state) = MigrationDatabase::filled().await;
    let migrations = first_and(vec![SECOND]);
    let migrator = Migrator { state: &state, migrations: &migrations };
    expect_refusal(
        migrator.ensure_schema(false).await,
        &["is at version 1", "needs version 2", "migrate is false", "`imsync migrate`"],
    );
    assert_eq!(database.versions().await, "1 state");
    let read_only = database.state(Access::ReadOnly).await;
    let refused = Migrator { state: &read_only, migrations: &migrations }.migrate().await;
    assert!(refused.is_err(), "a command that only reads cannot upgrade");
    assert_eq!(database.versions().await, "1 state");
    migrator.ensure_schema(true).await.unwrap();
    assert_eq!(database.versions().await, "1 state, 2 length");
    migrator.ensure_schema(false).await.unwrap();
}

/// The previous release may be recording while this one upgrades: neither fails, and its rows are counted.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_previous_release_writes_meanwhile_are_counted() {
    let (database, state) = MigrationDatabase::filled().await;
    let mut previous = PgConnection::connect(&database.url).await.unwrap();
    previous.execute("BEGIN; SELECT FROM imsync.sync FOR SHARE").await.unwrap();
    let upgrade = tokio::spawn(async move { state.migrate().await });
    let waits = "SELECT (EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'imsync.sync'::regclass))::text";
    while database.text(waits).await != "true" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let insert = "INSERT INTO imsync.account (digest, acknowledged_at, sync_id, generation, account, acknowledged) \
                  VALUES (1, now(), 1, 1, 'new', '[\"a\"]'); COMMIT";
    previous.execute(insert).await.unwrap();
    assert_eq!(upgrade.await.unwrap().unwrap(), (Some(1), super::LATEST_VERSION));
    let counted = "SELECT (known = (SELECT count(*) FROM imsync.account))::text FROM imsync.account_count";
    assert_eq!(database.text(counted).await, "true");
}
