//! Tests the history: what is kept of what was sent, how it is listed, and when it is deleted.
//!
//! Owns: the rows of every kind of call, and the options of the listing. Must not know: how the table is read.

use serde_json::{Value, json};

use super::{assert_keys, assert_time, people};
use crate::promises::state_truth::{HISTORY_CONTRADICTIONS, expect_truth};
use crate::support::{SOURCE, Setup, TestEnvironment, binary, ended, run, signal};

const KEPT: &str = "[schedule]\ninterval = \"200ms\"\n[history]\nkeep = \"30d\"\n";

async fn environment(more: &str, users: u32) -> TestEnvironment {
    let im = "timeout = \"1s\"\nretry_for = \"1s\"\n".to_owned();
    let env = TestEnvironment::set_up(Setup { im, more: more.to_owned(), ..Setup::default() }).await;
    env.execute(&people(users)).await;
    env
}

/// The rows that the options select.
async fn rows(env: &TestEnvironment, options: &[&str]) -> Vec<Value> {
    env.imsync(&[&["history", "--json"], options].concat()).await.expect_code(0).json_lines()
}

/// The rows without their times, each as [account, attribute, old, new, pass, outcome], sorted.
async fn sent(env: &TestEnvironment, options: &[&str]) -> Vec<String> {
    let keys = ["account", "attribute", "old", "new", "pass", "outcome"];
    let short = |row: Value| Value::Array(keys.iter().map(|key| row[*key].clone()).collect()).to_string();
    let mut rows: Vec<String> = rows(env, options).await.into_iter().map(short).collect();
    rows.sort();
    rows
}

fn row(account: &str, attribute: &str, (old, new): (Option<&str>, Option<&str>), pass: &str, outcome: &str) -> String {
    json!([account, attribute, old, new, pass, outcome]).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attribute_that_was_sent_has_its_row() {
    let env = environment(KEPT, 2).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let first = [
        row("u0001", "city", (None, Some("city 1")), "full", "acknowledged"),
        row("u0001", "plan", (None, Some("free")), "full", "acknowledged"),
        row("u0001", "sex", (None, Some("female")), "full", "acknowledged"),
        row("u0002", "city", (None, Some("city 2")), "full", "acknowledged"),
        row("u0002", "plan", (None, Some("free")), "full", "acknowledged"),
    ];
    assert_eq!(sent(&env, &[]).await, first);
    env.run_until_no_full_pass_is_due().await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(rows(&env, &[]).await.len(), first.len(), "nothing needless is sent, so there is no row");

    let began = env.number("SELECT count(*) FROM imsync.history").await;
    env.execute("UPDATE users SET city = 'Graz', gender = NULL, plan = 'free', updated_at = now() WHERE id = 'u0001'")
        .await;
    env.execute("DELETE FROM users WHERE id = 'u0002'").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    env.imsync(&["backfill", "--account", "u0002"]).await.expect_code(0);
    let all = rows(&env, &[]).await;
    let mut later = sent(&env, &["--limit", &(all.len() - usize::try_from(began).unwrap()).to_string()]).await;
    later.sort();
    assert_eq!(
        later,
        [
            row("u0001", "city", (Some("city 1"), Some("Graz")), "incremental", "acknowledged"),
            row("u0001", "sex", (Some("female"), None), "incremental", "acknowledged"),
            row("u0002", "city", (Some("city 2"), None), "selected", "acknowledged"),
            row("u0002", "plan", (Some("free"), None), "selected", "acknowledged"),
        ]
    );
    for row in &all {
        assert_keys(row, &["at", "account", "attribute", "old", "new", "pass", "outcome", "pass_started_at"]);
        assert_time(&row["at"]);
        assert_time(&row["pass_started_at"]);
    }
    assert!(all.is_sorted_by_key(|row| row["at"].as_str().unwrap().to_owned()), "the newest row is the last");
    let of_passes = "SELECT count(*) FROM imsync.history WHERE NOT EXISTS (SELECT FROM imsync.pass
                     WHERE (pass.sync_id, started_at, kind) = (history.sync_id, pass_started_at, pass_kind))";
    assert_eq!(env.number(of_passes).await, 0, "a row names the pass that `status` lists");
    expect_truth(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_when_each_attribute_was_acknowledged() {
    let env = environment(KEPT, 1).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET city = 'Graz', updated_at = now()").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    let kept = rows(&env, &[]).await;
    let explained = env.imsync(&["explain", "u0001", "--json"]).await.expect_code(0).json();
    for attribute in explained["attributes"].as_array().unwrap() {
        let newest = kept.iter().rev().find(|row| row["attribute"] == attribute["name"]).unwrap();
        assert_eq!(attribute["acknowledged_at"], newest["at"], "{attribute}");
    }
    assert_ne!(explained["attributes"][0]["acknowledged_at"], explained["attributes"][1]["acknowledged_at"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_and_one_without_an_answer_have_their_rows() {
    let env = environment(KEPT, 3).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    let before = rows(&env, &[]).await.len();
    let newest = async || sent(&env, &["--limit", &(rows(&env, &[]).await.len() - before).to_string()]).await;
    env.handle().add_fault("refuse:70402:account=u0001".parse().unwrap());
    env.execute("UPDATE users SET city = 'Graz', updated_at = now() WHERE id = 'u0001'").await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    let refused = row("u0001", "city", (Some("city 1"), Some("Graz")), "incremental", "rejected");
    assert_eq!(newest().await, std::slice::from_ref(&refused));

    // A value that imsync itself refuses was not sent, and neither was one for which no connection was made.
    env.execute("UPDATE users SET gender = 'x', updated_at = now() WHERE id = 'u0003'").await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(newest().await, std::slice::from_ref(&refused));

    env.handle().add_fault("apply-then-fail:cut:account=u0002".parse().unwrap());
    env.execute("UPDATE users SET city = 'Linz', updated_at = now() WHERE id = 'u0002'").await;
    env.imsync(&["run", "--once"]).await;
    let in_doubt = row("u0002", "city", (Some("city 2"), Some("Linz")), "incremental", "in_doubt");
    assert_eq!(newest().await, [refused.clone(), in_doubt.clone()]);
    env.handle().clear_faults();
    env.eventually("the account is not in doubt", async || {
        env.imsync(&["run", "--once"]).await;
        env.number("SELECT in_doubt FROM imsync.account_count").await <= 1
    })
    .await;
    // Each time that it is sent again has its row. What IM held before is not known until an attempt is acknowledged.
    let again = row("u0002", "city", (None, Some("Linz")), "incremental", "acknowledged");
    let attempts = newest().await;
    assert!(attempts.contains(&in_doubt) && attempts.contains(&again), "{attempts:?}");
    assert!(attempts.iter().all(|attempt| *attempt == refused || attempt.contains("\"Linz\"")), "{attempts:?}");
    assert_eq!(rows(&env, &["--limit", "1"]).await[0]["outcome"], "acknowledged");
    expect_truth(&env).await;
}

/// The rows are part of the transaction that records the outcomes. Those of a call whose process died are missing, and the
/// state does not know the outcome either.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_history_tells_what_the_state_knows() {
    for (point, recorded) in [("call: answered", 0), ("record: not committed", 0), ("record: committed", 1)] {
        let env = environment(KEPT, 1).await;
        env.imsync(&["backfill"]).await.expect_code(0);
        env.run_until_no_full_pass_is_due().await;
        let before = env.number("SELECT count(*) FROM imsync.history").await;
        env.execute("UPDATE users SET city = 'Graz', updated_at = now()").await;
        let mut command = env.command(&["run", "--once"]);
        command.env("IMSYNC_CRASH_AT", point);
        assert_eq!(run(command).await.code, None, "the process aborts at {point}");
        assert_eq!(env.number("SELECT count(*) FROM imsync.history").await - before, recorded, "{point}");
        assert_eq!(env.number(HISTORY_CONTRADICTIONS).await, 0, "{point}");
        env.imsync(&["run", "--once"]).await;
        env.eventually("the account is not in doubt", async || {
            env.imsync(&["run", "--once"]).await;
            env.number("SELECT in_doubt FROM imsync.account_count").await == 0
        })
        .await;
        assert_eq!(env.handle().user("u0001")["city"], "Graz");
        expect_truth(&env).await;
        let last = rows(&env, &["--limit", "1"]).await.remove(0);
        assert_eq!((&last["new"], &last["outcome"]), (&json!("Graz"), &json!("acknowledged")), "{point}");
        assert_eq!(last["old"] == json!("city 1"), recorded == 1, "{point}: {last}");
        env.execute("UPDATE imsync.history SET new_value = 'Rome' WHERE new_value = 'Graz'").await;
        assert_eq!(env.number(HISTORY_CONTRADICTIONS).await, 1, "a false history would be noticed");
    }
}

/// Rows of the last 40 days, 6 a minute apart for each of so many accounts, of a sync.
fn old_rows(sync: i32, count: u32) -> String {
    format!(
        "INSERT INTO imsync.history (at, pass_started_at, sync_id, account, attribute, old_value, new_value, pass_kind, outcome)
         SELECT now() - interval '40 days' * n / {count}, now(), {sync}, 'old' || n, 'city', 'a', 'b', 'full', 'acknowledged'
         FROM generate_series(1, {count}) n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_deleted_in_steps_and_never_deletes_all() {
    let env = environment(KEPT, 10).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let own = "SELECT count(*) FROM imsync.history WHERE sync_id = 1";
    let new = env.number(own).await;
    // Another sync of the same schema deletes its rows itself.
    env.execute("INSERT INTO imsync.sync (name, binding) VALUES ('second', '{}')").await;
    env.execute(&format!("{}; {}", old_rows(1, 20_000), old_rows(2, 100))).await;
    let kept = "SELECT count(*) FROM imsync.history WHERE at > now() - interval '30 days' AND sync_id = 1";
    env.imsync(&["run", "--once"]).await.expect_code(0);
    env.eventually("no old row is left", async || {
        env.imsync(&["run", "--once"]).await.expect_code(0);
        env.number(own).await == env.number(kept).await
    })
    .await;
    assert!(env.number(kept).await >= new + 14_990);
    assert_eq!(env.number("SELECT count(*) FROM imsync.history WHERE sync_id = 2").await, 100);

    env.edit("keep = \"30d\"", "keep = \"never\"");
    env.execute("UPDATE users SET city = 'Graz', updated_at = now()").await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("everything is deleted", async || env.number(own).await == 0).await;
    env.eventually("the change arrives", async || env.handle().user("u0003")["city"] == "Graz").await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.number(own).await, 0, "without a history nothing is written");
    assert_eq!(env.number("SELECT count(*) FROM imsync.history").await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_switches_the_history_on_and_off() {
    let env = environment(&KEPT.replace("30d", "never"), 10).await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the first pass has ended", async || env.handle().users().len() == 10).await;
    env.edit("keep = \"never\"", "keep = \"30d\"");
    signal(&daemon, "HUP");
    let count = "SELECT count(*) FROM imsync.history";
    let mut changes = 0;
    env.eventually("a change is kept", async || {
        changes += 1;
        env.execute(&format!("UPDATE users SET city = 'Graz {changes}', updated_at = now() WHERE id = 'u0003'")).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        env.number(count).await > 0
    })
    .await;
    env.edit("keep = \"30d\"", "keep = \"never\"");
    signal(&daemon, "HUP");
    env.eventually("it is deleted", async || env.number(count).await == 0).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_limited_by_account_time_and_number() {
    let env = environment(KEPT, 1).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("DELETE FROM imsync.history").await;
    env.execute(&old_rows(1, 6_000)).await;
    assert_eq!(rows(&env, &[]).await.len(), 6_000);
    let accounts = |rows: Vec<Value>| rows.iter().map(|row| row["account"].clone()).collect::<Vec<_>>();
    let newest = accounts(rows(&env, &["--limit", "3"]).await);
    assert_eq!(newest, ["old3", "old2", "old1"], "the newest row is the last");
    assert_eq!(accounts(rows(&env, &["--account", "old7", "--account", "old5999"]).await), ["old5999", "old7"]);
    assert_eq!(accounts(rows(&env, &["--account", "old7", "--since", "1h"]).await), Vec::<Value>::new());
    let day = rows(&env, &["--since", "1d"]).await.len();
    assert!((149..=151).contains(&day), "{day}");
    let time = (imsync::clock::now_utc() - chrono::TimeDelta::days(1)).to_rfc3339();
    assert!(rows(&env, &["--since", &time]).await.len().abs_diff(day) <= 1);

    // For a person the newest thousand, and a note that there are more.
    let text = env.imsync(&["history"]).await.expect_code(0).expect_all(&["the newest 1,000 rows", "--limit"]);
    assert_eq!(text.stdout.lines().count(), 1_000);
    assert!(text.stdout.ends_with(&text.stdout.lines().last().map(|line| format!("{line}\n")).unwrap()));
    assert!(text.stdout.lines().last().unwrap().contains("  old1 "), "{}", text.stdout.lines().last().unwrap());
    let month = env.imsync(&["history", "--since", "30d"]).await.expect_code(0).stdout.lines().count();
    assert!((4_498..=4_500).contains(&month), "{month}");
    let mut head = binary(env.directory());
    head.args(["history", "--json", "-c"]).arg(env.config()).stdout(std::process::Stdio::piped());
    let mut child = head.stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().await.unwrap().code(), Some(0), "a closed stdout ends the listing quietly");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_escaped_for_a_terminal_and_kept_as_they_are() {
    let env = environment(KEPT, 0).await;
    env.execute("INSERT INTO users (id, city) VALUES ('a\u{7}b', E'\\x1b[2J\"北京\\n\\u202e')").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let text = env.imsync(&["history"]).await.expect_code(0);
    text.expect_all(&[
        "a\\u{7}b",
        "(none known) → \"\\u{1b}[2J\"北京\\u{a}\\u{202e}\"",
        "acknowledged",
        "full pass of 2",
    ]);
    assert_eq!(rows(&env, &["--account", "a\u{7}b"]).await[0]["new"], "\u{1b}[2J\"北京\n\u{202e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_history_the_listing_says_how_to_keep_one() {
    let env = environment("[schedule]\ninterval = \"200ms\"\n", 5).await;
    assert_eq!(env.imsync(&["history"]).await.expect_code(0).expect_all(&["nothing was sent"]).stdout, "");
    env.imsync(&["backfill"]).await.expect_code(0);
    let listed = env.imsync(&["history", "--json"]).await.expect_code(0);
    assert_eq!(listed.stdout, "");
    listed.expect_all(&["no history is kept", "[history]", "keep = \"30d\""]);
    assert_eq!(env.number("SELECT count(*) FROM imsync.history").await, 0);
}

/// The configuration of the second sync, which writes attributes of its own from the same table.
#[tokio::test(flavor = "multi_thread")]
async fn two_syncs_of_a_schema_have_a_history_each() {
    let env = environment(KEPT, 4).await;
    let first = std::fs::read_to_string(env.config()).unwrap();
    assert!(first.contains(SOURCE));
    let second = first.replace("name = \"users\"", "name = \"second\"").replace("city = \"city\"\n", "");
    std::fs::write(env.directory().join("second.toml"), second.replace("plan = \"plan\"", "city = \"kind\"")).unwrap();
    env.execute("UPDATE users SET kind = 'b'").await;
    env.edit("[attributes]\ncity = \"city\"\n", "[attributes]\n");
    env.imsync(&["backfill"]).await.expect_code(0);
    let other = async |arguments: &[&str]| {
        let mut command = binary(env.directory());
        command.args(arguments).arg("-c").arg("second.toml");
        run(command).await.expect_code(0)
    };
    other(&["backfill"]).await;
    let listed = other(&["history", "--json"]).await.json_lines();
    assert!(listed.iter().any(|row| row["attribute"] == "city") && listed.iter().all(|row| row["attribute"] != "plan"));
    assert!(rows(&env, &[]).await.iter().all(|row| row["attribute"] != "city"));
}
