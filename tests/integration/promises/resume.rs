//! What was done is not done again: interrupted full passes, restored states.

use sqlx::Executor as _;

use crate::support::{SOURCE, Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{fault, stage_of, status, violations};

fn small_pages() -> Setup {
    Setup {
        source: format!("{SOURCE}page_size = 2000\n"),
        im: "users_per_call = 100\nmax_in_flight = 20\ntimeout = \"30s\"\n".to_owned(),
        ..Setup::default()
    }
}

/// A full pass that comes to its middle and no further, until the fault is removed. More than may be in flight at once
/// has been answered, so the position has moved.
async fn in_the_middle(env: &TestEnvironment) {
    env.handle().wait_until(|counters| counters.held >= 1).await;
    position_is_stored(env).await;
}

async fn position_is_stored(env: &TestEnvironment) {
    let stored = "SELECT count(*) FROM imsync.sync WHERE full_pass_position IS NOT NULL";
    env.eventually("a position is stored", async || env.number(stored).await == 1).await;
}

async fn goes_on(env: &TestEnvironment) {
    // Accounts of calls that were never answered are looked up by name; they count as rows read.
    let doubts = env.number("SELECT coalesce(sum(cardinality(accounts)), 0)::bigint FROM imsync.intent").await;
    let done = env.number("SELECT (full_pass_position->>'done')::bigint FROM imsync.sync").await;
    assert!(done >= 2_000, "a page at least is recorded: {done}");
    let second = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    let read = second["rows_read"].as_i64().expect("a count");
    assert!(read - doubts <= 30_000 - done, "{doubts} in doubt, {done} compared before, {second}");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backfill_goes_on_where_it_stopped() {
    let env = stage_of(30_000, small_pages()).await;
    let hold = fault(&env, "hold:after=200");
    let mut backfill = env.start("run", &["backfill", "-v"]);
    in_the_middle(&env).await;
    env.begins_to_stop(&backfill, "run").await;
    env.handle().remove_fault(hold);
    assert_eq!(ended(&mut backfill).await, Some(1));
    assert!(env.printed("run", "err").contains("resumes where it stopped"), "{}", env.printed("run", "err"));
    assert_eq!(status(&env).await["last_passes"][0]["outcome"], "interrupted");
    let before = env.handle().counters().arrived;
    goes_on(&env).await;
    assert!(env.handle().counters().arrived <= 302 && before < 300, "what IM has acknowledged is not sent again");
    assert_eq!(violations(&env), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_goes_on_too() {
    let env = stage_of(30_000, small_pages()).await;
    let hold = fault(&env, "hold:after=200");
    let mut backfill = env.start("run", &["backfill"]);
    in_the_middle(&env).await;
    backfill.kill().await.expect("the backfill can be killed");
    env.handle().remove_fault(hold);
    goes_on(&env).await;

    // Once it has ended, the next one begins at the beginning.
    let again = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert!(again["rows_read"].as_u64() >= Some(30_000), "{again}");
}

/// An incremental pass between the steps of the first full one fails: the full pass goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_goes_on_with_its_first_pass_after_trouble() {
    // A hundred calls at this rate take ten seconds: what happens below happens in the middle.
    let setup = Setup {
        source: format!("{SOURCE}page_size = 500\n"),
        im: "users_per_call = 100\ncalls_per_second = 10\ntimeout = \"30s\"\nretry_for = \"1s\"\n".to_owned(),
        ..Setup::default()
    };
    let env = stage_of(10_000, setup).await;
    // Not new, or incremental passes would be at the same rows.
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    // Open as long as we look: when the last transaction of the first fence ends, a full pass falls due that begins at the
    // beginning, and the server's own sessions may be in that fence and end at any time.
    let mut open = env.database.connect().await;
    open.execute("BEGIN; SELECT 1").await.expect("a transaction begins");
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.users >= 1_000).await;
    position_is_stored(&env).await;
    // No call of the incremental pass gets an answer, so to that pass IM is unreachable.
    let outage = fault(&env, "fail:http-502");
    env.execute("INSERT INTO users (id, city) VALUES ('new', 'now')").await;
    env.eventually("the pass has failed", async || env.printed("run", "err").contains("IM is unreachable")).await;
    env.handle().remove_fault(outage);
    env.eventually("the full pass goes on", async || env.printed("run", "err").contains("going on with the full pass"))
        .await;
    env.eventually("what is new goes first", async || env.handle().user("new").contains_key("city")).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// The state stands on another server than before: a restored backup, or a standby that was promoted too early.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_state_is_not_believed() {
    let env = stage_of(300, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // What happened after the backup: IM holds values that the state knows nothing of.
    let mut changed = env.handle().user("u00007");
    changed.insert("city".to_owned(), "after the backup".to_owned());
    env.handle().set_user("u00007", &changed).expect("the name is set");
    env.execute(
        "UPDATE imsync.sync SET state_server = 'another:00000001';
             DELETE FROM users WHERE id = 'u00008'; UPDATE users SET plan = NULL WHERE id = 'u00009'",
    )
    .await;
    env.handle().clear_records();
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0);
    assert!(pass.stderr.contains("another server than before"), "{}", pass.stderr);
    assert_eq!((&pass.json()["kind"], &pass.json()["outcome"]), (&"full".into(), &"ok".into()));
    let sent: usize = env
        .handle()
        .calls()
        .iter()
        .filter(|call| call.endpoint.ends_with("set_attr"))
        .flat_map(|call| &call.users)
        .map(|user| user.attributes.len())
        .sum();
    assert_eq!(sent, 299 * 3 - 1, "every value is sent again");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(status(&env).await["in_doubt"], 0);
    expect_truth(&env).await;
    let idle = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert_eq!(idle["calls"], 0);
}
