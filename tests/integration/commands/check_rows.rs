//! Tests what `check` finds in rows, and what it says of tables in which rows are hidden or accounts not unique.
//!
//! Owns: the findings as a user sees them, and what is true after their remedy. Must not know: how rows are sampled.

use serde_json::Value;

use super::Role;
use crate::support::{SOURCE, Setup, TestEnvironment, USERS};

/// The findings with this id that are not ok: the verdict, the message, and the remedy.
async fn findings(env: &TestEnvironment, id: &str) -> Vec<(String, String, String)> {
    let check = env.imsync(&["check", "--json"]).await.json();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = check["findings"].as_array().unwrap().iter();
    let of_id = all.filter(|finding| finding["id"] == id && finding["verdict"] != "ok");
    of_id.map(|finding| (text(finding, "verdict"), text(finding, "message"), text(finding, "remedy"))).collect()
}

/// The messages of the warnings with this id, one a line.
async fn warnings(env: &TestEnvironment, id: &str) -> String {
    let found = findings(env, id).await;
    assert!(found.iter().all(|(verdict, ..)| verdict == "warning"), "{found:?}");
    found.into_iter().map(|(_, message, _)| message).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_shows_what_would_be_rejected_without_values() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(
        "INSERT INTO users (id, city, plan, gender) SELECT 'u' || g, 'Graz', 'free', 'm' FROM generate_series(1, 40) g;
         UPDATE users SET city = 'Zebra' || repeat('y', 46) WHERE id IN ('u1', 'u2');
         UPDATE users SET gender = 'Zebra' WHERE id IN ('u3', 'u4', 'u5');
         UPDATE users SET deleted_at = now(), city = repeat('Zebra', 20) WHERE id = 'u6';
         INSERT INTO users (id) VALUES ('Anna'), ('anna'), ('bob'), ('bob '), (' carl'), ('北京'), (E'a\\tb'), (''),
             ('c0ffee00-0000-4000-8000-000000000000')",
    )
    .await;
    let output = env.imsync(&["check"]).await.expect_code(0);
    assert!(!format!("{output:?}").contains("Zebra"), "{output:?}");
    let values = warnings(&env, "sample.rejected_values").await;
    assert!(values.contains("2 of 46 values of attribute city (column city)"), "{values}");
    assert!(values.contains("3 of 46 values of attribute sex (column gender)"), "{values}");
    assert!(values.contains("more than 50 bytes") && values.contains("does not list"), "{values}");
    let accounts = warnings(&env, "sample.accounts").await;
    for part in [
        "1 row(s) have no account",
        "1 account(s) have more bytes than IM accepts",
        "c0ffee00-0000-4000-8000-000000000000",
        "2 account(s) have characters other than printable ASCII",
        "北京",
        "2 account(s) begin or end with a blank",
        "2 group(s) of accounts differ only in case or in blanks",
        "\"Anna\" and \"anna\"",
        "\"bob\" and \"bob \"",
    ] {
        assert!(accounts.contains(part), "no {part:?} in {accounts}");
    }
    // The same through a view, of which one row raises an error.
    env.execute(
        "CREATE VIEW v AS SELECT id, (100 / (id <> 'u7')::int)::text AS city, plan, gender, updated_at, deleted_at FROM users",
    )
    .await;
    env.edit("public.users", "public.v");
    let rows = warnings(&env, "sample.rows").await;
    assert!(rows.contains("1 of 49 rows of public.v") && rows.contains("not a random choice"), "{rows}");
    assert!(rows.contains("22012"), "{rows}");
    assert!(warnings(&env, "sample.accounts").await.contains("\"Anna\" and \"anna\""));
}

/// The sample holds a thousand of 60,000 rows, and finds the twins of its accounts all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_a_large_table_finds_twins_outside_of_it() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(
        "INSERT INTO users (id, city, plan, kind)
             SELECT 'u' || g, CASE WHEN g % 2 = 0 THEN repeat('x', 60) ELSE 'Graz' END, 'free', repeat('k', 100) FROM generate_series(1, 30000) g;
         INSERT INTO users (id, city, kind) SELECT 'U' || g, 'Graz', repeat('k', 100) FROM generate_series(1, 30000) g",
    )
    .await;
    let check = env.imsync(&["check", "--json"]).await.json();
    let rows = check["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "sample.rows").unwrap();
    let message = rows["message"].as_str().unwrap();
    assert!(message.contains("1000 rows of public.users, chosen at random from 300 random blocks"), "{message}");
    let accounts = warnings(&env, "sample.accounts").await;
    let groups: usize = accounts.split(' ').nth(3).unwrap().parse().unwrap();
    assert!((950..=1000).contains(&groups), "{accounts}");
    let values = warnings(&env, "sample.rejected_values").await;
    let rejected: usize = values.split(' ').next().unwrap().parse().unwrap();
    // A quarter of the rows; more than eight standard deviations away is no chance.
    assert!((100..=400).contains(&rejected), "{values}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_texts_are_compared_with_those_of_the_column() {
    let columns = [
        ("boolean", "{ t = \"yes\", f = \"no\" }", &["\"f\", \"t\"", "\"true\", \"false\"", "psql"][..]),
        ("boolean", "{ true = \"yes\" }", &["does not list \"false\""]),
        ("mood", "{ sad = \"1\", Happy = \"2\" }", &["\"Happy\"", "does not list \"ok\", \"happy day\""]),
        ("deep_mood", "{ sad = \"1\", ok = \"2\" }", &["does not list \"happy day\""]),
        (
            "smallint",
            "{ 01 = \"1\", 2 = \"2\", m = \"male\", 70000 = \"3\" }",
            &["\"01\", \"70000\", \"m\"", "integers"],
        ),
        ("bigint", "{ \"1.0\" = \"1\", \"-0\" = \"2\" }", &["\"-0\", \"1.0\""]),
        ("char(3)", "{ \"m  \" = \"male\", f = \"female\" }", &["\"m  \"", "blanks at the end"]),
    ];
    for (kind, values, expected) in columns {
        let setup = Setup {
            sql: format!(
                "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy day'); CREATE DOMAIN near_mood AS mood; CREATE DOMAIN deep_mood AS near_mood NOT NULL;
                 CREATE TABLE users (id text PRIMARY KEY, x {kind}, updated_at timestamptz NOT NULL, deleted_at timestamptz); CREATE INDEX ON users (updated_at, id)"
            ),
            attributes: format!("[attributes.sex]\ncolumn = \"x\"\nvalues = {values}\n"),
            ..Setup::default()
        };
        let env = TestEnvironment::set_up(setup).await;
        let found = warnings(&env, "attributes.values").await;
        for part in expected {
            assert!(found.contains(part), "{kind} {values}: no {part:?} in {found:?}");
        }
    }
    // Nothing is said where every text is listed, or need not be.
    for (kind, values) in [
        ("boolean", "{ true = \"yes\", false = \"no\" }"),
        ("boolean", "{ true = \"yes\" }\nunlisted = \"remove\""),
        ("int", "{ 1 = \"one\", \"-2\" = \"two\" }"),
        ("text", "{ 01 = \"one\" }"),
    ] {
        let setup = Setup {
            sql: format!(
                "CREATE TABLE users (id text PRIMARY KEY, x {kind}, updated_at timestamptz NOT NULL, deleted_at timestamptz)"
            ),
            attributes: format!("[attributes.sex]\ncolumn = \"x\"\nvalues = {values}\n"),
            ..Setup::default()
        };
        let env = TestEnvironment::set_up(setup).await;
        assert_eq!(findings(&env, "attributes.values").await, [], "{kind} {values}");
    }
}

/// Every SQL remedy is executed, and afterwards no finding with an SQL remedy is left.
#[tokio::test(flavor = "multi_thread")]
async fn the_remedies_of_partitioned_tables_are_accepted() {
    let columns = "id text NOT NULL, city text, plan text, gender text, kind text, updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz, region text NOT NULL DEFAULT 'eu'";
    for (sql, unique_is_possible) in [
        (
            format!(
                "CREATE TABLE users ({columns}) PARTITION BY RANGE (updated_at); CREATE TABLE p PARTITION OF users DEFAULT"
            ),
            false,
        ),
        (
            format!(
                "CREATE TABLE users ({columns}, PRIMARY KEY (id, region)) PARTITION BY LIST (region); CREATE TABLE p PARTITION OF users DEFAULT"
            ),
            false,
        ),
        (
            format!(
                "CREATE TABLE users ({columns}) PARTITION BY LIST (lower(id)); CREATE TABLE p PARTITION OF users DEFAULT"
            ),
            false,
        ),
        (
            format!(
                "CREATE TABLE users ({columns}) PARTITION BY HASH (id); CREATE TABLE p PARTITION OF users FOR VALUES WITH (MODULUS 1, REMAINDER 0) PARTITION BY LIST (region); CREATE TABLE q PARTITION OF p DEFAULT"
            ),
            false,
        ),
        (
            format!(
                "CREATE TABLE users ({columns}) PARTITION BY HASH (id); CREATE TABLE p PARTITION OF users FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
            ),
            true,
        ),
        (format!("CREATE TABLE users ({columns}); CREATE TABLE p () INHERITS (users)"), false),
    ] {
        let env = TestEnvironment::set_up(Setup { sql: sql.clone(), ..Setup::default() }).await;
        env.execute("INSERT INTO users (id, city) VALUES ('u1', 'Graz')").await;
        let unproven = findings(&env, "source.account_unique").await;
        assert_eq!(unproven.is_empty(), unique_is_possible, "{sql}: {unproven:?}");
        let sql_remedies = async || {
            let check = env.imsync(&["check", "--json"]).await.expect_code(0).json();
            let remedies =
                check["findings"].as_array().unwrap().iter().filter_map(|finding| finding["remedy"].as_str());
            remedies.filter(|remedy| remedy.starts_with("CREATE")).map(str::to_owned).collect::<Vec<_>>()
        };
        let remedies = sql_remedies().await;
        assert!(!remedies.is_empty(), "{sql}");
        for remedy in remedies {
            env.execute(&remedy).await;
        }
        assert_eq!(sql_remedies().await, Vec::<String>::new(), "{sql}");
        // Two rows of one account are refused, whether the database could prevent them or not.
        if !unique_is_possible {
            assert!(findings(&env, "source.account_unique").await[0].1.contains("unique"), "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_hidden_by_policies_are_found_through_views() {
    let sql = format!(
        "{USERS} ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON users USING (id <> 'u2');
        INSERT INTO users (id) VALUES ('u1'), ('u2');"
    );
    let env = TestEnvironment::set_up(Setup { sql, ..Setup::default() }).await;
    let role = Role::create(&env).await;
    let owner = format!("{}_owner", role.name);
    let version = env.number("SELECT current_setting('server_version_num')::int8 / 10000").await;
    env.execute(&format!("CREATE ROLE {owner}; GRANT CREATE ON SCHEMA public TO {owner}; GRANT SELECT ON users TO {owner}, {0};
        CREATE VIEW plain AS SELECT * FROM users; CREATE VIEW owned AS SELECT * FROM users; ALTER VIEW owned OWNER TO {owner};
        GRANT SELECT ON plain, owned TO {0}", role.name)).await;
    role.configure(&env);
    let mut names = vec![("users", Some(&role.name)), ("owned", Some(&owner)), ("plain", None)];
    if version >= 15 {
        env.execute(&format!(
            "CREATE VIEW invoker WITH (security_invoker = on) AS SELECT * FROM users;
            CREATE VIEW nested AS SELECT * FROM invoker; GRANT SELECT ON invoker, nested TO {}",
            role.name
        ))
        .await;
        names.extend([("invoker", Some(&role.name)), ("nested", Some(&role.name))]);
    }
    let mut before = "public.users".to_owned();
    for (name, hidden_from) in names {
        let now = format!("public.{name}");
        env.edit(&before, &now);
        before = now;
        let found = findings(&env, "source.row_security").await;
        let Some(hidden_from) = hidden_from else {
            assert_eq!(found, [], "{name}");
            continue;
        };
        let [(verdict, message, remedy)] = &found[..] else { panic!("{name}: {found:?}") };
        assert_eq!(verdict, "error", "{name}");
        assert!(message.contains("public.users") && message.contains(hidden_from), "{name}: {message}");
        env.imsync(&["backfill"]).await.expect_code(1);
        if hidden_from == &role.name {
            env.execute(remedy).await;
        } else {
            // It may be the role of the application, whose policies have to stay in force.
            assert!(remedy.starts_with("read from a view whose owner the policies do not apply to"), "{remedy}");
            env.execute(&format!("ALTER ROLE {hidden_from} BYPASSRLS")).await;
        }
        assert_eq!(findings(&env, "source.row_security").await, [], "{name}");
        env.execute(&format!("ALTER ROLE {hidden_from} NOBYPASSRLS")).await;
    }
    // FORCE applies to the owner of the table too, also as the owner of a view.
    env.execute(&format!("ALTER TABLE users OWNER TO {owner}")).await;
    env.edit(&before, "public.owned");
    assert_eq!(findings(&env, "source.row_security").await, []);
    env.execute("ALTER TABLE users FORCE ROW LEVEL SECURITY").await;
    assert_eq!(findings(&env, "source.row_security").await.len(), 1);
    env.execute(&format!("DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}")).await;
    role.drop(&env).await;
}

/// The table has no unique index, so the accounts of each page are looked up again.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_two_partitions_is_rejected() {
    let sql = "CREATE TABLE users (id text NOT NULL, city text, plan text, gender text, updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
        CREATE TABLE eu PARTITION OF users FOR VALUES IN ('eu'); CREATE TABLE us PARTITION OF users DEFAULT;
        INSERT INTO users (id, city, region) VALUES ('u1', 'Graz', 'eu'), ('u1', 'Reno', 'us'), ('u2', 'Linz', 'eu'), ('u3', 'Wels', 'eu')";
    let env =
        TestEnvironment::set_up(Setup { sql: sql.to_owned(), source: SOURCE.to_owned(), ..Setup::default() }).await;
    let accounts = warnings(&env, "sample.accounts").await;
    assert!(accounts.contains("1 account(s) have several rows") && accounts.contains("u1"), "{accounts}");
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.handle().users().into_keys().collect::<Vec<_>>(), ["u2", "u3"]);
}
