//! Tests of the parts of the demo, on a real PostgreSQL. A shell script takes the place of imsync as a child process.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::child::ChildProcess;
use super::compare::{AttributeDifference, AttributesByAccount, count_accounts, differences, expected_attributes};
use super::environment::DemoEnvironment;
use super::narrator::Narrator;
use super::scenario::SEED;
use super::users::{generate, id};
use super::workload::{CommitTimes, Workload};
use crate::clock::{Shutdown, monotonic};
use crate::simulator::AttributeChange;

fn by_account(entries: &[(&str, &str, &str)]) -> AttributesByAccount {
    let mut accounts = AttributesByAccount::new();
    for (account, attribute, value) in entries {
        accounts.entry((*account).to_owned()).or_default().insert((*attribute).to_owned(), (*value).to_owned());
    }
    accounts
}

#[test]
fn every_kind_of_difference_is_found_and_described() {
    let table = by_account(&[("a", "city", "Lyon"), ("b", "city", "Köln"), ("c", "city", "Wien")]);
    let im = by_account(&[("a", "city", "Lyon"), ("b", "city", "Bonn"), ("b", "sex", "male"), ("d", "city", "Rom")]);
    let found = differences(&table, &im);
    let sentences: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        sentences,
        [
            "b: city is \"Köln\" in the table and \"Bonn\" in IM",
            "b: sex is not set in the table and \"male\" in IM",
            "c: city is \"Wien\" in the table and not set in IM",
            "d: city is not set in the table and \"Rom\" in IM",
        ]
    );
    assert_eq!(count_accounts(&found), 3);
    assert_eq!(differences(&table, &table), Vec::<AttributeDifference>::new());
}

#[test]
fn a_number_always_gives_the_same_user_with_valid_values() {
    for number in 1..5_000 {
        let user = generate(7, number);
        assert_eq!(user, generate(7, number));
        assert_eq!(user.id, id(number));
        for text in [&user.name, user.city, user.language, user.plan] {
            assert!((1..=50).contains(&text.len()), "{text}");
        }
    }
    assert_ne!(generate(7, 1).name, generate(7, 2).name);
}

fn change(account: &str, attribute: &str, old: Option<&str>, new: Option<&str>) -> AttributeChange {
    let owned = |value: Option<&str>| value.map(str::to_owned);
    AttributeChange { account: account.to_owned(), attribute: attribute.to_owned(), old: owned(old), new: owned(new) }
}

#[test]
fn arrivals_are_printed_by_account_and_counted_above_the_limit() {
    let mut out = Vec::new();
    let mut narrator = Narrator::new(&mut out);
    let now = monotonic();
    let none = |_: &str| None;
    let first = [
        change("u1", "city", Some("Lyon"), Some("Wien")),
        change("u1", "level", Some("3"), Some("4")),
        change("u2", "sex", Some("male"), None),
        change("u3", "city", Some("Lyon"), None),
        change("u4", "city", None, Some("Wien")),
        change("u4", "level", None, Some("1")),
        change("u4", "name", None, Some("Käthe Groß")),
        change("u4", "vip", None, Some("no")),
    ];
    narrator.print_arrivals(&first, now, |_| Some(Duration::from_millis(230)), |account| account == "u3").unwrap();
    let many: Vec<AttributeChange> = (0..300).map(|n| change(&id(n), "level", Some("1"), Some("2"))).collect();
    narrator.print_arrivals(&many, now, none, |_| false).unwrap();
    narrator.tick(now + Duration::from_millis(1_001)).unwrap();
    assert_eq!(narrator.arrived, 308);
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines[..4],
        [
            "0.23 s  u1  city: Lyon → Wien, level: 3 → 4",
            "0.23 s  u2  sex: male → (none)",
            "0.23 s  u3  removed: 1 attribute",
            "0.23 s  u4  new: name Käthe Groß, city Wien, level 1 and 1 more"
        ]
    );
    assert_eq!(lines.len(), 8, "{text}");
    assert_eq!(lines[7], "… and more: level 297");
}

/// Writes an executable shell script.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits at most 30 seconds for the condition to become true.
async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("timed out waiting for {what}");
}

#[tokio::test]
async fn stop_is_graceful_and_drop_kills_the_child() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(
        folder.path(),
        "trap 'exit 7' TERM; echo $$ >\"$1/new\"; mv \"$1/new\" \"$1/up\"; while :; do sleep 0.02; done",
    );
    let start = || ChildProcess::start(&program, [folder.path()], Stdio::null(), Stdio::null()).unwrap();
    let up = folder.path().join("up");

    let mut child = start();
    wait_until("the start of the child", || up.exists()).await;
    assert_eq!(child.stop().await.unwrap().code(), Some(7));

    std::fs::remove_file(&up).unwrap();
    let child = start();
    wait_until("the start of the child", || up.exists()).await;
    let process = Path::new("/proc").join(std::fs::read_to_string(&up).unwrap().trim());
    assert!(process.exists());
    drop(child);
    wait_until("the end of the child", || !process.exists()).await;
}

#[tokio::test]
async fn wait_returns_the_exit_code_of_a_child_that_exits() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "exit 3");
    let mut child = ChildProcess::start(&program, [""; 0], Stdio::null(), Stdio::null()).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
}

/// The attributes that IM should hold for a generated user, computed without SQL.
fn attributes(number: u32) -> BTreeMap<String, String> {
    let user = generate(SEED, number);
    let sex = user.gender.map(|gender| if gender == "m" { "male" } else { "female" });
    let vip = if user.vip { "yes" } else { "no" };
    let level = user.level.to_string();
    [
        ("name", Some(user.name.as_str())),
        ("city", Some(user.city)),
        ("language", Some(user.language)),
        ("plan", Some(user.plan)),
        ("sex", sex),
        ("level", Some(&level)),
        ("vip", Some(vip)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
    .collect()
}

#[tokio::test]
async fn the_comparison_sees_every_change_of_the_workload() {
    let environment = DemoEnvironment::set_up(200, SEED).await.unwrap();
    let directory = environment.cluster.directory().to_path_buf();
    let mut connection = PgConnection::connect(&environment.url).await.unwrap();
    let before = expected_attributes(&mut connection).await.unwrap();
    let generated: AttributesByAccount = (1..=200).map(|number| (id(number), attributes(number))).collect();
    assert_eq!(differences(&generated, &before), Vec::new());
    for (account, attributes) in &before {
        environment.im.handle().set_user(account, attributes).unwrap();
    }
    assert_eq!(differences(&before, &environment.im.handle().users()), Vec::new());

    let stop = Shutdown::default();
    let commits = CommitTimes::default();
    let workload = Workload { url: environment.url.clone(), seed: SEED, users: 200, commits: commits.clone() };
    let workload = tokio::spawn({
        let stop = stop.clone();
        async move { workload.run(&stop).await }
    });
    // The first insert is early. At the latest, the first slow transaction makes it.
    wait_until("the first insert", || commits.of(&id(201)).is_some()).await;
    stop.request();
    assert!(workload.await.unwrap().unwrap() > 2);
    let after = expected_attributes(&mut connection).await.unwrap();
    assert!(after.contains_key(&id(201)));
    let changed = differences(&after, &before);
    assert!(count_accounts(&changed) > 1);
    let recently_updated = "SELECT count(*) FROM users WHERE updated_at > now() - interval '1 minute'";
    let count: i64 = sqlx::query_scalar(recently_updated).fetch_one(&mut connection).await.unwrap();
    assert!(count > 1, "the trigger updates the timestamp");

    drop(environment);
    assert!(!directory.exists());
}
