//! A changed mapping starts a full pass by itself, and only what the edit affects is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{ATTRIBUTES, Setup, Stage, ended, signal};

use super::state_truth::expect_truth;
use super::{attributes, stage_of};

const WITH_NOTE: &str = r#"city = "city"
plan = "plan"
note = "kind"
[attributes.sex]
column = "gender"
values = { m = "male", f = "female" }
"#;

fn edited(attributes: &str) -> Setup {
    Setup { attributes: attributes.to_owned(), ..Setup::default() }
}

/// Which attributes of how many accounts were sent since the last look.
fn sent(stage: &Stage) -> (BTreeSet<String>, usize) {
    let users: Vec<_> = stage.handle().calls().into_iter().flat_map(|call| call.users).collect();
    stage.handle().clear_records();
    let names = users.iter().flat_map(|user| &user.attributes).map(|(name, _)| name.clone()).collect();
    (names, users.len())
}

fn only(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_sends_what_it_affects() {
    let mut setup = Setup::default();
    setup.simulator.attribute_names.push("note".to_owned());
    let stage = stage_of(60, setup).await;
    stage
        .execute(
            "UPDATE users SET kind = 'k' WHERE right(id, 1) = '5'; UPDATE users SET gender = NULL WHERE id = 'u00001'",
        )
        .await;
    stage.imsync(&["backfill"]).await.expect_code(0);
    stage.comes_to_rest().await;
    sent(&stage);

    // A new attribute: the rows that have one.
    stage.configure(&edited(WITH_NOTE));
    let pass = stage.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!(pass["kind"], "full", "an edit starts a full pass");
    assert_eq!(sent(&stage), (only("note"), 6));

    // Another value for one key.
    let other_values = WITH_NOTE.replace("m = \"male\"", "m = \"man\"");
    stage.configure(&edited(&other_values));
    stage.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&stage), (only("sex"), 30));
    expect_truth(&stage).await;

    // The same in other words is no edit.
    stage.configure(&edited(
        &other_values.replace("m = \"man\", f = \"female\"", "\"f\" = \"female\", \"m\" = \"man\""),
    ));
    let pass = stage.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!((&pass["kind"], &pass["calls"]), (&"incremental".into(), &0.into()));

    // NULL keeps what is there, then removes it.
    stage.configure(&edited(&format!("{other_values}null = \"keep\"\n")));
    stage.execute("UPDATE users SET gender = NULL, updated_at = now() WHERE id IN ('u00002', 'u00003')").await;
    stage.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&stage), (BTreeSet::new(), 0));
    assert_eq!(stage.handle().user("u00002")["sex"], "man");
    stage.configure(&edited(&other_values));
    stage.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&stage), (only("sex"), 2));
    assert!(!stage.handle().user("u00002").contains_key("sex"));
    expect_truth(&stage).await;

    // Dropped from the mapping: kept by default, removed where that is asked for, found again when it returns.
    stage.configure(&edited(ATTRIBUTES));
    stage.imsync(&["run", "--once"]).await.expect_code(0);
    let (names, _) = sent(&stage);
    assert_eq!(names, only("sex"), "the values go back, the note stays");
    assert_eq!(stage.handle().user("u00005")["note"], "k");
    stage.configure(&Setup { more: "[removal]\nunmapped = \"remove\"\n".to_owned(), ..edited(ATTRIBUTES) });
    stage.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&stage), (only("note"), 6));
    assert!(!stage.handle().user("u00005").contains_key("note"));
    stage.configure(&edited(WITH_NOTE));
    stage.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&stage), (only("note"), 6));
    assert_eq!(stage.handle().user("u00005")["note"], "k");
    expect_truth(&stage).await;
}

/// The daemon takes an edit at SIGHUP; a bad one leaves the old in force.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_takes_an_edit_at_sighup() {
    let mut setup = Setup::default();
    setup.simulator.attribute_names.push("note".to_owned());
    let stage = stage_of(60, setup).await;
    stage.execute("UPDATE users SET kind = 'k' WHERE right(id, 1) = '5'").await;
    let mut daemon = stage.start("run", &["run"]);
    stage.converges(Duration::from_secs(15)).await;
    let text = std::fs::read_to_string(stage.config()).expect("the configuration is there");
    std::fs::write(stage.config(), text.replace("plan = \"plan\"", "plan = 7")).expect("it can be written");
    signal(&daemon, "HUP");
    stage.eventually("the refusal is told", async || stage.printed("run", "err").contains("was not reloaded")).await;
    stage.execute("UPDATE users SET city = 'still', updated_at = now() WHERE id = 'u00001'").await;
    stage.converges(Duration::from_secs(10)).await;
    sent(&stage);
    stage.configure(&edited(WITH_NOTE));
    signal(&daemon, "HUP");
    stage.eventually("the new attribute arrives", async || stage.handle().user("u00005").contains_key("note")).await;
    stage
        .eventually("all six", async || {
            stage.handle().users().values().filter(|held| held.contains_key("note")).count() == 6
        })
        .await;
    assert_eq!(sent(&stage), (only("note"), 6));
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(stage.handle().user("nobody"), attributes(&[]));
    expect_truth(&stage).await;
}
