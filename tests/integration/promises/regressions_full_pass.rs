//! Tests interrupted full passes: the state neither forgets nor claims the work that remains.
//!
//! Owns: fixed cases about interrupted full passes and their stored position. Must not know: how a position is stored.

use std::time::Duration;

use imsync::clock::monotonic;
use sqlx::{Connection, Executor};

use crate::support::{SOURCE, Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{environment_of, fault, status, violations};

const NO_FULL_PASS: &str = "[schedule]\ninterval = \"200ms\"\nfull_every = \"never\"\n";

fn setup(source: &str, im: &str) -> Setup {
    Setup {
        source: format!("{SOURCE}{source}\n"),
        im: im.to_owned(),
        more: NO_FULL_PASS.to_owned(),
        ..Setup::default()
    }
}

fn removed(env: &TestEnvironment) -> usize {
    env.handle().calls().iter().filter(|call| call.endpoint.ends_with("remove_attr") && call.applied).count()
}

async fn position_is_stored(env: &TestEnvironment) -> bool {
    env.number("SELECT count(*) FROM imsync.sync WHERE full_pass_position IS NOT NULL").await == 1
}

/// Asserts that IM equals the table without the bots.
async fn expect_people_only(env: &TestEnvironment) {
    let bots = env.wanted("SELECT id, 'kind', kind FROM users WHERE kind = 'bot'").await;
    let mut wanted = env.wanted_of_users().await;
    wanted.retain(|account, _| !bots.contains_key(account));
    assert_eq!(env.handle().users(), wanted);
    expect_truth(env).await;
}

/// An edited filter and a deletion remove 150 of 1,000 accounts. `interrupt` ends the pass during its removals, and the
/// command `again` completes them.
async fn interrupted_removals(again: &[&str], interrupt: impl AsyncFnOnce(&TestEnvironment)) {
    let im = "users_per_call = 10\nmax_in_flight = 2\ntimeout = \"30s\"\n";
    let env = environment_of(1_000, setup("page_size = 100", im)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // The last accounts disappear, so that the pass has stored its position before it reaches the first of them.
    env.execute(
        "UPDATE users SET kind = 'bot' WHERE id > 'u00900'; DELETE FROM users WHERE id BETWEEN 'u00851' AND 'u00900'",
    )
    .await;
    env.configure(&setup("page_size = 100\nfilter = \"kind IS DISTINCT FROM 'bot'\"", im));
    env.handle().clear_records();
    interrupt(&env).await;
    env.handle().clear_faults();
    let left = env.handle().users().len();
    assert!(left > 850 && left < 1_000, "{left} accounts remain");
    assert!(position_is_stored(&env).await);
    assert!(!status(&env).await["full_pass_due"].is_null());

    let second = env.imsync(again).await.expect_code(0).json();
    assert!(second["rows_read"].as_u64() < Some(500), "the pass resumes at its position: {second}");
    assert_eq!(env.handle().users().len(), 850);
    expect_people_only(&env).await;
    assert_eq!(status(&env).await["full_pass_due"], serde_json::Value::Null);
    assert_eq!(violations(&env), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pass_completes_interrupted_removals() {
    tokio::join!(
        interrupted_removals(&["backfill", "--json"], async |env: &TestEnvironment| {
            fault(env, "hold:command=remove_attr:after=3");
            let mut backfill = env.start("run", &["backfill", "-v"]);
            env.eventually("some accounts are removed", async || removed(env) >= 2).await;
            env.begins_to_stop(&backfill, "run").await;
            env.handle().clear_faults();
            assert_eq!(ended(&mut backfill).await, Some(1));
        }),
        interrupted_removals(&["run", "--once", "--json"], async |env: &TestEnvironment| {
            fault(env, "refuse:70003:command=remove_attr:after=3");
            env.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&["70003"]);
        }),
    );
}

/// A table with a second timestamp column besides `updated_at`.
fn with_second_timestamp() -> Setup {
    let setup = setup("page_size = 1000", "users_per_call = 100\ntimeout = \"30s\"\n");
    let second =
        "ALTER TABLE users ADD changed_at timestamptz NOT NULL DEFAULT now(); CREATE INDEX ON users (changed_at, id);";
    Setup { sql: format!("{}{second}", setup.sql), ..setup }
}

/// The same table, with the second timestamp column as the watermark column.
fn by_second_timestamp() -> Setup {
    let setup = with_second_timestamp();
    Setup { source: setup.source.replace("\"updated_at\"", "\"changed_at\""), ..setup }
}

const LONG_AGO: &str = "UPDATE users SET updated_at = '2020-01-01', changed_at = '2020-01-01'";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_full_pass_keeps_the_new_watermark_column() {
    let env = environment_of(200, with_second_timestamp()).await;
    env.execute(LONG_AGO).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET city = 'before' WHERE right(id, 1) = '7'").await;
    env.configure(&by_second_timestamp());
    let hold = fault(&env, "hold:command=set_attr");
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.held >= 1).await;
    // The watermark of the new column is stored, and the pass has read the whole table.
    let stored = "SELECT count(*) FROM imsync.sync WHERE watermark_fingerprint LIKE '%changed_at%'";
    assert_eq!(env.number(stored).await, 1);
    env.execute("UPDATE users SET city = 'during', changed_at = now() WHERE id = 'u00001'").await;
    daemon.kill().await.expect("the daemon can be killed");
    // The second change has no new timestamp. Only the full pass, which is still due, finds it.
    env.execute(
        "UPDATE users SET city = 'down', changed_at = now() WHERE id = 'u00002';
             UPDATE users SET city = 'only the full pass' WHERE id = 'u00003'",
    )
    .await;
    env.handle().remove_fault(hold);
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    env.eventually("no full pass is due", async || {
        env.number("SELECT count(*) FROM imsync.sync WHERE full_pass_due IS NULL").await == 1
    })
    .await;
    // From now on incremental passes read by the new column.
    env.execute("UPDATE users SET city = 'later', changed_at = now() WHERE id = 'u00004'").await;
    env.converges(Duration::from_secs(15)).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// Runs a first backfill of 3,000 rows and stops it when all rows are read and one call is in flight.
async fn interrupt_backfill(env: &TestEnvironment) {
    env.execute(LONG_AGO).await;
    let hold = fault(env, "hold:account=u02500");
    let mut backfill = env.start("run", &["backfill", "-v"]);
    env.eventually("the outcomes of all calls but one are recorded", async || {
        env.handle().users().len() == 2_900 && env.number("SELECT count(*) FROM imsync.intent").await == 1
    })
    .await;
    env.begins_to_stop(&backfill, "run").await;
    env.handle().remove_fault(hold);
    assert_eq!(ended(&mut backfill).await, Some(1));
    assert!(position_is_stored(env).await, "{}", env.printed("run", "err"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_not_used_with_another_watermark_column() {
    let env = environment_of(3_000, with_second_timestamp()).await;
    interrupt_backfill(&env).await;
    // This row is before the stored position and before the watermark of the new column.
    env.execute("UPDATE users SET city = 'between' WHERE id = 'u00001'").await;
    env.configure(&by_second_timestamp());
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0);
    assert!(pass.json()["rows_read"].as_u64() >= Some(3_000), "the pass reads the whole table: {pass:?}");
    assert_eq!(env.handle().user("u00001")["city"], "between");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// The first full pass stops repeatedly after its stored position. Meanwhile a transaction commits that was open before
/// the sync began. This requires another full pass over the whole table.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_not_used_for_another_full_pass_reason() {
    let env = environment_of(3_000, with_second_timestamp()).await;
    env.execute(LONG_AGO).await;
    let mut old = env.database.connect().await;
    old.execute("BEGIN").await.expect("the transaction begins");
    old.execute("INSERT INTO users (id, city, updated_at) VALUES ('a00001', 'late', '2020-01-01')")
        .await
        .expect("the row is new");
    // All other calls arrive before this call is refused.
    fault(&env, "slow:1500ms:account=u02500");
    fault(&env, "refuse:70003:account=u02500");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the pass has stopped at its position", async || {
        env.handle().calls().iter().any(|call| call.code == Some(70003))
            && position_is_stored(&env).await
            && env.number("SELECT count(*) FROM imsync.pass WHERE outcome = 'failed'").await >= 1
    })
    .await;
    old.execute("COMMIT").await.expect("the transaction commits");
    old.close().await.expect("the connection closes");
    env.eventually("the new reason is stored", async || {
        env.number("SELECT count(*) FROM imsync.sync WHERE full_pass_due LIKE 'the transactions open%'").await == 1
    })
    .await;
    env.handle().clear_faults();
    env.converges(Duration::from_secs(20)).await;
    assert_eq!(env.handle().user("a00001")["city"], "late");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_backfill_does_not_claim_to_be_current() {
    let env = environment_of(3_000, with_second_timestamp()).await;
    interrupt_backfill(&env).await;
    let since = monotonic();
    assert_eq!(status(&env).await["lag_seconds"], serde_json::Value::Null);
    env.execute("UPDATE users SET city = 'between', updated_at = now() WHERE id = 'u00001'").await;
    let second = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert!(second["rows_read"].as_u64() < Some(3_000), "the pass resumes at its position: {second}");
    // The row is before the position, so its change since the first backfill is not in IM yet.
    assert_ne!(env.handle().user("u00001")["city"], "between");
    let waited = since.elapsed().as_secs_f64();
    let lag = status(&env).await["lag_seconds"].as_f64();
    assert!(lag.is_none_or(|lag| lag >= waited), "status claims a lag of {lag:?} s, {waited} s after the stop");

    let before = monotonic();
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    let lag = status(&env).await["lag_seconds"].as_f64().expect("the lag is known");
    assert!(lag <= before.elapsed().as_secs_f64(), "{lag}");
    expect_truth(&env).await;
}
