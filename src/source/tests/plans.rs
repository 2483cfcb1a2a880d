//! Tests the judgement of plans: a table that is read wholly for each page is found, and a healthy one is not.
//!
//! Owns: the tables and what is said of them. Must not know: the form of a plan.

use super::TestDatabase;
use crate::finding::Finding;

fn remedy(finding: &Finding) -> String {
    serde_json::to_value(finding).unwrap()["remedy"].as_str().unwrap_or_default().to_owned()
}

/// The large table of each case, and what `check` says of a poll and of a full pass: the start of its remedy, or "" if all is
/// well.
#[tokio::test]
async fn only_large_tables_without_an_index_are_warned_of() {
    let rows =
        "SELECT 'u' || n AS id, 'c' AS city, now() - n * interval '1 s' AS updated_at FROM generate_series(1, 30000) n";
    let cases = [
        ("users", format!("CREATE TABLE users AS {rows}"), "create the index", "create the index"),
        (
            "users",
            format!("CREATE TABLE users AS {rows}; CREATE UNIQUE INDEX ON users (id); CREATE INDEX ON users (updated_at, id)"),
            "",
            "",
        ),
        (
            "users",
            format!(
                "CREATE TABLE users (id text NOT NULL, city text, updated_at timestamptz) PARTITION BY RANGE (id);
                 CREATE TABLE a PARTITION OF users FOR VALUES FROM ('a') TO ('v');
                 CREATE TABLE z PARTITION OF users FOR VALUES FROM ('v') TO ('zz');
                 CREATE UNIQUE INDEX ON users (id); CREATE INDEX ON users (updated_at, id);
                 INSERT INTO users {rows}; INSERT INTO users VALUES ('z1', 'c', now()), ('z2', 'c', now())"
            ),
            "",
            "",
        ),
        (
            "seen",
            format!(
                "CREATE TABLE users AS {rows}; CREATE UNIQUE INDEX ON users (id); CREATE INDEX ON users (updated_at, id);
                 CREATE TABLE cities AS SELECT 'c' AS city, 'Graz' AS name;
                 CREATE VIEW seen AS SELECT id, name AS city, updated_at FROM users LEFT JOIN cities USING (city)"
            ),
            "",
            "",
        ),
        ("bare", format!("CREATE TABLE users AS {rows}; CREATE VIEW bare AS SELECT * FROM users"), "give ", "give "),
    ];
    for (table, sql, poll, full) in cases {
        let database = TestDatabase::create().await;
        let blocked = "CREATE TABLE blocked AS SELECT 'b' || n AS id FROM generate_series(1, 20000) n";
        database.run(&format!("{sql}; {blocked}; ANALYZE")).await;
        for filter in [None, Some("id NOT IN (SELECT b.id FROM blocked b)")] {
            let mut config = database.config(table);
            config.source.watermark_column = Some("updated_at".to_owned());
            config.source.filter = filter.map(str::to_owned);
            config.source.page_size = 500;
            let mut source = database.open(&config, &["city"]).await.unwrap();
            let found = source.plans().await.unwrap();
            let remedies: Vec<String> = found.iter().map(remedy).collect();
            let expected =
                |text: &str, remedy: &str| if text.is_empty() { remedy.is_empty() } else { remedy.starts_with(text) };
            assert!(
                remedies.len() == 2 && expected(poll, &remedies[0]) && expected(full, &remedies[1]),
                "{sql} {filter:?}: {found:?}"
            );
        }
        // A page that holds the whole table reads it in one go.
        let mut config = database.config(table);
        config.source.watermark_column = Some("updated_at".to_owned());
        config.source.page_size = 50_000;
        let mut source = database.open(&config, &["city"]).await.unwrap();
        let found = source.plans().await.unwrap();
        assert!(found.iter().all(|finding| remedy(finding).is_empty()), "{sql}: {found:?}");
    }
}
