//! What is refused, and in which words.

use super::{AccountFormat, Config, Database, SourceError, config};

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

async fn refusal(database: &Database, change: impl FnOnce(&mut Config), columns: &[&str]) -> String {
    let mut config = database.config("users");
    change(&mut config);
    match database.open(&config, columns).await {
        Err(SourceError::Unsuitable(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_that_is_not_there_comes_with_what_could_be_meant() {
    let database = Database::create().await;
    database.run(SCHEMA).await;
    let table = |name: &'static str| move |config: &mut Config| config.source.table = name.to_owned();
    assert_eq!(
        refusal(&database, table("user"), &[]).await,
        "source.table = \"user\": there is no such table or view (or it is not in the search path); there is closed.users, public.users"
    );
    assert_eq!(
        refusal(&database, table("Members"), &[]).await,
        "source.table = \"Members\": there is no such table or view (or it is not in the search path); there is public.\"Members\""
    );
    assert_eq!(
        refusal(&database, table("a b"), &[]).await,
        "source.table = \"a b\" is not a table's name: a part with other signs than letters, digits and _ needs double quotes around it"
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
        "source.account_column = \"ID\": column \"ID\" not found in public.users; there is id (capitals matter here)\n\
         source.watermark_column = \"updatedat\": column updatedat not found in public.users; there is updated_at\n\
         source.deleted_column = \"zzz\": column zzz not found in public.users; its columns are id, uid, city, \"Country\", gender, created_at, updated_at, day, n, loosely, flag, price\n\
         attributes = \"City\": column \"City\" not found in public.users; there is city (capitals matter here)"
    );
    let lost = refusal(&database, |config| config.attributes[0].column = "citty".to_owned(), &["citty"]).await;
    assert!(lost.starts_with("attributes.city = \"citty\": column citty not found"), "{lost}");
}

#[tokio::test]
async fn a_type_that_does_not_fit_comes_with_those_that_do() {
    let database = Database::create().await;
    database.run(SCHEMA).await;
    let account = |name: &'static str| move |config: &mut Config| config.source.account_column = name.to_owned();
    assert_eq!(
        refusal(&database, account("uid"), &[]).await,
        "source.account_column = \"uid\": column uid of public.users is uuid, 36 bytes as text, and IM takes at most 32; set account_format = \"hex\" (32 bytes, without the hyphens)"
    );
    assert_eq!(
        refusal(&database, account("price"), &[]).await,
        "source.account_column = \"price\": column price of public.users is numeric; allowed are text, varchar, char, smallint, integer, bigint, uuid and domains over them (in a view, cast it: price::text)"
    );
    assert_eq!(
        refusal(&database, |config| config.source.account_format = AccountFormat::Hex, &[]).await,
        "source.account_format = \"hex\" is for a uuid, but column id of public.users is integer; set account_format = \"text\""
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
    let database = Database::create().await;
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
                "source.watermark_column cannot be used: {place}, where old stamps appear late and their rows would be missed; remove watermark_column (every pass then compares the whole table), or read from the table itself"
            )
        );
        if table.ends_with("remote") {
            // There is nobody at the other end.
            continue;
        }
        let mut config = database.config(table);
        config.source.watermark_column = None;
        assert!(database.open(&config, &[]).await.is_ok());
    }
}

#[tokio::test]
async fn a_filter_is_judged_by_the_server_before_it_is_used() {
    let database = Database::create().await;
    database.run(SCHEMA).await;
    for (filter, reason) in [
        ("kind = 'bot'", "column \"kind\" does not exist"),
        ("city = ", "syntax error at or near \")\""),
        ("n", "argument of WHERE must be type boolean, not type integer"),
        ("n > $1", "parameters like $1 cannot be used here"),
        ("count(*) > 1", "aggregate functions are not allowed in WHERE"),
        ("generate_series(1, n) = 1", "set-returning functions are not allowed in WHERE"),
        (
            "true) OR (true); DELETE FROM users; SELECT (true",
            "cannot insert multiple commands into a prepared statement",
        ),
    ] {
        let refused = refusal(&database, |config| config.source.filter = Some(filter.to_owned()), &[]).await;
        assert_eq!(refused, format!("source.filter = {filter:?}: {reason}"));
    }
}

#[tokio::test]
async fn a_missing_privilege_comes_with_the_statement_that_grants_it() {
    let database = Database::create().await;
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
            "role {role} may not read city, updated_at of public.users; run: GRANT SELECT ON public.users TO {role};"
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
            "role {role} may not use schema closed; run: GRANT USAGE ON SCHEMA closed TO {role};\n\
             role {role} may not read id of closed.users; run: GRANT SELECT ON closed.users TO {role};"
        )
    );
    let mut config = database.config("users");
    config.source.url = database.url_of(&role);
    assert!(database.open(&config, &["gender"]).await.is_ok(), "columns suffice");
    database.run("ALTER TABLE users ENABLE ROW LEVEL SECURITY").await;
    let hidden = refusal(&database, |config| config.source.url = database.url_of(&role), &["gender"]).await;
    assert!(hidden.contains(&format!("ALTER ROLE {role} BYPASSRLS")), "{hidden}");
}

#[tokio::test]
async fn what_could_be_better_is_warned_of() {
    let database = Database::create().await;
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
    let warnings = source.warnings();
    assert_eq!(
        warnings[..2],
        [
            "no index serves the incremental passes, each page sorts all rows; run: CREATE INDEX CONCURRENTLY ON public.users (updated_at, id);",
            "no unique index makes sure that an account is in public.users once (twice, it is rejected); run: CREATE UNIQUE INDEX CONCURRENTLY ON public.users (id);",
        ]
    );
    assert!(
        warnings[2].contains("the newest updated_at of public.users lies 2 h 0 min ahead")
            || warnings[2].contains("2 h 1 min ahead"),
        "{warnings:?}"
    );
    config.source.watermark_column = Some("written".to_owned());
    let source = database.open(&config, &[]).await.unwrap();
    assert!(source.warnings()[2].contains("lies 3 h 1 min behind"), "{:?}", source.warnings());
    config.source.watermark_timezone = "Nowhere/Land".to_owned();
    let refused = database.open(&config, &[]).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("source.watermark_timezone = \"Nowhere/Land\": time zone \"Nowhere/Land\" not recognized"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_error_names_no_password() {
    let database = Database::create().await;
    let mut nobody = url::Url::parse(&database.url).unwrap();
    nobody.set_username("no_such_role").unwrap();
    nobody.set_password(Some("s3cret!word")).unwrap();
    let refused = database.open(&config(nobody.as_str(), "users"), &[]).await.unwrap_err();
    assert!(matches!(refused, SourceError::Unsuitable(_)), "{refused}");
    let urls = [
        "postgres://imsync:s3cret!word@127.0.0.1:1/app",
        "postgres://imsync:s3cret!word@no-such-host.invalid/app",
        "postgres://imsync:s3cret!word@127.0.0.1:notaport/app",
        "postgres://imsync:s3cret#word@127.0.0.1/app",
        "postgres://imsync@127.0.0.1:1/app?password=s3cret!word&sslmode=s3cret",
    ];
    for url in urls {
        let refused = database.open(&config(url, "users"), &[]).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("s3cret!"), "{refused}");
    }
    let unreachable = database.open(&config(urls[0], "users"), &[]).await.unwrap_err();
    assert!(matches!(unreachable, SourceError::Unreachable(_)), "{unreachable}");
}

#[tokio::test]
async fn a_lost_connection_is_away_and_a_dropped_column_is_not() {
    let database = Database::create().await;
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
