//! The text of every type and every column name: that of `column::text`, whichever role reads, and limited in length.

use super::{AccountFormat, SourceError, TestDatabase, accounts, all, values};
use crate::finding::Findings;
use crate::model::MAX_COLUMN_TEXT_CHARS;

const TYPES: &str = "
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
CREATE TYPE mood AS ENUM ('sad', 'très \"gai\"');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE nested AS (p pair, m mood[]);
CREATE DOMAIN short AS varchar(10) CHECK (VALUE <> 'no');
CREATE DOMAIN shorter AS short NOT NULL DEFAULT '';
CREATE DOMAIN pairs AS pair[];";

/// A column type, the literal of a value, the expected text.
const VALUES: &[(&str, &str, &str)] = &[
    ("smallint", "-32768", "-32768"),
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("numeric", "'NaN'", "NaN"),
    ("numeric", "'-Infinity'", "-Infinity"),
    ("numeric", "1e-20", "0.00000000000000000001"),
    ("numeric(1000, 2)", "1e40", "10000000000000000000000000000000000000000.00"),
    ("real", "3.4028235e38", "3.4028235e+38"),
    ("double precision", "1.7976931348623157e308", "1.7976931348623157e+308"),
    ("double precision", "5e-324", "5e-324"),
    ("double precision", "'-0'", "-0"),
    ("double precision", "'NaN'", "NaN"),
    ("double precision", "0.1::float8 + 0.2::float8", "0.30000000000000004"),
    ("timestamptz", "'infinity'", "infinity"),
    ("timestamptz", "'-infinity'", "-infinity"),
    ("timestamptz", "'0044-03-15 12:00+00 BC'", "0044-03-15 12:00:00+00 BC"),
    ("timestamptz", "'294276-12-31 23:59:59.999999+00'", "294276-12-31 23:59:59.999999+00"),
    ("timestamptz[]", "ARRAY['2026-07-01 12:00+02'::timestamptz]", "{\"2026-07-01 10:00:00+00\"}"),
    ("timestamp", "'4713-01-01 BC'", "4713-01-01 00:00:00 BC"),
    ("date", "'infinity'", "infinity"),
    ("date", "'0001-01-01 BC'", "0001-01-01 BC"),
    ("timetz", "'24:00:00-08'", "24:00:00-08"),
    ("interval", "'-1 year -2 mons +3 days -04:05:06.7'", "-1 years -2 mons +3 days -04:05:06.7"),
    ("interval[]", "ARRAY['1 day'::interval]", "{\"1 day\"}"),
    ("boolean", "false", "false"),
    ("\"char\"", "'x'", "x"),
    ("char(5)", "'ab'", "ab"),
    ("name", "'Na me'", "Na me"),
    ("bytea", "''", "\\x"),
    ("bytea", "'\\xdeadbeef'", "\\xdeadbeef"),
    ("bytea[]", "ARRAY['\\x00'::bytea]", "{\"\\\\x00\"}"),
    ("text", "E'tab\\t line\\n \\x7f \"q\" \\\\'", "tab\t line\n \u{7f} \"q\" \\"),
    ("text[]", "'{}'", "{}"),
    ("int[]", "'[0:1][2:2]={{1},{2}}'", "[0:1][2:2]={{1},{2}}"),
    ("text[]", "ARRAY['', 'NULL', NULL, 'a,b', '{', '\"']", "{\"\",\"NULL\",NULL,\"a,b\",\"{\",\"\\\"\"}"),
    ("json", "'{\"b\":1, \"b\":2,  \"a\":[]}'", "{\"b\":1, \"b\":2,  \"a\":[]}"),
    ("jsonb", "'{\"b\":1, \"b\":2,  \"a\":1.50}'", "{\"a\": 1.50, \"b\": 2}"),
    ("jsonb", "'\"\\u5317\"'", "\"北\""),
    ("jsonpath", "'$.a[*] ? (@ > 1)'", "$.\"a\"[*]?(@ > 1)"),
    ("int4range", "'empty'", "empty"),
    ("numrange", "'(,1.5]'", "(,1.5]"),
    ("tstzrange", "'[2026-01-01 00:00+02,)'", "[\"2025-12-31 22:00:00+00\",)"),
    ("daterange", "'[2026-01-01,2026-01-31]'", "[2026-01-01,2026-02-01)"),
    ("int4multirange", "'{[5,6),[1,3)}'", "{[1,3),[5,6)}"),
    ("mood", "'très \"gai\"'", "très \"gai\""),
    ("mood[]", "ARRAY['sad', 'très \"gai\"']::mood[]", "{sad,\"très \\\"gai\\\"\"}"),
    ("pair", "ROW(NULL, '')", "(,\"\")"),
    ("nested", "ROW(ROW(1, 'x,y'), ARRAY['sad']::mood[])", "(\"(1,\"\"x,y\"\")\",{sad})"),
    ("pairs", "ARRAY[ROW(1, 'x')::pair]", "{\"(1,x)\"}"),
    ("shorter", "'yes'", "yes"),
    ("uuid", "'00000000000000000000000000000000'", "00000000-0000-0000-0000-000000000000"),
    ("inet", "'10.0.0.1/32'", "10.0.0.1/32"),
    ("inet", "'::ffff:1.2.3.4'", "::ffff:1.2.3.4/128"),
    ("cidr", "'10/8'", "10.0.0.0/8"),
    ("macaddr", "'08002b:010203'", "08:00:2b:01:02:03"),
    ("bit(3)", "B'101'", "101"),
    ("varbit", "B''", ""),
    ("xml", "'<a b=\"1\">é</a>'", "<a b=\"1\">é</a>"),
    ("tsvector", "'fat:2A cat:1'", "'cat':1 'fat':2A"),
    ("tsquery", "'fat & !cat'", "'fat' & !'cat'"),
    ("point", "'(0.1,-1e-300)'", "(0.1,-1e-300)"),
    ("polygon", "'((0,0),(1,1))'", "((0,0),(1,1))"),
    ("oid", "4294967295", "4294967295"),
    ("pg_lsn", "'16/B374D848'", "16/B374D848"),
    ("hstore", "'b=>NULL, a=>\"x y\"'", "\"a\"=>\"x y\", \"b\"=>NULL"),
    ("citext", "'MiXed'", "MiXed"),
    ("ltree", "'Top.Science'", "Top.Science"),
    ("int GENERATED ALWAYS AS (1 + 1) STORED", "DEFAULT", "2"),
    ("int GENERATED ALWAYS AS IDENTITY", "DEFAULT", "1"),
];

#[tokio::test]
async fn every_type_has_the_same_text_for_every_role() {
    let database = TestDatabase::create().await;
    let (name, role) = (&database.name, format!("{}_role", database.name));
    let columns: Vec<String> = (0..VALUES.len()).map(|number| format!("c{number}")).collect();
    let typed: Vec<String> = columns.iter().zip(VALUES).map(|(name, (kind, ..))| format!("{name} {kind}")).collect();
    let literals: Vec<&str> = VALUES.iter().map(|(_, literal, _)| *literal).collect();
    database
        .run(&format!(
            "{TYPES} CREATE TABLE users (id int PRIMARY KEY, {}); INSERT INTO users VALUES (1, {});
             CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT ON users TO {role};
             ALTER ROLE {role} SET DateStyle = 'SQL, DMY'; ALTER ROLE {role} SET TimeZone = 'America/St_Johns';
             ALTER ROLE {role} SET IntervalStyle = 'sql_standard'; ALTER ROLE {role} SET extra_float_digits = -15;
             ALTER ROLE {role} SET bytea_output = 'escape'; ALTER ROLE {role} SET client_encoding = 'LATIN1';
             ALTER ROLE {role} SET quote_all_identifiers = on; ALTER ROLE {role} SET xmlbinary = 'hex';
             ALTER DATABASE {name} SET array_nulls = off; ALTER DATABASE {name} SET xmloption = 'document'",
            typed.join(", "),
            literals.join(", ")
        ))
        .await;
    let expected: Vec<Option<&str>> = VALUES.iter().map(|(.., text)| Some(*text)).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut config = database.config("users");
    for url in [config.source.url.clone(), database.url_of(&role)] {
        config.source.url = url;
        let mut source = database.open(&config, &columns).await.unwrap();
        let page = source.all_after(None).await.unwrap();
        for ((kind, literal, _), (read, expected)) in VALUES.iter().zip(values(page.rows.row(0)).iter().zip(&expected))
        {
            assert_eq!(read, expected, "{literal} as {kind}");
        }
    }
}

/// Some settings change what a view or the filter computes.
#[tokio::test]
async fn filters_and_views_mean_the_same_for_every_role() {
    let database = TestDatabase::create().await;
    let role = format!("{}_role", database.name);
    database
        .run(&format!(
            "CREATE TABLE people (id int PRIMARY KEY, city text, picture bytea); INSERT INTO people VALUES (1, 'x', '\\x00ff');
             CREATE VIEW users AS SELECT id, city, xmlelement(name p, picture) AS picture FROM people;
             CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT ON users TO {role};
             ALTER ROLE {role} SET xmlbinary = 'hex'; ALTER ROLE {role} SET transform_null_equals = on"
        ))
        .await;
    let mut config = database.config("users");
    config.source.filter = Some("NOT (city = NULL)".to_owned());
    let mut read = Vec::new();
    for url in [config.source.url.clone(), database.url_of(&role)] {
        config.source.url = url;
        let mut source = database.open(&config, &["picture"]).await.unwrap();
        read.push(source.all_after(None).await.unwrap().rows);
    }
    assert!(read[0].row(0).gone, "a comparison with NULL is never true");
    assert_eq!(read[0], read[1]);
}

#[tokio::test]
async fn a_long_text_is_read_up_to_the_limit() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id int PRIMARY KEY, city text, bio text, data bytea);
             INSERT INTO users VALUES (1, repeat('北', 1000000), 'a' || repeat('é', 999), decode(repeat('00', 1000000), 'hex'))",
        )
        .await;
    let config = database.config("users");
    let mut source = database.open(&config, &["city", "bio", "data"]).await.unwrap();
    let page = source.all_after(None).await.unwrap();
    let texts = values(page.rows.row(0));
    assert_eq!(texts[0], Some("北".repeat(MAX_COLUMN_TEXT_CHARS + 1).as_str()));
    assert_eq!(texts[1], Some(format!("a{}", "é".repeat(999)).as_str()));
    assert_eq!(texts[2].map(str::len), Some(MAX_COLUMN_TEXT_CHARS + 1));
}

#[tokio::test]
async fn columns_of_any_name_are_read() {
    let names: Vec<String> = [
        "Upper",
        "select",
        "with space",
        "qu\"ote",
        "qu'ote",
        "back\\slash",
        "dollar$1",
        "$$",
        "%s",
        "ünï",
        "北京",
        "👍🏽",
        "a.b",
        "c;--",
        "/*",
        "\u{202e}rtl",
        " ",
        "id::text",
        "NULL",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["x".repeat(63), "é".repeat(31)])
    .collect();
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let database = TestDatabase::create().await;
    let table = "T \"é\" ".to_owned() + &"x".repeat(55);
    let (columns, texts): (Vec<String>, Vec<String>) = names
        .iter()
        .enumerate()
        .map(|(number, name)| (format!("{} text", quoted(name)), format!("'value {number}'")))
        .unzip();
    database
        .run(&format!(
            "CREATE TABLE {0} (\"I D\" int PRIMARY KEY, \"at\" timestamptz DEFAULT 'epoch', {1}); INSERT INTO {0} VALUES (1, DEFAULT, {2})",
            quoted(&table),
            columns.join(", "),
            texts.join(", ")
        ))
        .await;
    let mut config = database.config(&format!("public.{}", quoted(&table)));
    config.source.account_column = "I D".to_owned();
    config.source.watermark_column = Some("at".to_owned());
    config.source.deleted_column = Some("qu\"ote".to_owned());
    let columns: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut source = database.open(&config, &columns).await.unwrap();
    let expected: Vec<String> = (0..names.len()).map(|number| format!("value {number}")).collect();
    for page in
        all(&mut source).await.iter().chain(&super::changed(&mut source, super::WatermarkPoint::Beginning).await)
    {
        assert_eq!(values(page.rows.row(0)), expected.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>());
        assert!(page.rows.row(0).gone);
    }
}

#[tokio::test]
async fn account_types_without_a_unique_text_are_refused() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad');
             CREATE DOMAIN loose AS citext; CREATE DOMAIN uid AS uuid; CREATE DOMAIN number0 AS bigint; CREATE DOMAIN number AS number0;
             CREATE TABLE users (c citext, l loose, e mood, n numeric, b bytea, j jsonb, t timestamptz, f float8, u uid, d number, p char(4));
             INSERT INTO users VALUES ('A', 'A', 'sad', 1, 'x', '1', now(), 1, '0A0B0C0D-0000-4000-8000-00000000000f', -7, 'ab')",
        )
        .await;
    for (column, kind) in [
        ("c", "citext"),
        ("l", "loose"),
        ("e", "mood"),
        ("n", "numeric"),
        ("b", "bytea"),
        ("j", "jsonb"),
        ("t", "timestamp with time zone"),
        ("f", "double precision"),
    ] {
        let mut config = database.config("users");
        config.source.account_column = column.to_owned();
        let Err(SourceError::Unmet(findings)) = database.open(&config, &[]).await else {
            panic!("{kind} is accepted as an account");
        };
        let sentence = findings.to_string();
        assert!(sentence.contains(kind) && sentence.contains("allowed are text, varchar, char"), "{sentence}");
    }
    for (column, format, text) in [
        ("u", AccountFormat::Hex, "0a0b0c0d-0000-4000-8000-00000000000f"),
        ("d", AccountFormat::Text, "-7"),
        ("p", AccountFormat::Text, "ab"),
    ] {
        let mut config = database.config("users");
        config.source.account_column = column.to_owned();
        config.source.account_format = format;
        let mut source = database.open(&config, &[]).await.unwrap();
        assert_eq!(super::accounts_of(&all(&mut source).await), [text]);
        assert_eq!(accounts(&source.rows_of(&[config.source.account_of(text)]).await.unwrap().rows), [text]);
    }
}

/// Differences that no session setting prevents are reported at start.
#[tokio::test]
async fn money_and_a_missing_encoding_cause_warnings() {
    let database =
        TestDatabase::create_with("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").await;
    database
        .run("CREATE TABLE users (id int PRIMARY KEY, \"Pay\" money, city text); INSERT INTO users VALUES (1, 5, 'x'), (2, 5, E'\\xff')")
        .await;
    let mut config = database.config("users");
    config.source.page_size = 1;
    let mut source = database.open(&config, &["Pay", "city"]).await.unwrap();
    let warnings = Findings(source.warnings().to_vec()).to_string();
    assert!(warnings.contains("column \"Pay\" is money") && warnings.contains("\"Pay\"::numeric"), "{warnings}");
    assert!(warnings.contains("SQL_ASCII"), "{warnings}");
    assert_eq!(accounts(&source.all_after(None).await.unwrap().rows), ["1"]);
    let page = source.all_after(Some("1")).await.unwrap();
    assert!(page.rows.is_empty(), "{page:?}");
    assert_eq!(&*page.unreadable[0].account, "2");
    assert_eq!(page.unreadable[0].raised, "22021 (a text is not valid in its encoding)");
    let mut source = database.open(&config, &["id"]).await.unwrap();
    assert!(!Findings(source.warnings().to_vec()).to_string().contains("money"));
    assert_eq!(super::accounts_of(&all(&mut source).await), ["1", "2"]);
}
