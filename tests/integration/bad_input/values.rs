//! Values of every kind and length, and columns of every type, from the table to IM.

use std::collections::BTreeMap;

use super::{HeldValues, expect_plain, rejected};
use crate::support::{Setup, TestEnvironment};

/// Signs that stay whole beside each other: letters, marks on them, pairs, families, what JSON writes otherwise.
const SIGNS: [&str; 16] = [
    "a",
    "é",
    "e\u{301}",
    "北",
    "👍🏽",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}",
    "\u{1f1e9}\u{1f1ea}",
    "\u{1112}\u{1161}\u{11ab}",
    "\"",
    "\\",
    "\u{1}",
    "\u{7f}",
    "\u{2028}",
    "\u{202e}",
    "\t",
    "\r\n",
];

/// Texts as lists of their signs, so that the test knows where one may be cut.
fn texts() -> Vec<Vec<&'static str>> {
    let mut texts: Vec<Vec<&str>> = Vec::new();
    for sign in SIGNS {
        // Just below, at and above 50 bytes, with a smaller sign first so that all alignments occur.
        for shift in 0..3 {
            for more in 0..2 {
                let count = (50 - shift) / sign.len() + more;
                texts.push(std::iter::repeat_n("x", shift).chain(std::iter::repeat_n(sign, count)).collect());
            }
        }
        texts.push(vec![sign; 3000]);
    }
    texts.push(SIGNS.to_vec());
    texts.push(SIGNS.iter().rev().copied().collect());
    texts.push(vec!["a"; 1 << 20]);
    texts.push(vec!["北"; 1 << 18]);
    texts
}

/// The longest run of whole signs that 50 bytes hold.
fn cut(signs: &[&str]) -> String {
    let mut text = String::new();
    for sign in signs {
        if text.len() + sign.len() > 50 {
            break;
        }
        text += sign;
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn im_holds_what_the_rule_says_of_each_text() {
    let attributes = "city = \"city\"\n[attributes.plan]\ncolumn = \"city\"\ntoo_long = \"truncate\"\n\
        [attributes.sex]\ncolumn = \"city\"\nvalues = { aaa = \"listed\", \"\\\"\" = \"quote\" }\nunlisted = \"keep\"\n";
    let setup = Setup { attributes: attributes.to_owned(), ..Setup::default() };
    let env = TestEnvironment::set_up(setup).await;
    let mut texts = texts();
    texts.extend([vec!["aaa"], vec!["\""], vec![" "]]);
    let ids: Vec<String> = (0..texts.len()).map(|number| format!("u{number:04}")).collect();
    let whole: Vec<String> = texts.iter().map(|signs| signs.concat()).collect();
    let insert = "INSERT INTO users (id, city) SELECT * FROM unnest($1::text[], $2::text[])";
    let mut connection = env.database.connect().await;
    sqlx::query(insert).bind(&ids).bind(&whole).execute(&mut connection).await.expect("texts that a column can hold");
    env.execute("INSERT INTO users (id, city) VALUES ('null', NULL), ('empty', '')").await;

    let (mut expected, mut refused) = (HeldValues::new(), BTreeMap::new());
    for ((id, signs), text) in ids.iter().zip(&texts).zip(&whole) {
        let cut = if text.len() <= 50 { text.clone() } else { cut(signs) };
        let mut held = BTreeMap::new();
        if text.len() <= 50 {
            held.insert("city".to_owned(), text.clone());
        } else {
            refused.insert(id.clone(), text.len());
        }
        assert!(!cut.is_empty(), "no sign here is over 50 bytes");
        held.insert("plan".to_owned(), cut);
        match text.as_str() {
            "aaa" => drop(held.insert("sex".to_owned(), "listed".to_owned())),
            "\"" => drop(held.insert("sex".to_owned(), "quote".to_owned())),
            _ => {}
        }
        expected.insert(id.clone(), held);
    }
    expect_plain(&env.imsync(&["preview", "--full"]).await.expect_code(0));
    expect_plain(&env.imsync(&["backfill"]).await.expect_code(3));
    let held = env.handle().users();
    for (id, expected) in &expected {
        assert_eq!(held.get(id), Some(expected), "{id}");
    }
    assert_eq!(held.len(), expected.len(), "NULL and the empty text set nothing");
    let listed = rejected(&env).await;
    assert_eq!(listed.len(), refused.len());
    for (account, attribute, reason) in listed {
        let bytes = refused[&account];
        let told = if bytes > 1000 { "more than 1000 bytes".to_owned() } else { format!("{bytes} bytes") };
        assert!(attribute.as_deref() == Some("city") && reason.contains(&told), "{account}: {reason}");
    }
    // Nothing seems to differ afterwards.
    env.handle().clear_records();
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.handle().counters().arrived, 0);
    // From something to nothing.
    env.execute("UPDATE users SET city = CASE WHEN right(id, 1) < '5' THEN NULL ELSE '' END, updated_at = now()").await;
    let ran = env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0);
    expect_plain(&ran);
    assert!(env.handle().users().values().all(|held| held.keys().all(|name| name == "sex")), "only sex was to be kept");
}

/// Ten columns of ten kinds at a time: IM holds what psql shows.
#[tokio::test(flavor = "multi_thread")]
async fn im_holds_what_psql_shows_of_every_type() {
    let kinds = [
        ("Numeric \"col\"", "numeric", "'NaN'"),
        ("Größe", "double precision", "0.1::float8 + 0.2::float8"),
        ("WHEN", "timestamptz", "'0044-03-15 12:00+02 BC'"),
        ("data", "bytea", "'\\xdeadbeef'"),
        ("a b", "text[]", "ARRAY['', 'NULL', NULL, 'x,y']"),
        ("select", "jsonb", "'{\"b\": [1, null], \"a\": \"\\u5317\"}'"),
        ("$1", "datemultirange", "'{[2026-01-01,2026-01-31]}'"),
        ("c;--", "pair", "ROW(1, 'x \"y\"')"),
        ("🙂", "interval", "'-1 year +2 days -03:04'"),
        ("xx", "short", "'yes'"),
    ];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let names: Vec<String> = (0..kinds.len()).map(|number| format!("a{number}")).collect();
    let columns: Vec<String> = kinds.iter().map(|(name, kind, _)| format!("{} {kind}", quoted(name))).collect();
    let literals: Vec<&str> = kinds.iter().map(|(.., literal)| *literal).collect();
    let sql = format!(
        "CREATE TYPE pair AS (a int, b text); CREATE DOMAIN short AS varchar(9) CHECK (VALUE <> 'no');
         CREATE TABLE users (id int PRIMARY KEY, {}); INSERT INTO users VALUES (1, {}), (2{});",
        columns.join(", "),
        literals.join(", "),
        ", NULL".repeat(kinds.len())
    );
    let attributes: Vec<String> =
        names.iter().zip(&kinds).map(|(name, (column, ..))| format!("{name} = '{column}'")).collect();
    let attributes = attributes.join("\n");
    let source = "table = \"users\"\naccount_column = \"id\"\n".to_owned();
    let mut setup = Setup { sql, source, attributes, ..Setup::default() };
    setup.simulator.attribute_names = names.clone();
    let env = TestEnvironment::set_up(setup).await;
    // Whoever looks at it in a session of this database would see other texts.
    env.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET bytea_output = escape', current_database()); \
            EXECUTE format('ALTER DATABASE %I SET DateStyle = German', current_database()); \
            EXECUTE format('ALTER DATABASE %I SET TimeZone = %L', current_database(), 'Asia/Tokyo'); \
            EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -5', current_database()); \
            EXECUTE format('ALTER DATABASE %I SET IntervalStyle = iso_8601', current_database()); END $$",
    )
    .await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let psql: Vec<String> =
        names.iter().zip(&kinds).map(|(name, (column, ..))| format!("('{name}', {}::text)", quoted(column))).collect();
    let wanted = env
        .wanted(&format!(
            "WITH plain AS MATERIALIZED (SELECT set_config('DateStyle', 'ISO', false), set_config('TimeZone', 'UTC', false),
                set_config('bytea_output', 'hex', false), set_config('extra_float_digits', '1', false),
                set_config('IntervalStyle', 'postgres', false))
             SELECT id::text, a.name, a.value FROM plain, users, LATERAL (VALUES {}) AS a (name, value) WHERE a.value IS NOT NULL",
            psql.join(", ")
        ))
        .await;
    assert_eq!(wanted["1"].len(), kinds.len());
    assert_eq!(env.handle().users(), wanted);
    assert_eq!(wanted["1"]["a3"], "\\xdeadbeef");
    assert_eq!(wanted["1"]["a2"], "0044-03-15 10:00:00+00 BC");
}
