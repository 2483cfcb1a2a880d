//! Tests that nothing stored is read under another meaning: a column of another type, another table under the same name,
//! another view, another database. A full pass runs by itself and the log says why; what leaves the meaning alone starts
//! none.
//!
//! Owns: ways in which a source changes, under a daemon and between two processes. Must not know: the fingerprint.

use std::time::Duration;

use crate::support::{ATTRIBUTES, Database, SOURCE, Setup, TestEnvironment, USERS, ended, signal};

use super::people;

/// Only a full pass that runs by itself can find what the changes below do.
const NO_SCHEDULE: &str = "[schedule]\ninterval = \"200ms\"\nfull_every = \"never\"\n";

fn setup() -> Setup {
    Setup { more: NO_SCHEDULE.to_owned(), ..Setup::default() }
}

async fn full_passes(env: &TestEnvironment) -> i64 {
    env.number("SELECT count(*) FROM imsync.pass WHERE kind = 'full'").await
}

async fn stop(mut daemon: tokio::process::Child) {
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// Starts a sync of 40 rows that `prepare` has changed, and brings it to rest.
async fn environment(prepare: &str) -> TestEnvironment {
    environment_with(setup(), prepare).await
}

async fn environment_with(setup: Setup, prepare: &str) -> TestEnvironment {
    let env = TestEnvironment::set_up(setup).await;
    env.execute(&format!("{} {prepare}", people(40))).await;
    env.run_until_no_full_pass_is_due().await;
    env
}

/// Alters the source under a running daemon, and between two processes. `why`: what the log names.
async fn follows(prepare: &str, alter: &str, why: &str) {
    // The schema of the state may be the first one of the search path.
    let alter = &format!("SET search_path = public; {alter}");
    let later = if alter.contains("TYPE bigint") { "8" } else { "now()" };
    for running in [true, false] {
        let env = environment(prepare).await;
        let before = full_passes(&env).await;
        if !running {
            env.execute(alter).await;
        }
        let daemon = env.start("run", &["run"]);
        env.eventually("the daemon leads", async || env.printed("run", "err").contains("leading")).await;
        if running {
            env.execute(alter).await;
        }
        env.eventually("a full pass has run", async || full_passes(&env).await > before).await;
        env.converges(Duration::from_secs(20)).await;
        let log = env.printed("run", "err");
        assert!(log.contains("the source has changed") && log.contains(why), "{alter} (running: {running}): {log}");
        // From now on changes arrive by incremental passes.
        env.eventually("no full pass is due", async || env.no_full_pass_is_due().await).await;
        let table = if prepare.contains("RENAME TO base") { "base" } else { "users" };
        env.execute(&format!("UPDATE {table} SET city = 'later', updated_at = {later} WHERE id = 'u00002'")).await;
        env.converges(Duration::from_secs(20)).await;
        stop(daemon).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_column_of_another_type_is_followed() {
    follows(
        "",
        "ALTER TABLE users ALTER updated_at DROP DEFAULT, ALTER updated_at TYPE bigint USING 7;
         UPDATE users SET city = 'counted', updated_at = 3 WHERE id = 'u00031'",
        "watermark column updated_at",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_without_its_time_zone_is_followed() {
    follows(
        "",
        "ALTER TABLE users ALTER updated_at TYPE timestamp USING updated_at AT TIME ZONE 'UTC' - interval '1 year';
         UPDATE users SET city = 'local', updated_at = '2020-01-01' WHERE id = 'u00031'",
        "watermark column updated_at",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_swap_their_names_are_followed() {
    follows(
        "ALTER TABLE users ADD edited_at timestamptz DEFAULT '2020-01-01';",
        "ALTER TABLE users RENAME updated_at TO x; ALTER TABLE users RENAME edited_at TO updated_at;
         UPDATE users SET city = 'swapped' WHERE id = 'u00031'",
        "watermark column updated_at",
    )
    .await;
    follows(
        "ALTER TABLE users ADD town text; UPDATE users SET town = 'town ' || id;",
        "ALTER TABLE users RENAME city TO x; ALTER TABLE users RENAME town TO city",
        "column city",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_dropped_and_added_is_followed() {
    follows(
        "",
        "ALTER TABLE users DROP updated_at; ALTER TABLE users ADD updated_at timestamptz DEFAULT '2020-01-01';
         UPDATE users SET city = 'added' WHERE id = 'u00031'",
        "watermark column updated_at",
    )
    .await;
    // The new column has no value that moves the watermark.
    follows("", "ALTER TABLE users DROP city, ADD city text DEFAULT 'everywhere'", "column city").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_table_under_the_same_name_is_followed() {
    follows(
        "",
        "BEGIN; ALTER TABLE users RENAME TO old; CREATE TABLE users (LIKE old INCLUDING ALL);
         INSERT INTO users SELECT id, city || '!', plan, gender, kind, '2020-01-01' FROM old; DROP TABLE old; COMMIT",
        "table",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_change_without_an_update_are_followed() {
    for (prepare, alter, texts, why) in [
        (
            "CREATE TYPE town AS ENUM ('here', 'there'); ALTER TABLE users ALTER kind TYPE town USING 'here';",
            "ALTER TYPE town RENAME VALUE 'here' TO 'nowhere'",
            ["here", "nowhere"],
            "labels of kind",
        ),
        (
            "ALTER TABLE users ALTER kind TYPE numeric(6, 1) USING 7;",
            "ALTER TABLE users ALTER kind TYPE numeric(6, 2)",
            ["7.0", "7.00"],
            "column kind",
        ),
    ] {
        let mut setup = setup();
        setup.attributes = "plan = \"kind\"".to_owned();
        let env = environment_with(setup, prepare).await;
        let all_are = |text: &str| env.handle().users().values().filter(|user| user["plan"] == text).count() == 40;
        assert!(all_are(texts[0]));
        let daemon = env.start("run", &["run"]);
        env.eventually("the daemon leads", async || env.printed("run", "err").contains("leading")).await;
        env.execute(alter).await;
        env.eventually("the new texts arrive", async || all_are(texts[1])).await;
        env.eventually("the log says why", async || {
            let log = env.printed("run", "err");
            log.contains("the source has changed") && log.contains(why)
        })
        .await;
        stop(daemon).await;
    }
}

/// The view, a view below it, and a function that it calls.
#[tokio::test(flavor = "multi_thread")]
async fn another_definition_of_a_view_is_followed() {
    let view = |city: &str| {
        format!(
            "CREATE OR REPLACE VIEW inner_users AS SELECT id, {city} AS city, plan, gender, kind, updated_at, deleted_at FROM base;
             CREATE OR REPLACE VIEW users AS SELECT * FROM inner_users;"
        )
    };
    let prepare = format!(
        "ALTER TABLE users RENAME TO base;
         CREATE FUNCTION shown(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT t $$; {}",
        view("shown(city)")
    );
    follows(&prepare, &view("upper(shown(city))"), "definition of the view").await;
    let function =
        "CREATE OR REPLACE FUNCTION shown(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT t || '?' $$";
    follows(&prepare, function, "definition of the view").await;
}

/// None of these changes what a stored value means.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_starts_no_full_pass() {
    let prepare = "CREATE TYPE mood AS ENUM ('sad'); ALTER TABLE users ALTER city TYPE varchar(40), ALTER plan TYPE varchar(40);
        ALTER TABLE users ALTER kind TYPE mood USING 'sad', ADD unmapped int;
        ALTER TABLE users RENAME TO base; CREATE VIEW users AS SELECT id, city, plan, gender, kind, updated_at, deleted_at FROM base;";
    for over_a_view in [false, true] {
        let prepare =
            if over_a_view { prepare } else { prepare.split("ALTER TABLE users RENAME").next().unwrap_or(prepare) };
        let env = environment(prepare).await;
        env.edit("plan = \"plan\"", "plan = \"kind\"");
        env.run_until_no_full_pass_is_due().await;
        let before = full_passes(&env).await;
        let daemon = env.start("run", &["run"]);
        env.eventually("the daemon leads", async || env.printed("run", "err").contains("leading")).await;
        let table = if over_a_view { "base" } else { "users" };
        for (number, statement) in [
            "VACUUM FULL TABLE", "REINDEX TABLE TABLE", "ANALYZE TABLE", "CLUSTER TABLE USING TABLE_i",
            "ALTER TABLE TABLE ADD another text DEFAULT 'x'", "ALTER TABLE TABLE DROP unmapped",
            "ALTER TABLE TABLE ALTER gender SET NOT NULL", "COMMENT ON TABLE TABLE IS 'x'",
            "ALTER TYPE mood ADD VALUE 'glad'", "ALTER TABLE TABLE SET (fillfactor = 90)", "REINDEX TABLE TABLE",
            "CREATE OR REPLACE VIEW users AS SELECT  id, city,\n plan, gender, kind, updated_at, deleted_at FROM   base",
            "ALTER TABLE users ALTER city TYPE varchar(80)",
        ].into_iter().enumerate() {
            let is_for_view = statement.contains("VIEW users");
            if (is_for_view && !over_a_view) || (statement.contains("ALTER TABLE users") && over_a_view) {
                continue;
            }
            if statement.starts_with("CLUSTER") {
                env.execute(&format!("CREATE INDEX {table}_i ON {table} (id)")).await;
            }
            env.execute(&statement.replace("TABLE TABLE", &format!("TABLE {table}")).replace("FULL TABLE", &format!("FULL {table}"))
                .replace("ANALYZE TABLE", &format!("ANALYZE {table}")).replace("CLUSTER TABLE USING TABLE", &format!("CLUSTER {table} USING {table}"))).await;
            // A later change arrives, so the daemon has seen the altered table.
            env.execute(&format!("UPDATE {table} SET city = 'after {number}', updated_at = now() WHERE id = 'u00005'")).await;
            env.eventually("the change arrives", async || env.handle().user("u00005").get("city") == Some(&format!("after {number}"))).await;
            assert_eq!(full_passes(&env).await, before, "after {statement}");
        }
        stop(daemon).await;
        env.imsync(&["run", "--once", "--json"]).await.expect_code(0).expect_all(&["incremental"]);
    }
}

/// The state has a database of its own, and the source is restored into another database: its position means nothing there.
#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_followed() {
    let state = Database::fresh().await;
    let restored = Database::fresh().await;
    let mut setup = setup();
    setup.more = format!("{}[state]\nurl = \"{}\"\n", setup.more, state.url());
    let env = TestEnvironment::set_up(setup).await;
    env.execute(&people(40)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    restored
        .execute(&format!(
            "{USERS} {} UPDATE users SET city = 'restored', updated_at = '2020-01-01' WHERE id <> 'u00007'",
            people(40)
        ))
        .await;
    let url = env.database.url().to_owned();
    env.edit(&format!("[source]\nurl = \"{url}\""), &format!("[source]\nurl = \"{}\"", restored.url()));
    let output = env.imsync(&["run", "--once"]).await.expect_code(0);
    output.expect_all(&["the source has changed: ", "database"]);
    let moved = env.handle().users().values().filter(|user| user["city"] == "restored").count();
    assert_eq!(moved, 39);
}

/// A full pass in an order of accounts that changes under it would skip rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_begins_again_when_the_order_changes() {
    let mut setup = setup();
    setup.source = format!("{SOURCE}page_size = 50\n")
        .replace("watermark_column", "# watermark_column")
        .replace("watermark_grace", "# watermark_grace");
    setup.im += "max_in_flight = 1\nusers_per_call = 10\ncalls_per_second = 20\n";
    setup.attributes = ATTRIBUTES.to_owned();
    let env = TestEnvironment::set_up(setup).await;
    env.execute("INSERT INTO users (id, city) SELECT n::text, 'x' FROM generate_series(1, 2000) AS n; ALTER TABLE users ALTER id TYPE int USING id::int").await;
    let daemon = env.start("run", &["run"]);
    env.eventually("some rows are sent", async || env.handle().users().len() > 100).await;
    env.execute("ALTER TABLE users ALTER id TYPE text COLLATE \"C\"").await;
    env.converges(Duration::from_mins(1)).await;
    stop(daemon).await;
}
