//! Tests `init`: the proposals for typical and unusual tables, the listing, and that nothing else changes.
//!
//! Owns: these tables. Must not know: how a proposal is made.

use super::{Role, has_state_schema, people};
use crate::support::{CommandOutput, Setup, TestEnvironment, binary, run};

pub(super) const FILE: &str = "new.toml";

/// A table as applications have it, with what must not be sent by accident.
pub(super) const CUSTOMERS: &str = "
CREATE TYPE mood AS ENUM ('calm', 'loud');
CREATE TABLE customers (
    id bigint PRIMARY KEY, email text UNIQUE, password_hash text, phone text, contact text, birthday date,
    city text, plan text, vip boolean NOT NULL, level int, mood mood, bio text, team_id int,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz);
INSERT INTO customers (id, email, password_hash, phone, contact, city, plan, vip, level, mood, bio, team_id)
SELECT g, 'secretmail' || g || '@x.org', md5(g::text), '+49 30 12345' || g, 'secretmail' || g || '@y.org',
       (array['Lima', 'Oslo', 'Kyoto'])[1 + g % 3], (array['free', 'pro'])[1 + g % 2], g % 7 = 0, g % 40, 'calm',
       repeat('long ', 20) || g, g % 5 FROM generate_series(1, 300) g;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := now(); RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touch();
CREATE INDEX ON customers (updated_at, id);";

pub(super) async fn environment(sql: &str, attribute_names: &[&str]) -> TestEnvironment {
    let mut setup = Setup { sql: sql.to_owned(), ..Setup::default() };
    setup.simulator.attribute_names = attribute_names.iter().map(|name| (*name).to_owned()).collect();
    TestEnvironment::set_up(setup).await
}

/// Runs `init -c new.toml` with the URL of the database and these arguments.
pub(super) async fn init(env: &TestEnvironment, arguments: &[&str]) -> CommandOutput {
    init_with(env, env.database.url(), arguments).await
}

pub(super) async fn init_with(env: &TestEnvironment, url: &str, arguments: &[&str]) -> CommandOutput {
    let mut command = binary(env.directory());
    command.args(["init", "-c", FILE, url]).args(arguments);
    run(command).await
}

/// With the options that complete `[im]`.
async fn complete(env: &TestEnvironment, arguments: &[&str]) -> CommandOutput {
    let (base_url, app) = (env.im.base_url(), Setup::default().simulator.sdk_app_id.to_string());
    let im = ["--base-url", &base_url, "--sdk-app-id", &app, "--secret-key-file", "secret_key"];
    init(env, &[arguments, &im].concat()).await
}

pub(super) fn written(env: &TestEnvironment) -> String {
    std::fs::read_to_string(env.directory().join(FILE)).expect("the file was written")
}

/// With each comment on one line.
fn unwrapped(text: &str) -> String {
    text.replace("\n# ", " ")
}

/// The active lines of the section `[attributes]`.
pub(super) fn attributes(text: &str) -> Vec<&str> {
    let (_, section) = text.split_once("[attributes]\n").expect("the section exists");
    section.lines().filter(|line| !line.starts_with('#')).collect()
}

#[track_caller]
pub(super) fn assert_active(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no line {line:?} in\n{text}");
    }
}

async fn again(env: &TestEnvironment, arguments: &[&str]) -> CommandOutput {
    std::fs::remove_file(env.directory().join(FILE)).expect("the file was written");
    init(env, arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typical_table_gives_a_file_that_passes_check_and_syncs() {
    let env = environment(CUSTOMERS, &["city", "plan", "vip", "level", "mood"]).await;
    let ran = complete(&env, &["customers"]).await.expect_code(0);
    assert!(
        ran.stdout.starts_with("wrote new.toml: public.customers, account id, watermark updated_at, 5 attributes\n")
    );
    let findings: Vec<&str> = ran.stdout.lines().skip(1).collect();
    assert!(findings.len() > 10 && findings.iter().all(|line| line.starts_with("ok  ")), "{ran:?}");

    let text = written(&env);
    assert_active(
        &text,
        &["account_column = \"id\"", "watermark_column = \"updated_at\"", "deleted_column = \"deleted_at\""],
    );
    assert_eq!(
        attributes(&text),
        ["city = \"city\"", "plan = \"plan\"", "vip = \"vip\"", "level = \"level\"", "mood = \"mood\""]
    );
    for part in [
        "bigint, the primary key",
        "The trigger touch of public.customers sets it with every UPDATE",
        "An index over watermark and account serves the polls",
        "about 3 different values",
    ] {
        assert!(unwrapped(&text).contains(part), "no {part:?} in\n{text}");
    }
    for (column, reason) in [
        ("email", "its name looks like an e-mail address"),
        ("password_hash", "its name looks like a password"),
        ("phone", "its name looks like a phone number"),
        ("contact", "its values look like an e-mail address"),
        ("birthday", "its name looks like a date of birth"),
        ("bio", "its values are long"),
        ("team_id", "it identifies something else"),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("#   {column} "))).unwrap_or_default();
        assert!(line.ends_with(reason) || line.contains(reason), "{column}: {line:?} in\n{text}");
    }
    assert!(!has_state_schema(&env).await, "init creates nothing");

    // What was written works.
    let mut backfill = binary(env.directory());
    backfill.args(["backfill", "-c", FILE]);
    run(backfill).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 300);
    assert_eq!(env.handle().user("7")["vip"], "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_options_the_gaps_are_named_and_the_database_is_checked() {
    let env = environment(CUSTOMERS, &[]).await;
    std::fs::remove_file(env.directory().join("secret_key")).unwrap();
    let ran = init(&env, &["customers"]).await.expect_code(0).expect_all(&[
        "im.region: this key is required",
        "im.sdk_app_id: this key is required",
        "im.secret_key_file: cannot read secret_key",
        "ok    source.table: public.customers",
        "ok    sample.rejected_values",
        "credentials.accepted: not checked, because [im] is not complete",
        "fill in the lines of new.toml that end with \"# <-\"",
    ]);
    assert!(!ran.stdout.contains("FAIL"), "{ran:?}");
    let text = written(&env);
    assert_eq!(text.lines().filter(|line| line.ends_with(" # <-")).count(), 3, "{text}");

    // Filled in by hand, it is complete.
    let filled = text
        .replace("# region = \"singapore\" # <-", &format!("base_url = \"{}\"", env.im.base_url()))
        .replace("# sdk_app_id = 1400000000 # <-", "sdk_app_id = 1400000000");
    std::fs::write(env.directory().join(FILE), filled).unwrap();
    std::fs::write(env.directory().join("secret_key"), "simulator-secret-key\n").unwrap();
    let mut check = binary(env.directory());
    check.args(["check", "--offline", "-c", FILE]);
    run(check).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn named_attributes_are_taken_whatever_they_look_like() {
    let env = environment(CUSTOMERS, &[]).await;
    init(&env, &["customers", "--attributes", "phone,town=city"]).await.expect_code(0);
    assert_eq!(attributes(&written(&env)), ["phone = \"phone\"", "town = \"city\""]);
    again(&env, &["customers", "--attributes", "citty,Plan"]).await.expect_code(1).expect_all(&[
        "--attributes = \"citty\": public.customers has no column citty; similar: city",
        "similar: plan (upper and lower case differ)",
    ]);
    for (attributes, reason) in
        [("a,b,c,d,e,f,g,h,i,j,k", "at most 10"), ("city,city", "twice"), ("city=", "neither a column nor name=column")]
    {
        init(&env, &["customers", "--attributes", attributes]).await.expect_code(2).expect_all(&[reason]);
    }
    assert!(!env.directory().join(FILE).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_candidates_are_listed_by_likeliness() {
    let sql = "CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY, updated_at timestamptz);
         CREATE TABLE audit (what text, seen_at timestamptz); CREATE VIEW customer_cities AS SELECT id, city FROM customers;
         CREATE MATERIALIZED VIEW members AS SELECT id AS member_id, updated_at FROM customers;
         CREATE TABLE \"Users\" (\"User Id\" text, \"userId\" text UNIQUE) PARTITION BY LIST (\"userId\");
         CREATE TABLE users_a PARTITION OF \"Users\" FOR VALUES IN ('a');
         ANALYZE customers;";
    let env = environment(&format!("{CUSTOMERS}{sql}"), &[]).await;
    // The state tables are no candidates, whatever the name of their schema is.
    env.edit("[im]", "[state]\nschema = \"sync state\"\n[im]");
    env.imsync(&["migrate"]).await.expect_code(0);
    let ran = init(&env, &[]).await.expect_code(0).expect_all(&["1 other has no column that suits as the account"]);
    let lines: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(lines[0], ["table", "kind", "rows", "account", "watermark"]);
    assert_eq!(lines[1], ["public.customers", "table", "300", "id", "updated_at"], "{ran:?}");
    for expected in [
        vec!["public.\"Users\"", "partitioned table", "?", "\"userId\"", "-"],
        vec!["public.members", "materialized view", "?", "member_id", "-"],
        vec!["public.customer_cities", "view", "?", "id", "-"],
        vec!["shop.orders", "table", "?", "id", "updated_at"],
    ] {
        assert!(lines.contains(&expected), "no {expected:?} in {ran:?}");
    }
    assert_eq!(lines.len(), 6, "no partition, no state table, nothing of the system: {ran:?}");
    assert!(!env.directory().join(FILE).exists());

    let env = environment("CREATE TABLE audit (what text, seen_at timestamptz)", &[]).await;
    init(&env, &[]).await.expect_code(0).expect_all(&["none of the 1 tables and views", "create a view"]);
    let env = environment("", &[]).await;
    init(&env, &[]).await.expect_code(0).expect_all(&["has no table that this role sees"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_tables_get_a_file_that_suits_them() {
    let env = environment(
        "CREATE TABLE people (uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(), city text, changed timestamp, removed int);
         INSERT INTO people (city, removed) SELECT 'Lima', 0 FROM generate_series(1, 60);
         CREATE TABLE \"My.Users\" (\"User Id\" varchar(20) UNIQUE, \"Favourite \"\"City\"\"\" text, \"Geändert\" timestamptz);
         INSERT INTO \"My.Users\" SELECT 'u' || g, 'Lima' FROM generate_series(1, 9) g;
         CREATE VIEW paying AS SELECT \"User Id\" AS user_id, 'gold'::text AS tier FROM \"My.Users\";
         CREATE MATERIALIZED VIEW stored AS SELECT uuid AS id, city, changed AS updated_at FROM people;
         CREATE TABLE parts (user_id bigint, city text, updated_at timestamptz) PARTITION BY HASH (user_id);
         CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         INSERT INTO parts SELECT g, 'Oslo' FROM generate_series(1, 9) g;
         CREATE TABLE nothing (what text, seen_at timestamptz)",
        &[],
    )
    .await;
    let env = &env;
    // The table, the exit code, active lines, other parts.
    let cases: [(&str, &[&str], &[&str]); 6] = [
        (
            "people",
            &[
                "account_column = \"uuid\"",
                "account_format = \"hex\"",
                "watermark_column = \"changed\"",
                "city = \"city\"",
            ],
            &[
                "36 bytes",
                "watermark_timezone = ",
                "No trigger sets it",
                "imsync_touch_people",
                "CREATE INDEX",
                "filter = \"removed IS NOT DISTINCT FROM 0\"",
            ],
        ),
        (
            "\"My.Users\"",
            &["table = 'public.\"My.Users\"'", "account_column = \"User Id\"", "# watermark_column = \"updated_at\""],
            &["'favourite \"city\"' = 'Favourite \"City\"'", "compares the whole table"],
        ),
        ("paying", &["account_column = \"user_id\"", "tier = \"tier\""], &["chosen by its name; no value repeats"]),
        ("stored", &["account_column = \"id\"", "account_format = \"hex\""], &["a materialized view, can appear"]),
        (
            "public.parts",
            &["account_column = \"user_id\"", "watermark_column = \"updated_at\""],
            &["partitioned table"],
        ),
        ("nothing", &["# account_column = \"\" # <-"], &["No column of public.nothing suits", "read from a view"]),
    ];
    for (table, active, parts) in cases {
        let ran = init(env, &[table]).await.expect_code(0);
        let text = written(env);
        assert_active(&text, active);
        for part in parts {
            assert!(unwrapped(&text).contains(part), "no {part:?} in\n{text}");
        }
        assert_eq!(ran.stdout.contains("source.statements: the server plans"), table != "nothing", "{ran:?}");
        std::fs::remove_file(env.directory().join(FILE)).unwrap();
    }
    // The state of the database stays as it was.
    assert!(!has_state_schema(env).await);
    assert_eq!(env.number("SELECT count(*) FROM pg_proc WHERE proname LIKE 'imsync%'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_privileges_are_named_with_their_grant() {
    let env = environment(CUSTOMERS, &[]).await;
    let role = Role::create(&env).await;
    let ran = init_with(&env, &role.url, &["customers"]).await.expect_code(1);
    let ran = ran.expect_all(&["FAIL  source.select_privilege", "GRANT SELECT (", "\"vip\""]);
    assert!(!format!("{ran:?}").contains(Role::PASSWORD), "{ran:?}");

    // With a grant on some columns, the others are not proposed.
    env.execute(&format!("GRANT SELECT (id, plan, updated_at, email) ON customers TO {}", role.name)).await;
    std::fs::remove_file(env.directory().join(FILE)).unwrap();
    let ran = init_with(&env, &role.url, &["customers"]).await;
    assert_eq!(attributes(&written(&env)), ["plan = \"plan\""], "{ran:?}");
    assert!(written(&env).contains("the role lacks SELECT on it"));
    role.drop(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn among_very_many_tables_those_of_users_are_listed() {
    let env = environment(
        "DO $$ BEGIN FOR n IN 1..1010 LOOP EXECUTE format('CREATE TABLE log_%s (id int)', n); END LOOP; END $$;
         UPDATE pg_class SET reltuples = 9 WHERE relname LIKE 'log%';
         CREATE TABLE facts (user_id bigint, city text) PARTITION BY HASH (user_id);
         CREATE TABLE facts_0 PARTITION OF facts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         INSERT INTO facts SELECT g, 'Lima' FROM generate_series(1, 500) g;
         ANALYZE facts_0;
         CREATE VIEW members AS SELECT * FROM facts;
         CREATE TABLE users (id bigint PRIMARY KEY) PARTITION BY HASH (id)",
        &[],
    )
    .await;
    let ran = init(&env, &[]).await.expect_code(0).expect_all(&["so many tables that 13 ", "were not looked at"]);
    for table in ["public.users ", "public.members ", "public.facts "] {
        assert!(ran.stdout.lines().any(|line| line.starts_with(table)), "no {table} in {ran:?}");
    }
}

/// The reason why the column is not proposed.
fn omission<'a>(text: &'a str, column: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(&format!("#   {column} "))).unwrap_or_default();
    line.trim_start_matches(&format!("#   {column} ")).trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_identifies_people_is_left_out_of_small_tables_too() {
    let env = environment(
        "CREATE TABLE users (id bigint PRIMARY KEY, pw text, userpass text, passwort text, mobilenumber bigint,
             contact_no bigint, telefonnummer bigint, reach bigint, access text, line text, line2 text, nick text,
             joined int, city text, plan text, level int);
         INSERT INTO users SELECT g, x, x, x, p, p, p, p, 'sk_live_' || md5(g::text), '+49 170 ' || p || ' x1',
             CASE g WHEN 7 THEN '030/1234567 ext 12' ELSE 'none' END, 'nick' || g, 20250100 + g % 9,
             (array['Lima', 'Oslo'])[1 + g % 2], 'free', g % 5
         FROM (SELECT g, 'Sommer' || g AS x, 1701000000 + g % 20 AS p FROM generate_series(1, 42) g) AS rows (g, x, p);
         ANALYZE users",
        &[],
    )
    .await;
    init(&env, &["users"]).await.expect_code(0);
    let text = written(&env);
    assert_eq!(
        attributes(&text),
        ["joined = \"joined\"", "city = \"city\"", "plan = \"plan\"", "level = \"level\""],
        "{text}"
    );
    for (column, reason) in [
        ("pw", "its name looks like a password"),
        ("userpass", "its name looks like a password"),
        ("passwort", "its name looks like a password"),
        ("mobilenumber", "its name looks like a phone number"),
        ("contact_no", "its name looks like a phone number"),
        ("telefonnummer", "its name looks like a phone number"),
        ("reach", "its values look like a phone number"),
        ("access", "its values look like a hash, a token or a key"),
        ("line", "its values look like a phone number"),
        ("line2", "its values look like a phone number"),
        ("nick", "about 42 different values in 42 rows"),
    ] {
        assert_eq!(omission(&text, column), reason, "{column}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_addresses_among_many_rows_are_enough() {
    let env = environment(
        "CREATE TABLE users (id bigint PRIMARY KEY, contact text, remark text, stage text);
         INSERT INTO users SELECT g, CASE WHEN g <= 40 THEN 'p' || g || '@x.org' ELSE 'none' END,
             CASE g WHEN 5 THEN 'write to Ann <ann@x.org>' ELSE 'none' END, 'stage-2024-' || g % 5
         FROM generate_series(1, 1000) g",
        &[],
    )
    .await;
    init(&env, &["users"]).await.expect_code(0);
    let text = written(&env);
    assert_eq!(attributes(&text), ["stage = \"stage\""], "{text}");
    for column in ["contact", "remark"] {
        assert_eq!(omission(&text, column), "its values look like an e-mail address");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_readable_rows_no_text_and_no_number_is_proposed() {
    let env = environment(
        "CREATE TYPE mood AS ENUM ('calm', 'loud');
         CREATE TABLE people (user_id bigint, city text, level int, vip boolean, mood mood);
         INSERT INTO people SELECT g, 'Lima', 1, true, 'calm' FROM generate_series(1, 10) g;
         CREATE VIEW users AS SELECT p.* FROM people p, pg_sleep(20)",
        &[],
    )
    .await;
    init(&env, &["users"]).await;
    let text = written(&env);
    assert_eq!(attributes(&text), ["vip = \"vip\"", "mood = \"mood\""], "{text}");
    for column in ["city", "level"] {
        assert_eq!(omission(&text, column), "no rows could be read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_never_analyzed_is_sampled() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(200)).await;
    assert_eq!(env.number("SELECT count(*) FROM pg_stats WHERE tablename = 'users'").await, 0);
    init(&env, &["users"]).await.expect_code(0);
    let text = written(&env);
    assert!(text.contains("text, about 7 different values"), "{text}");
    assert_eq!(
        attributes(&text),
        ["city = \"city\"", "plan = \"plan\"", "gender = \"gender\""],
        "kind is NULL everywhere"
    );
    env.execute("ANALYZE users").await;
    again(&env, &["users"]).await.expect_code(0);
    assert!(written(&env).contains("(table, about 200 rows)"));
}
