//! Schedules that are forced with locks, so that each of them certainly happens.
//!
//! A reading of the transaction list is stopped between two of its statements by a lock on `pg_stat_activity`: the view is
//! altered, in this database alone, in a transaction that is rolled back.

use sqlx::PgConnection;

use super::transaction_lists::{TABLE, connect, list_without_logins, pass};
use super::{TestDatabase, WatermarkPoint, accounts_of, all, changed, execute};
use crate::source::watermark::WatermarkTracker;

/// Waits until exactly one session of this database waits for a lock that matches `condition` in `pg_locks`.
async fn wait_for_waiter(database: &TestDatabase, condition: &str) {
    let mut session = database.session().await;
    let waiting = format!(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND {condition}
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    for _ in 0..2_000 {
        let count: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(waiting.clone())).fetch_one(&mut session).await.unwrap();
        if count == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no session waits for a lock with {condition}");
}

/// Locks `pg_stat_activity` until the transaction of this session ends.
async fn lock_session_list(locker: &mut PgConnection) {
    execute(locker, "SET allow_system_table_mods = on").await;
    execute(locker, "BEGIN; ALTER VIEW pg_catalog.pg_stat_activity SET (security_barrier = true)").await;
}

#[tokio::test]
async fn the_clock_is_read_first_and_prepared_transactions_last() {
    let database = TestDatabase::create().await;
    database.run(TABLE).await;
    let mut source = connect(&database, None).await;
    let (mut locker, mut writer, mut observer) =
        (database.session().await, database.session().await, database.session().await);
    execute(&mut writer, "BEGIN; INSERT INTO users VALUES ('two-phase')").await;
    lock_session_list(&mut locker).await;
    let transactions = tokio::spawn(async move { source.transactions().await.unwrap() });
    wait_for_waiter(&database, "relation = 'pg_stat_activity'::regclass").await;
    let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
    let stopped: i64 = sqlx::query_scalar(clock).fetch_one(&mut observer).await.unwrap();
    // It would be in neither list if the prepared transactions had been read already.
    let gid = format!("{}_between", database.name);
    execute(&mut writer, &format!("PREPARE TRANSACTION '{gid}'")).await;
    execute(&mut locker, "ROLLBACK").await;
    let transactions = transactions.await.unwrap();
    assert!(transactions.prepared.iter().any(|prepared| prepared.gid == gid), "{transactions:?}");
    // A transaction that begins after the running list was read has a later stamp; the clock must not be after it.
    assert!(transactions.clock <= stopped, "{} is after {stopped}", transactions.clock);
    execute(&mut writer, &format!("ROLLBACK PREPARED '{gid}'")).await;
}

/// While the running transactions are read, one with a larger number commits. One with a smaller number that begins right
/// after that is not in the list, and its number must not be below the position of the list.
#[tokio::test]
async fn a_counter_is_read_before_the_running_transactions() {
    let database = TestDatabase::create().await;
    database.run("CREATE TABLE users (id text PRIMARY KEY, version bigint); CREATE INDEX ON users (version, id); INSERT INTO users VALUES ('old', 10)").await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("version".to_owned());
    let mut source = database.open(&config, &[]).await.unwrap();
    let mut tracker = WatermarkTracker::begin(&list_without_logins(&mut source).await);
    let (mut locker, mut late, mut quick) =
        (database.session().await, database.session().await, database.session().await);
    lock_session_list(&mut locker).await;
    let transactions = tokio::spawn(async move { (source.transactions().await.unwrap(), source) });
    wait_for_waiter(&database, "relation = 'pg_stat_activity'::regclass").await;
    execute(&mut quick, "INSERT INTO users VALUES ('quick', 12)").await;
    execute(&mut locker, "ROLLBACK").await;
    let (mut transactions, mut source) = transactions.await.unwrap();
    execute(&mut late, "BEGIN; INSERT INTO users VALUES ('late', 11)").await;
    transactions.running.retain(|running| running.application.is_some());
    assert_eq!(transactions.taken_at, WatermarkPoint::At(10));
    tracker.observe(&transactions);
    assert_eq!(accounts_of(&changed(&mut source, tracker.read_from()).await), ["old", "quick"]);
    tracker.complete();
    execute(&mut late, "COMMIT").await;
    assert_eq!(pass(&mut source, &mut tracker).await, ["old", "late", "quick"]);
}

/// Neither `application_name` nor an earlier pid identifies the own session; only the present pid does.
#[tokio::test]
async fn only_the_own_session_is_left_out() {
    let database = TestDatabase::create().await;
    database.run(TABLE).await;
    let mut source = connect(&database, None).await;
    let own_name = "SELECT current_setting('application_name')";
    let name: String = sqlx::Row::get(&source.session.row(sqlx::query(own_name)).await.unwrap(), 0);
    let mut tracker = WatermarkTracker::begin(&list_without_logins(&mut source).await);
    let mut namesake = database.session().await;
    execute(&mut namesake, &format!("SET application_name = '{name}'")).await;
    execute(&mut namesake, "BEGIN; INSERT INTO users VALUES ('namesake')").await;
    let transactions = list_without_logins(&mut source).await;
    assert_eq!(transactions.running.len(), 1, "{transactions:?}");
    assert_eq!(transactions.running[0].application.as_deref(), Some(name.as_str()));
    pass(&mut source, &mut tracker).await;
    // A new session of this process takes over, as after a lost connection.
    let mut source = connect(&database, None).await;
    database.run("SELECT pg_sleep(1.2)").await;
    assert_eq!(list_without_logins(&mut source).await.running.len(), 1);
    pass(&mut source, &mut tracker).await;
    execute(&mut namesake, "COMMIT").await;
    assert_eq!(pass(&mut source, &mut tracker).await, ["namesake"]);
}

/// The second transaction of one message is stamped with the arrival of the message, a chained one with the COMMIT before
/// it: long before its virtual id existed. Its visible start tells.
#[tokio::test]
async fn a_visible_start_finds_chained_transactions() {
    let database = TestDatabase::create().await;
    database
        .run(&format!(
            "{TABLE}; CREATE TABLE slow (n int);
             CREATE FUNCTION wait_for_lock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_lock()"
        ))
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    config.source.watermark_grace = std::time::Duration::ZERO;
    let mut source = database.open(&config, &["city"]).await.unwrap();
    let mut tracker = WatermarkTracker::begin(&list_without_logins(&mut source).await);

    for (before, message, then, account) in [
        (
            "SELECT 1",
            "BEGIN; SELECT pg_advisory_xact_lock(1); COMMIT;
             BEGIN; INSERT INTO users VALUES ('second'); SELECT pg_advisory_xact_lock(2); COMMIT",
            "SELECT 1",
            "second",
        ),
        (
            "BEGIN; INSERT INTO slow VALUES (1)",
            "COMMIT AND CHAIN",
            "INSERT INTO users VALUES ('chained'); SELECT pg_advisory_xact_lock(2); COMMIT",
            "chained",
        ),
    ] {
        let (mut first, mut second, mut writer) =
            (database.session().await, database.session().await, database.session().await);
        execute(&mut first, "SELECT pg_advisory_lock(1)").await;
        execute(&mut second, "SELECT pg_advisory_lock(2)").await;
        execute(&mut writer, before).await;
        let writing = tokio::spawn(async move {
            execute(&mut writer, message).await;
            execute(&mut writer, then).await;
        });
        wait_for_waiter(&database, "locktype = 'advisory' AND objid = 1").await;
        pass(&mut source, &mut tracker).await;
        // Longer than the slack, so that rows stamped before are not read because they are recent.
        database.run("SELECT pg_sleep(1.2)").await;
        pass(&mut source, &mut tracker).await;
        execute(&mut first, "SELECT pg_advisory_unlock(1)").await;
        wait_for_waiter(&database, "locktype = 'advisory' AND objid = 2").await;
        pass(&mut source, &mut tracker).await;
        assert!(!pass(&mut source, &mut tracker).await.contains(&account.to_owned()));
        execute(&mut second, "SELECT pg_advisory_unlock(2)").await;
        writing.await.unwrap();
        assert!(pass(&mut source, &mut tracker).await.contains(&account.to_owned()), "{account}");
    }
    assert_eq!(accounts_of(&all(&mut source).await), ["chained", "second"]);
}
