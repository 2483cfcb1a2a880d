//! The transaction list of a real server: which transactions it contains, and that late commits are read.

use super::{PgUrl, Source, TestDatabase, WatermarkPoint, accounts_of, changed, execute};
use crate::source::TransactionList;
use crate::source::watermark::WatermarkTracker;

pub(super) const TABLE: &str =
    "CREATE TABLE users (id text PRIMARY KEY, city text, updated_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON users (updated_at, id)";

pub(super) async fn connect(database: &TestDatabase, url: Option<PgUrl>) -> Source {
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    if let Some(url) = url {
        config.source.url = url;
    }
    database.open(&config, &["city"]).await.unwrap()
}

/// The transaction list without sessions that are logging in. Their database is not known yet, so the list includes them,
/// and other tests log in to this server all the time.
pub(super) async fn list_without_logins(source: &mut Source) -> TransactionList {
    let mut transactions = source.transactions().await.unwrap();
    transactions.running.retain(|running| running.application.is_some());
    transactions
}

#[tokio::test]
async fn a_list_has_idle_and_prepared_transactions_of_its_database() {
    let database = TestDatabase::create().await;
    let other = TestDatabase::create().await;
    let role = format!("{}_role", database.name);
    database.run(&format!("{TABLE}; CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT ON users TO {role}")).await;
    let (mut source, mut blind) =
        (connect(&database, None).await, connect(&database, Some(database.url_of(&role))).await);
    let empty = list_without_logins(&mut source).await;
    assert!(empty.running.is_empty() && empty.prepared.is_empty(), "{empty:?}");
    assert_eq!(empty.taken_at, WatermarkPoint::At(empty.clock));

    let (mut idle, mut elsewhere) = (database.session().await, other.session().await);
    execute(&mut elsewhere, "BEGIN").await;
    execute(&mut idle, "SET application_name = 'idle app'; BEGIN").await;
    execute(&mut idle, "SELECT 1").await;
    let mut writer = database.session().await;
    execute(
        &mut writer,
        "BEGIN; INSERT INTO users VALUES ('two-phase'); SAVEPOINT s; INSERT INTO users VALUES ('sub')",
    )
    .await;
    let before = list_without_logins(&mut source).await;
    assert_eq!(before.running.len(), 2, "{before:?}");
    let gid = format!("{}_gid", database.name);
    execute(&mut writer, &format!("PREPARE TRANSACTION '{gid}'")).await;

    for (source, sees_start) in [(&mut source, true), (&mut blind, false)] {
        let transactions = list_without_logins(source).await;
        assert_eq!(transactions.running.len(), 1, "{transactions:?}");
        assert_eq!(transactions.running[0].application.as_deref(), Some("idle app"));
        assert_eq!(transactions.running[0].started.is_some(), sees_start);
        assert!(transactions.running[0].started.is_none_or(|started| started <= before.clock));
        assert_eq!(transactions.prepared.len(), 1);
        assert_eq!(transactions.prepared[0].gid, gid);
        let kept = before.running.iter().any(|running| running.id == transactions.prepared[0].id);
        assert!(kept, "a prepared transaction keeps its virtual id: {before:?} {transactions:?}");
        assert_eq!(transactions.server_start, before.server_start);
    }
    execute(&mut idle, "COMMIT").await;
    execute(&mut writer, &format!("COMMIT PREPARED '{gid}'")).await;
    let after = list_without_logins(&mut source).await;
    assert!(after.running.is_empty() && after.prepared.is_empty(), "{after:?}");
}

/// A complete pass. Returns the accounts that it read.
pub(super) async fn pass(source: &mut Source, tracker: &mut WatermarkTracker) -> Vec<String> {
    tracker.observe(&list_without_logins(source).await);
    let pages = changed(source, tracker.read_from()).await;
    tracker.complete();
    accounts_of(&pages).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_late_commit_is_read_by_the_next_pass() {
    let database = TestDatabase::create().await;
    let role = format!("{}_role", database.name);
    database.run(&format!("{TABLE}; CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT ON users TO {role}")).await;
    // With and without the privilege to see when transactions began.
    for (round, url) in [None, Some(database.url_of(&role))].into_iter().enumerate() {
        let mut source = connect(&database, url).await;
        // Rows that are read because they are recent do not hide a fault: see the test with a longer pause below.
        let mut tracker = WatermarkTracker::begin(&list_without_logins(&mut source).await);
        let mut late = database.session().await;
        let mut long = database.session().await;
        execute(&mut late, "BEGIN; SELECT now()").await;
        execute(&mut long, "BEGIN; SELECT now()").await;
        pass(&mut source, &mut tracker).await;
        let started_after = tracker.watermark();
        execute(&mut late, &format!("SAVEPOINT s; INSERT INTO users VALUES ('late{round}')")).await;
        database.run(&format!("INSERT INTO users VALUES ('quick{round}')")).await;
        let read = pass(&mut source, &mut tracker).await;
        assert!(read.contains(&format!("quick{round}")) && !read.contains(&format!("late{round}")));
        execute(&mut late, "COMMIT").await;
        tracker = WatermarkTracker::restore(tracker.save());
        tracker.observe(&list_without_logins(&mut source).await);
        assert_eq!(tracker.read_from().min(started_after), tracker.read_from(), "read again from {started_after:?} on");
        let pages = changed(&mut source, tracker.read_from()).await;
        assert!(accounts_of(&pages).contains(&format!("late{round}").as_str()));
        tracker.complete();
        assert!(tracker.held_back_by().is_some(), "the long transaction is still open");
        execute(&mut long, "ROLLBACK").await;
        pass(&mut source, &mut tracker).await;
        assert_eq!(tracker.held_back_by(), None);
    }
}

#[tokio::test]
async fn a_transaction_older_than_the_slack_is_read_from_its_bound() {
    let database = TestDatabase::create().await;
    database.run(TABLE).await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    config.source.watermark_grace = std::time::Duration::ZERO;
    let mut source = database.open(&config, &["city"]).await.unwrap();
    let mut tracker = WatermarkTracker::begin(&list_without_logins(&mut source).await);
    let mut late = database.session().await;
    execute(&mut late, "BEGIN; INSERT INTO users VALUES ('late')").await;
    pass(&mut source, &mut tracker).await;
    // Longer than the slack of one second, on the server's clock.
    database.run("SELECT pg_sleep(1.3)").await;
    assert!(pass(&mut source, &mut tracker).await.is_empty());
    execute(&mut late, "COMMIT").await;
    // What a reader that only remembers the clock would read now.
    assert!(accounts_of(&changed(&mut source, tracker.read_from()).await).is_empty());
    assert_eq!(pass(&mut source, &mut tracker).await, ["late"]);
}
