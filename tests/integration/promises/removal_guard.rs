//! Tests the removal guard: imsync does not remove a large share of the accounts without `--allow-removals`.
//!
//! Owns: one trip of the guard, for each way in which accounts disappear. Must not know: the count over 24 hours.

use std::time::Duration;

use futures_util::future::{join, join_all};

use crate::support::{ATTRIBUTES, Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{attributes, environment_of, fault, status};

fn with_filter() -> Setup {
    let setup = Setup::default();
    Setup { source: format!("{}filter = \"kind IS DISTINCT FROM 'bot'\"\n", setup.source), ..setup }
}

/// An environment after a backfill, without recorded calls.
pub(super) async fn backfilled(count: u32, setup: Setup) -> TestEnvironment {
    let env = environment_of(count, setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.handle().clear_records();
    env
}

/// The number of removal calls that the simulator has recorded.
pub(super) fn removals(env: &TestEnvironment) -> usize {
    env.handle().calls().iter().filter(|call| call.endpoint.ends_with("remove_attr")).count()
}

/// Makes 30 of 100 accounts disappear with `sql` and asserts that the guard trips. A changed value is still sent.
async fn trips(what: &str, setup: Setup, sql: &str, edited: Option<Setup>) -> TestEnvironment {
    let env = backfilled(100, setup).await;
    env.execute(sql).await;
    env.execute("UPDATE users SET city = 'still sent', updated_at = now() WHERE id = 'u00099'").await;
    if let Some(edited) = &edited {
        env.configure(edited);
    }
    let ran = env.imsync(&["backfill", "--json"]).await.expect_code(1);
    assert_eq!(ran.json()["outcome"], "guard", "{what}");
    assert!(ran.stderr.contains("30 of 100") && ran.stderr.contains("--allow-removals"), "{what}: {}", ran.stderr);
    assert_eq!(removals(&env), 0, "{what}: nothing is removed");
    assert_eq!(env.handle().user("u00099")["city"], "still sent", "{what}: changed values are still sent");
    let guard = status(&env).await["guard"].clone();
    assert_eq!((&guard["accounts"], &guard["known"]), (&30.into(), &100.into()), "{what}: {guard}");
    expect_truth(&env).await;
    env
}

/// The ways in which 30 of 100 accounts lose attributes.
const WAYS: [(&str, &str); 4] = [
    ("hard deleted", "DELETE FROM users WHERE right(id, 1) IN ('0', '1', '2')"),
    ("soft deleted", "UPDATE users SET deleted_at = now(), updated_at = now() WHERE right(id, 1) IN ('0', '1', '2')"),
    ("filtered out", "UPDATE users SET kind = 'bot', updated_at = now() WHERE right(id, 1) IN ('0', '1', '2')"),
    ("a column emptied", "UPDATE users SET plan = NULL, updated_at = now() WHERE right(id, 1) IN ('0', '1', '2')"),
];

#[tokio::test(flavor = "multi_thread")]
async fn removing_thirty_of_a_hundred_accounts_trips_the_guard() {
    let ways = WAYS.map(|(what, sql)| async move {
        let env = trips(what, with_filter(), sql, None).await;
        // A tripped guard stays tripped in every process and every kind of pass. It also holds a few further removals
        // back.
        env.execute("UPDATE users SET plan = NULL, city = 'more', updated_at = now() WHERE id = 'u00044'").await;
        let once = env.imsync(&["run", "--once", "--json"]).await.expect_code(1);
        assert_eq!(once.json()["outcome"], "guard");
        assert_eq!(env.handle().user("u00044")["city"], "more");
        assert_eq!(removals(&env), 0, "{what}");
        let full = env.imsync(&["backfill"]).await.expect_code(1);
        assert!(full.stderr.contains("removal guard"), "{}", full.stderr);
        assert_eq!(removals(&env), 0, "{what}");

        env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0);
        assert_eq!(status(&env).await["guard"], serde_json::Value::Null);
        assert_eq!(without_bots(&env).await, env.handle().users(), "{what}");
        expect_truth(&env).await;
        env.imsync(&["run", "--once"]).await.expect_code(0);
    });
    join_all(ways).await;
}

async fn without_bots(
    env: &TestEnvironment,
) -> std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>> {
    let bots = env.wanted("SELECT id, 'kind', kind FROM users WHERE kind = 'bot'").await;
    let mut wanted = env.wanted_of_users().await;
    wanted.retain(|account, _| !bots.contains_key(account));
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_filter_or_mapping_trips_the_guard() {
    let filter = Setup {
        source: format!("{}filter = \"right(id, 1) NOT IN ('0', '1', '2')\"\n", Setup::default().source),
        ..Setup::default()
    };
    // The value `f` is no longer listed, and values that are not listed are removed.
    let unlisted =
        Setup { attributes: ATTRIBUTES.replace(", f = \"female\" }", " }\nunlisted = \"remove\""), ..Setup::default() };
    let sql = "UPDATE users SET gender = CASE WHEN right(id, 1) IN ('0', '1', '2') THEN 'f' ELSE 'm' END";
    tokio::join!(
        trips("the filter was edited", Setup::default(), "SELECT 1", Some(filter)),
        trips("the listed values were edited", Setup::default(), sql, Some(unlisted)),
        an_edited_mapping(),
    );
}

async fn an_edited_mapping() {
    let mapping = Setup { attributes: ATTRIBUTES.replace("plan = \"plan\"", "plan = \"kind\""), ..Setup::default() };
    let sql = "UPDATE users SET kind = plan; UPDATE users SET kind = NULL WHERE right(id, 1) IN ('0', '1', '2')";
    let env = trips("the mapping was edited", Setup::default(), sql, Some(mapping)).await;
    // Edited back it counts below the share, and is lifted by the full pass that the edit starts.
    env.configure(&Setup::default());
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(status(&env).await["guard"], serde_json::Value::Null);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);

    // With `unmapped = "remove"`, an attribute that is dropped from the mapping is a removal for every account.
    env.configure(&Setup {
        attributes: "city = \"city\"\n".to_owned(),
        more: "[removal]\nunmapped = \"remove\"\n".to_owned(),
        ..Setup::default()
    });
    let ran = env.imsync(&["backfill", "--dry-run"]).await.expect_code(1);
    assert!(ran.stderr.contains("100 of 100"), "{}", ran.stderr);
    env.imsync(&["backfill"]).await.expect_code(1);
    assert_eq!(removals(&env), 0);
    env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0);
    assert_eq!(env.handle().user("u00099"), attributes(&[("city", "still sent")]));
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tripped_guard_is_shown_and_survives_a_kill() {
    let env = backfilled(100, Setup::default()).await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the daemon holds the lease", async || !status(&env).await["lease"].is_null()).await;
    // After this change the daemon has stored its progress, and does not store it again for a minute.
    env.execute("UPDATE users SET city = 'first', updated_at = now() WHERE id = 'u00050'").await;
    env.converges(Duration::from_secs(10)).await;
    // The next pass has only removals.
    env.execute(WAYS[1].1).await;
    env.eventually("status shows the guard", async || !status(&env).await["guard"].is_null()).await;
    daemon.kill().await.expect("the daemon can be killed");

    let mut daemon = env.start("run", &["run"]);
    env.execute("UPDATE users SET city = 'still sent', updated_at = now() WHERE id = 'u00099'").await;
    env.eventually("changed values are still sent", async || env.handle().user("u00099")["city"] == "still sent").await;
    assert_eq!(removals(&env), 0);
    assert_eq!(status(&env).await["guard"]["accounts"], 30);
    assert_eq!(status(&env).await["last_passes"][0]["outcome"], "guard");
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_removals_and_small_shares_pass_the_guard() {
    let few = async {
        // 19 of 19 accounts: fewer than twenty accounts never trip the guard.
        let env = backfilled(19, Setup::default()).await;
        env.execute("DELETE FROM users").await;
        env.imsync(&["backfill"]).await.expect_code(0);
        assert_eq!(env.handle().users().len(), 0);
        assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 0);
    };
    let small_share = async {
        // 20 of 100 accounts are not more than a fifth.
        let env = backfilled(100, Setup::default()).await;
        env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE right(id, 1) IN ('0', '1')").await;
        env.imsync(&["run", "--once"]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await);
        assert_eq!(env.handle().users().len(), 80);
        expect_truth(&env).await;
    };
    join(few, small_share).await;
}

/// The full pass has read the rows before they disappear, so it must not reset the guard that trips meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_full_pass_does_not_reset_a_new_guard_trip() {
    let env = backfilled(100, Setup::default()).await;
    env.configure(&Setup { attributes: ATTRIBUTES.replace("\"male\"", "\"man\""), ..Setup::default() });
    let hold = fault(&env, "hold:command=set_attr");
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.held >= 1).await;
    env.execute(WAYS[1].1).await;
    env.handle().remove_fault(hold);
    // There may be one more full pass if sessions of the server were in the first transaction list. It counts the same
    // 30 of 100 accounts.
    let full_ended = async || {
        let passes = status(&env).await["last_passes"].clone();
        passes.as_array().is_some_and(|passes| passes.iter().filter(|pass| pass["kind"] == "full").count() >= 2)
    };
    env.eventually("the full pass after the edit has ended", full_ended).await;
    env.eventually("the guard is tripped", async || !status(&env).await["guard"].is_null()).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    let log = env.printed("run", "err");
    assert_eq!(status(&env).await["guard"]["accounts"], 30, "{log}");
    // If the full pass had reset the guard, polls that read the rows again would trip it again and log that. Each
    // further full pass logs it in any case.
    let (trips, full) = (log.matches("guard holds removals back").count(), log.matches("a full pass begins").count());
    assert!(trips <= full, "tripped {trips} times, {full} full passes\n{log}");
    assert_eq!(removals(&env), 0);
    env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 70);
    expect_truth(&env).await;
}
