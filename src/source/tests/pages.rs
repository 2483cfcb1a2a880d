//! Keyset pages: complete and in order, with equal stamps, missing and duplicate accounts, for every watermark type.

use sqlx::{AssertSqlSafe, Row as _};

use super::{Source, TestDatabase, WatermarkPoint, accounts, accounts_of, all, changed, execute};
use crate::model::Account;

fn micros(text: &str) -> WatermarkPoint {
    WatermarkPoint::At(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
}

#[tokio::test]
async fn each_of_many_rows_with_one_stamp_is_read_once() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id int PRIMARY KEY, city text, updated_at timestamptz NOT NULL);
             INSERT INTO users SELECT n, 'c' || n, '2026-01-01' FROM generate_series(1, 1000) AS n;
             INSERT INTO users SELECT n, 'c' || n, '2026-01-02'::timestamptz + n * interval '1 us' FROM generate_series(1001, 1200) AS n;
             CREATE INDEX ON users (updated_at, id)",
        )
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    config.source.page_size = 77;
    let mut source = database.open(&config, &["city"]).await.unwrap();
    assert!(source.warnings().is_empty(), "{:?}", source.warnings());
    let pages = changed(&mut source, WatermarkPoint::Beginning).await;
    let expected: Vec<String> = (1..=1200).map(|number: u32| number.to_string()).collect();
    assert_eq!(accounts_of(&pages), expected);
    assert!(pages.iter().rev().skip(1).all(|page| page.rows.len() == 77));
    assert_eq!(accounts_of(&all(&mut source).await), expected);
    // A full page is followed by an empty one.
    config.source.page_size = 1200;
    let mut source = database.open(&config, &["city"]).await.unwrap();
    let pages = changed(&mut source, WatermarkPoint::Beginning).await;
    assert_eq!(pages.iter().map(|page| page.rows.len()).collect::<Vec<_>>(), [1200, 0]);
}

#[tokio::test]
async fn a_bound_is_exact_to_the_microsecond() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id text PRIMARY KEY, updated_at timestamptz);
             INSERT INTO users VALUES ('before', '2026-01-01 12:00:00.123455+00'), ('at', '2026-01-01 12:00:00.123456+00'),
               ('ever', '-infinity'), ('never', 'infinity'), ('null', NULL), ('old', '0044-03-15 00:00:00+00 BC')",
        )
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    config.source.page_size = 1;
    let mut source = database.open(&config, &[]).await.unwrap();
    // Including the grace of five seconds.
    let from = micros("2026-01-01T12:00:05.123456Z");
    assert_eq!(accounts_of(&changed(&mut source, from).await), ["at", "never"]);
    let everything = ["ever", "old", "before", "at", "never"];
    for from in [WatermarkPoint::Beginning, WatermarkPoint::At(i64::MIN), WatermarkPoint::At(-62_135_596_800_000_001)] {
        assert_eq!(accounts_of(&changed(&mut source, from).await), everything);
    }
    // The slack is at least one second.
    config.source.watermark_grace = std::time::Duration::ZERO;
    let mut source = database.open(&config, &[]).await.unwrap();
    assert_eq!(accounts_of(&changed(&mut source, micros("2026-01-01T12:00:01.123456Z")).await), ["at", "never"]);
}

#[tokio::test]
async fn a_counter_is_read_from_its_value_without_slack() {
    let database = TestDatabase::create().await;
    database
        .run(&format!(
            "CREATE TABLE users (id int PRIMARY KEY, version bigint); INSERT INTO users VALUES (1, {}), (2, 0), (3, 5), (4, 5), (5, 6), (6, NULL)",
            i64::MIN
        ))
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("version".to_owned());
    config.source.page_size = 2;
    let mut source = database.open(&config, &[]).await.unwrap();
    assert_eq!(accounts_of(&changed(&mut source, WatermarkPoint::Beginning).await), ["1", "2", "3", "4", "5"]);
    assert_eq!(accounts_of(&changed(&mut source, WatermarkPoint::At(5)).await), ["3", "4", "5"], "no slack");
    assert_eq!(source.transactions().await.unwrap().taken_at, WatermarkPoint::At(6));
    database.run("TRUNCATE users").await;
    assert_eq!(source.transactions().await.unwrap().taken_at, WatermarkPoint::Beginning);
}

#[tokio::test]
async fn the_repeated_hour_in_autumn_is_read_twice() {
    let database = TestDatabase::create().await;
    // Berlin, 2025-10-26: at 03:00 summer time (01:00 UTC), the clock goes back to 02:00.
    database
        .run(
            "CREATE TABLE users (id text PRIMARY KEY, updated_at timestamp);
             INSERT INTO users VALUES ('winter', '2025-10-26 02:05'), ('summer', '2025-10-26 02:30'), ('old', '2025-10-26 01:20')",
        )
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    config.source.watermark_timezone = "Europe/Berlin".to_owned();
    let mut source = database.open(&config, &[]).await.unwrap();
    // 02:30 in summer time; a row written at 01:05 UTC is stamped 02:05.
    let from = micros("2025-10-26T00:30:05Z");
    let statement = source.statements.changed_from.clone().unwrap();
    // `now()` decides which offset is the smaller one; here it is replaced by a time after the change.
    let after = statement.rows.as_str().replace("now()", "'2025-10-26 01:10+00'::timestamptz");
    let query = sqlx::query(AssertSqlSafe(after)).bind(source.bound_text(source.watermark.unwrap(), from));
    let rows = source.session.rows(query).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, ["winter", "summer"]);
    assert_eq!(accounts_of(&changed(&mut source, WatermarkPoint::Beginning).await), ["old", "winter", "summer"]);
}

#[tokio::test]
async fn rows_without_an_account_do_not_stop_a_scan() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id text, updated_at timestamptz);
             INSERT INTO users SELECT CASE WHEN n % 3 = 0 THEN 'a' || n END, '2026-01-01'::timestamptz + (n / 30) * interval '1 s' FROM generate_series(1, 300) AS n;
             CREATE UNIQUE INDEX ON users (id)",
        )
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    let mut expected: Vec<String> = (1..=100).map(|number| format!("a{}", number * 3)).collect();
    expected.sort_unstable();
    for page_size in [1, 2, 7, 300] {
        config.source.page_size = page_size;
        let mut source = database.open(&config, &[]).await.unwrap();
        for (full, pages) in
            [(false, changed(&mut source, WatermarkPoint::Beginning).await), (true, all(&mut source).await)]
        {
            let mut found = accounts_of(&pages);
            let missing = found.iter().filter(|account| **account == "NULL").count();
            assert!(missing <= 200 && (missing > 0 || !full), "{missing} at {page_size}");
            found.retain(|account| *account != "NULL");
            found.sort_unstable();
            assert_eq!(found, expected, "pages of {page_size}");
        }
    }
}

#[tokio::test]
async fn all_rows_of_a_duplicate_account_are_on_one_page() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE people (id int, updated_at timestamptz);
             INSERT INTO people SELECT n / 2, '2026-01-01'::timestamptz + (n % 2) * interval '1 s' FROM generate_series(2, 41) AS n;
             CREATE VIEW users AS SELECT * FROM people",
        )
        .await;
    for table in ["people", "users"] {
        let mut config = database.config(table);
        for page_size in [1, 2, 3, 7] {
            config.source.page_size = page_size;
            let mut source = database.open(&config, &[]).await.unwrap();
            assert!(!source.account_is_unique());
            let pages = all(&mut source).await;
            assert_eq!(accounts_of(&pages).len(), 40, "{table}, pages of {page_size}");
            for page in &pages {
                let found = accounts(&page.rows);
                assert!(found.chunks(2).all(|pair| pair.len() == 2 && pair[0] == pair[1]), "{found:?}");
            }
        }
        config.source.watermark_column = Some("updated_at".to_owned());
        let mut source = database.open(&config, &[]).await.unwrap();
        assert_eq!(accounts_of(&changed(&mut source, WatermarkPoint::Beginning).await).len(), 40);
        assert_eq!(source.rows_of(&[Account::new("7")]).await.unwrap().rows.len(), 2);
    }
}

#[tokio::test]
async fn without_a_watermark_every_scan_is_of_the_whole_table() {
    let database = TestDatabase::create().await;
    database.run("CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 25)").await;
    let mut config = database.config("users");
    config.source.page_size = 10;
    let mut source = database.open(&config, &[]).await.unwrap();
    assert!(!source.has_watermark());
    assert!(source.account_is_unique());
    let pages = changed(&mut source, WatermarkPoint::At(i64::MAX)).await;
    assert_eq!(pages.iter().map(|page| page.rows.len()).collect::<Vec<_>>(), [10, 10, 5]);
    assert!(source.transactions().await.is_ok());
}

#[tokio::test]
async fn partitions_and_views_are_read_like_tables() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id int PRIMARY KEY, updated_at timestamptz) PARTITION BY HASH (id);
             CREATE TABLE users_0 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE users_1 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 1);
             INSERT INTO users SELECT n, now() FROM generate_series(1, 50) AS n; ANALYZE users;
             CREATE VIEW seen AS SELECT * FROM users; CREATE MATERIALIZED VIEW kept AS SELECT * FROM users",
        )
        .await;
    for (table, watermark, estimate) in [("users", true, Some(50)), ("seen", true, None), ("kept", false, None)] {
        let mut config = database.config(table);
        config.source.page_size = 20;
        config.source.watermark_column = watermark.then(|| "updated_at".to_owned());
        let mut source = database.open(&config, &[]).await.unwrap();
        assert_eq!(accounts_of(&changed(&mut source, WatermarkPoint::Beginning).await).len(), 50, "{table}");
        assert_eq!(source.estimated_rows().await, estimate, "{table}");
        assert_eq!(source.account_is_unique(), table == "users");
    }
}

/// The plan of a statement with these parameters, as one text.
async fn plan(source: &mut Source, sql: &str, parameters: &[&str]) -> String {
    let mut query = sqlx::query(AssertSqlSafe(format!("EXPLAIN {sql}")));
    for parameter in parameters {
        query = query.bind((*parameter).to_owned());
    }
    let rows = source.session.rows(query).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

#[tokio::test]
async fn both_keysets_use_their_indexes() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE tz (id text PRIMARY KEY, city text, updated_at timestamptz);
             INSERT INTO tz SELECT 'user' || n, 'c', now() - n * interval '1 s' FROM generate_series(1, 20000) AS n;
             CREATE INDEX ON tz (updated_at, id);
             CREATE TABLE local AS SELECT id::varchar(20), city, updated_at::timestamp FROM tz; ALTER TABLE local ADD PRIMARY KEY (id);
             CREATE INDEX ON local (updated_at DESC, id DESC);
             CREATE TABLE counted AS SELECT row_number() OVER () AS id, city, row_number() OVER () AS updated_at FROM tz; ALTER TABLE counted ADD PRIMARY KEY (id);
             CREATE INDEX ON counted (updated_at, id); ANALYZE",
        )
        .await;
    for (table, at, account) in [
        ("tz", "2026-01-01 00:00:00+00", "user5"),
        ("local", "2026-01-01 00:00:00", "user5"),
        ("counted", "19000", "77"),
    ] {
        let mut config = database.config(table);
        config.source.watermark_column = Some("updated_at".to_owned());
        config.source.filter = Some("city = 'c'".to_owned());
        let mut source = database.open(&config, &["city"]).await.unwrap();
        assert!(source.warnings().is_empty(), "{:?}", source.warnings());
        let statements = &source.statements;
        let expected = [
            (statements.changed_from.clone().unwrap(), vec![at], "updated_at"),
            (statements.changed_after.clone().unwrap(), vec![at, account], "updated_at"),
            (statements.changed_after_watermark.clone().unwrap(), vec![at], "updated_at"),
            (statements.all_after.clone(), vec![account], "pkey"),
        ];
        for (statement, parameters, index) in expected {
            let text = plan(&mut source, statement.rows.as_str(), &parameters).await;
            assert!(text.contains("Index Cond"), "{table}: {text}");
            assert!(text.contains(index) && !text.contains("Sort"), "{table}: {text}");
        }
    }
}

#[tokio::test]
async fn a_scan_runs_in_a_task_and_reads_many_rows() {
    let database = TestDatabase::create().await;
    let mut session = database.session().await;
    execute(
        &mut session,
        "CREATE TABLE users AS SELECT n AS id, 'a' AS a, 'b' AS b FROM generate_series(1, 20000) AS n; ALTER TABLE users ADD PRIMARY KEY (id)",
    )
    .await;
    let mut config = database.config("users");
    config.source.page_size = 5000;
    // In a task, as in the daemon: every future must be Send.
    let scan = tokio::spawn(async move {
        let columns = ["a", "b", "a"].map(str::to_owned);
        let mut source = Source::connect(&config, &columns).await.unwrap();
        let pages = all(&mut source).await;
        source.changed_since(WatermarkPoint::Beginning, None).await.unwrap();
        source.transactions().await.unwrap();
        (source, pages)
    });
    let (mut source, pages) = scan.await.unwrap();
    assert_eq!(pages.iter().map(|page| page.rows.len()).sum::<usize>(), 20_000);
    let accounts: Vec<Account> = (1..=5000).map(|number| Account::new(number.to_string())).collect();
    assert_eq!(source.rows_of(&accounts).await.unwrap().rows.len(), 5000);
    assert!(source.rows_of(&[]).await.unwrap().rows.is_empty());
}
