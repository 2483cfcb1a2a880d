//! Other watermarks than a `timestamptz`, and none; each step is a `run --once`, so that the watermark is carried by the
//! state tables alone.
//!
//! Owns: local times, counters, NULL stamps, comparing the whole table. Must not know: the daemon.

use serde_json::Value;
use sqlx::PgConnection;

use super::first_full_passes::{settles, status};
use super::{Reader, begun, moves, people, run, setup};
use crate::support::{SOURCE, Setup, TestEnvironment, USERS, ended, signal};

async fn once(env: &TestEnvironment) -> Value {
    env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json()
}

/// Passes until what has changed is older than the slack; they find nothing to send.
async fn idle(env: &TestEnvironment) {
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    assert_eq!(once(env).await["calls"], 0);
}

fn city(env: &TestEnvironment, account: &str) -> Option<String> {
    env.handle().user(account).remove("city")
}

/// A late commit among younger ones, over several processes; what is older than the slack does not come by itself.
async fn late_commit_arrives(env: &TestEnvironment, mut late: PgConnection, mut younger: PgConnection, slack: bool) {
    run(&mut late, "BEGIN; SELECT now()").await;
    run(&mut late, "UPDATE users SET city = 'late' WHERE id = 'u1'").await;
    if slack {
        idle(env).await;
    }
    run(&mut younger, "UPDATE users SET city = 'younger' WHERE id = 'u2'").await;
    once(env).await;
    assert_eq!((city(env, "u1").as_deref(), city(env, "u2").as_deref()), (Some("old"), Some("younger")));
    if slack {
        idle(env).await;
    }
    assert_eq!(once(env).await["calls"], 0);
    run(&mut late, "COMMIT").await;
    // Its own, the younger one, and for a counter (`>=`) the newest before both.
    assert!(once(env).await["rows_read"].as_u64().is_some_and(|rows| (1..=3).contains(&rows)));
    assert_eq!(city(env, "u1").as_deref(), Some("late"));
}

const TOUCH: &str =
    "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();";

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_without_zone_written_in_berlin() {
    let mut setup = setup("");
    setup.sql = format!(
        "SET TimeZone = 'Europe/Berlin'; {USERS} ALTER TABLE users ALTER updated_at TYPE timestamp; {} {TOUCH}",
        people(100)
    );
    setup.source += "watermark_timezone = \"Europe/Berlin\"\n";
    let env = TestEnvironment::set_up(setup).await;
    env.comes_to_rest().await;
    idle(&env).await;
    assert_eq!(once(&env).await["rows_read"], 0, "rows of an hour ago are not read, whatever the zone's offset");
    let (mut late, mut younger) = (env.database.connect().await, env.database.connect().await);
    for session in [&mut late, &mut younger] {
        run(session, "SET TimeZone = 'Europe/Berlin'").await;
    }
    late_commit_arrives(&env, late, younger, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_commits_out_of_order() {
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
    env.comes_to_rest().await;
    let (late, younger) = (env.database.connect().await, env.database.connect().await);
    late_commit_arrives(&env, late, younger, false).await;
    let status = env.imsync(&["status", "--json"]).await.expect_code(0).json();
    assert_eq!(status["watermark"], "102", "a string, for a counter too");
    // `>=`: the row of the largest value itself, and nothing below it.
    assert_eq!(once(&env).await["rows_read"], 1);
}

/// Somebody has set it back, or the newest rows are gone: what is counted from now on lies below what was read.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_falls_starts_a_full_pass_and_one_that_jumps_is_told_of() {
    let mut setup = setup("");
    setup.sql = "CREATE TABLE users (id text PRIMARY KEY, city text, plan text, gender text, deleted_at timestamptz, version bigint);
        CREATE INDEX ON users (version, id);
        INSERT INTO users (id, city, version) SELECT 'u' || n, 'old', 1000 + n FROM generate_series(1, 100) AS n;"
        .to_owned();
    setup.source = SOURCE.replace("\"updated_at\"", "\"version\"");
    let env = TestEnvironment::set_up(setup).await;
    settles(&env).await;
    env.execute("DELETE FROM users WHERE version > 1095; UPDATE users SET city = 'below', version = 7 WHERE id = 'u1'")
        .await;
    assert_eq!(once(&env).await["kind"], "incremental");
    let due = status(&env).await["full_pass_due"].clone();
    assert!(due.as_str().is_some_and(|due| due.contains("fell to 1095")), "{due}");
    assert_eq!(once(&env).await["kind"], "full");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    settles(&env).await;

    let jumps = "UPDATE users SET city = 'far', version = 1700000000000000 WHERE id = 'u2'";
    env.execute(jumps).await;
    let told = env.imsync(&["run", "--once"]).await.expect_code(0);
    assert!(told.stderr.contains("largest value jumped"), "{}", told.stderr);
    assert_eq!(city(&env, "u2").as_deref(), Some("far"));
    assert!(!env.imsync(&["run", "--once"]).await.stderr.contains("jumped"), "once");
}

/// A refresh publishes rows with old stamps.
#[tokio::test(flavor = "multi_thread")]
async fn a_materialized_view_takes_no_watermark_and_is_compared_whole() {
    let mut setup = setup("");
    setup.sql = format!("{USERS} {} CREATE MATERIALIZED VIEW seen AS SELECT * FROM users;", people(100));
    setup.source = SOURCE.replace("public.users", "public.seen");
    let env = TestEnvironment::set_up(setup).await;
    env.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&["materialized view", "remove watermark_column"]);
    env.edit("watermark_column", "# watermark_column");
    assert_eq!(once(&env).await["pushed"], 100);
    env.execute("UPDATE users SET city = 'refreshed' WHERE id = 'u1'; REFRESH MATERIALIZED VIEW seen").await;
    let pass = once(&env).await;
    assert_eq!((&pass["rows_read"], &pass["changed"]), (&100.into(), &1.into()));
    assert_eq!(city(&env, "u1").as_deref(), Some("refreshed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_watermark_each_pass_compares_all() {
    let mut setup = setup("");
    setup.sql = format!("{USERS} {}", people(100));
    setup.source = SOURCE.replace("watermark_column", "# watermark_column");
    let env = TestEnvironment::set_up(setup).await;
    env.comes_to_rest().await;
    let unchanged = once(&env).await;
    assert_eq!((&unchanged["rows_read"], &unchanged["calls"]), (&100.into(), &0.into()));
    let mut late = begun(&env).await;
    run(&mut late, &moves("u1", "late")).await;
    env.execute("UPDATE users SET city = 'no stamp' WHERE id = 'u2'; DELETE FROM users WHERE id = 'u3'").await;
    once(&env).await;
    run(&mut late, "COMMIT").await;
    once(&env).await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(once(&env).await["calls"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_stamp_waits_for_the_full_pass() {
    let mut setup = setup("");
    setup.sql = format!("{USERS} ALTER TABLE users ALTER updated_at DROP NOT NULL; {}", people(100));
    let env = TestEnvironment::set_up(setup).await;
    env.comes_to_rest().await;
    env.execute("UPDATE users SET city = 'unstamped', updated_at = NULL WHERE id = 'u1'").await;
    assert_eq!(once(&env).await["calls"], 0);
    let backfill = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!((&backfill["changed"], &backfill["pushed"]), (&1.into(), &1.into()));
    assert_eq!(city(&env, "u1").as_deref(), Some("unstamped"));
}

/// Nothing but the full pass that falls due finds its row, and that one runs once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_before_the_first_pass() {
    let env = TestEnvironment::set_up(Setup { sql: format!("{USERS} {}", people(100)), ..setup("") }).await;
    let reader = Reader::on(&env).await;
    let mut open = begun(&env).await;
    idle_start(&env).await;
    run(&mut open, &moves("u1", "before")).await;
    idle(&env).await;
    run(&mut open, "COMMIT").await;
    // The first pass after the last of them has ended tells, and that may be one of the server's own.
    env.eventually("the full pass falls due", async || {
        assert_eq!(once(&env).await["kind"], "incremental");
        env.imsync(&["status", "--json"]).await.expect_code(0).json()["full_pass_due"].is_string()
    })
    .await;
    assert_eq!(once(&env).await["kind"], "full");
    assert_eq!(city(&env, "u1").as_deref(), Some("before"));
    for _ in 0..3 {
        assert_eq!(once(&env).await["kind"], "incremental", "the full pass has run");
    }
    reader.leave(&env).await;
}

/// The first pass, a slack after the oldest stamp of those that are open.
async fn idle_start(env: &TestEnvironment) {
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    assert_eq!(once(env).await["kind"], "full");
}

/// Defaults of the role and of the database decide how psql shows a value, not what is sent.
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
    let reader = Reader::on(&env).await;
    assert_eq!(once(&env).await["pushed"], 50);
    let held = env.handle().users();
    let mine = "DateStyle = 'German, DMY' | TimeZone = 'Asia/Tokyo' | IntervalStyle = 'postgres_verbose'
        | bytea_output = 'escape' | extra_float_digits = -5 | client_encoding = 'LATIN1' | search_path = 'pg_catalog'
        | default_transaction_isolation = 'serializable' | standard_conforming_strings = off | row_security = on";
    for setting in mine.split('|') {
        env.execute(&format!(
            "DO $$ BEGIN EXECUTE format($f$ALTER DATABASE %I SET {0}$f$, current_database()); END $$;
                 ALTER ROLE {1} SET {0}",
            setting.trim(),
            reader.name,
        ))
        .await;
    }
    env.execute("UPDATE public.users SET updated_at = now()").await;
    let touched = once(&env).await;
    assert_eq!((&touched["rows_read"], &touched["calls"]), (&50.into(), &0.into()));
    assert_eq!(env.imsync(&["backfill", "--json"]).await.expect_code(0).json()["calls"], 0);
    assert_eq!(env.handle().users(), held);
    assert_eq!(held["u7"]["seen"], "2024-07-08 07:10:11.123456+00");
    reader.leave(&env).await;
}

/// What has changed since the last pass by the old column is found only by a whole full pass: where one was cut short,
/// the next command makes it whole.
#[tokio::test(flavor = "multi_thread")]
async fn another_watermark_column_takes_a_whole_full_pass() {
    let sql = format!(
        "{USERS} ALTER TABLE users ADD edited_at timestamptz DEFAULT now() - interval '1 hour'; {}",
        people(5_000)
    );
    let env = TestEnvironment::set_up(Setup { sql, ..setup("") }).await;
    env.comes_to_rest().await;
    // The last one in the order of the full pass, which cannot end as long as this one is held.
    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u999'").await;
    let hold = env.handle().add_fault("hold".parse().expect("a form that the simulator knows"));
    let mut other = setup("");
    other.source = SOURCE.replace("\"updated_at\"", "\"edited_at\"") + "page_size = 5\n";
    env.configure(&other);
    let mut backfill = env.start("backfill", &["backfill"]);
    let begun = "SELECT count(*) FROM imsync.sync WHERE watermark_fingerprint LIKE '%edited_at%'";
    env.eventually("a watermark of the new column", async || env.number(begun).await == 1).await;
    signal(&backfill, "KILL");
    ended(&mut backfill).await;
    env.handle().remove_fault(hold);
    assert_eq!(city(&env, "u999").as_deref(), Some("old"), "the pass was cut short");
    assert_eq!(once(&env).await["kind"], "full");
    assert_eq!(city(&env, "u999").as_deref(), Some("moved"));
    assert_eq!(once(&env).await["kind"], "incremental");
}
