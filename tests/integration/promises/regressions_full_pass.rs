//! Full passes that are broken off: what is still to be done is neither forgotten nor claimed.

use std::time::Duration;

use imsync::clock::monotonic;
use sqlx::{Connection, Executor};

use crate::support::{SOURCE, Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{fault, stage_of, status, violations};

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

async fn equals_people(env: &TestEnvironment) {
    let bots = env.wanted("SELECT id, 'kind', kind FROM users WHERE kind = 'bot'").await;
    let mut wanted = env.wanted_of_users().await;
    wanted.retain(|account, _| !bots.contains_key(account));
    assert_eq!(env.handle().users(), wanted);
    expect_truth(env).await;
}

/// 150 of 1,000 go, by an edited filter and by deletion. `breaks_off` ends the pass among its removals.
async fn broken_off_in_its_removals(again: &[&str], breaks_off: impl AsyncFnOnce(&TestEnvironment)) {
    let im = "users_per_call = 10\nmax_in_flight = 2\ntimeout = \"30s\"\n";
    let env = stage_of(1_000, setup("page_size = 100", im)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // The last ones go, so that the pass has stored how far it has come when it meets the first of them.
    env.execute(
        "UPDATE users SET kind = 'bot' WHERE id > 'u00900'; DELETE FROM users WHERE id BETWEEN 'u00851' AND 'u00900'",
    )
    .await;
    env.configure(&setup("page_size = 100\nfilter = \"kind IS DISTINCT FROM 'bot'\"", im));
    env.handle().clear_records();
    breaks_off(&env).await;
    env.handle().clear_faults();
    let left = env.handle().users().len();
    assert!(left > 850 && left < 1_000, "{left} are left");
    assert!(position_is_stored(&env).await);
    assert!(!status(&env).await["full_pass_due"].is_null());

    let second = env.imsync(again).await.expect_code(0).json();
    assert!(second["rows_read"].as_u64() < Some(500), "it goes on from its position: {second}");
    assert_eq!(env.handle().users().len(), 850);
    equals_people(&env).await;
    assert_eq!(status(&env).await["full_pass_due"], serde_json::Value::Null);
    assert_eq!(violations(&env), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_broken_off_in_its_removals_removes_the_rest_the_next_time() {
    tokio::join!(
        broken_off_in_its_removals(&["backfill", "--json"], async |env: &TestEnvironment| {
            fault(env, "hold:command=remove_attr:after=3");
            let mut backfill = env.start("run", &["backfill", "-v"]);
            env.eventually("some are removed", async || removed(env) >= 2).await;
            env.begins_to_stop(&backfill, "run").await;
            env.handle().clear_faults();
            assert_eq!(ended(&mut backfill).await, Some(1));
        }),
        broken_off_in_its_removals(&["run", "--once", "--json"], async |env: &TestEnvironment| {
            fault(env, "refuse:70003:command=remove_attr:after=3");
            env.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&["70003"]);
        }),
    );
}

/// Kept beside `updated_at` by somebody else.
fn with_second_stamp() -> Setup {
    let setup = setup("page_size = 1000", "users_per_call = 100\ntimeout = \"30s\"\n");
    let second =
        "ALTER TABLE users ADD changed_at timestamptz NOT NULL DEFAULT now(); CREATE INDEX ON users (changed_at, id);";
    Setup { sql: format!("{}{second}", setup.sql), ..setup }
}

fn by_second_stamp() -> Setup {
    let setup = with_second_stamp();
    Setup { source: setup.source.replace("\"updated_at\"", "\"changed_at\""), ..setup }
}

const LONG_AGO: &str = "UPDATE users SET updated_at = '2020-01-01', changed_at = '2020-01-01'";

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_watermark_column_is_not_forgotten_by_a_killed_full_pass() {
    let env = stage_of(200, with_second_stamp()).await;
    env.execute(LONG_AGO).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET city = 'before' WHERE right(id, 1) = '7'").await;
    env.configure(&by_second_stamp());
    let hold = fault(&env, "hold:command=set_attr");
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.held >= 1).await;
    // The new column's watermark is stored, and the whole table has been looked at.
    let stored = "SELECT count(*) FROM imsync.sync WHERE watermark_fingerprint LIKE '%changed_at%'";
    assert_eq!(env.number(stored).await, 1);
    env.execute("UPDATE users SET city = 'during', changed_at = now() WHERE id = 'u00001'").await;
    daemon.kill().await.expect("the daemon can be killed");
    // The second has no stamp that tells of it: only the full pass that is still due finds it.
    env.execute(
        "UPDATE users SET city = 'down', changed_at = now() WHERE id = 'u00002';
             UPDATE users SET city = 'only the full pass' WHERE id = 'u00003'",
    )
    .await;
    env.handle().remove_fault(hold);
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    env.eventually("the full pass is over", async || {
        env.number("SELECT count(*) FROM imsync.sync WHERE full_pass_due IS NULL").await == 1
    })
    .await;
    // It reads by the new column from now on.
    env.execute("UPDATE users SET city = 'later', changed_at = now() WHERE id = 'u00004'").await;
    env.converges(Duration::from_secs(15)).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// A first backfill of 3,000 that was told to stop when it had read them and one call was still under way.
async fn interrupted(env: &TestEnvironment) {
    env.execute(LONG_AGO).await;
    let hold = fault(env, "hold:account=u02500");
    let mut backfill = env.start("run", &["backfill", "-v"]);
    env.eventually("all but one call have been recorded", async || {
        env.handle().users().len() == 2_900 && env.number("SELECT count(*) FROM imsync.intent").await == 1
    })
    .await;
    env.begins_to_stop(&backfill, "run").await;
    env.handle().remove_fault(hold);
    assert_eq!(ended(&mut backfill).await, Some(1));
    assert!(position_is_stored(env).await, "{}", env.printed("run", "err"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_does_not_serve_another_watermark_column() {
    let env = stage_of(3_000, with_second_stamp()).await;
    interrupted(&env).await;
    // Before the position, and before the new column's watermark.
    env.execute("UPDATE users SET city = 'between' WHERE id = 'u00001'").await;
    env.configure(&by_second_stamp());
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0);
    assert!(pass.json()["rows_read"].as_u64() >= Some(3_000), "it begins at the beginning: {pass:?}");
    assert_eq!(env.handle().user("u00001")["city"], "between");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// The first full pass stops again and again behind its position, and while it does, a transaction commits that was open
/// before the sync began: a reason for a full pass of its own, from the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_does_not_serve_another_reason() {
    let env = stage_of(3_000, with_second_stamp()).await;
    env.execute(LONG_AGO).await;
    let mut old = env.database.connect().await;
    old.execute("BEGIN").await.expect("a transaction begins");
    old.execute("INSERT INTO users (id, city, updated_at) VALUES ('a00001', 'late', '2020-01-01')")
        .await
        .expect("the row is new");
    // The others have arrived long before this call is refused.
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
    old.close().await.expect("the connection ends in order");
    env.eventually("the new reason is known", async || {
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
async fn a_backfill_that_went_on_does_not_claim_to_be_fresh() {
    let env = stage_of(3_000, with_second_stamp()).await;
    interrupted(&env).await;
    let since = monotonic();
    assert_eq!(status(&env).await["lag_seconds"], serde_json::Value::Null);
    env.execute("UPDATE users SET city = 'between', updated_at = now() WHERE id = 'u00001'").await;
    let second = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert!(second["rows_read"].as_u64() < Some(3_000), "it goes on from its position: {second}");
    // The row lies before the position: what was committed since the first attempt is not in IM yet.
    assert_ne!(env.handle().user("u00001")["city"], "between");
    let waited = since.elapsed().as_secs_f64();
    let lag = status(&env).await["lag_seconds"].as_f64();
    assert!(lag.is_none_or(|lag| lag >= waited), "a lag of {lag:?} s is claimed, {waited} s after the stop");

    let before = monotonic();
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    let lag = status(&env).await["lag_seconds"].as_f64().expect("it is known by now");
    assert!(lag <= before.elapsed().as_secs_f64(), "{lag}");
    expect_truth(&env).await;
}
