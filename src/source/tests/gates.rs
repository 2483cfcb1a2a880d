//! Sessions that are stopped at a certain moment, so that each of these interleavings happens for sure.
//!
//! A pass that reads `pg_stat_activity` can be stopped between two statements of its transaction_list: a definition of that view
//! which is being changed, in this database alone, and taken back.

use sqlx::PgConnection;

use super::transaction_lists::{TABLE, opened, pass, settled};
use super::{Database, WatermarkBound, accounts_of, all, changed, execute};
use crate::source::watermark::WatermarkTracker;

/// Waits until one session of this database waits for a lock with this condition in `pg_locks`.
async fn waits(database: &Database, condition: &str) {
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
    panic!("nobody waits: {condition}");
}

/// Nobody gets past it into the list of sessions until its transaction ends.
async fn shut(door: &mut PgConnection) {
    execute(door, "SET allow_system_table_mods = on").await;
    execute(door, "BEGIN; ALTER VIEW pg_catalog.pg_stat_activity SET (security_barrier = true)").await;
}

#[tokio::test]
async fn the_clock_is_read_before_the_running_ones_and_those_before_the_prepared() {
    let database = Database::create().await;
    database.run(TABLE).await;
    let mut source = opened(&database, None).await;
    let (mut door, mut writer, mut watch) =
        (database.session().await, database.session().await, database.session().await);
    execute(&mut writer, "BEGIN; INSERT INTO users VALUES ('two-phase')").await;
    shut(&mut door).await;
    let transactions = tokio::spawn(async move { source.transactions().await.unwrap() });
    waits(&database, "relation = 'pg_stat_activity'::regclass").await;
    let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
    let stopped: i64 = sqlx::query_scalar(clock).fetch_one(&mut watch).await.unwrap();
    // In neither list, if the prepared ones had been read already.
    let gid = format!("{}_between", database.name);
    execute(&mut writer, &format!("PREPARE TRANSACTION '{gid}'")).await;
    execute(&mut door, "ROLLBACK").await;
    let transactions = transactions.await.unwrap();
    assert!(transactions.prepared.iter().any(|prepared| prepared.gid == gid), "{transactions:?}");
    // Who begins after the running ones are read is stamped after that; the clock has to stand before it.
    assert!(transactions.clock <= stopped, "{} is after {stopped}", transactions.clock);
    execute(&mut writer, &format!("ROLLBACK PREPARED '{gid}'")).await;
}

/// While the list of running transactions is read, one with a larger number commits; one with a smaller number that
/// begins right after the list is in no transaction list, and its number must not lie below the candidate.
#[tokio::test]
async fn a_counters_candidate_is_read_before_the_running_ones() {
    let database = Database::create().await;
    database.run("CREATE TABLE users (id text PRIMARY KEY, version bigint); CREATE INDEX ON users (version, id); INSERT INTO users VALUES ('old', 10)").await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("version".to_owned());
    let mut source = database.open(&config, &[]).await.unwrap();
    let mut tracker = WatermarkTracker::begin(&settled(&mut source).await);
    let (mut door, mut late, mut quick) =
        (database.session().await, database.session().await, database.session().await);
    shut(&mut door).await;
    let transactions = tokio::spawn(async move { (source.transactions().await.unwrap(), source) });
    waits(&database, "relation = 'pg_stat_activity'::regclass").await;
    execute(&mut quick, "INSERT INTO users VALUES ('quick', 12)").await;
    execute(&mut door, "ROLLBACK").await;
    let (mut transactions, mut source) = transactions.await.unwrap();
    execute(&mut late, "BEGIN; INSERT INTO users VALUES ('late', 11)").await;
    transactions.running.retain(|running| running.application.is_some());
    assert_eq!(transactions.candidate, WatermarkBound::At(10));
    tracker.observe(&transactions);
    assert_eq!(accounts_of(&changed(&mut source, tracker.read_from()).await), ["old", "quick"]);
    tracker.complete();
    execute(&mut late, "COMMIT").await;
    assert_eq!(pass(&mut source, &mut tracker).await, ["old", "late", "quick"]);
}

/// A writer may call itself what it likes, and a pid may be one that we had before: we are who asks.
#[tokio::test]
async fn only_the_session_that_asks_is_left_out() {
    let database = Database::create().await;
    database.run(TABLE).await;
    let mut source = opened(&database, None).await;
    let ours = "SELECT current_setting('application_name')";
    let name: String = sqlx::Row::get(&source.session.row(sqlx::query(ours)).await.unwrap(), 0);
    let mut tracker = WatermarkTracker::begin(&settled(&mut source).await);
    let mut namesake = database.session().await;
    execute(&mut namesake, &format!("SET application_name = '{name}'")).await;
    execute(&mut namesake, "BEGIN; INSERT INTO users VALUES ('namesake')").await;
    let transactions = settled(&mut source).await;
    assert_eq!(transactions.running.len(), 1, "{transactions:?}");
    assert_eq!(transactions.running[0].application.as_deref(), Some(name.as_str()));
    pass(&mut source, &mut tracker).await;
    // Another session of ours takes over, as after a lost connection; the one that was ours is somebody else's now.
    let mut source = opened(&database, None).await;
    database.run("SELECT pg_sleep(1.2)").await;
    assert_eq!(settled(&mut source).await.running.len(), 1);
    pass(&mut source, &mut tracker).await;
    execute(&mut namesake, "COMMIT").await;
    assert_eq!(pass(&mut source, &mut tracker).await, ["namesake"]);
}

/// The second transaction of one message is stamped with the beginning of the message, a chained one with that of the
/// COMMIT before it: long before its virtual id was there to be seen. Its visible start says so.
#[tokio::test]
async fn a_visible_start_finds_several_transactions_of_one_message_and_chained_ones() {
    let database = Database::create().await;
    database
        .run(&format!(
            "{TABLE}; CREATE TABLE slow (n int);
             CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION waits()"
        ))
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    config.source.watermark_grace = std::time::Duration::ZERO;
    let mut source = database.open(&config, &["city"]).await.unwrap();
    let mut tracker = WatermarkTracker::begin(&settled(&mut source).await);

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
        let at_work = tokio::spawn(async move {
            execute(&mut writer, message).await;
            execute(&mut writer, then).await;
        });
        waits(&database, "locktype = 'advisory' AND objid = 1").await;
        pass(&mut source, &mut tracker).await;
        // Longer than the slack: what is stamped before is not read for being young.
        database.run("SELECT pg_sleep(1.2)").await;
        pass(&mut source, &mut tracker).await;
        execute(&mut first, "SELECT pg_advisory_unlock(1)").await;
        waits(&database, "locktype = 'advisory' AND objid = 2").await;
        pass(&mut source, &mut tracker).await;
        assert!(!pass(&mut source, &mut tracker).await.contains(&account.to_owned()));
        execute(&mut second, "SELECT pg_advisory_unlock(2)").await;
        at_work.await.unwrap();
        assert!(pass(&mut source, &mut tracker).await.contains(&account.to_owned()), "{account}");
    }
    assert_eq!(accounts_of(&all(&mut source).await), ["chained", "second"]);
}
