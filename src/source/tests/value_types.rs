//! Account types, value types, unusual names, deleted rows, and the settings of the session.

use sqlx::Row as _;

use super::{AccountFormat, TestDatabase, WatermarkPoint, accounts, all, changed, values};
use crate::model::Account;

/// For each account type: three values in the order of the column, the text of an account without a row, and a text that
/// is no value of the type.
const ACCOUNT_TYPES: &[(&str, [&str; 3], &str, &str)] = &[
    ("text", ["a b", "x'y", "z"], "nobody", "\0"),
    ("varchar(4)", ["ab", "abcd", "b"], "abcde", "\0"),
    ("char(5)", ["ab", "abc", "b"], "abcdef", "ab "),
    ("smallint", ["-5", "9", "10"], "11", "40000"),
    ("integer", ["-5", "9", "10"], "11", "007"),
    ("bigint", ["-5", "9", "4000000000"], "11", "99999999999999999999"),
    ("positive", ["1", "9", "10"], "11", "+1"),
    ("short", ["a", "b", "c"], "far too long for it", "\0"),
];

#[tokio::test]
async fn every_account_type_is_paged_in_order_and_found_by_text() {
    let database = TestDatabase::create().await;
    database.run("CREATE DOMAIN positive AS bigint CHECK (VALUE > 0); CREATE DOMAIN short0 AS varchar(10); CREATE DOMAIN short AS short0 CHECK (length(VALUE) < 5)").await;
    for (number, (kind, texts, absent, invalid)) in ACCOUNT_TYPES.iter().enumerate() {
        let table = format!("t{number}");
        let rows: Vec<String> = texts.iter().map(|text| format!("('{}')", text.replace('\'', "''"))).collect();
        database
            .run(&format!(
                "CREATE TABLE {table} (id {kind} PRIMARY KEY); INSERT INTO {table} VALUES {}",
                rows.join(",")
            ))
            .await;
        let mut config = database.config(&table);
        config.source.page_size = 1;
        config.source.account_prefix = "u".to_owned();
        let mut source = database.open(&config, &[]).await.unwrap();
        assert_eq!(super::accounts_of(&all(&mut source).await), texts, "{kind}");
        let mut asked: Vec<Account> = texts.iter().map(|text| config.source.account_of(text)).collect();
        for missing in [format!("u{absent}"), format!("u{invalid}"), texts[0].to_owned(), "u".to_owned()] {
            asked.push(Account::new(missing));
        }
        let rows = source.rows_of(&asked).await.unwrap().rows;
        let mut found = accounts(&rows);
        found.sort_by_key(|found| texts.iter().position(|text| found == text));
        assert_eq!(found, texts, "{kind}");
    }
}

#[tokio::test]
async fn a_uuid_account_has_no_hyphens() {
    let database = TestDatabase::create().await;
    database
        .run("CREATE TABLE users (id uuid PRIMARY KEY); INSERT INTO users VALUES ('0A0B0C0D-0000-4000-8000-00000000000f')")
        .await;
    let mut config = database.config("users");
    config.source.account_format = AccountFormat::Hex;
    let mut source = database.open(&config, &[]).await.unwrap();
    let page = source.all_after(None).await.unwrap();
    assert_eq!(accounts(&page.rows), ["0a0b0c0d-0000-4000-8000-00000000000f"]);
    let account = config.source.account_of(page.rows.row(0).account.unwrap());
    assert_eq!(account.as_str(), "0a0b0c0d00004000800000000000000f");
    assert_eq!(account.as_str().len(), 32);
    let wrong = [
        "0A0B0C0D00004000800000000000000F",
        "x",
        "0a0b0c0d-0000-4000-8000-00000000000",
        "ü0b0c0d0000400080000000000000f",
    ];
    assert!(source.rows_of(&wrong.map(Account::new)).await.unwrap().rows.is_empty());
    assert_eq!(source.rows_of(&[account]).await.unwrap().rows.len(), 1);
}

/// A column type, the literal of a value, the expected text.
const VALUES: &[(&str, &str, Option<&str>)] = &[
    ("text", "'x'", Some("x")),
    ("text", "''", Some("")),
    ("text", "NULL", None),
    ("boolean", "true", Some("true")),
    ("real", "0.1", Some("0.1")),
    ("double precision", "1e-7", Some("1e-07")),
    ("numeric(10,3)", "1.5", Some("1.500")),
    ("date", "'2026-02-01'", Some("2026-02-01")),
    ("timestamptz", "'2026-02-01 12:00:00.000001+02'", Some("2026-02-01 10:00:00.000001+00")),
    ("timestamp", "'2026-02-01 12:00'", Some("2026-02-01 12:00:00")),
    ("interval", "'1 day 2 hours'", Some("1 day 02:00:00")),
    ("bytea", "'\\x00ff'", Some("\\x00ff")),
    ("text[]", "ARRAY['a b', NULL]", Some("{\"a b\",NULL}")),
    ("json", "'{\"a\":  1}'", Some("{\"a\":  1}")),
    ("jsonb", "'{\"a\":  1}'", Some("{\"a\": 1}")),
    ("int4range", "'[1,5]'", Some("[1,6)")),
    ("mood", "'sad'", Some("sad")),
    ("pair", "ROW(1,'x y')", Some("(1,\"x y\")")),
    ("uuid", "'0A0B0C0D-0000-4000-8000-00000000000f'", Some("0a0b0c0d-0000-4000-8000-00000000000f")),
];

#[tokio::test]
async fn settings_of_role_and_database_change_no_text() {
    let database = TestDatabase::create().await;
    let columns: Vec<String> = (0..VALUES.len()).map(|number| format!("c{number}")).collect();
    let typed: Vec<String> = columns.iter().zip(VALUES).map(|(name, (kind, ..))| format!("{name} {kind}")).collect();
    let literals: Vec<&str> = VALUES.iter().map(|(_, literal, _)| *literal).collect();
    let role = format!("{}_role", database.name);
    let name = &database.name;
    database
        .run(&format!(
            "CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE pair AS (a int, b text);
             CREATE TABLE users (id int PRIMARY KEY, {}); INSERT INTO users VALUES (1, {});
             CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT ON users TO {role};
             ALTER ROLE {role} SET DateStyle = 'German, DMY'; ALTER ROLE {role} SET TimeZone = 'Asia/Tokyo';
             ALTER ROLE {role} SET client_encoding = 'LATIN1'; ALTER ROLE {role} SET extra_float_digits = -10;
             ALTER ROLE {role} SET default_transaction_isolation = 'serializable';
             ALTER DATABASE {name} SET IntervalStyle = 'iso_8601'; ALTER DATABASE {name} SET bytea_output = 'escape';
             ALTER DATABASE {name} SET standard_conforming_strings = off",
            typed.join(", "),
            literals.join(", ")
        ))
        .await;
    let expected: Vec<Option<&str>> = VALUES.iter().map(|(.., text)| *text).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut config = database.config("users");
    config.source.filter = Some(r"'\' <> 'x'".to_owned());
    for url in [config.source.url.clone(), database.url_of(&role)] {
        config.source.url = url;
        let mut source = database.open(&config, &columns).await.unwrap();
        let page = source.all_after(None).await.unwrap();
        assert_eq!(values(page.rows.row(0)), expected);
        assert!(!page.rows.row(0).gone);
        let isolation = source.session.row(sqlx::query("SHOW transaction_isolation")).await.unwrap();
        assert_eq!(isolation.get::<String, _>(0), "read committed");
    }
}

#[tokio::test]
async fn quoted_names_are_read_literally() {
    let database = TestDatabase::create().await;
    database
        .run(
            r#"CREATE SCHEMA "Sche.ma";
               CREATE TABLE "Sche.ma"."We""ird Table" ("Id" int PRIMARY KEY, "Spalte ü" text, "updated_at" timestamptz, "c;--" text);
               INSERT INTO "Sche.ma"."We""ird Table" VALUES (10, 'x', '2026-01-01', 'y'), (9, 'z', '2026-01-02', NULL)"#,
        )
        .await;
    let mut config = database.config(r#""Sche.ma"."We""ird Table""#);
    config.source.account_column = "Id".to_owned();
    config.source.watermark_column = Some("updated_at".to_owned());
    // The name of the table, and a comment that must not swallow what follows.
    config.source.filter = Some(r#""We""ird Table"."Id" > 9 -- only large ones"#.to_owned());
    let mut source = database.open(&config, &["Spalte ü", "c;--", "updated_at"]).await.unwrap();
    assert_eq!(source.resolved_table(), r#""Sche.ma"."We""ird Table""#);
    let page = source.all_after(None).await.unwrap();
    assert_eq!(accounts(&page.rows), ["9", "10"], "by number, not by text");
    assert_eq!(page.rows.iter().map(|row| row.gone).collect::<Vec<_>>(), [true, false]);
    assert_eq!(values(page.rows.row(0)), [Some("z"), None, Some("2026-01-02 00:00:00+00")]);
    // The mapped column has the name of the watermark column; the order is still that of the times.
    assert_eq!(accounts(&changed(&mut source, WatermarkPoint::Beginning).await[0].rows), ["10", "9"]);
}

#[tokio::test]
async fn deleted_and_filtered_rows_are_read_and_marked_gone() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id int PRIMARY KEY, deleted_at timestamptz, deleted boolean, kind text);
             INSERT INTO users VALUES (1, NULL, NULL, 'person'), (2, now(), false, 'person'), (3, NULL, true, 'bot'), (4, NULL, false, NULL)",
        )
        .await;
    let mut gone = Vec::new();
    for (deleted, filter) in [
        (Some("deleted_at"), None),
        (Some("deleted"), None),
        (None, Some("kind <> 'bot'")),
        (Some("deleted_at"), Some("kind <> 'bot'")),
        (None, Some("kind IS DISTINCT FROM 'bot' OR false")),
        (None, None),
    ] {
        let mut config = database.config("users");
        config.source.deleted_column = deleted.map(str::to_owned);
        config.source.filter = filter.map(str::to_owned);
        let mut source = database.open(&config, &[]).await.unwrap();
        let page = source.all_after(None).await.unwrap();
        gone.push(page.rows.iter().map(|row| u8::from(row.gone)).collect::<Vec<_>>());
    }
    assert_eq!(gone, [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]);
}

#[tokio::test]
async fn a_session_names_itself_and_is_read_only() {
    let database = TestDatabase::create().await;
    database.run("CREATE TABLE users (id int PRIMARY KEY)").await;
    let mut config = database.config("users");
    config.name = "ü".repeat(40);
    let mut source = database.open(&config, &[]).await.unwrap();
    let row = source.session.row(sqlx::query("SHOW application_name")).await.unwrap();
    // The server shows characters outside ASCII as ? or \x.., so only the beginning is certain.
    assert!(row.get::<String, _>(0).starts_with("imsync "));
    let refused = source.session.rows(sqlx::query("DELETE FROM users")).await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
}

/// The keyset compares with the column's collation, whichever library provides it.
#[tokio::test]
async fn accounts_are_paged_in_the_order_of_any_collation() {
    let options = [
        (14, "LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"),
        (15, "LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'"),
        (16, "LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '&z < a' LOCALE 'C'"),
        (17, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"),
        (18, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'"),
    ];
    for (since, options) in options {
        let older = TestDatabase::create().await;
        let version = sqlx::query_scalar("SELECT current_setting('server_version_num')::int / 10000");
        let version: i32 = version.fetch_one(&mut older.session().await).await.unwrap();
        if version < since {
            continue;
        }
        let database = TestDatabase::create_with(&format!("{options} ENCODING 'UTF8' TEMPLATE template0")).await;
        database
            .run(
                "CREATE TABLE users (id text PRIMARY KEY, at timestamptz DEFAULT 'epoch');
                 INSERT INTO users (id) VALUES ('a'), ('A'), ('ä'), ('Z'), ('z'), ('_a'), ('a-b'), ('ab'), ('a b'), ('ß'), ('ss'), ('10'), ('9')",
            )
            .await;
        let mut config = database.config("users");
        config.source.page_size = 1;
        config.source.watermark_column = Some("at".to_owned());
        let mut source = database.open(&config, &[]).await.unwrap();
        for pages in [all(&mut source).await, changed(&mut source, WatermarkPoint::Beginning).await] {
            let mut read = super::accounts_of(&pages);
            assert_eq!(read.len(), 13, "{options}: {read:?}");
            read.sort_unstable();
            read.dedup();
            assert_eq!(read.len(), 13, "{options}: {read:?}");
        }
    }
}
