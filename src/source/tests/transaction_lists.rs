//! The transaction list on a live server: who is in it, and that what commits late is read.

use super::{Database, PgUrl, Source, WatermarkBound, accounts_of, changed, execute};
use crate::source::TransactionList;
use crate::source::watermark::WatermarkTracker;

pub(super) const TABLE: &str =
    "CREATE TABLE users (id text PRIMARY KEY, city text, updated_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON users (updated_at, id)";

pub(super) async fn opened(database: &Database, url: Option<PgUrl>) -> Source {
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    if let Some(url) = url {
        config.source.url = url;
    }
    database.open(&config, &["city"]).await.unwrap()
}

/// A transactions without sessions that are just logging in: the database of such a one is not known yet, so the transaction list takes
/// it for a member, and other tests log in to this server all the time.
pub(super) async fn settled(source: &mut Source) -> TransactionList {
    let mut transactions = source.transactions().await.unwrap();
    transactions.running.retain(|running| running.application.is_some());
    transactions
}

#[tokio::test]
async fn a_fence_holds_idle_and_prepared_transactions_of_this_database_and_not_ourselves() {
    let database = Database::create().await;
    let other = Database::create().await;
    let role = format!("{}_role", database.name);
    database.run(&format!("{TABLE}; CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT ON users TO {role}")).await;
    let (mut source, mut blind) =
        (opened(&database, None).await, opened(&database, Some(database.url_of(&role))).await);
    let empty = settled(&mut source).await;
    assert!(empty.running.is_empty() && empty.prepared.is_empty(), "{empty:?}");
    assert_eq!(empty.candidate, WatermarkBound::At(empty.clock));

    let (mut idle, mut elsewhere) = (database.session().await, other.session().await);
    execute(&mut elsewhere, "BEGIN").await;
    execute(&mut idle, "SET application_name = 'thinker'; BEGIN").await;
    execute(&mut idle, "SELECT 1").await;
    let mut writer = database.session().await;
    execute(
        &mut writer,
        "BEGIN; INSERT INTO users VALUES ('two-phase'); SAVEPOINT s; INSERT INTO users VALUES ('sub')",
    )
    .await;
    let before = settled(&mut source).await;
    assert_eq!(before.running.len(), 2, "{before:?}");
    let gid = format!("{}_gid", database.name);
    execute(&mut writer, &format!("PREPARE TRANSACTION '{gid}'")).await;

    for (source, sees_start) in [(&mut source, true), (&mut blind, false)] {
        let transactions = settled(source).await;
        assert_eq!(transactions.running.len(), 1, "{transactions:?}");
        assert_eq!(transactions.running[0].application.as_deref(), Some("thinker"));
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
    let after = settled(&mut source).await;
    assert!(after.running.is_empty() && after.prepared.is_empty(), "{after:?}");
}

/// One pass: transaction list, read, record. The accounts it read.
pub(super) async fn pass(source: &mut Source, tracker: &mut WatermarkTracker) -> Vec<String> {
    tracker.observe(&settled(source).await);
    let pages = changed(source, tracker.read_from()).await;
    tracker.complete();
    accounts_of(&pages).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_commits_late_is_read_by_the_next_pass() {
    let database = Database::create().await;
    let role = format!("{}_role", database.name);
    database.run(&format!("{TABLE}; CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT ON users TO {role}")).await;
    // With and without the right to see when transactions began.
    for (round, url) in [None, Some(database.url_of(&role))].into_iter().enumerate() {
        let mut source = opened(&database, url).await;
        // No grace hides a fault here: the stamps are made much older than the slack below.
        let mut tracker = WatermarkTracker::begin(&settled(&mut source).await);
        let mut late = database.session().await;
        let mut long = database.session().await;
        execute(&mut late, "BEGIN; SELECT now()").await;
        execute(&mut long, "BEGIN; SELECT now()").await;
        pass(&mut source, &mut tracker).await;
        let started_after = tracker.durable();
        // It thinks for a minute: what it writes is as old as if the transaction list, too, had been taken a minute ago.
        execute(&mut late, &format!("SAVEPOINT s; INSERT INTO users VALUES ('late{round}')")).await;
        database.run(&format!("INSERT INTO users VALUES ('quick{round}')")).await;
        let read = pass(&mut source, &mut tracker).await;
        assert!(read.contains(&format!("quick{round}")) && !read.contains(&format!("late{round}")));
        execute(&mut late, "COMMIT").await;
        tracker = WatermarkTracker::restore(tracker.save());
        tracker.observe(&settled(&mut source).await);
        assert_eq!(
            tracker.read_from().min(started_after),
            tracker.read_from(),
            "read again from its started_after on, {started_after:?}"
        );
        let pages = changed(&mut source, tracker.read_from()).await;
        assert!(accounts_of(&pages).contains(&format!("late{round}").as_str()));
        tracker.complete();
        assert!(tracker.held_back_by().is_some(), "the long one is still open");
        execute(&mut long, "ROLLBACK").await;
        pass(&mut source, &mut tracker).await;
        assert_eq!(tracker.held_back_by(), None);
    }
}

#[tokio::test]
async fn a_transaction_older_than_any_slack_is_read_from_its_floor() {
    let database = Database::create().await;
    database.run(TABLE).await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    config.source.watermark_grace = std::time::Duration::ZERO;
    let mut source = database.open(&config, &["city"]).await.unwrap();
    let mut tracker = WatermarkTracker::begin(&settled(&mut source).await);
    let mut late = database.session().await;
    execute(&mut late, "BEGIN; INSERT INTO users VALUES ('late')").await;
    pass(&mut source, &mut tracker).await;
    // Longer than the slack of one second, on the server's clock.
    database.run("SELECT pg_sleep(1.3)").await;
    assert!(pass(&mut source, &mut tracker).await.is_empty());
    execute(&mut late, "COMMIT").await;
    // What a poller that only remembers the clock would read now.
    assert!(accounts_of(&changed(&mut source, tracker.read_from()).await).is_empty());
    assert_eq!(pass(&mut source, &mut tracker).await, ["late"]);
}
