//! Tests two syncs that write attributes of one app: what one of them holds, the other does not remove.
//!
//! Owns: two configurations over one table, with filters that exclude each other. Must not know: how the syncs agree.

use std::time::Duration;

use tokio::process::Child;

use super::{account, environment_of, fault, in_flight_twice, status};
use crate::support::{CommandOutput, SOURCE, Setup, TestEnvironment, binary, ended, run, signal};

/// The second sync: the same table and app, with another filter.
const SECOND: &str = "second.toml";

/// A table of which the rows of kind `b` belong to the second sync, and the others to the first one.
async fn two_syncs(rows: u32, more: &str) -> TestEnvironment {
    let setup = Setup {
        source: format!("{SOURCE}filter = \"kind IS DISTINCT FROM 'b'\"\n"),
        im: "timeout = \"2s\"\nretry_for = \"4s\"\n".to_owned(),
        more: format!("[schedule]\ninterval = \"100ms\"\n[removal]\nmax_share = 1.0\n{more}"),
        ..Setup::default()
    };
    let env = environment_of(rows, setup).await;
    write_second(&env);
    env
}

/// Writes the configuration of the second sync from that of the first.
fn write_second(env: &TestEnvironment) {
    let first = std::fs::read_to_string(env.config()).expect("the configuration can be read");
    let second = first.replace("name = \"users\"", "name = \"second\"").replace("IS DISTINCT FROM", "=");
    assert_ne!(first, second);
    std::fs::write(env.directory().join(SECOND), second).expect("the configuration can be written");
}

fn second_command(env: &TestEnvironment, arguments: &[&str]) -> tokio::process::Command {
    let mut command = binary(env.directory());
    command.args(arguments).arg("-c").arg(SECOND);
    command
}

/// Both daemons are told to stop, and do.
async fn stop(daemons: [&mut Child; 2]) {
    for daemon in daemons {
        signal(daemon, "TERM");
        assert_eq!(ended(daemon).await, Some(0));
    }
}

async fn second(env: &TestEnvironment, arguments: &[&str]) -> CommandOutput {
    run(second_command(env, arguments)).await
}

fn start_second(env: &TestEnvironment, crash_at: Option<&str>) -> Child {
    let log = std::fs::File::create(env.directory().join("second.err")).expect("the log file can be created");
    let mut command = second_command(env, &["run", "-v"]);
    if let Some(point) = crash_at {
        command.env("IMSYNC_CRASH_AT", point);
    }
    command.stderr(log).spawn().expect("the binary can be executed")
}

/// Both syncs make passes until nothing changes any more: no call in a pass of either, and nothing is in doubt.
async fn settle(env: &TestEnvironment) {
    env.eventually("both syncs have nothing more to send", async || {
        let before = env.handle().counters().arrived;
        for _ in 0..2 {
            env.imsync(&["run", "--once", "-q"]).await;
            second(env, &["run", "--once", "-q"]).await;
        }
        let in_doubt = "SELECT count(*) FROM imsync.account WHERE in_doubt_retry_at < 'infinity'";
        env.handle().counters().arrived == before && env.number(in_doubt).await == 0
    })
    .await;
}

/// IM holds what the table says. Each account belongs to one of the two syncs.
async fn expect_table(env: &TestEnvironment) {
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    assert_eq!(in_flight_twice(env), vec![]);
}

/// A value that moves in the state of each order of the two passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_moves_to_the_other_sync_keeps_its_value() {
    let env = two_syncs(60, "").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    second(&env, &["backfill"]).await.expect_code(0);
    expect_table(&env).await;
    // The second sync sets first, and the first one finds its rows gone afterwards; then the other way round.
    for (round, city) in ["city", "'new'", "city || '!'"].into_iter().enumerate() {
        for first_goes_first in [false, true] {
            let range = format!("id BETWEEN '{}' AND '{}'", account(1), account(20));
            env.execute(&format!("UPDATE users SET kind = 'b', city = {city}, updated_at = now() WHERE {range}")).await;
            if first_goes_first {
                env.imsync(&["run", "--once"]).await.expect_code(0);
            }
            second(&env, &["run", "--once"]).await.expect_code(0);
            settle(&env).await;
            assert_eq!(env.handle().users(), env.wanted_of_users().await, "round {round}, {first_goes_first}");
            env.execute(&format!("UPDATE users SET kind = NULL, updated_at = now() WHERE {range}")).await;
            settle(&env).await;
            assert_eq!(env.handle().users(), env.wanted_of_users().await, "round {round}, back");
        }
    }
    // A row that leaves both is removed, once both have seen it.
    env.execute("UPDATE users SET kind = 'b', updated_at = now() WHERE right(id, 1) = '1'").await;
    second(&env, &["run", "--once"]).await.expect_code(0);
    env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE right(id, 1) = '1'").await;
    settle(&env).await;
    expect_table(&env).await;
}

/// A row moves to the other sync and back before its first owner looks: that one still claims the old value.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_moves_there_and_back_has_its_first_value_again() {
    let env = two_syncs(40, "").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    second(&env, &["backfill"]).await.expect_code(0);
    env.execute("CREATE TABLE before AS TABLE users").await;
    env.execute("UPDATE users SET kind = 'b', city = 'elsewhere', plan = NULL, updated_at = now() WHERE id < 'u00020'")
        .await;
    second(&env, &["run", "--once"]).await.expect_code(0);
    env.execute("UPDATE users u SET kind = NULL, city = b.city, plan = b.plan, updated_at = now() FROM before b WHERE b.id = u.id")
        .await;
    settle(&env).await;
    expect_table(&env).await;
}

/// The removal of the first sync is in flight while the second one wants to set. Without the wait, the removal would be
/// applied after the set.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_waits_for_the_removal_of_the_other_sync() {
    let env = two_syncs(10, "").await;
    env.edit("timeout = \"2s\"", "timeout = \"20s\"");
    write_second(&env);
    env.imsync(&["backfill"]).await.expect_code(0);
    second(&env, &["backfill"]).await.expect_code(0);
    let hold = fault(&env, "hold:command=remove_attr");
    env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u00001'").await;
    let mut first = env.start("run", &["run", "-v"]);
    env.handle().wait_until(|counters| counters.held >= 1).await;
    env.execute(
        "UPDATE users SET deleted_at = NULL, kind = 'b', city = 'moved', updated_at = now() WHERE id = 'u00001'",
    )
    .await;
    env.execute("UPDATE users SET kind = 'b', city = 'moved', updated_at = now() WHERE id = 'u00002'").await;
    let mut other = start_second(&env, None);
    env.eventually("the other account is not delayed", async || {
        env.handle()
            .users()
            .get(&account(2))
            .is_some_and(|attributes| attributes.get("city").is_some_and(|city| city == "moved"))
    })
    .await;
    env.handle().remove_fault(hold);
    env.converges(Duration::from_secs(20)).await;
    stop([&mut first, &mut other]).await;
    settle(&env).await;
    expect_table(&env).await;
}

/// The first sync is killed with a removal in flight and is not started again. The removal is applied late.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sync_blocks_no_account_for_ever() {
    let env = two_syncs(10, "").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    second(&env, &["backfill"]).await.expect_code(0);
    fault(&env, "late:3s:command=remove_attr:times=1");
    env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id < 'u00004'").await;
    let arrived = env.handle().counters().arrived;
    let mut first = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.arrived > arrived).await;
    first.kill().await.expect("the daemon can be killed");
    env.execute(
        "UPDATE users SET deleted_at = NULL, kind = 'b', city = 'moved', updated_at = now() WHERE id < 'u00004'",
    )
    .await;
    let mut other = start_second(&env, None);
    env.converges(Duration::from_secs(20)).await;
    env.eventually("nothing of the second sync is in doubt", async || {
        env.number(
            "SELECT count(*) FROM imsync.account a JOIN imsync.sync s ON s.id = sync_id \
                    WHERE name = 'second' AND in_doubt_retry_at IS NOT NULL",
        )
        .await
            == 0
            && env.handle().users() == env.wanted_of_users().await
    })
    .await;
    signal(&other, "TERM");
    assert_eq!(ended(&mut other).await, Some(0));
    settle(&env).await;
    expect_table(&env).await;
}

/// Both daemons run while rows move between them all the time; they are killed at points around their calls.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_move_all_the_time_end_where_they_belong() {
    // The removal guard never holds back fewer than 20 accounts.
    let env = two_syncs(19, "").await;
    fault(&env, "slow:30ms");
    env.imsync(&["backfill"]).await.expect_code(0);
    second(&env, &["backfill"]).await.expect_code(0);
    let points = [
        "intent: stored#2",
        "call: answered#2",
        "record: not committed#2",
        "delivery: recorded#2",
        "record: committed",
    ];
    for (round, point) in points.into_iter().enumerate() {
        let mut first = env.start("run", &["run"]);
        let mut other = start_second(&env, Some(point));
        for step in 0..20 {
            let rest = (round * 7 + step) % 10;
            env.execute(&format!(
                "UPDATE users SET kind = CASE WHEN kind = 'b' THEN NULL ELSE 'b' END, city = 'c' || (random() * 3)::int, \
                 plan = CASE WHEN random() < 0.5 THEN 'pro' END, updated_at = now() WHERE right(id, 1)::int IN ({rest}, {})",
                (rest + 5) % 10
            ))
            .await;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        env.eventually("the armed daemon has died", async || {
            other.try_wait().expect("its status can be read").is_some()
        })
        .await;
        let mut other = start_second(&env, None);
        env.converges(Duration::from_secs(30)).await;
        stop([&mut first, &mut other]).await;
        settle(&env).await;
        expect_table(&env).await;
    }
}

/// Both syncs contain the same accounts. One of them loses its rows: IM keeps what the other one holds, and a removal is
/// neither sent nor counted by the guard.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_sync_holds_does_not_count_for_the_guard() {
    let env = two_syncs(100, "").await;
    env.edit("max_share = 1.0", "max_share = 0.1");
    env.edit("kind IS DISTINCT FROM 'b'", "kind IS DISTINCT FROM 'none'");
    let first = std::fs::read_to_string(env.config()).expect("the configuration can be read");
    let text = first.replace("name = \"users\"", "name = \"second\"").replace("'none'", "'x'");
    std::fs::write(env.directory().join(SECOND), text).expect("the configuration can be written");
    env.imsync(&["backfill"]).await.expect_code(0);
    second(&env, &["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET kind = 'x', updated_at = now()").await;
    second(&env, &["run", "--once"]).await.expect_code(0);
    assert!(status(&env).await["guard"].is_null());
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    let stored = "SELECT count(*) FROM imsync.account a JOIN imsync.sync s ON s.id = sync_id WHERE name = 'second'";
    assert_eq!(env.number(stored).await, 0, "the second sync claims nothing any more");
    settle(&env).await;
    expect_table(&env).await;
}

/// `check` and the start name the other sync and the attributes, and only where accounts could be the same.
#[tokio::test(flavor = "multi_thread")]
async fn check_and_start_name_the_other_sync() {
    let env = two_syncs(3, "").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let before = second(&env, &["check"]).await.expect_code(0);
    before.expect_all(&["warn  state.overlap: the sync \"users\"", "\"city\", \"plan\", \"sex\""]);
    let start = second(&env, &["backfill"]).await.expect_code(0);
    start.expect_all(&["WARN", "the sync \"users\" in this state schema"]);
    env.imsync(&["check"]).await.expect_code(0).expect_all(&["warn  state.overlap: the sync \"second\""]);
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the daemon warns", async || env.printed("run", "err").contains("the sync \"second\"")).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));

    let text = std::fs::read_to_string(env.directory().join(SECOND)).expect("the configuration can be read");
    for (from, to) in [("[source]\n", "[source]\naccount_prefix = \"u_\"\n"), ("sdk_app_id = 14", "sdk_app_id = 15")] {
        let text = text.replace("\"second\"", "\"third\"").replacen(from, to, 1);
        std::fs::write(env.directory().join(SECOND), text).expect("the configuration can be written");
        let check = second(&env, &["check", "--json"]).await.json();
        assert!(!check.to_string().contains("in this state schema"), "{check}");
    }
}

/// A digest lasts over restarts, and the digests of one sync tell nothing about those of another one.
#[tokio::test(flavor = "multi_thread")]
async fn equal_values_have_another_digest_in_another_sync() {
    let env = two_syncs(20, "").await;
    let text = std::fs::read_to_string(env.config()).expect("the configuration can be read");
    let text = text.replace("\"users\"", "\"second\"");
    std::fs::write(env.directory().join(SECOND), text).expect("the configuration can be written");
    env.imsync(&["backfill"]).await.expect_code(0);
    second(&env, &["backfill"]).await.expect_code(0);
    let equal = "SELECT count(*) FROM imsync.account a JOIN imsync.account b USING (account) \
                 WHERE a.sync_id < b.sync_id AND a.acknowledged::text = b.acknowledged::text";
    assert_eq!(env.number(equal).await, 20);
    assert_eq!(env.number(&format!("{equal} AND a.digest = b.digest")).await, 0);
    env.execute("CREATE TABLE before AS TABLE imsync.account").await;
    env.imsync(&["backfill", "--force"]).await.expect_code(0);
    let same = "SELECT count(*) FROM imsync.account a JOIN before b USING (sync_id, account) WHERE a.digest = b.digest";
    assert_eq!(env.number(same).await, 40);
    // Digests of an earlier release, without a key: no call is made for values that IM holds.
    env.execute("UPDATE imsync.account SET digest = 4711").await;
    let arrived = env.handle().counters().arrived;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().counters().arrived, arrived);
}

/// The pass of a sync does not wait for an account for which another sync has a call that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_call_of_the_other_sync_delays_one_account_only() {
    let env = two_syncs(60, "").await;
    env.execute("UPDATE users SET kind = 'b', updated_at = now() WHERE id > 'u00030'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    second(&env, &["backfill"]).await.expect_code(0);
    let mut daemon = env.start("run", &["run"]);
    let mut other = start_second(&env, None);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let silent = fault(&env, "late:10m:command=set_attr:account=u00001");
    env.execute("UPDATE users SET city = 'x', updated_at = now() WHERE id = 'u00001'").await;
    let intents =
        "SELECT count(*) FROM imsync.intent WHERE sync_id = (SELECT id FROM imsync.sync WHERE name = 'users')";
    env.eventually("the call of the first sync hangs", async || env.number(intents).await == 1).await;
    env.execute("UPDATE users SET kind = 'b', city = 'y', updated_at = now() WHERE id = 'u00001'").await;
    let deferred = "SELECT count(*) FROM imsync.deferred_account";
    env.eventually("the second sync defers it", async || env.number(deferred).await > 0).await;
    env.execute("UPDATE users SET city = 'of another', updated_at = now() WHERE id = 'u00040'").await;
    env.eventually("another account arrives", async || env.handle().user("u00040")["city"] == "of another").await;
    assert_eq!(env.number(intents).await, 1, "the call of the first sync still hangs");
    env.handle().remove_fault(silent);
    // The first sync may remove what it gives up before the second one sets its value.
    let arrived = || env.handle().user("u00001").get("city").is_some_and(|city| city == "y");
    env.eventually("the account arrives", async || arrived()).await;
    env.eventually("nothing is deferred", async || env.number(deferred).await == 0).await;
    daemon.kill().await.expect("the daemon can be killed");
    other.kill().await.expect("the daemon can be killed");
    settle(&env).await;
    expect_table(&env).await;
}
