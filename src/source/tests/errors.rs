//! Errors of the connection and the start: their class and their message.

use super::{AccountFormat, Config, SourceError, TestDatabase, config};

const SCHEMA: &str = "
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE users (id int PRIMARY KEY, uid uuid, city text, \"Country\" text, gender text, created_at timestamptz,
  updated_at timestamptz, day date, n int, loosely text COLLATE loose, flag boolean, price numeric);
CREATE TABLE \"Members\" (id int PRIMARY KEY);
CREATE MATERIALIZED VIEW kept AS SELECT * FROM users;
CREATE VIEW over_kept AS SELECT * FROM kept;
CREATE VIEW over_over AS SELECT id, updated_at FROM over_kept UNION ALL SELECT id, updated_at FROM users;
CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE remote (id int, updated_at timestamptz) SERVER elsewhere;
CREATE VIEW over_remote AS SELECT * FROM remote;
CREATE SCHEMA closed; CREATE TABLE closed.users (id int PRIMARY KEY, city text);";

async fn refusal(database: &TestDatabase, change: impl FnOnce(&mut Config), columns: &[&str]) -> String {
    let mut config = database.config("users");
    change(&mut config);
    match database.open(&config, columns).await {
        Err(error @ (SourceError::Unsuitable(_) | SourceError::Unmet(_))) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unknown_name_is_reported_with_similar_names() {
    let database = TestDatabase::create().await;
    database.run(SCHEMA).await;
    let table = |name: &'static str| move |config: &mut Config| config.source.table = name.to_owned();
    assert_eq!(
        refusal(&database, table("user"), &[]).await,
        "source.table = \"user\": no such table or view exists, or it is not in the search path; similar: closed.users, public.users; correct source.table, with its schema, or the database in source.url"
    );
    assert_eq!(
        refusal(&database, table("Members"), &[]).await,
        "source.table = \"Members\": no such table or view exists, or it is not in the search path; similar: public.\"Members\"; correct source.table, with its schema, or the database in source.url"
    );
    assert_eq!(
        refusal(&database, table("a b"), &[]).await,
        "source.table = \"a b\" is not the name of a table: a part with characters other than letters, digits and _ needs double quotes"
    );
    assert_eq!(
        refusal(
            &database,
            |config| {
                config.source.account_column = "ID".to_owned();
                config.source.watermark_column = Some("updatedat".to_owned());
                config.source.deleted_column = Some("zzz".to_owned());
            },
            &["City"]
        )
        .await,
        "source.account_column = \"ID\": public.users has no column \"ID\"; similar: id (upper and lower case differ); correct source.account_column, or add the column\n\
         source.watermark_column = \"updatedat\": public.users has no column updatedat; similar: updated_at; correct source.watermark_column, or add the column\n\
         source.deleted_column = \"zzz\": public.users has no column zzz; its columns are id, uid, city, \"Country\", gender, created_at, updated_at, day, n, loosely, flag, price; correct source.deleted_column, or add the column\n\
         attributes = \"City\": public.users has no column \"City\"; similar: city (upper and lower case differ); correct attributes, or add the column"
    );
    let unknown = refusal(&database, |config| config.attributes[0].column = "citty".to_owned(), &["citty"]).await;
    assert!(
        unknown.starts_with("attributes.city = \"citty\": public.users has no column citty; similar: city"),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_wrong_type_is_reported_with_the_allowed_types() {
    let database = TestDatabase::create().await;
    database.run(SCHEMA).await;
    let account = |name: &'static str| move |config: &mut Config| config.source.account_column = name.to_owned();
    assert_eq!(
        refusal(&database, account("uid"), &[]).await,
        "source.account_column = \"uid\": column uid of public.users is uuid, 36 bytes as text, and IM accepts at most 32; set account_format = \"hex\" (32 bytes, without the hyphens)"
    );
    assert_eq!(
        refusal(&database, account("price"), &[]).await,
        "source.account_column = \"price\": column price of public.users is numeric; allowed are text, varchar, char, smallint, integer, bigint, uuid and domains over them; read from a view that casts it: price::text"
    );
    assert_eq!(
        refusal(&database, |config| config.source.account_format = AccountFormat::Hex, &[]).await,
        "source.account_format = \"hex\" requires a uuid, or a text that spells one, but column id of public.users is integer; set account_format = \"text\""
    );
    let loose = refusal(&database, account("loosely"), &[]).await;
    assert!(loose.contains("nondeterministic collation"), "{loose}");
    for column in ["day", "n"] {
        let refused = refusal(&database, |config| config.source.watermark_column = Some(column.to_owned()), &[]).await;
        assert!(refused.contains("allowed are timestamptz, timestamp and bigint"), "{refused}");
    }
}

#[tokio::test]
async fn a_watermark_over_refreshed_rows_is_refused() {
    let database = TestDatabase::create().await;
    database.run(SCHEMA).await;
    for (table, place) in [
        ("kept", "public.kept is a materialized view"),
        ("over_kept", "public.over_kept reads from public.kept, a materialized view"),
        ("over_over", "public.over_over reads from public.kept, a materialized view"),
        ("remote", "public.remote is a foreign table"),
        ("over_remote", "public.over_remote reads from public.remote, a foreign table"),
    ] {
        let watermark = |config: &mut Config| {
            config.source.table = table.to_owned();
            config.source.watermark_column = Some("updated_at".to_owned());
        };
        assert_eq!(
            refusal(&database, watermark, &[]).await,
            format!(
                "source.watermark_column cannot be used: {place}, where rows with old stamps appear late and would be missed; remove watermark_column (every pass then compares the whole table), or read from the underlying table"
            )
        );
        if table.ends_with("remote") {
            // The foreign server does not exist.
            continue;
        }
        let mut config = database.config(table);
        config.source.watermark_column = None;
        assert!(database.open(&config, &[]).await.is_ok());
    }
}

#[tokio::test]
async fn the_server_checks_a_filter_before_it_is_used() {
    let database = TestDatabase::create().await;
    database.run(SCHEMA).await;
    for (filter, reason) in [
        ("kind = 'bot'", "column \"kind\" does not exist; correct the name; the columns of public.users are id, "),
        ("city = ", "the condition is not complete; correct source.filter; it is"),
        ("city = 7", "operator does not exist: text = integer; compare values of one type"),
        ("n", "argument of WHERE must be type boolean, not type integer; correct source.filter"),
        ("n > $1", "parameters such as $1 are not allowed here; write the value itself"),
        ("count(*) > 1", "aggregate functions are not allowed in WHERE; the condition is about one row"),
        ("generate_series(1, n) = 1", "set-returning functions are not allowed in WHERE; correct source.filter"),
        (
            "true) OR (true); DELETE FROM users; SELECT (true",
            "cannot insert multiple commands into a prepared statement; correct source.filter",
        ),
    ] {
        let refused = refusal(&database, |config| config.source.filter = Some(filter.to_owned()), &[]).await;
        assert!(refused.starts_with(&format!("source.filter = {filter:?}: {reason}")), "{refused}");
    }
}

#[tokio::test]
async fn a_missing_privilege_is_reported_with_its_grant() {
    let database = TestDatabase::create().await;
    let role = format!("{}_role", database.name);
    database
        .run(&format!(
            "{SCHEMA} CREATE ROLE {role} LOGIN PASSWORD 'role'; GRANT SELECT (id, gender) ON users TO {role}"
        ))
        .await;
    let as_role = |config: &mut Config| {
        config.source.url = database.url_of(&role);
        config.source.watermark_column = Some("updated_at".to_owned());
    };
    assert_eq!(
        refusal(&database, as_role, &["city", "gender"]).await,
        format!(
            "role {role} lacks SELECT on city, updated_at of public.users; run: GRANT SELECT (\"city\", \"updated_at\") ON \"public\".\"users\" TO \"{role}\";"
        )
    );
    let closed = |config: &mut Config| {
        as_role(config);
        config.source.table = "closed.users".to_owned();
        config.source.watermark_column = None;
    };
    assert_eq!(
        refusal(&database, closed, &[]).await,
        format!(
            "role {role} lacks USAGE on schema closed; run: GRANT USAGE ON SCHEMA \"closed\" TO \"{role}\";\n\
             role {role} lacks SELECT on id of closed.users; run: GRANT SELECT (\"id\") ON \"closed\".\"users\" TO \"{role}\";"
        )
    );
    let mut config = database.config("users");
    config.source.url = database.url_of(&role);
    assert!(database.open(&config, &["gender"]).await.is_ok(), "column privileges suffice");
    database.run("ALTER TABLE users ENABLE ROW LEVEL SECURITY").await;
    let hidden = refusal(&database, |config| config.source.url = database.url_of(&role), &["gender"]).await;
    assert!(hidden.contains(&format!("ALTER ROLE \"{role}\" BYPASSRLS")), "{hidden}");
}

#[tokio::test]
async fn missing_indexes_and_wrong_clocks_cause_warnings() {
    let database = TestDatabase::create().await;
    database
        .run(
            "CREATE TABLE users (id int, updated_at timestamptz, written timestamp);
             CREATE INDEX ON users (updated_at, id) WHERE id > 0; CREATE INDEX ON users (id);
             INSERT INTO users VALUES (1, now() + interval '2 hours 1 minute', now() AT TIME ZONE 'UTC' - interval '3 hours 1 minute')",
        )
        .await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    let source = database.open(&config, &[]).await.unwrap();
    let sentences =
        |source: &crate::source::Source| source.warnings().iter().map(ToString::to_string).collect::<Vec<_>>();
    let warnings = sentences(&source);
    assert_eq!(
        warnings[..2],
        [
            "no index supports the incremental passes, so each page sorts all rows; run: CREATE INDEX CONCURRENTLY ON \"public\".\"users\" (\"updated_at\", \"id\");",
            "no unique index ensures that an account has one row in public.users (an account with several rows is rejected); run: CREATE UNIQUE INDEX CONCURRENTLY ON \"public\".\"users\" (\"id\");",
        ]
    );
    assert!(
        warnings[2].contains("the newest updated_at of public.users is 2 h 0 min ahead")
            || warnings[2].contains("2 h 1 min ahead"),
        "{warnings:?}"
    );
    config.source.watermark_column = Some("written".to_owned());
    let source = database.open(&config, &[]).await.unwrap();
    assert!(sentences(&source)[2].contains("is 3 h 1 min behind"), "{:?}", source.warnings());
    config.source.watermark_timezone = "Nowhere/Land".to_owned();
    let refused = database.open(&config, &[]).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("source.watermark_timezone = \"Nowhere/Land\": time zone \"Nowhere/Land\" not recognized"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_error_contains_no_password() {
    let database = TestDatabase::create().await;
    let mut unknown_role = url::Url::parse(&database.url).unwrap();
    unknown_role.set_username("no_such_role").unwrap();
    unknown_role.set_password(Some("s3cret!word")).unwrap();
    let refused = database.open(&config(unknown_role.as_str(), "users"), &[]).await.unwrap_err();
    assert!(matches!(refused, SourceError::Unmet(_)), "{refused}");
    let urls = [
        "postgres://imsync:s3cret!word@127.0.0.1:1/app",
        "postgres://imsync:s3cret!word@no-such-host.invalid/app",
        "postgres://imsync:s3cret!#word@127.0.0.1:1/app",
        "postgres://imsync@127.0.0.1:1/app?password=s3cret!word",
    ];
    for url in urls {
        let refused = database.open(&config(url, "users"), &[]).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("s3cret!"), "{refused}");
    }
    let unreachable = database.open(&config(urls[0], "users"), &[]).await.unwrap_err();
    assert!(matches!(unreachable, SourceError::Unreachable(_)), "{unreachable}");
}

#[tokio::test]
async fn a_lost_connection_differs_from_a_dropped_column() {
    let database = TestDatabase::create().await;
    database.run(SCHEMA).await;
    let config = database.config("users");
    let mut source = database.open(&config, &["city"]).await.unwrap();
    database.run("ALTER TABLE users DROP COLUMN city CASCADE").await;
    let changed = source.all_after(None).await.unwrap_err();
    assert!(matches!(changed, SourceError::Unsuitable(_)), "{changed}");
    let mut source = database.open(&config, &["gender"]).await.unwrap();
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'imsync test' AND datname = current_database()").await;
    for _ in 0..2 {
        let unreachable = source.all_after(None).await.unwrap_err();
        assert!(matches!(unreachable, SourceError::Unreachable(_)), "{unreachable}");
    }
}

#[tokio::test]
async fn unusual_stamps_are_counted_by_the_first_connection_only() {
    let database = TestDatabase::create().await;
    database.run("CREATE TABLE users (id int PRIMARY KEY, updated_at timestamptz); INSERT INTO users VALUES (1)").await;
    let mut config = database.config("users");
    config.source.watermark_column = Some("updated_at".to_owned());
    let has_count =
        |source: &crate::source::Source| source.warnings().iter().any(|warning| warning.id() == "source.null_stamps");
    assert!(has_count(&database.open(&config, &[]).await.unwrap()));
    assert!(!has_count(&crate::source::Source::reconnect(&config, &[]).await.unwrap()));
}
