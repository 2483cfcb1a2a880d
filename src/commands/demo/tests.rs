//! The demo's parts, on a real PostgreSQL; a shell script stands in for imsync where a child is needed.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::compare::{Difference, Holdings, accounts, differences, expected};
use super::people::{id, person};
use super::*;

fn holdings(entries: &[(&str, &str, &str)]) -> Holdings {
    let mut holdings = Holdings::new();
    for (account, attribute, value) in entries {
        holdings.entry((*account).to_owned()).or_default().insert((*attribute).to_owned(), (*value).to_owned());
    }
    holdings
}

#[test]
fn every_kind_of_difference_is_found_and_said() {
    let table = holdings(&[("a", "city", "Lyon"), ("b", "city", "Köln"), ("c", "city", "Wien")]);
    let im = holdings(&[("a", "city", "Lyon"), ("b", "city", "Bonn"), ("b", "sex", "male"), ("d", "city", "Rom")]);
    let found = differences(&table, &im);
    let sentences: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        sentences,
        [
            "b: city is \"Köln\" in the table and \"Bonn\" in IM",
            "b: sex is nothing in the table and \"male\" in IM",
            "c: city is \"Wien\" in the table and nothing in IM",
            "d: city is nothing in the table and \"Rom\" in IM",
        ]
    );
    assert_eq!(accounts(&found), 3);
    assert_eq!(differences(&table, &table), Vec::<Difference>::new());
}

#[test]
fn a_number_always_means_the_same_person_whom_im_can_take() {
    for number in 1..5_000 {
        let who = person(7, number);
        assert_eq!(who, person(7, number));
        assert_eq!(who.id, id(number));
        for text in [&who.name, who.city, who.language, who.plan] {
            assert!((1..=50).contains(&text.len()), "{text}");
        }
    }
    assert_ne!(person(7, 1).name, person(7, 2).name);
}

fn change(account: &str, attribute: &str, old: Option<&str>, new: Option<&str>) -> AttributeChange {
    let owned = |value: Option<&str>| value.map(str::to_owned);
    AttributeChange { account: account.to_owned(), attribute: attribute.to_owned(), old: owned(old), new: owned(new) }
}

#[test]
fn arrivals_are_told_by_account_and_counted_when_there_are_too_many() {
    let mut out = Vec::new();
    let mut story = Story::new(&mut out);
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
    story.arrivals(&first, now, |_| Some(Duration::from_millis(230)), |account| account == "u3").unwrap();
    let many: Vec<AttributeChange> = (0..300).map(|n| change(&id(n), "level", Some("1"), Some("2"))).collect();
    story.arrivals(&many, now, none, |_| false).unwrap();
    story.tick(now + Duration::from_millis(1_001)).unwrap();
    assert_eq!(story.arrived, 308);
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines[..4],
        [
            "0.23 s  u1  city: Lyon → Wien, level: 3 → 4",
            "0.23 s  u2  sex: male → (nothing)",
            "0.23 s  u3  has left: 1 attribute removed",
            "0.23 s  u4  is new: name Käthe Groß, city Wien, level 1 and 1 more"
        ]
    );
    assert_eq!(lines.len(), 8, "{text}");
    assert_eq!(lines[7], "… and more: level 297");
}

/// Writes a program of a few lines of sh.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until the condition holds, half a minute at most.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come true");
}

#[tokio::test]
async fn a_child_is_asked_to_stop_and_killed_when_it_is_only_let_go_of() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(
        folder.path(),
        "trap 'exit 7' TERM; echo $$ >\"$1/new\"; mv \"$1/new\" \"$1/up\"; while :; do sleep 0.02; done",
    );
    let start = || Tethered::start(&program, [folder.path()], Stdio::null(), Stdio::null()).unwrap();
    let up = folder.path().join("up");

    let mut child = start();
    until("the child's start", || up.exists()).await;
    assert_eq!(child.stop().await.unwrap().code(), Some(7));

    std::fs::remove_file(&up).unwrap();
    let child = start();
    until("the child's start", || up.exists()).await;
    let process = Path::new("/proc").join(std::fs::read_to_string(&up).unwrap().trim());
    assert!(process.exists());
    drop(child);
    until("the child's end", || !process.exists()).await;
}

#[tokio::test]
async fn a_childs_own_end_and_exit_code_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "exit 3");
    let mut child = Tethered::start(&program, [""; 0], Stdio::null(), Stdio::null()).unwrap();
    assert_eq!(child.ended().await.unwrap().code(), Some(3));
}

/// Does in SQL's stead what the attributes of a person should be.
fn attributes(number: u32) -> BTreeMap<String, String> {
    let who = person(SEED, number);
    let sex = who.gender.map(|gender| if gender == "m" { "male" } else { "female" });
    let vip = if who.vip { "yes" } else { "no" };
    let level = who.level.to_string();
    [
        ("name", Some(who.name.as_str())),
        ("city", Some(who.city)),
        ("language", Some(who.language)),
        ("plan", Some(who.plan)),
        ("sex", sex),
        ("level", Some(&level)),
        ("vip", Some(vip)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
    .collect()
}

#[tokio::test]
async fn people_settle_live_and_the_comparison_sees_what_became_of_them() {
    let stage = Stage::set_up(200, SEED).await.unwrap();
    let directory = stage.cluster.directory().to_path_buf();
    let mut connection = PgConnection::connect(&stage.url).await.unwrap();
    let before = expected(&mut connection).await.unwrap();
    let people: Holdings = (1..=200).map(|number| (id(number), attributes(number))).collect();
    assert_eq!(differences(&people, &before), Vec::new());
    for (account, attributes) in &before {
        stage.im.handle().set_user(account, attributes).unwrap();
    }
    assert_eq!(differences(&before, &stage.im.handle().users()), Vec::new());

    let stop = Shutdown::default();
    let commits = Commits::default();
    let life = Life { url: stage.url.clone(), seed: SEED, users: 200, commits: commits.clone() };
    let life = tokio::spawn({
        let stop = stop.clone();
        async move { life.go_on(&stop).await }
    });
    // Somebody comes early on, from the slow transaction at the latest.
    until("somebody's coming", || commits.of(&id(201)).is_some()).await;
    stop.request();
    assert!(life.await.unwrap().unwrap() > 2);
    let after = expected(&mut connection).await.unwrap();
    assert!(after.contains_key(&id(201)));
    let changed = differences(&after, &before);
    assert!(accounts(&changed) > 1);
    let stamps = "SELECT count(*) FROM users WHERE updated_at > now() - interval '1 minute'";
    let stamped: i64 = sqlx::query_scalar(stamps).fetch_one(&mut connection).await.unwrap();
    assert!(stamped > 1, "the trigger keeps the stamp");

    drop(stage);
    assert!(!directory.exists());
}
