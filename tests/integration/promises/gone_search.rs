//! Tests that a full pass finds exactly the accounts that have left the table, and looks up only those that may have.
//!
//! Owns: rows that leave, come and move while a full pass runs, and what the pass reads of the table. Must not know: how a
//! pass remembers what it has met.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{SOURCE, Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{account, attributes, environment_of, fault, people};

const ROWS: u32 = 20_000;

/// A table of 20,000 rows that IM holds already, read in pages of 1,000.
async fn known_table() -> TestEnvironment {
    let setup = Setup { source: format!("{SOURCE}page_size = 1000\n"), ..Setup::default() };
    let env = environment_of(ROWS, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'; ANALYZE users").await;
    env.run_until_no_full_pass_is_due().await;
    env
}

/// Rows of the table that scans and look-ups have fetched so far.
async fn fetched(env: &TestEnvironment) -> i64 {
    env.number("SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'users'")
        .await
}

/// Runs a full pass. Returns how many rows of the table it has fetched, and its report.
async fn full_pass(env: &TestEnvironment, options: &[&str]) -> (i64, serde_json::Value) {
    let before = fetched(env).await;
    let report = env.imsync(&[&["backfill", "--json"], options].concat()).await.expect_code(0).json();
    let read = report["rows_read"].as_i64().expect("a number");
    // The statistics of a session are complete some time after its end.
    env.eventually("the statistics are complete", async || fetched(env).await - before >= read).await;
    (fetched(env).await - before, report)
}

/// The table was read once, and few of its rows again.
fn expect_one_read(read: i64) {
    assert!(read < i64::from(ROWS) * 11 / 10, "{read} rows were fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_that_finds_nobody_gone_reads_rows_once() {
    let env = known_table().await;
    let (read, report) = full_pass(&env, &[]).await;
    assert_eq!((&report["changed"], &report["calls"]), (&0.into(), &0.into()));
    expect_one_read(read);
    // The same when every value is sent again.
    let (read, report) = full_pass(&env, &["--force"]).await;
    assert_eq!(report["pushed"], ROWS);
    expect_one_read(read);
    expect_truth(&env).await;
}

/// Until the first ANALYZE, PostgreSQL would rather sort half of the state for each page than follow the index.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_reads_a_state_without_statistics_once() {
    let env = known_table().await;
    let entries = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'account_pkey'";
    let before = env.number(entries).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let read = async || env.number(entries).await - before;
    env.eventually("the statistics are complete", async || read().await >= i64::from(ROWS)).await;
    assert!(read().await < i64::from(ROWS) * 4, "{} entries of the key were read", read().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deleted_row_among_many_costs_few_look_ups() {
    let env = known_table().await;
    env.execute("DELETE FROM users WHERE id = 'u13579'; ANALYZE users").await;
    let (read, report) = full_pass(&env, &[]).await;
    assert_eq!((&report["removed"], &report["calls"]), (&1.into(), &1.into()));
    expect_one_read(read);
    assert_eq!(env.handle().user("u13579"), attributes(&[]));
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// Many of those that stay share a bucket with one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenth_of_the_accounts_is_removed_and_no_other() {
    let env = known_table().await;
    env.execute("DELETE FROM users WHERE id LIKE '%7'").await;
    let (_, report) = full_pass(&env, &[]).await;
    assert_eq!((&report["removed"], &report["pushed"]), (&2_000.into(), &0.into()));
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 18_000);
    expect_truth(&env).await;
    // All of them leave: the guard counts each one and removes none, until it is told to.
    env.execute("DELETE FROM users").await;
    let held = env.imsync(&["backfill", "--json"]).await.json();
    assert_eq!((&held["outcome"], &held["removed"]), (&"guard".into(), &0.into()));
    assert_eq!(env.number("SELECT count(*) FROM imsync.owed_removal").await, 18_000);
    env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0);
    assert_eq!(env.handle().users(), BTreeMap::new());
    assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 0);
}

/// An account with a rejection and one with an owed removal may have no row among the acknowledged ones.
#[tokio::test(flavor = "multi_thread")]
async fn rejections_of_accounts_that_left_the_table_end() {
    let env = environment_of(40, Setup::default()).await;
    let refused = fault(&env, "refuse:70107:per-account:account=u00003");
    env.execute("UPDATE users SET city = repeat('x', 60), plan = NULL, gender = NULL WHERE id = 'u00004'").await;
    env.imsync(&["backfill"]).await;
    env.handle().remove_fault(refused);
    assert_eq!(env.number("SELECT count(*) FROM imsync.rejection").await, 2);
    assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 39);
    env.execute("DELETE FROM users WHERE id IN ('u00003', 'u00004', 'u00005')").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.number("SELECT count(*) FROM imsync.rejection").await, 0);
    assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 37);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    // What a pass would owe for a row that returns is owed no longer.
    env.execute("DELETE FROM users WHERE id <= 'u00030'").await;
    assert_eq!(env.imsync(&["backfill", "--json"]).await.json()["outcome"], "guard");
    env.execute(&format!(
        "{} DELETE FROM users WHERE id IN ('u00003', 'u00004', 'u00005', 'u00006')",
        people(40).replace(';', " ON CONFLICT DO NOTHING;")
    ))
    .await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(env.number("SELECT count(*) FROM imsync.owed_removal").await, 0);
    expect_truth(&env).await;
}

/// Text uuids in several spellings: an account may be met on two pages.
#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_an_account_are_met_whatever_page_they_are_on() {
    let setup = Setup {
        sql: "CREATE TABLE users (id text PRIMARY KEY, city text, deleted_at timestamptz, updated_at timestamptz NOT NULL DEFAULT now());
              INSERT INTO users (id, city) SELECT CASE g % 3 WHEN 0 THEN upper(md5(g::text)::uuid::text) WHEN 1 THEN md5(g::text) ELSE '{' || md5(g::text)::uuid || '}' END,
              'city ' || g FROM generate_series(1, 300) g"
            .to_owned(),
        source: format!("{SOURCE}account_format = \"hex\"\npage_size = 50\n"),
        attributes: "city = \"city\"\n".to_owned(),
        ..Setup::default()
    };
    let env = TestEnvironment::set_up(setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 300);
    // A second spelling that is gone, one that takes over, and accounts that leave.
    env.execute(
        "INSERT INTO users (id, city, deleted_at) SELECT upper(md5(g::text)), 'old', now() FROM generate_series(1, 20) g ON CONFLICT DO NOTHING;
         DELETE FROM users WHERE city IN ('city 7', 'city 30', 'city 31', 'city 299');
         INSERT INTO users (id, city) VALUES (upper(md5('30')), 'city 30')",
    )
    .await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let mut cities: Vec<String> = env.handle().users().into_values().map(|held| held["city"].clone()).collect();
    cities.sort();
    let mut wanted: Vec<String> =
        (1..=300).filter(|g| ![7, 31, 299].contains(g)).map(|g| format!("city {g}")).collect();
    wanted.sort();
    assert_eq!(cities, wanted);
    expect_truth(&env).await;
}

/// The buckets that differed in the last full pass, from the log of a daemon.
fn differing(log: &str) -> Vec<u32> {
    let lines = log.lines().filter(|line| line.contains("compared the stored accounts"));
    let number = |line: &str| line.split("differing=").nth(1)?.split_whitespace().next()?.parse().ok();
    lines.filter_map(number).collect()
}

/// While a daemon sends a full pass of 10,000 changes, rows leave, come and move on both sides of its position. Returns
/// the environment and the log when the pass has ended.
async fn change_during_full_pass(behind: &str, ahead: &str) -> (TestEnvironment, String) {
    let setup = |im: &str| Setup {
        source: format!("{SOURCE}page_size = 500\n"),
        im: format!("users_per_call = 100\ntimeout = \"30s\"\n{im}"),
        more: "[schedule]\ninterval = \"100ms\"\nfull_every = \"never\"\n".to_owned(),
        ..Setup::default()
    };
    let env = environment_of(10_000, setup("")).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.run_until_no_full_pass_is_due().await;
    env.configure(&setup("calls_per_second = 20\n"));
    // No incremental pass sees this change.
    env.execute("UPDATE users SET city = 'everybody moves'").await;
    env.execute("UPDATE imsync.sync SET full_pass_due = 'a test', full_pass_request = full_pass_request + 1").await;
    env.handle().clear_records();
    let mut daemon = env.start("run", &["run", "-v"]);
    env.handle().wait_until(|counters| counters.arrived >= 30).await;
    // The position is between 3,000 and 7,000: at most 2,000 accounts and a page are in flight.
    env.execute(behind).await;
    env.execute(ahead).await;
    env.eventually("the full pass has ended", async || {
        env.number("SELECT count(*) FROM imsync.pass WHERE kind = 'full' AND pushed > 9000").await == 2
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    let log = env.printed("run", "err");
    (env, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_leave_ahead_of_the_scan_are_found_by_it() {
    let (env, log) = change_during_full_pass(
        "UPDATE users SET id = 'u00010-moved', updated_at = now() WHERE id = 'u09900';
         INSERT INTO users (id, city, plan, gender) VALUES ('u00011-new', 'behind', 'pro', 'm');
         UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u00012';
         UPDATE users SET city = 'again', updated_at = now() WHERE id = 'u00013'",
        "DELETE FROM users WHERE id IN ('u09901', 'u09902');
         UPDATE users SET id = 'u09910-moved', updated_at = now() WHERE id = 'u09911';
         INSERT INTO users (id, city, plan, gender) SELECT 'u099' || g || '-new', 'ahead', 'pro', 'm' FROM generate_series(20, 59) g;
         UPDATE users SET deleted_at = now(), updated_at = now() WHERE id BETWEEN 'u09700' AND 'u09719';
         UPDATE users SET city = 'again', updated_at = now() WHERE id = 'u09801'",
    )
    .await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await, "{log}");
    for gone in ["u09900", "u09901", "u09902", "u09911", "u00012", "u09700"] {
        assert_eq!(env.handle().user(gone), attributes(&[]), "{gone}");
    }
    expect_truth(&env).await;
    // Four accounts were not met. Whatever incremental passes inserted and removed costs nothing.
    let buckets = differing(&log);
    assert_eq!(buckets.len(), 1, "{log}");
    assert!((4..=8).contains(&buckets[0]), "{buckets:?}");
}

/// A row that leaves after the scan has read it is found by the next full pass.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_leave_behind_the_scan_wait_for_the_next_one() {
    let (env, _) = change_during_full_pass(
        "DELETE FROM users WHERE id = 'u00020'; UPDATE users SET id = 'u00021-moved', updated_at = now() WHERE id = 'u00022'",
        "UPDATE users SET id = 'u09930-moved', updated_at = now() WHERE id = 'u00023'",
    )
    .await;
    let stale: Vec<String> = [20, 22, 23].map(account).into();
    let mut wanted = env.wanted_of_users().await;
    let held = env.handle().users();
    assert!(wanted.iter().all(|(account, attributes)| held.get(account) == Some(attributes)));
    assert!(held.keys().all(|account| wanted.contains_key(account) || stale.contains(account)));
    expect_truth(&env).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    wanted = env.wanted_of_users().await;
    assert_eq!(env.handle().users(), wanted);
    expect_truth(&env).await;
}

/// The first attempt has met the rows before its position. The second one looks all of them up again.
#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_pass_finds_rows_that_left_before_its_position() {
    let setup = Setup {
        source: format!("{SOURCE}page_size = 500\n"),
        im: "users_per_call = 100\ncalls_per_second = 20\ntimeout = \"30s\"\n".to_owned(),
        ..Setup::default()
    };
    let env = environment_of(10_000, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET city = 'moved'").await;
    let mut backfill = env.start("run", &["backfill"]);
    env.eventually("a position is stored", async || {
        env.number("SELECT count(*) FROM imsync.sync WHERE (full_pass_position->>'done')::int >= 1000").await == 1
    })
    .await;
    backfill.kill().await.expect("the backfill can be killed");
    env.execute("DELETE FROM users WHERE id IN ('u00001', 'u00300', 'u09999')").await;
    let resumed = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert!(resumed["rows_read"].as_i64() < Some(10_000 + 2_000), "it resumes: {resumed}");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 9_997);
    expect_truth(&env).await;
}

/// The row of an account is read while its call hangs, and leaves before the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_leaves_while_its_call_hangs_is_found() {
    let setup = Setup {
        im: "timeout = \"60s\"\n".to_owned(),
        more: "[schedule]\ninterval = \"100ms\"\nfull_every = \"1s\"\n".to_owned(),
        ..Setup::default()
    };
    let env = environment_of(200, setup).await;
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    env.run_until_no_full_pass_is_due().await;
    let hold = fault(&env, "hold:account=u00100");
    let mut daemon = env.start("run", &["run"]);
    env.execute("UPDATE users SET city = 'hangs', updated_at = now() WHERE id = 'u00100'").await;
    env.eventually("a full pass has met the account in flight", async || {
        env.number("SELECT count(*) FROM imsync.deferred_account").await == 1
    })
    .await;
    env.execute("DELETE FROM users WHERE id = 'u00100'").await;
    env.handle().remove_fault(hold);
    env.converges(Duration::from_secs(20)).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.handle().user("u00100"), attributes(&[]));
    expect_truth(&env).await;
}
