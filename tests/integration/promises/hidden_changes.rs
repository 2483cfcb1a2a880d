//! Tests that `check` and the start of a pass name what hides changes, and that rows without a usable stamp are read.
//!
//! Owns: one table of each kind. Must not know: how a condition is found.

use std::time::Duration;

use crate::commands::{free_port, metric};
use crate::support::{SOURCE, Setup, TestEnvironment, ended, signal};

use super::environment_of;

const TOUCH: &str =
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;";
const TRIGGER: &str = "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();";

/// The finding with this id as (message, remedy).
async fn finding(env: &TestEnvironment, id: &str) -> Option<(String, String)> {
    let document = env.imsync(&["check", "--json"]).await.json();
    let found = document["findings"].as_array()?.iter().find(|finding| finding["id"] == id)?.clone();
    assert_eq!(found["verdict"], "warning", "{found}");
    Some((found["message"].as_str()?.to_owned(), found["remedy"].as_str()?.to_owned()))
}

/// `check` names it, the start of a pass logs it, and where the remedy is SQL, pasting it ends the finding.
async fn expect(sql: &str, source: &str, id: &str, text: &str) {
    let env = environment_of(10, Setup { source: format!("{SOURCE}{source}"), ..Setup::default() }).await;
    assert_eq!(finding(&env, id).await, None, "{id} before");
    env.execute(sql).await;
    let Some((message, remedy)) = finding(&env, id).await else { panic!("{id} is not found after {sql}") };
    assert!(message.contains(text), "{message:?} has no {text:?}");
    let logged = env.imsync(&["backfill"]).await.stderr;
    assert!(logged.contains(&message), "{message:?} is not in {logged:?}");
    if remedy.ends_with(';') {
        env.execute(&remedy).await;
        assert_eq!(finding(&env, id).await, None, "{remedy} ends it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_stamps_are_counted_and_corrected() {
    let null =
        "ALTER TABLE users ALTER updated_at DROP NOT NULL; UPDATE users SET updated_at = NULL WHERE id <= 'u00003'";
    expect(null, "", "source.null_stamps", "3 rows of public.users have no updated_at: every poll reads a page").await;
    let without_index = format!("{null}; DROP INDEX users_updated_at_id_idx");
    expect(&without_index, "", "source.null_stamps", "no index leads to them").await;
    for stamp in ["'infinity'", "'9999-12-31'", "now() + interval '3 years'"] {
        let sql = format!("UPDATE users SET updated_at = {stamp} WHERE id = 'u00001'");
        expect(&sql, "", "source.future_stamps", "1 row of public.users has updated_at more than a day ahead").await;
    }
    let past = "UPDATE users SET updated_at = '-infinity'";
    expect(past, "", "source.infinite_past_stamps", "10 rows of public.users").await;
    let largest = "ALTER TABLE users ALTER updated_at DROP DEFAULT, ALTER updated_at TYPE bigint USING 1; UPDATE users SET updated_at = 9223372036854775807 WHERE id = 'u00002'";
    expect(largest, "", "source.future_stamps", "near the largest bigint").await;
}

/// Where the remedy is SQL it uses the zone of the writers, and leaves the application free to insert as before; where an
/// UPDATE is not possible, it is a text.
#[tokio::test(flavor = "multi_thread")]
async fn unusual_stamps_are_corrected_as_the_writers_stamp() {
    let source = format!("{SOURCE}watermark_timezone = \"Asia/Kathmandu\"\n");
    let local = "ALTER TABLE users ALTER updated_at DROP NOT NULL, ALTER updated_at DROP DEFAULT, ALTER updated_at TYPE timestamp";
    let is_local = "SELECT count(*) FROM users WHERE abs(extract(epoch FROM updated_at - now() AT TIME ZONE 'Asia/Kathmandu')) < 300 AND id = 'u00001'";
    for (stamp, id) in [
        ("NULL", "source.null_stamps"),
        ("'infinity'", "source.future_stamps"),
        ("'-infinity'", "source.infinite_past_stamps"),
    ] {
        let env = environment_of(3, Setup { source: source.clone(), ..Setup::default() }).await;
        env.execute(&format!("{local}; UPDATE users SET updated_at = {stamp} WHERE id = 'u00001'")).await;
        let (_, remedy) = finding(&env, id).await.expect(id);
        env.execute(&remedy).await;
        assert_eq!(env.number(is_local).await, 1, "{remedy}");
        env.execute("INSERT INTO users (id, updated_at) VALUES ('new', NULL)").await;
        env.execute("ALTER TABLE users RENAME TO base; CREATE VIEW users AS SELECT a.* FROM base AS a CROSS JOIN (SELECT 1) AS b").await;
        env.execute(&format!("UPDATE base SET updated_at = {stamp}")).await;
        let (_, remedy) = finding(&env, id).await.expect(id);
        assert!(remedy.contains("in the table from which public.users takes updated_at"), "{remedy}");
    }
    let env = environment_of(3, Setup::default()).await;
    env.execute(
        "ALTER TABLE users ALTER updated_at DROP NOT NULL, ALTER updated_at DROP DEFAULT, ALTER updated_at TYPE bigint USING 41; UPDATE users SET updated_at = NULL WHERE id = 'u00001'",
    )
    .await;
    let (_, remedy) = finding(&env, "source.null_stamps").await.expect("a finding");
    env.execute(&remedy).await;
    assert_eq!(env.number("SELECT min(updated_at) FROM users").await, 41, "{remedy}");
    env.execute("ALTER TABLE users DROP updated_at; ALTER TABLE users ADD updated_at timestamptz GENERATED ALWAYS AS (coalesce(deleted_at, 'infinity')) STORED").await;
    let (_, remedy) = finding(&env, "source.future_stamps").await.expect("a finding");
    assert!(remedy.contains("what it is computed from"), "{remedy}");
}

/// A slow view stands for a table that is too large.
#[tokio::test(flavor = "multi_thread")]
async fn stamps_that_cannot_be_counted_in_time_are_named() {
    let env = environment_of(3, Setup::default()).await;
    env.execute(
        "ALTER TABLE users ALTER updated_at DROP NOT NULL; ALTER TABLE users RENAME TO base;
         CREATE FUNCTION slow(timestamptz) RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(6); RETURN $1; END $$;
         CREATE VIEW users AS SELECT id, city, plan, gender, slow(updated_at) AS updated_at, deleted_at FROM base",
    )
    .await;
    let document = env.imsync(&["check", "--json"]).await.json();
    let is_unchecked = |message: &str| message.starts_with("not checked, because these rows could not be counted");
    let findings = document["findings"].as_array().into_iter().flatten();
    let unchecked = findings.filter(|finding| finding["message"].as_str().is_some_and(is_unchecked));
    let ids: Vec<&str> = unchecked.filter_map(|finding| finding["id"].as_str()).collect();
    assert_eq!(ids, ["source.null_stamps", "source.future_stamps", "source.infinite_past_stamps"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_leave_the_stamp_are_named() {
    for (sql, text) in [
        (format!("{TOUCH}{TRIGGER} ALTER TABLE users DISABLE TRIGGER touch"), "is disabled"),
        (format!("{TOUCH}{TRIGGER} ALTER TABLE users DISABLE TRIGGER ALL"), "is disabled"),
        (
            format!("{TOUCH} CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION touch()"),
            "for INSERT only",
        ),
        (
            format!(
                "{TOUCH} CREATE TRIGGER t BEFORE UPDATE OF city, gender ON users FOR EACH ROW EXECUTE FUNCTION touch()"
            ),
            "not of plan",
        ),
    ] {
        expect(&sql, "", "source.stamp_trigger", text).await;
    }
    let replica = format!("{TOUCH}{TRIGGER} ALTER TABLE users ENABLE REPLICA TRIGGER touch");
    expect(&replica, "", "source.stamp_trigger", "fires for replication only").await;
    let elsewhere = format!(
        "{TOUCH} ALTER TABLE users DISABLE TRIGGER USER; CREATE SCHEMA app; CREATE SCHEMA \"Order\"; ALTER TABLE users SET SCHEMA \"Order\"; CREATE VIEW users AS SELECT * FROM \"Order\".users; CREATE TRIGGER \"user\" BEFORE UPDATE ON \"Order\".users FOR EACH ROW EXECUTE FUNCTION touch(); ALTER TABLE \"Order\".users DISABLE TRIGGER USER"
    );
    expect(&elsewhere, "", "source.stamp_trigger", "of \"Order\".users, which sets").await;
    let generated = "ALTER TABLE users DROP updated_at; ALTER TABLE users ADD updated_at bigint GENERATED ALWAYS AS (length(city)) STORED";
    expect(generated, "", "source.generated_stamp", "is a generated column").await;
    let env = environment_of(10, Setup::default()).await;
    env.execute(&format!("{TOUCH}{TRIGGER}")).await;
    assert_eq!(finding(&env, "source.stamp_trigger").await, None, "a trigger that covers everything");
    for (harmless, what) in [
        ("CREATE TRIGGER z BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION archive()", "a DELETE needs no stamp"),
        ("CREATE TRIGGER z BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION other()", "it names a longer name"),
    ] {
        let env = environment_of(3, Setup::default()).await;
        env.execute(
            "CREATE FUNCTION archive() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM OLD.updated_at; RETURN OLD; END $$;
             CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE last_updated_at int; BEGIN RETURN NEW; END $$",
        )
        .await;
        env.execute(harmless).await;
        assert_eq!(finding(&env, "source.stamp_trigger").await, None, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_or_view_that_reads_the_clock_is_named() {
    for (filter, text) in [
        ("deleted_at IS NULL OR deleted_at > now()", "now()"),
        ("coalesce(deleted_at, current_date) >= CURRENT_DATE", "current_date"),
        ("updated_at < 'tomorrow'::timestamptz", "'tomorrow'"),
        ("public.is_live(id)", "is_live(text)"),
    ] {
        let setup = Setup { source: format!("{SOURCE}filter = \"{filter}\"\n"), ..Setup::default() };
        let env = TestEnvironment::set_up(setup).await;
        env.execute(
            "CREATE FUNCTION is_live(text) RETURNS boolean STABLE LANGUAGE sql AS 'SELECT now() > ''2020-01-01'''",
        )
        .await;
        let (message, _) = finding(&env, "source.filter_depends_on_clock").await.expect(filter);
        assert!(message.contains(text) && message.contains("every 24 h"), "{message}");
    }
    let below = |view: &str| {
        format!(
            "ALTER TABLE users RENAME TO base; CREATE FUNCTION live() RETURNS boolean STABLE LANGUAGE sql AS 'SELECT true'; {view}"
        )
    };
    let columns = "id, city, plan, gender, updated_at, deleted_at";
    for (view, text) in [
        (
            format!("CREATE VIEW users AS SELECT {columns} FROM base WHERE updated_at < clock_timestamp()"),
            "clock_timestamp()",
        ),
        (
            format!(
                "CREATE VIEW inner_view AS SELECT * FROM base WHERE updated_at::date <= CURRENT_DATE; CREATE VIEW users AS SELECT {columns} FROM inner_view"
            ),
            "current_date",
        ),
        (format!("CREATE VIEW users AS SELECT {columns} FROM base WHERE live()"), "live()"),
    ] {
        expect(&below(&view), "", "source.view_depends_on_clock", text).await;
    }
    let env = environment_of(3, Setup::default()).await;
    env.execute(&below("CREATE TABLE us (LIKE base); CREATE TABLE child () INHERITS (base); CREATE VIEW users AS SELECT * FROM base UNION ALL SELECT * FROM us")).await;
    assert_eq!(finding(&env, "source.stamp_of_one_table").await, None, "each row has the stamp of its own table");
    let joined = "CREATE TABLE plans (account text, name text); CREATE VIEW users AS SELECT id, city, name AS plan, gender, updated_at, deleted_at FROM base LEFT JOIN plans ON account = id";
    expect(&below(joined), "", "source.stamp_of_one_table", "public.base, public.plans").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_subscription_feeds_is_named() {
    let fed = "CREATE SUBSCRIPTION fed CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE);
        INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, 'users'::regclass, 'r' FROM pg_subscription WHERE subname = 'fed'";
    let env = environment_of(10, Setup::default()).await;
    env.execute("SET allow_system_table_mods = on").await;
    for statement in fed.split(";\n") {
        env.execute(statement).await;
    }
    let (message, remedy) = finding(&env, "source.subscription").await.expect("a finding");
    assert!(message.contains("a subscription feeds public.users"), "{message}");
    assert!(remedy.contains("ENABLE ALWAYS TRIGGER"), "{remedy}");
    for other in [
        "CREATE TRIGGER other BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION check_city()",
        "CREATE TRIGGER other BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch()",
    ] {
        env.execute(&format!(
            "{} CREATE OR REPLACE FUNCTION check_city() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             DROP TRIGGER IF EXISTS other ON users; {other}; ALTER TABLE users ENABLE ALWAYS TRIGGER other",
            TOUCH.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
        ))
        .await;
        assert!(finding(&env, "source.subscription").await.is_some(), "{other} stamps not every arrival");
    }
    env.execute(&remedy).await;
    assert_eq!(finding(&env, "source.subscription").await, None, "rows are stamped on arrival");
    env.execute("ALTER SUBSCRIPTION fed DISABLE").await;
    env.execute("DROP SUBSCRIPTION fed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_an_offset_is_refused() {
    for zone in ["UTC-5", "+05", "EST5EDT", "GMT+3", "CET", "05:30", "EST5EDT,M3.2.0/2,M11.1.0/2"] {
        let setup = Setup { source: format!("{SOURCE}watermark_timezone = \"{zone}\"\n"), ..Setup::default() };
        let env = TestEnvironment::set_up(setup).await;
        env.imsync(&["check", "--offline"])
            .await
            .expect_code(2)
            .expect_all(&["source.watermark_timezone", "with a slash"]);
    }
    let local = "ALTER TABLE users ALTER updated_at TYPE timestamp";
    for (zone, code) in [
        ("Etc/UTC+8", 1),
        ("UTC/GMT+8", 1),
        ("Asia/Shangai+8", 1),
        ("Asia/Shangai8", 1),
        ("asia/shanghai", 0),
        ("etc/gmt+8", 0),
    ] {
        let setup = Setup { source: format!("{SOURCE}watermark_timezone = \"{zone}\"\n"), ..Setup::default() };
        let env = environment_of(3, setup).await;
        env.execute(local).await;
        let check = env.imsync(&["check"]).await.expect_code(code);
        if code == 1 {
            check.expect_all(&["source.watermark_timezone", "with the sign reversed", "pg_timezone_names"]);
        }
    }
    for (zone, text) in [("Etc/GMT+5", "is 5 h behind UTC"), ("Etc/GMT-3", "is 3 h ahead of UTC")] {
        let setup = Setup { source: format!("{SOURCE}watermark_timezone = \"{zone}\"\n"), ..Setup::default() };
        let env = environment_of(3, setup).await;
        env.execute(local).await;
        let (message, _) = finding(&env, "source.watermark_timezone").await.expect(zone);
        assert!(message.contains(text), "{message}");
    }
}

/// Thousands of rows without a usable stamp cost a poll one page, and a change of each arrives.
#[tokio::test(flavor = "multi_thread")]
async fn outlying_stamps_cost_a_poll_one_page_and_arrive() {
    let port = free_port();
    let setup = Setup {
        source: format!("{SOURCE}page_size = 500\n"),
        more: format!("[schedule]\ninterval = \"200ms\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n"),
        ..Setup::default()
    };
    let env = environment_of(20_000, setup).await;
    env.execute(
        "ALTER TABLE users ALTER updated_at DROP NOT NULL;
         UPDATE users SET updated_at = CASE WHEN id <= 'u01200' THEN NULL ELSE 'infinity'::timestamptz END",
    )
    .await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_mins(1)).await;
    env.execute("UPDATE users SET city = 'moved' WHERE id IN ('u00001', 'u01199', 'u01201', 'u19999')").await;
    env.converges(Duration::from_mins(1)).await;
    let passes = async || metric(port, "imsync_passes_total{kind=\"incremental\",outcome=\"ok\"}").await.unwrap_or(0.0);
    let read = async || metric(port, "imsync_rows_read_total{kind=\"incremental\"}").await.unwrap_or(0.0);
    let (passes_before, read_before) = (passes().await, read().await);
    env.eventually("ten more passes", async || passes().await >= passes_before + 10.0).await;
    let (read, passes) = (read().await - read_before, passes().await - passes_before);
    assert!(read <= 1_000.0 * (passes + 1.0), "{read} rows in {passes} passes");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}
