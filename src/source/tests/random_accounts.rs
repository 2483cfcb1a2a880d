//! A sample of accounts: each row is equally likely, whatever its block and its history, and not all of them are read.

use sqlx::{AssertSqlSafe, Row as _};

use super::{Source, TestDatabase};

/// How often each tenth of `1..=rows` was drawn, in `rounds` samples of `wanted` accounts.
async fn tenths(source: &mut Source, rows: usize, rounds: usize, wanted: usize, read_all: bool) -> [f64; 10] {
    let mut counts = [0.0; 10];
    for _ in 0..rounds {
        let sample = source.random_accounts(wanted).await.unwrap();
        assert_eq!((sample.texts.len(), sample.read_all), (wanted, read_all));
        for text in sample.texts {
            let number: usize = text.parse().unwrap();
            counts[(number - 1) * 10 / rows] += 1.0;
        }
    }
    counts
}

/// Pearson's statistic of the shares. With nine degrees of freedom it exceeds 33.7 once in ten thousand runs.
fn chi_squared(counts: [f64; 10], shares: [f64; 10]) -> f64 {
    let total: f64 = counts.iter().sum();
    let whole: f64 = shares.iter().sum();
    counts
        .iter()
        .zip(shares)
        .map(|(count, share)| (count - total * share / whole).powi(2) / (total * share / whole))
        .sum()
}

#[tokio::test]
async fn every_row_is_equally_likely_to_be_drawn() {
    let database = TestDatabase::create().await;
    // Rows of 30 to 800 bytes, so that blocks differ in their numbers of rows; most rows of two tenths are deleted, one tenth
    // is updated in place (HOT), and one is written again at the end.
    database
        .run(
            "CREATE TABLE users (id int PRIMARY KEY, city text) WITH (autovacuum_enabled = false);
             INSERT INTO users SELECT n, repeat('x', CASE WHEN n <= 20000 THEN 2 ELSE 400 + n % 400 END) FROM generate_series(1, 40000) AS n;
             DELETE FROM users WHERE id BETWEEN 4001 AND 12000 AND id % 10 <> 0;
             UPDATE users SET city = 'y' WHERE id BETWEEN 12001 AND 16000;
             UPDATE users SET city = city || 'z' WHERE id BETWEEN 24001 AND 28000",
        )
        .await;
    let mut source = database.open(&database.config("users"), &["city"]).await.unwrap();
    let counts = tenths(&mut source, 40_000, 400, 20, false).await;
    let shares = [10.0, 1.0, 1.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0];
    let statistic = chi_squared(counts, shares);
    assert!(statistic < 33.7, "{statistic}: {counts:?}");
}

#[tokio::test]
async fn uneven_partitions_and_children_are_drawn_evenly() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id int PRIMARY KEY, city text) PARTITION BY RANGE (id);
             CREATE TABLE users_a PARTITION OF users FOR VALUES FROM (1) TO (16001);
             CREATE TABLE users_b PARTITION OF users FOR VALUES FROM (16001) TO (40001);
             INSERT INTO users SELECT n, repeat('x', CASE WHEN n <= 16000 THEN 2 ELSE 500 END) FROM generate_series(1, 40000) AS n",
        )
        .await;
    let mut source = database.open(&database.config("users"), &["city"]).await.unwrap();
    let counts = tenths(&mut source, 40_000, 400, 20, false).await;
    let statistic = chi_squared(counts, [1.0; 10]);
    assert!(statistic < 33.7, "{statistic}: {counts:?}");
}

#[tokio::test]
async fn views_and_small_tables_are_read_as_a_whole() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id int PRIMARY KEY, city text);
             INSERT INTO users SELECT n, repeat('x', 700) FROM generate_series(1, 5000) AS n;
             CREATE VIEW seen AS SELECT * FROM users",
        )
        .await;
    let mut source = database.open(&database.config("seen"), &["city"]).await.unwrap();
    let counts = tenths(&mut source, 5_000, 20, 500, true).await;
    assert!(chi_squared(counts, [1.0; 10]) < 33.7, "{counts:?}");
    // More are wanted than there are.
    let sample = source.random_accounts(10_000).await.unwrap();
    assert_eq!((sample.texts.len(), sample.read_all), (5_000, true));
    database.run("DELETE FROM users").await;
    assert!(source.random_accounts(10).await.unwrap().texts.is_empty());
}

#[tokio::test]
async fn a_small_sample_reads_no_table_as_a_whole() {
    let database = TestDatabase::create().await;
    // Partitions are searched at the same positions, and many of them with few.
    database
        .run(
            "CREATE TABLE users (id int PRIMARY KEY, city text);
             INSERT INTO users SELECT n, repeat('x', 700) FROM generate_series(1, 20000) AS n; ANALYZE users;
             CREATE TABLE parts (id int PRIMARY KEY, city text) PARTITION BY HASH (id)",
        )
        .await;
    for part in 0..20 {
        let sql = format!("CREATE TABLE part_{part} PARTITION OF parts FOR VALUES WITH (MODULUS 20, REMAINDER {part})");
        database.run(&sql).await;
    }
    database
        .run("INSERT INTO parts SELECT n, repeat('x', 700) FROM generate_series(1, 20000) AS n; ANALYZE parts")
        .await;
    for table in ["users", "parts"] {
        let mut source = database.open(&database.config(table), &["city"]).await.unwrap();
        let sample = source.random_accounts(10).await.unwrap();
        assert_eq!(sample.texts.len(), 10, "{table}");
        // Positions of partitions have all their rows or none, so a poor start can be enough to read all.
        assert!(!sample.read_all || table == "parts", "{table}");
        let statement = source.statements.at_positions.as_str().replace("$1", "ARRAY['(1,1)', '(2,7)']");
        let explain = format!("SET enable_seqscan = off; EXPLAIN {statement}");
        let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut database.session().await).await.unwrap();
        let plan: Vec<String> = plan.iter().filter_map(|row| row.try_get(0).ok()).collect();
        assert!(plan.iter().all(|line| !line.contains("Seq Scan")), "{plan:?}");
    }
    // Most positions have no row: reading the table is cheaper.
    let mut source = database.open(&database.config("users"), &["city"]).await.unwrap();
    let sample = source.random_accounts(500).await.unwrap();
    assert_eq!((sample.texts.len(), sample.read_all), (500, true));
}
