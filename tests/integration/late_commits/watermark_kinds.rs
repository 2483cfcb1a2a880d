//! Watermarks other than `timestamptz`, and none. Each step is a `run --once`, so only the state tables carry the
//! watermark.
//!
//! Owns: local times, counters, NULL timestamps, comparing the whole table. Must not know: the daemon.

use sqlx::PgConnection;

use super::single_passes::{finish_full_passes, run_once, status};
use super::{Reader, open_transaction, people, run, setup, update_city};
use crate::support::{SOURCE, Setup, TestEnvironment, USERS, ended, signal};

/// Runs a pass when all changes are older than the slack. It finds nothing to send.
async fn pass_after_slack(env: &TestEnvironment) {
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    assert_eq!(run_once(env).await["calls"], 0);
}

fn city(env: &TestEnvironment, account: &str) -> Option<String> {
    env.handle().user(account).remove("city")
}

/// A late commit among younger ones, over several processes. Nothing older than the slack is read again without a
/// reason.
async fn late_commit_arrives(env: &TestEnvironment, mut late: PgConnection, mut younger: PgConnection, slack: bool) {
    run(&mut late, "BEGIN; SELECT now()").await;
    run(&mut late, "UPDATE users SET city = 'late' WHERE id = 'u1'").await;
    if slack {
        pass_after_slack(env).await;
    }
    run(&mut younger, "UPDATE users SET city = 'younger' WHERE id = 'u2'").await;
    run_once(env).await;
    assert_eq!((city(env, "u1").as_deref(), city(env, "u2").as_deref()), (Some("old"), Some("younger")));
    if slack {
        pass_after_slack(env).await;
    }
    assert_eq!(run_once(env).await["calls"], 0);
    run(&mut late, "COMMIT").await;
    // The late row, the younger one, and for a counter (`>=`) also the largest value before both.
    assert!(run_once(env).await["rows_read"].as_u64().is_some_and(|rows| (1..=3).contains(&rows)));
    assert_eq!(city(env, "u1").as_deref(), Some("late"));
}

const TOUCH: &str =
    "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();";

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_written_in_berlin_time_is_read_in_its_zone() {
    let mut setup = setup("");
    setup.sql = format!(
        "SET TimeZone = 'Europe/Berlin'; {USERS} ALTER TABLE users ALTER updated_at TYPE timestamp; {} {TOUCH}",
        people(100)
    );
    setup.source += "watermark_timezone = \"Europe/Berlin\"\n";
    let env = TestEnvironment::set_up(setup).await;
    env.run_until_no_full_pass_is_due().await;
    pass_after_slack(&env).await;
    assert_eq!(
        run_once(&env).await["rows_read"],
        0,
        "rows of an hour ago are not read, whatever the offset of the time zone"
    );
    let (mut late, mut younger) = (env.database.connect().await, env.database.connect().await);
    for session in [&mut late, &mut younger] {
        run(session, "SET TimeZone = 'Europe/Berlin'").await;
    }
    late_commit_arrives(&env, late, younger, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_committed_out_of_order_loses_no_row() {
    let mut setup = setup("");
    setup.sql = "CREATE SEQUENCE versions; CREATE TABLE users (id text PRIMARY KEY, city text, plan text, gender text,
            deleted_at timestamptz, version bigint DEFAULT nextval('versions'));
        CREATE INDEX ON users (version, id);
        INSERT INTO users (id, city) SELECT 'u' || n, 'old' FROM generate_series(1, 100) AS n;
        CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.version := nextval('versions'); RETURN NEW; END $$;
        CREATE TRIGGER count_up BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION count_up();"
        .to_owned();
    setup.source = SOURCE.replace("\"updated_at\"", "\"version\"");
    let env = TestEnvironment::set_up(setup).await;
    env.run_until_no_full_pass_is_due().await;
    let (late, younger) = (env.database.connect().await, env.database.connect().await);
    late_commit_arrives(&env, late, younger, false).await;
    let status = env.imsync(&["status", "--json"]).await.expect_code(0).json();
    assert_eq!(status["watermark"], "102", "the watermark of a counter is a string too");
    // `>=` reads the row with the largest value, and none below it.
    assert_eq!(run_once(&env).await["rows_read"], 1);
}

/// The counter was set back, or the newest rows are gone: new values are lower than those already read.
#[tokio::test(flavor = "multi_thread")]
async fn a_falling_counter_starts_a_full_pass_and_a_jump_is_logged() {
    let mut setup = setup("");
    setup.sql = "CREATE TABLE users (id text PRIMARY KEY, city text, plan text, gender text, deleted_at timestamptz, version bigint);
        CREATE INDEX ON users (version, id);
        INSERT INTO users (id, city, version) SELECT 'u' || n, 'old', 1000 + n FROM generate_series(1, 100) AS n;"
        .to_owned();
    setup.source = SOURCE.replace("\"updated_at\"", "\"version\"");
    let env = TestEnvironment::set_up(setup).await;
    finish_full_passes(&env).await;
    env.execute("DELETE FROM users WHERE version > 1095; UPDATE users SET city = 'below', version = 7 WHERE id = 'u1'")
        .await;
    assert_eq!(run_once(&env).await["kind"], "incremental");
    let due = status(&env).await["full_pass_due"].clone();
    assert!(due.as_str().is_some_and(|due| due.contains("fell to 1095")), "{due}");
    assert_eq!(run_once(&env).await["kind"], "full");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    finish_full_passes(&env).await;

    let jumps = "UPDATE users SET city = 'far', version = 1700000000000000 WHERE id = 'u2'";
    env.execute(jumps).await;
    let logged = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(logged.stderr.contains("largest value jumped"), "{}", logged.stderr);
    assert_eq!(city(&env, "u2").as_deref(), Some("far"));
    assert!(!env.imsync(&["run", "--once"]).await.stderr.contains("jumped"), "the jump is logged once");
}

/// A counter with its sequence, which every UPDATE draws from. All 300 rows are compared and no full pass is due.
async fn counted_users() -> TestEnvironment {
    let mut setup = setup("");
    "CREATE SEQUENCE versions; CREATE TABLE users (id text PRIMARY KEY, city text, plan text, gender text,
            deleted_at timestamptz, version bigint DEFAULT nextval('versions'));
        CREATE INDEX ON users (version, id);
        INSERT INTO users (id, city) SELECT 'u' || n, 'old' FROM generate_series(1, 300) AS n;
        CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.version := nextval('versions'); RETURN NEW; END $$;
        CREATE TRIGGER count_up BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION count_up();"
        .clone_into(&mut setup.sql);
    setup.source = SOURCE.replace("\"updated_at\"", "\"version\"");
    setup.more += "[removal]\nmax_share = 1.0\n";
    let env = TestEnvironment::set_up(setup).await;
    finish_full_passes(&env).await;
    env
}

/// The sequence goes on above the deleted value, so nothing is missed. Deleted one by one, several at once, and beside a
/// transaction that was open before.
#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_newest_rows_starts_no_full_pass() {
    let env = counted_users().await;
    let mut late = env.database.connect().await;
    run(&mut late, "BEGIN; UPDATE users SET city = 'late' WHERE id = 'u5'").await;
    run_once(&env).await;
    for round in 0..4 {
        env.execute(&format!("UPDATE users SET city = 'round {round}' WHERE id IN ('u1', 'u2', 'u{}')", 20 + round))
            .await;
        assert_eq!(run_once(&env).await["kind"], "incremental");
        let newest = if round == 3 { 60 } else { 1 };
        env.execute(&format!(
            "DELETE FROM users WHERE id IN (SELECT id FROM users ORDER BY version DESC LIMIT {newest})"
        ))
        .await;
        assert_eq!(run_once(&env).await["kind"], "incremental");
        assert_eq!(status(&env).await["full_pass_due"], serde_json::Value::Null, "round {round}");
    }
    run(&mut late, "COMMIT").await;
    run_once(&env).await;
    assert_eq!(city(&env, "u5").as_deref(), Some("late"));
    // Values that follow are read as usual.
    env.execute("UPDATE users SET city = 'after' WHERE id = 'u10'").await;
    assert_eq!(run_once(&env).await["kind"], "incremental");
    assert_eq!(city(&env, "u10").as_deref(), Some("after"));
}

/// Values that are given again are below what was read. Each step runs at most one full pass, whose request is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_is_set_back_is_noticed() {
    for set_back in [
        // A new table content from the first value on.
        "TRUNCATE users; ALTER SEQUENCE versions RESTART; INSERT INTO users (id, city) SELECT 'u' || n, 'again' FROM generate_series(1, 40) AS n",
        // Every value is lower by ten; the largest one is one that another row had.
        "ALTER TABLE users DISABLE TRIGGER count_up; UPDATE users SET version = version - 10, city = 'again'; ALTER TABLE users ENABLE TRIGGER count_up",
        // The newest row is deleted, and another one gets a low value.
        "DELETE FROM users WHERE id = 'u300'; SELECT setval('versions', 200); UPDATE users SET city = 'again' WHERE id = 'u7'",
    ] {
        let env = counted_users().await;
        env.execute(set_back).await;
        run_once(&env).await;
        if status(&env).await["full_pass_due"].is_string() {
            assert_eq!(run_once(&env).await["kind"], "full");
        }
        let again = env.number("SELECT count(*) FROM users WHERE city = 'again'").await;
        let sent = env.handle().users().values().filter(|user| user["city"] == "again").count();
        assert_eq!(i64::try_from(sent).ok(), Some(again), "after {set_back}");
    }
}

/// A refresh publishes rows with old timestamps.
#[tokio::test(flavor = "multi_thread")]
async fn a_materialized_view_without_watermark_is_fully_compared() {
    let mut setup = setup("");
    setup.sql = format!("{USERS} {} CREATE MATERIALIZED VIEW seen AS SELECT * FROM users;", people(100));
    setup.source = SOURCE.replace("public.users", "public.seen");
    let env = TestEnvironment::set_up(setup).await;
    env.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&["materialized view", "remove watermark_column"]);
    env.edit("watermark_column", "# watermark_column");
    assert_eq!(run_once(&env).await["pushed"], 100);
    env.execute("UPDATE users SET city = 'refreshed' WHERE id = 'u1'; REFRESH MATERIALIZED VIEW seen").await;
    let pass = run_once(&env).await;
    assert_eq!((&pass["rows_read"], &pass["changed"]), (&100.into(), &1.into()));
    assert_eq!(city(&env, "u1").as_deref(), Some("refreshed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_watermark_each_pass_compares_the_table() {
    let mut setup = setup("");
    setup.sql = format!("{USERS} {}", people(100));
    setup.source = SOURCE.replace("watermark_column", "# watermark_column");
    let env = TestEnvironment::set_up(setup).await;
    env.run_until_no_full_pass_is_due().await;
    let unchanged = run_once(&env).await;
    assert_eq!((&unchanged["rows_read"], &unchanged["calls"]), (&100.into(), &0.into()));
    let mut late = open_transaction(&env).await;
    run(&mut late, &update_city("u1", "late")).await;
    env.execute("UPDATE users SET city = 'no timestamp' WHERE id = 'u2'; DELETE FROM users WHERE id = 'u3'").await;
    run_once(&env).await;
    run(&mut late, "COMMIT").await;
    run_once(&env).await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(run_once(&env).await["calls"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_timestamp_is_read_by_each_pass() {
    let mut setup = setup("");
    setup.sql = format!("{USERS} ALTER TABLE users ALTER updated_at DROP NOT NULL; {}", people(100));
    let env = TestEnvironment::set_up(setup).await;
    env.run_until_no_full_pass_is_due().await;
    env.execute("UPDATE users SET city = 'unstamped', updated_at = NULL WHERE id = 'u1'").await;
    assert_eq!(run_once(&env).await["calls"], 1);
    assert_eq!(city(&env, "u1").as_deref(), Some("unstamped"));
    assert_eq!(run_once(&env).await["calls"], 0);
    // Without an index that leads to it, the row waits for the full pass.
    env.execute("DROP INDEX users_updated_at_id_idx; UPDATE users SET city = 'waits' WHERE id = 'u1'").await;
    assert_eq!(run_once(&env).await["calls"], 0);
    let backfill = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!((&backfill["changed"], &backfill["pushed"]), (&1.into(), &1.into()));
    assert_eq!(city(&env, "u1").as_deref(), Some("waits"));
}

/// Only the full pass that becomes due finds the row, and that pass runs once.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_open_before_the_first_pass_is_found() {
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(100)), ..setup("") }).await;
    let reader = Reader::create_with_owner_state(&env).await;
    let mut open = open_transaction(&env).await;
    first_pass_after_slack(&env).await;
    run(&mut open, &update_city("u1", "before")).await;
    pass_after_slack(&env).await;
    run(&mut open, "COMMIT").await;
    // The first pass after the last of them has ended makes the full pass due, and the last one may be a transaction of
    // the server.
    env.eventually("the full pass becomes due", async || {
        assert_eq!(run_once(&env).await["kind"], "incremental");
        env.imsync(&["status", "--json"]).await.expect_code(0).json()["full_pass_due"].is_string()
    })
    .await;
    assert_eq!(run_once(&env).await["kind"], "full");
    assert_eq!(city(&env, "u1").as_deref(), Some("before"));
    for _ in 0..3 {
        assert_eq!(run_once(&env).await["kind"], "incremental", "no further full pass is due");
    }
    reader.drop_role(&env).await;
}

/// The first pass, when the oldest open transaction is older than the slack.
async fn first_pass_after_slack(env: &TestEnvironment) {
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    assert_eq!(run_once(env).await["kind"], "full");
}

/// Defaults of the role and of the database decide how psql shows a value, not what imsync sends.
#[tokio::test(flavor = "multi_thread")]
async fn defaults_changed_between_passes_cause_no_call() {
    let mut setup = setup("");
    let columns = ["born", "seen", "score", "photo", "term", "gone_by", "tags", "flag"];
    setup.sql = "CREATE TABLE users (id text PRIMARY KEY, born date, seen timestamptz, score float8, photo bytea,
            term interval, gone_by timestamp, tags timestamptz[], flag boolean, updated_at timestamptz NOT NULL DEFAULT now());
        INSERT INTO users SELECT 'u' || n, '2001-02-03', '2024-07-08 09:10:11.123456+02', n / 7.0, '\\xdeadbeef',
            '1 year 2 mons 3 days 04:05:06', '2030-01-02 03:04:05', '{2024-07-08 09:10:11+02}', n % 2 = 0
        FROM generate_series(1, 50) AS n;"
        .to_owned();
    setup.source = SOURCE.replace("deleted_column", "# deleted_column");
    setup.attributes = columns.map(|column| format!("{column} = \"{column}\"\n")).concat();
    setup.simulator.attribute_names = columns.map(str::to_owned).to_vec();
    let env = TestEnvironment::set_up(setup).await;
    let reader = Reader::create_with_owner_state(&env).await;
    assert_eq!(run_once(&env).await["pushed"], 50);
    let held = env.handle().users();
    let defaults = "DateStyle = 'German, DMY' | TimeZone = 'Asia/Tokyo' | IntervalStyle = 'postgres_verbose'
        | bytea_output = 'escape' | extra_float_digits = -5 | client_encoding = 'LATIN1' | search_path = 'pg_catalog'
        | default_transaction_isolation = 'serializable' | standard_conforming_strings = off | row_security = on";
    for setting in defaults.split('|') {
        env.execute(&format!(
            "DO $$ BEGIN EXECUTE format($f$ALTER DATABASE %I SET {0}$f$, current_database()); END $$;
                 ALTER ROLE {1} SET {0}",
            setting.trim(),
            reader.name,
        ))
        .await;
    }
    env.execute("UPDATE public.users SET updated_at = now()").await;
    let touched = run_once(&env).await;
    assert_eq!((&touched["rows_read"], &touched["calls"]), (&50.into(), &0.into()));
    assert_eq!(env.imsync(&["backfill", "--json"]).await.expect_code(0).json()["calls"], 0);
    assert_eq!(env.handle().users(), held);
    assert_eq!(held["u7"]["seen"], "2024-07-08 07:10:11.123456+00");
    reader.drop_role(&env).await;
}

/// Only a complete full pass finds what changed since the last pass with the old column. If it is interrupted, the next
/// command completes it.
#[tokio::test(flavor = "multi_thread")]
async fn another_watermark_column_needs_a_complete_full_pass() {
    let sql = format!(
        "{USERS} ALTER TABLE users ADD edited_at timestamptz DEFAULT now() - interval '1 hour'; {}",
        people(5_000)
    );
    let env = TestEnvironment::set_up(Setup { sql, ..setup("") }).await;
    env.run_until_no_full_pass_is_due().await;
    // The last account in the order of the full pass, which cannot end while this call is held.
    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u999'").await;
    let hold = env.handle().add_fault("hold".parse().expect("the fault rule is valid"));
    let mut other = setup("");
    other.source = SOURCE.replace("\"updated_at\"", "\"edited_at\"") + "page_size = 5\n";
    env.configure(&other);
    let mut backfill = env.start("backfill", &["backfill"]);
    let started = "SELECT count(*) FROM imsync.sync WHERE watermark_fingerprint LIKE '%edited_at%'";
    env.eventually("a watermark of the new column is stored", async || env.number(started).await == 1).await;
    signal(&backfill, "KILL");
    ended(&mut backfill).await;
    env.handle().remove_fault(hold);
    assert_eq!(city(&env, "u999").as_deref(), Some("old"), "the pass was interrupted");
    assert_eq!(run_once(&env).await["kind"], "full");
    assert_eq!(city(&env, "u999").as_deref(), Some("moved"));
    assert_eq!(run_once(&env).await["kind"], "incremental");
}
