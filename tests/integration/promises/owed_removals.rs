//! Tests that the removal guard counts the whole table: owed removals outlive the pass and the process that found them.
//!
//! Owns: full passes that are cut short beside a tripped guard, removals that a killed process left, forced removals.
//! Must not know: the ways in which accounts disappear, the count over 24 hours.

use futures_util::future::join_all;

use crate::crash_points::abort_at;
use crate::support::{ATTRIBUTES, SOURCE, Setup, TestEnvironment, ended, signal};

use super::removal_guard::{backfilled, removals};
use super::state_truth::expect_truth;
use super::{environment_of, fault, status, violations};

fn paged(rows: u32) -> Setup {
    Setup {
        source: format!("{SOURCE}page_size = {rows}\n"),
        im: "users_per_call = 100\nmax_in_flight = 4\ntimeout = \"30s\"\n".to_owned(),
        ..Setup::default()
    }
}

/// A backfill of `rows` accounts, and then a forced one that is cut short after this number of calls.
async fn cut_short(rows: u32, calls: u32, kill: bool) -> TestEnvironment {
    let env = backfilled(rows, paged(500)).await;
    env.run_until_no_full_pass_is_due().await;
    let hold = fault(&env, &format!("hold:command=set_attr:after={calls}"));
    let mut backfill = env.start("run", &["backfill", "--force", "-v"]);
    env.handle().wait_until(|counters| counters.held >= 1).await;
    let stored = "SELECT count(*) FROM imsync.sync WHERE full_pass_position IS NOT NULL";
    env.eventually("a position is stored", async || env.number(stored).await == 1).await;
    if kill {
        backfill.kill().await.expect("the backfill can be killed");
        env.handle().remove_fault(hold);
    } else {
        env.begins_to_stop(&backfill, "run").await;
        env.handle().remove_fault(hold);
        assert_eq!(ended(&mut backfill).await, Some(1));
    }
    env
}

/// The rest of a table tells nothing about the removals that its beginning owes.
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_full_pass_lifts_no_guard() {
    // The position is behind the rows that disappear, or among them.
    let cases = [(62, 4_000, false), (30, 4_000, true), (90, 2_500, true)];
    let cases = cases.map(|(calls, gone, kill)| async move {
        let env = cut_short(12_000, calls, kill).await;
        let position = env.number("SELECT (full_pass_position->>'done')::bigint FROM imsync.sync").await;
        assert!(position >= 1_000, "at least two pages are recorded: {position}");
        let sql = format!("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id <= 'u{gone:05}'");
        env.execute(&sql).await;
        // How many accounts a kill leaves in doubt depends on how far the pass ran ahead of IM. They are not known before they
        // are sent again, so the second number of the message varies then.
        let message = if kill { format!("{gone} of ") } else { format!("{gone} of 12000 known accounts") };
        env.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&[&message]);
        for pass in [&["backfill", "--force", "--json"][..], &["backfill", "--json"], &["run", "--once", "--json"]] {
            let pass = env.imsync(pass).await.expect_code(1).expect_all(&[&message]);
            assert_eq!((&pass.json()["outcome"], &pass.json()["removed"]), (&"guard".into(), &0.into()), "{pass:?}");
        }
        assert_eq!(status(&env).await["guard"]["accounts"], gone);
        assert_eq!((env.handle().users().len(), removals(&env)), (12_000, 0));
        expect_truth(&env).await;

        // What returns is no longer counted. A full pass then lifts the guard and removes the rest.
        env.execute("UPDATE users SET deleted_at = NULL, updated_at = now() WHERE id > 'u02000'").await;
        env.imsync(&["run", "--once"]).await.expect_code(1);
        assert_eq!(removals(&env), 0, "only a full pass lifts the guard");
        env.imsync(&["backfill"]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await);
        assert_eq!(env.handle().users().len(), 10_000);
        expect_truth(&env).await;
    });
    join_all(cases).await;
}

/// A daemon loses its sessions in the middle of the full pass that an edited mapping starts, and its guard is tripped.
#[tokio::test(flavor = "multi_thread")]
async fn cut_sessions_lift_no_guard() {
    let env = backfilled(6_000, paged(500)).await;
    // No incremental pass reads the rows again and sends them beside the full pass, where the hold would keep it.
    env.execute("UPDATE users SET updated_at = now() - interval '1 hour'").await;
    env.run_until_no_full_pass_is_due().await;
    env.configure(&Setup { attributes: ATTRIBUTES.replace("\"male\"", "\"man\""), ..paged(500) });
    let hold = fault(&env, "hold:command=set_attr:after=25");
    let mut daemon = env.start("run", &["run"]);
    env.handle().wait_until(|counters| counters.held >= 1).await;
    let stored = "SELECT coalesce(sum((full_pass_position->>'done')::bigint), 0)::bigint FROM imsync.sync";
    env.eventually("a position is stored", async || env.number(stored).await >= 1_000).await;
    env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id BETWEEN 'u00001' AND 'u02000'").await;
    env.eventually("the guard trips", async || !status(&env).await["guard"].is_null()).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'imsync%'";
    assert!(env.number(cut).await >= 3, "sessions are cut");
    env.handle().remove_fault(hold);
    env.eventually("the resumed full pass has ended", async || {
        let passes = status(&env).await["last_passes"].clone();
        let full = |pass: &serde_json::Value| pass["kind"] == "full" && pass["outcome"] == "guard";
        passes.as_array().is_some_and(|passes| passes.iter().any(full))
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert!(env.printed("run", "err").contains("resuming the interrupted full pass"));
    assert_eq!(status(&env).await["guard"]["accounts"], 2_000);
    assert_eq!((env.handle().users().len(), removals(&env)), (6_000, 0));
    env.imsync(&["backfill", "--allow-removals"]).await.expect_code(0);
    assert_eq!(env.handle().users().len(), 4_000);
    expect_truth(&env).await;
}

/// Where a process is killed that removes 15 of 100 accounts.
const KILLED_AT: [&str; 8] = [
    "removals: owed",
    "removals: about to be sent",
    "removals: permitted",
    "removals: a chunk is enqueued",
    "delivery: begins",
    "intent: stored",
    "delivery: about to be recorded",
    "record: not committed",
];

/// No incremental pass sees a hard delete, so only the owed removals tell what is left to do.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_pass_sends_what_a_killed_one_owed() {
    let cases = KILLED_AT.map(|at| async move {
        let setup = Setup { im: "timeout = \"1s\"\nretry_for = \"2s\"\n".to_owned(), ..Setup::default() };
        let env = backfilled(100, setup).await;
        env.run_until_no_full_pass_is_due().await;
        env.execute("DELETE FROM users WHERE id <= 'u00015'").await;
        abort_at(&env, &["backfill"], at).await;
        env.execute("UPDATE users SET city = 'changed', updated_at = now() WHERE id = 'u00050'").await;
        let mut ran = env.imsync(&["preview", "--json"]).await.expect_code(0).json_lines();
        ran.retain(|line| line["remove"].as_array().is_some_and(|names| !names.is_empty()));
        assert_eq!(ran.len(), 15, "{at}: a preview shows what is owed");
        env.imsync(&["run", "--once"]).await;
        env.eventually("IM equals the table", async || {
            env.imsync(&["run", "--once"]).await;
            env.handle().users() == env.wanted_of_users().await
        })
        .await;
        env.eventually("nothing is in doubt any more", async || env.imsync(&["run", "--once"]).await.code == Some(0))
            .await;
        // The removals count once, and they count.
        env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id BETWEEN 'u00016' AND 'u00021'")
            .await;
        env.imsync(&["run", "--once"]).await.expect_code(1).expect_all(&["21 of 100"]);
        assert_eq!(violations(&env), vec![], "{at}");
        expect_truth(&env).await;
    });
    join_all(cases).await;
}

/// A guard that a full pass itself trips is not forgotten when the process is killed before it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_full_pass_leaves_what_trips_the_guard() {
    let cases = ["removals: owed", "full: the gone accounts are read", "pass: outcomes are recorded"];
    let cases = cases.map(|at| async move {
        let env = backfilled(100, paged(40)).await;
        env.run_until_no_full_pass_is_due().await;
        env.execute("DELETE FROM users WHERE id <= 'u00035'").await;
        abort_at(&env, &["backfill"], at).await;
        let once = env.imsync(&["run", "--once", "--json"]).await.expect_code(1);
        assert!(once.stderr.contains("35 of 100"), "{at}: {once:?}");
        assert_eq!(removals(&env), 0, "{at}");
        env.execute("INSERT INTO users (id, city, plan, gender, updated_at) SELECT 'u' || lpad(g::text, 5, '0'), 'back', 'pro', 'm', now() FROM generate_series(11, 35) g").await;
        env.imsync(&["run", "--once"]).await.expect_code(1);
        env.imsync(&["backfill", "--dry-run"]).await.expect_code(0).expect_all(&["10 removed"]);
        env.imsync(&["backfill"]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await, "{at}");
        expect_truth(&env).await;
    });
    join_all(cases).await;
}

/// A pass over named accounts sends nothing of others, and counts theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_selected_pass_sends_only_its_own_removals() {
    let env = backfilled(100, Setup::default()).await;
    env.run_until_no_full_pass_is_due().await;
    env.execute("DELETE FROM users WHERE id <= 'u00010'").await;
    abort_at(&env, &["backfill"], "removals: owed").await;
    env.imsync(&["backfill", "--account", "u00003", "--account", "u00044"]).await.expect_code(0);
    let left = env.handle().users();
    assert!(!left.contains_key("u00003") && left.contains_key("u00004"), "{:?}", left.keys().take(12));
    assert_eq!(left.len(), 99);
    env.execute("DELETE FROM users WHERE id <= 'u00021'").await;
    let named: Vec<String> = (11..=21).map(|number| format!("--account=u{number:05}")).collect();
    let arguments: Vec<&str> = std::iter::once("backfill").chain(named.iter().map(String::as_str)).collect();
    env.imsync(&arguments).await.expect_code(1).expect_all(&["21 of 100"]);
    assert_eq!(env.handle().users().len(), 99);
    expect_truth(&env).await;
}

/// Settings that end a removal end it also where it is owed already.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_no_longer_wanted_is_not_owed() {
    let gone = "DELETE FROM users WHERE id <= 'u00030'";
    let emptied = "UPDATE users SET plan = NULL, updated_at = now() WHERE id <= 'u00030'";
    let keep_gone = Setup { more: "[removal]\ngone = \"keep\"\n".to_owned(), ..Setup::default() };
    let attributes =
        ATTRIBUTES.replace("plan = \"plan\"", "") + "[attributes.plan]\ncolumn = \"plan\"\nnull = \"keep\"\n";
    let keep_null = Setup { attributes, ..Setup::default() };
    let unmapped = Setup { attributes: ATTRIBUTES.replace("plan = \"plan\"\n", ""), ..Setup::default() };
    let cases = [(gone, keep_gone), (emptied, keep_null), (emptied, unmapped)].map(|(sql, setup)| async move {
        let env = backfilled(100, Setup::default()).await;
        env.execute(sql).await;
        env.imsync(&["backfill"]).await.expect_code(1).expect_all(&["30 of 100"]);
        env.configure(&setup);
        env.imsync(&["backfill", "--dry-run"]).await.expect_code(0);
        env.imsync(&["run", "--once"]).await.expect_code(0);
        assert!(status(&env).await["guard"].is_null());
        assert_eq!((removals(&env), env.handle().users().len()), (0, 100));
        expect_truth(&env).await;
    });
    join_all(cases).await;
}

/// IM holds what an earlier state had set. A forced backfill on a new state may remove it only where the guard permits.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_pass_on_a_new_state_obeys_the_guard() {
    let cases =
        [(500, "plan = NULL", 500), (300, "gender = CASE WHEN right(id, 1) < '4' THEN NULL ELSE gender END", 120)];
    let cases = cases.map(|(rows, emptied, share)| async move {
        let env = backfilled(rows, Setup::default()).await;
        env.execute(&format!("DROP SCHEMA imsync CASCADE; UPDATE users SET {emptied}")).await;
        let before = env.handle().users();
        let message = format!("{share} of {rows} known accounts");
        let dry = env.imsync(&["backfill", "--force", "--dry-run", "--json"]).await.expect_code(1);
        assert!(dry.stderr.contains(&message), "{dry:?}");
        assert_eq!(dry.json()["removed"], share);
        // However often it is asked for, and whatever is killed in between.
        abort_at(&env, &["backfill", "--force"], "removals: owed").await;
        for pass in [&["backfill", "--force"][..], &["backfill", "--force"], &["run", "--once"], &["backfill"]] {
            env.imsync(pass).await.expect_code(1).expect_all(&[&message]);
            env.imsync(&["backfill", "--dry-run"]).await.expect_code(1).expect_all(&[&message]);
        }
        assert_eq!((removals(&env), env.handle().users()), (0, before));
        env.imsync(&["backfill", "--force", "--allow-removals"]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await);
        assert!(status(&env).await["guard"].is_null());
        expect_truth(&env).await;
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_forced_removals_on_a_new_state_are_sent() {
    let env = backfilled(200, Setup::default()).await;
    env.execute("DROP SCHEMA imsync CASCADE; UPDATE users SET plan = NULL WHERE id <= 'u00040'").await;
    env.imsync(&["backfill", "--force", "--dry-run"]).await.expect_code(0).expect_all(&["40 removed"]);
    // One pass is killed before it sends them, and the next one of another kind does.
    abort_at(&env, &["backfill", "--force"], "removals: about to be sent").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;

    // They count for 24 hours, as others do.
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00041'").await;
    env.imsync(&["backfill"]).await.expect_code(1).expect_all(&["41 of 200"]);

    // A table without any account in IM yet is no reason to trip.
    let env = environment_of(100, Setup::default()).await;
    env.execute("UPDATE users SET city = NULL, plan = NULL, gender = NULL WHERE id <= 'u00019'").await;
    env.imsync(&["backfill", "--force"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}
