//! Tests that an interrupted full pass resumes at its stored position, and that a restored state is not trusted.
//!
//! Owns: backfills and daemons that are stopped or killed during a full pass. Must not know: how a position is stored.

use sqlx::Executor as _;

use crate::support::{SOURCE, Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{environment_of, fault, status, violations};

fn small_pages() -> Setup {
    Setup {
        source: format!("{SOURCE}page_size = 2000\n"),
        im: "users_per_call = 100\nmax_in_flight = 20\ntimeout = \"30s\"\n".to_owned(),
        ..Setup::default()
    }
}

/// Waits until a fault holds the full pass. IM has answered more calls than may be in flight at once, so a position is
/// stored.
async fn wait_for_the_middle(env: &TestEnvironment) {
    env.handle().wait_until(|counters| counters.held >= 1).await;
    wait_for_position(env).await;
}

async fn wait_for_position(env: &TestEnvironment) {
    let stored = "SELECT count(*) FROM imsync.sync WHERE full_pass_position IS NOT NULL";
    env.eventually("a position is stored", async || env.number(stored).await == 1).await;
}

/// Runs a second backfill. Asserts that it reads only the rest of the table, and that IM then equals the table.
async fn expect_resume(env: &TestEnvironment) {
    // Accounts in unanswered calls are read by account, and count as rows read.
    let in_doubt = env.number("SELECT coalesce(sum(cardinality(accounts)), 0)::bigint FROM imsync.intent").await;
    let done = env.number("SELECT (full_pass_position->>'done')::bigint FROM imsync.sync").await;
    assert!(done >= 2_000, "at least one page is recorded: {done}");
    let second = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    let read = second["rows_read"].as_i64().expect("the field is a number");
    assert!(read - in_doubt <= 30_000 - done, "{in_doubt} in doubt, {done} compared before, {second}");
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backfill_resumes_where_it_stopped() {
    let env = environment_of(30_000, small_pages()).await;
    let hold = fault(&env, "hold:after=200");
    let mut backfill = env.start("run", &["backfill", "-v"]);
    wait_for_the_middle(&env).await;
    env.begins_to_stop(&backfill, "run").await;
    env.handle().remove_fault(hold);
    assert_eq!(ended(&mut backfill).await, Some(1));
    assert!(env.printed("run", "err").contains("resumes where it stopped"), "{}", env.printed("run", "err"));
    assert_eq!(status(&env).await["last_passes"][0]["outcome"], "interrupted");
    let before = env.handle().counters().arrived;
    expect_resume(&env).await;
    assert!(env.handle().counters().arrived <= 302 && before < 300, "acknowledged values are not sent again");
    assert_eq!(violations(&env), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_resumes() {
    let env = environment_of(30_000, small_pages()).await;
    let hold = fault(&env, "hold:after=200");
    let mut backfill = env.start("run", &["backfill"]);
    wait_for_the_middle(&env).await;
    backfill.kill().await.expect("the backfill can be killed");
    env.handle().remove_fault(hold);
    expect_resume(&env).await;

    // After a complete backfill, the next one reads the whole table.
    let again = env.imsync(&["backfill", "--json"]).await.expect_code(0).json();
    assert!(again["rows_read"].as_u64() >= Some(30_000), "{again}");
}

/// An incremental pass between two steps of the first full pass fails. The full pass resumes where it was.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_resumes_its_first_pass_after_an_outage() {
    // A hundred calls take ten seconds at this rate, so the outage below is in the middle of the pass.
    let setup = Setup {
        source: format!("{SOURCE}page_size = 500\n"),
        im: "users_per_call = 100\ncalls_per_second = 10\ntimeout = \"30s\"\nretry_for = \"1s\"\n".to_owned(),
        ..Setup::default()
    };
    let env = environment_of(10_000, setup).await;
    // The rows have old timestamps. Otherwise incremental passes would send the same rows.
    env.execute("UPDATE users SET updated_at = '2020-01-01'").await;
    // This transaction stays open during the test. When the last transaction of the first list ends, a full pass over
    // the whole table is due. Without this transaction, that could happen at any time, when a session of the server
    // ends.
    let mut open = env.database.connect().await;
    open.execute("BEGIN; SELECT 1").await.expect("the transaction begins");
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.users >= 1_000).await;
    wait_for_position(&env).await;
    // No call of the incremental pass succeeds, so the pass considers IM unreachable.
    let outage = fault(&env, "fail:http-502");
    env.execute("INSERT INTO users (id, city) VALUES ('new', 'now')").await;
    env.eventually("the pass has failed", async || env.printed("run", "err").contains("IM is unreachable")).await;
    env.handle().remove_fault(outage);
    env.eventually("the full pass resumes", async || {
        env.printed("run", "err").contains("resuming the interrupted full pass")
    })
    .await;
    env.eventually("the new row is in IM", async || env.handle().user("new").contains_key("city")).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}

/// The state is on another server than before, as after a restored backup or the promotion of an outdated standby.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_state_is_not_trusted() {
    let env = environment_of(300, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // IM holds values from after the backup, which the restored state does not contain.
    let mut changed = env.handle().user("u00007");
    changed.insert("city".to_owned(), "after the backup".to_owned());
    env.handle().set_user("u00007", &changed).expect("the simulator knows the attribute");
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
