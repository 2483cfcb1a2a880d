//! Schedules that are forced with locks, so that each of them certainly happens.
//!
//! The statement of a transaction list is stopped at two places, in functions of the database that stand before those of the
//! server: where it reads the clock, and where it has read the running transactions and not the prepared ones.

use super::transaction_lists::{TABLE, connect, list_without_logins, pass};
use super::{Source, TestDatabase, WatermarkPoint, accounts_of, all, changed, execute};
use crate::source::TransactionList;
use crate::source::list_transactions::list_once;
use crate::source::watermark::WatermarkTracker;

/// The first one waits while another session has the lock 1, the second one while it has the lock 2.
const STOPS: &str = "CREATE SCHEMA stops;
    CREATE FUNCTION stops.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); RETURN pg_catalog.clock_timestamp(); END $$;
    CREATE FUNCTION stops.current_database() RETURNS name LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(2); RETURN pg_catalog.current_database(); END $$;
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = stops, pg_catalog, public', pg_catalog.current_database()); END $$;";

const AT_THE_CLOCK: i64 = 1;
const BEFORE_THE_PREPARED: i64 = 2;

/// Waits until exactly one session of this database waits for a lock that matches `condition` in `pg_locks`.
async fn wait_for_waiter(database: &TestDatabase, condition: &str) {
    let mut session = database.session().await;
    let waiting = format!(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND {condition}
         AND database = (SELECT oid FROM pg_database WHERE datname = pg_catalog.current_database())"
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

/// Takes a transaction list that stops at this place, and does something meanwhile.
async fn list_stopped_at(
    database: &TestDatabase,
    mut source: Source,
    place: i64,
    meanwhile: impl AsyncFnOnce(),
) -> (TransactionList, Source) {
    let mut stop = database.session().await;
    execute(&mut stop, &format!("SELECT pg_advisory_lock({place})")).await;
    // Sessions of other tests that log in would make it read the list again.
    let transactions = tokio::spawn(async move {
        let listed = list_once(&mut source.session, &source.list).await;
        (listed.unwrap().transactions, source)
    });
    wait_for_waiter(database, &format!("locktype = 'advisory' AND objid = {place}")).await;
    meanwhile().await;
    execute(&mut stop, &format!("SELECT pg_advisory_unlock({place})")).await;
    transactions.await.unwrap()
}

#[tokio::test]
async fn prepared_transactions_are_read_after_the_running_ones() {
    let database = TestDatabase::create().await;
    database.run(&format!("{TABLE}; {STOPS}")).await;
    let source = connect(&database, None).await;
    let (mut writer, mut observer) = (database.session().await, database.session().await);
    execute(&mut writer, "BEGIN; INSERT INTO users VALUES ('two-phase')").await;
    let gid = format!("{}_between", database.name);
    let mut stopped = 0;
    let (transactions, _) = list_stopped_at(&database, source, BEFORE_THE_PREPARED, async || {
        let clock = "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8";
        stopped = sqlx::query_scalar(clock).fetch_one(&mut observer).await.unwrap();
        // It would be in neither list if the prepared transactions had been read already.
        execute(&mut writer, &format!("PREPARE TRANSACTION '{gid}'")).await;
    })
    .await;
    let listed = transactions.prepared.iter().find(|prepared| prepared.gid == gid);
    let id = &listed.unwrap_or_else(|| panic!("{transactions:?}")).id;
    assert!(transactions.running.iter().any(|running| running.id == *id), "{transactions:?}");
    // A transaction that begins after the running ones were read has a later stamp; the clock must not be after it.
    assert!(transactions.clock <= stopped, "{} is after {stopped}", transactions.clock);
    execute(&mut writer, &format!("ROLLBACK PREPARED '{gid}'")).await;
}

#[tokio::test]
async fn running_transactions_are_read_after_the_clock() {
    let database = TestDatabase::create().await;
    database.run(&format!("{TABLE}; {STOPS}")).await;
    let source = connect(&database, None).await;
    let mut writer = database.session().await;
    let (transactions, _) = list_stopped_at(&database, source, AT_THE_CLOCK, async || {
        execute(&mut writer, "SET application_name = 'began at the clock'; BEGIN; INSERT INTO users VALUES ('new')")
            .await;
    })
    .await;
    // Its stamp is before the clock. If it were missing, its row would be lost.
    let application = Some("began at the clock".to_owned());
    assert!(transactions.running.iter().any(|running| running.application == application), "{transactions:?}");
}

/// While the running transactions are read, one with a larger number commits. One with a smaller number that begins right
/// after that is not in the list, and its number must not be below the position of the list.
#[tokio::test]
async fn a_counter_is_read_before_the_running_transactions() {
    let database = TestDatabase::create().await;
    database.run(&format!("CREATE TABLE users (id text PRIMARY KEY, version bigint); CREATE INDEX ON users (version, id); INSERT INTO users VALUES ('old', 10); {STOPS}")).await;
    for place in [AT_THE_CLOCK, BEFORE_THE_PREPARED] {
        database.run("DELETE FROM users WHERE id <> 'old'").await;
        let mut config = database.config("users");
        config.source.watermark_column = Some("version".to_owned());
        let mut source = database.open(&config, &[]).await.unwrap();
        let mut tracker = WatermarkTracker::begin(&list_without_logins(&mut source).await);
        let (mut late, mut quick) = (database.session().await, database.session().await);
        let (mut transactions, mut source) = list_stopped_at(&database, source, place, async || {
            execute(&mut quick, "INSERT INTO users VALUES ('quick', 12)").await;
        })
        .await;
        execute(&mut late, "BEGIN; INSERT INTO users VALUES ('late', 11)").await;
        transactions.running.retain(|running| running.application.is_some());
        assert_eq!(transactions.taken_at, WatermarkPoint::At(10));
        tracker.observe(&transactions);
        assert_eq!(accounts_of(&changed(&mut source, tracker.read_from()).await), ["old", "quick"]);
        tracker.complete();
        execute(&mut late, "COMMIT").await;
        assert_eq!(pass(&mut source, &mut tracker).await, ["old", "late", "quick"]);
    }
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
