//! The statement of a poll: which pages it returns, and what it reads of a table in which nothing has changed.

use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr as _};

use super::{Source, SourceError, TestDatabase, WatermarkPoint, accounts, accounts_of, changed, execute};
use crate::source::OutlyingRows;

async fn open(database: &TestDatabase, column: &str, page_size: u32) -> Source {
    let mut config = database.config("users");
    config.source.watermark_column = Some(column.to_owned());
    config.source.page_size = page_size;
    database.open(&config, &["city"]).await.unwrap()
}

/// The pages of the table (not of its indexes) that a statement has touched, its planning included.
async fn touched_pages(session: &mut PgConnection, statement: &str, bound: &str) -> i64 {
    execute(session, "BEGIN").await;
    let statement = AssertSqlSafe(statement.to_owned()).into_sql_str();
    sqlx::query(statement).bind(bound).fetch_all(&mut *session).await.unwrap();
    let pages = "SELECT pg_stat_get_xact_blocks_fetched('users'::regclass)";
    let pages = sqlx::query_scalar(pages).fetch_one(&mut *session).await.unwrap();
    execute(session, "COMMIT").await;
    pages
}

#[tokio::test]
async fn a_poll_touches_no_page_of_an_unchanged_table() {
    let rows = "SELECT 'u' || n, 'c' FROM generate_series(1, 100000) n";
    for (kind, stamp, bound) in [
        ("timestamptz", "now() - interval '1 day'", "2100-01-01 00:00:00+00"),
        ("timestamptz NOT NULL", "now() - interval '1 day' * random()", "2100-01-01 00:00:00+00"),
        ("timestamp", "now() - interval '1 day' * random()", "2100-01-01 00:00:00+00"),
        ("bigint", "0", "100001"),
        ("bigint NOT NULL", "0", "100001"),
    ] {
        let database = TestDatabase::create().await;
        // Rows in no order, so that the planner expects an index to be slow, with and without statistics.
        database
            .run(&format!(
                "CREATE TABLE users (id text PRIMARY KEY, city text, updated_at {kind}); CREATE INDEX ON users (updated_at, id);
                 INSERT INTO users (id, city, updated_at) SELECT id, city, {stamp} FROM ({rows} ORDER BY random()) AS r (id, city)"
            ))
            .await;
        for analyze in ["SELECT", "ANALYZE users"] {
            database.run(analyze).await;
            let source = open(&database, "updated_at", 5_000).await;
            let statement = source.statements.poll.as_ref().unwrap().as_str();
            let mut session = database.session().await;
            execute(&mut session, "SET plan_cache_mode = force_custom_plan").await;
            assert_eq!(touched_pages(&mut session, statement, bound).await, 0, "{kind} {analyze}: {statement}");
        }
    }
}

/// A poll reads rows to which no position leads in the statement of its first page, and again where it has further pages.
#[tokio::test]
async fn all_rows_of_a_poll_come_in_their_order() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id text PRIMARY KEY, city text, updated_at timestamptz); CREATE INDEX ON users (updated_at, id);
             INSERT INTO users VALUES ('n2', 'c', NULL), ('n1', 'c', NULL), ('f2', 'c', 'infinity'), ('f1', 'c', now() + interval '3 days'),
             ('c2', 'c', now()), ('c1', 'c', now() - interval '1 s'), ('old', 'c', now() - interval '1 h')",
        )
        .await;
    for page_size in [100, 2] {
        let mut source = open(&database, "updated_at", page_size).await;
        let from = source.transactions().await.unwrap().taken_at;
        assert_eq!(accounts_of(&changed(&mut source, from).await), ["c1", "c2"]);
        for (rows, expected) in [(OutlyingRows::Unstamped, ["n1", "n2"]), (OutlyingRows::FarFuture, ["f1", "f2"])] {
            let page = source.outlying(rows, None).await.unwrap().unwrap();
            assert_eq!((accounts(&page.rows).as_slice(), page.last), (&expected[..], page_size > 2));
            if let Some(cursor) = page.cursor().filter(|_| !page.last) {
                let page = source.outlying(rows, Some(&cursor)).await.unwrap().unwrap();
                assert!(page.rows.is_empty() && page.last);
            }
        }
    }
    // What was read is used once: the next read shows the table as it is then.
    let mut source = open(&database, "updated_at", 100).await;
    source.changed_since(WatermarkPoint::Beginning, None).await.unwrap();
    source.outlying(OutlyingRows::Unstamped, None).await.unwrap();
    database.run("DELETE FROM users").await;
    for rows in [OutlyingRows::Unstamped, OutlyingRows::FarFuture] {
        source.changed_since(WatermarkPoint::Beginning, None).await.unwrap();
        assert!(source.outlying(rows, None).await.unwrap().unwrap().rows.is_empty());
    }
}

/// One row raises an error: the others of its part and of the other parts are read all the same.
#[tokio::test]
async fn a_row_that_raises_an_error_stops_no_part() {
    for (part, stamp) in [("changed", "now()"), ("unstamped", "NULL"), ("far", "'infinity'")] {
        let database = TestDatabase::create().await;
        database
            .run(&format!(
                "CREATE TABLE users (id text PRIMARY KEY, city text, n int, updated_at timestamptz); CREATE INDEX ON users (updated_at, id);
                 INSERT INTO users VALUES ('c', 'c', 1, now()), ('n', 'c', 1, NULL), ('f', 'c', 1, 'infinity'), ('bad', 'c', 0, {stamp})"
            ))
            .await;
        let mut config = database.config("users");
        config.source.watermark_column = Some("updated_at".to_owned());
        config.source.filter = Some("1 / n > 0".to_owned());
        let mut source = database.open(&config, &["city"]).await.unwrap();
        let from = source.transactions().await.unwrap().taken_at;
        let mut pages = changed(&mut source, from).await;
        for rows in [OutlyingRows::Unstamped, OutlyingRows::FarFuture] {
            pages.extend(source.outlying(rows, None).await.unwrap());
        }
        assert_eq!(accounts_of(&pages), ["c", "n", "f"], "{part}");
        let unreadable: Vec<&str> = pages.iter().flat_map(|page| &page.unreadable).map(|row| &*row.account).collect();
        assert_eq!(unreadable, ["bad"], "{part}");
    }
}

/// The table is replaced between the transaction list and the poll, and put back before the next list. What was read of the
/// other table must not count.
#[tokio::test]
async fn a_poll_notices_that_it_reads_another_table() {
    let database = TestDatabase::create().await;
    database.run("CREATE TABLE users (id text PRIMARY KEY, city text, updated_at timestamptz); CREATE INDEX ON users (updated_at, id)").await;
    let mut source = open(&database, "updated_at", 100).await;
    let from = source.transactions().await.unwrap().taken_at;
    source.changed_since(from, None).await.unwrap();
    source.ensure_reads_unchanged().await.unwrap();
    database.run("ALTER TABLE users RENAME TO old; CREATE TABLE users (LIKE old INCLUDING ALL)").await;
    let read = source.changed_since(from, None).await;
    database.run("DROP TABLE users; ALTER TABLE old RENAME TO users").await;
    assert!(matches!(read, Err(SourceError::Changed(_))), "{read:?}");
    source.transactions().await.unwrap();
    // Any other read is compared at the end of the pass.
    source.changed_since(from, None).await.unwrap();
    source.rows_of(&[crate::model::Account::new("u")]).await.unwrap();
    database.run("ALTER TABLE users ADD unread int").await;
    source.ensure_reads_unchanged().await.unwrap();
    source.rows_of(&[crate::model::Account::new("u")]).await.unwrap();
    database.run("ALTER TABLE users ALTER city TYPE numeric USING 1").await;
    assert!(source.ensure_reads_unchanged().await.is_err());
    assert!(matches!(source.transactions().await, Err(SourceError::Changed(_))));
}
