//! Full passes that are broken off: what is still to be done is neither forgotten nor claimed.

use std::time::Duration;

use imsync::clock::monotonic;
use sqlx::{Connection, Executor};

use crate::support::{SOURCE, Setup, Stage, ended, signal};

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

fn removed(stage: &Stage) -> usize {
    stage.handle().calls().iter().filter(|call| call.endpoint.ends_with("remove_attr") && call.applied).count()
}

async fn position_is_stored(stage: &Stage) -> bool {
    stage.number("SELECT count(*) FROM imsync.sync WHERE full_pass_position IS NOT NULL").await == 1
}

async fn equals_people(stage: &Stage) {
    let bots = stage.wanted("SELECT id, 'kind', kind FROM users WHERE kind = 'bot'").await;
    let mut wanted = stage.wanted_of_users().await;
    wanted.retain(|account, _| !bots.contains_key(account));
    assert_eq!(stage.handle().users(), wanted);
    expect_truth(stage).await;
}

/// 150 of 1,000 go, by an edited filter and by deletion. `breaks_off` ends the pass among its removals.
async fn broken_off_in_its_removals(again: &[&str], breaks_off: impl AsyncFnOnce(&Stage)) {
    let im = "users_per_call = 10\nmax_in_flight = 2\ntimeout = \"30s\"\n";
    let stage = stage_of(1_000, setup("page_size = 100", im)).await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    // The last ones go, so that the pass has stored how far it has come when it meets the first of them.
    stage
        .execute("UPDATE users SET kind = 'bot' WHERE id > 'u00900'; DELETE FROM users WHERE id BETWEEN 'u00851' AND 'u00900'")
        .await;
    stage.configure(&setup("page_size = 100\nfilter = \"kind IS DISTINCT FROM 'bot'\"", im));
    stage.handle().clear_records();
    breaks_off(&stage).await;
    stage.handle().clear_faults();
    let left = stage.handle().users().len();
    assert!(left > 850 && left < 1_000, "{left} are left");
    assert!(position_is_stored(&stage).await);
    assert!(!status(&stage).await["full_pass_due"].is_null());

    let second = stage.imsync(again).await.expect_code(0).json();
    assert!(second["rows_read"].as_u64() < Some(500), "it goes on from its position: {second}");
    assert_eq!(stage.handle().users().len(), 850);
    equals_people(&stage).await;
    assert_eq!(status(&stage).await["full_pass_due"], serde_json::Value::Null);
    assert_eq!(violations(&stage), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_broken_off_in_its_removals_removes_the_rest_the_next_time() {
    tokio::join!(
        broken_off_in_its_removals(&["backfill", "--json"], async |stage: &Stage| {
            fault(stage, "hold:command=remove_attr:after=3");
            let mut backfill = stage.start("run", &["backfill", "-v"]);
            stage.eventually("some are removed", async || removed(stage) >= 2).await;
            stage.begins_to_stop(&backfill, "run").await;
            stage.handle().clear_faults();
            assert_eq!(ended(&mut backfill).await, Some(1));
        }),
        broken_off_in_its_removals(&["run", "--once", "--json"], async |stage: &Stage| {
            fault(stage, "refuse:70003:command=remove_attr:after=3");
            stage.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&["70003"]);
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
    let stage = stage_of(200, with_second_stamp()).await;
    stage.execute(LONG_AGO).await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    stage.execute("UPDATE users SET city = 'before' WHERE right(id, 1) = '7'").await;
    stage.configure(&by_second_stamp());
    let hold = fault(&stage, "hold:command=set_attr");
    let mut daemon = stage.start("run", &["run"]);
    stage.handle().wait_until(|counters| counters.held >= 1).await;
    // The new column's watermark is stored, and the whole table has been looked at.
    let stored = "SELECT count(*) FROM imsync.sync WHERE watermark_fingerprint LIKE '%changed_at%'";
    assert_eq!(stage.number(stored).await, 1);
    stage.execute("UPDATE users SET city = 'during', changed_at = now() WHERE id = 'u00001'").await;
    daemon.kill().await.expect("the daemon can be killed");
    // The second has no stamp that tells of it: only the full pass that is still due finds it.
    stage
        .execute(
            "UPDATE users SET city = 'down', changed_at = now() WHERE id = 'u00002';
             UPDATE users SET city = 'only the full pass' WHERE id = 'u00003'",
        )
        .await;
    stage.handle().remove_fault(hold);
    let mut daemon = stage.start("run", &["run"]);
    stage.converges(Duration::from_secs(15)).await;
    stage
        .eventually("the full pass is over", async || {
            stage.number("SELECT count(*) FROM imsync.sync WHERE full_pass_due IS NULL").await == 1
        })
        .await;
    // It reads by the new column from now on.
    stage.execute("UPDATE users SET city = 'later', changed_at = now() WHERE id = 'u00004'").await;
    stage.converges(Duration::from_secs(15)).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&stage).await;
}

/// A first backfill of 3,000 that was told to stop when it had read them and one call was still under way.
async fn interrupted(stage: &Stage) {
    stage.execute(LONG_AGO).await;
    let hold = fault(stage, "hold:account=u02500");
    let mut backfill = stage.start("run", &["backfill", "-v"]);
    stage
        .eventually("all but one call have been recorded", async || {
            stage.handle().users().len() == 2_900 && stage.number("SELECT count(*) FROM imsync.intent").await == 1
        })
        .await;
    stage.begins_to_stop(&backfill, "run").await;
    stage.handle().remove_fault(hold);
    assert_eq!(ended(&mut backfill).await, Some(1));
    assert!(position_is_stored(stage).await, "{}", stage.printed("run", "err"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_does_not_serve_another_watermark_column() {
    let stage = stage_of(3_000, with_second_stamp()).await;
    interrupted(&stage).await;
    // Before the position, and before the new column's watermark.
    stage.execute("UPDATE users SET city = 'between' WHERE id = 'u00001'").await;
    stage.configure(&by_second_stamp());
    let pass = stage.imsync(&["run", "--once", "--json"]).await.expect_code(0);
    assert!(pass.json()["rows_read"].as_u64() >= Some(3_000), "it begins at the beginning: {pass:?}");
    assert_eq!(stage.handle().user("u00001")["city"], "between");
    assert_eq!(stage.handle().users(), stage.wanted_of_users().await);
    expect_truth(&stage).await;
}

/// The first full pass stops again and again behind its position, and while it does, a transaction commits that was open
/// before the sync began: a reason for a full pass of its own, from the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_does_not_serve_another_reason() {
    let stage = stage_of(3_000, with_second_stamp()).await;
    stage.execute(LONG_AGO).await;
    let mut old = stage.database.connect().await;
    old.execute("BEGIN").await.expect("a transaction begins");
    old.execute("INSERT INTO users (id, city, updated_at) VALUES ('a00001', 'late', '2020-01-01')")
        .await
        .expect("the row is new");
    // The others have arrived long before this call is refused.
    fault(&stage, "slow:1500ms:account=u02500");
    fault(&stage, "refuse:70003:account=u02500");
    let mut daemon = stage.start("run", &["run"]);
    stage
        .eventually("the pass has stopped at its position", async || {
            stage.handle().calls().iter().any(|call| call.code == Some(70003))
                && position_is_stored(&stage).await
                && stage.number("SELECT count(*) FROM imsync.pass WHERE outcome = 'failed'").await >= 1
        })
        .await;
    old.execute("COMMIT").await.expect("the transaction commits");
    old.close().await.expect("the connection ends in order");
    stage
        .eventually("the new reason is known", async || {
            stage.number("SELECT count(*) FROM imsync.sync WHERE full_pass_due LIKE 'the transactions open%'").await
                == 1
        })
        .await;
    stage.handle().clear_faults();
    stage.converges(Duration::from_secs(20)).await;
    assert_eq!(stage.handle().user("a00001")["city"], "late");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_went_on_does_not_claim_to_be_fresh() {
    let stage = stage_of(3_000, with_second_stamp()).await;
    interrupted(&stage).await;
    let since = monotonic();
    assert_eq!(status(&stage).await["lag_seconds"], serde_json::Value::Null);
    stage.execute("UPDATE users SET city = 'between', updated_at = now() WHERE id = 'u00001'").await;
    let second = stage.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert!(second["rows_read"].as_u64() < Some(3_000), "it goes on from its position: {second}");
    // The row lies before the position: what was committed since the first attempt is not in IM yet.
    assert_ne!(stage.handle().user("u00001")["city"], "between");
    let waited = since.elapsed().as_secs_f64();
    let lag = status(&stage).await["lag_seconds"].as_f64();
    assert!(lag.is_none_or(|lag| lag >= waited), "a lag of {lag:?} s is claimed, {waited} s after the stop");

    let before = monotonic();
    stage.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(stage.handle().users(), stage.wanted_of_users().await);
    let lag = status(&stage).await["lag_seconds"].as_f64().expect("it is known by now");
    assert!(lag <= before.elapsed().as_secs_f64(), "{lag}");
    expect_truth(&stage).await;
}
