//! Tests that a changed mapping starts a full pass, and that only the attributes affected by the edit are sent.
//!
//! Owns: edits of the mapping, between passes and with SIGHUP. Must not know: how a mapping is compared.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{ATTRIBUTES, Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{attributes, environment_of};

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

/// The names of the attributes and the number of accounts that were sent since the last call of this function.
fn sent(env: &TestEnvironment) -> (BTreeSet<String>, usize) {
    let users: Vec<_> = env.handle().calls().into_iter().flat_map(|call| call.users).collect();
    env.handle().clear_records();
    let names = users.iter().flat_map(|user| &user.attributes).map(|(name, _)| name.clone()).collect();
    (names, users.len())
}

fn only(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_edit_sends_only_what_it_affects() {
    let mut setup = Setup::default();
    setup.simulator.attribute_names.push("note".to_owned());
    let env = environment_of(60, setup).await;
    env.execute(
        "UPDATE users SET kind = 'k' WHERE right(id, 1) = '5'; UPDATE users SET gender = NULL WHERE id = 'u00001'",
    )
    .await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    sent(&env);

    // A new attribute is sent for the rows that have a value.
    env.configure(&edited(WITH_NOTE));
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!(pass["kind"], "full", "an edited mapping starts a full pass");
    assert_eq!(sent(&env), (only("note"), 6));

    // One listed value is replaced by another.
    let other_values = WITH_NOTE.replace("m = \"male\"", "m = \"man\"");
    env.configure(&edited(&other_values));
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&env), (only("sex"), 30));
    expect_truth(&env).await;

    // The same mapping in another spelling is not an edit.
    env.configure(&edited(&other_values.replace("m = \"man\", f = \"female\"", "\"f\" = \"female\", \"m\" = \"man\"")));
    let pass = env.imsync(&["run", "--once", "--json"]).await.expect_code(0).json();
    assert_eq!((&pass["kind"], &pass["calls"]), (&"incremental".into(), &0.into()));

    // NULL first keeps the old value, and then removes it.
    env.configure(&edited(&format!("{other_values}null = \"keep\"\n")));
    env.execute("UPDATE users SET gender = NULL, updated_at = now() WHERE id IN ('u00002', 'u00003')").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&env), (BTreeSet::new(), 0));
    assert_eq!(env.handle().user("u00002")["sex"], "man");
    env.configure(&edited(&other_values));
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&env), (only("sex"), 2));
    assert!(!env.handle().user("u00002").contains_key("sex"));
    expect_truth(&env).await;

    // An attribute that is dropped from the mapping is kept by default and removed with `unmapped = "remove"`. It is
    // sent again when it returns to the mapping.
    env.configure(&edited(ATTRIBUTES));
    env.imsync(&["run", "--once"]).await.expect_code(0);
    let (names, _) = sent(&env);
    assert_eq!(names, only("sex"), "the old values are sent again and the note stays");
    assert_eq!(env.handle().user("u00005")["note"], "k");
    env.configure(&Setup { more: "[removal]\nunmapped = \"remove\"\n".to_owned(), ..edited(ATTRIBUTES) });
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&env), (only("note"), 6));
    assert!(!env.handle().user("u00005").contains_key("note"));
    env.configure(&edited(WITH_NOTE));
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(sent(&env), (only("note"), 6));
    assert_eq!(env.handle().user("u00005")["note"], "k");
    expect_truth(&env).await;
}

/// The daemon applies an edit on SIGHUP. After an invalid edit, the old mapping stays in use.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_applies_a_mapping_edit_on_sighup() {
    let mut setup = Setup::default();
    setup.simulator.attribute_names.push("note".to_owned());
    let env = environment_of(60, setup).await;
    env.execute("UPDATE users SET kind = 'k' WHERE right(id, 1) = '5'").await;
    let mut daemon = env.start("run", &["run"]);
    env.converges(Duration::from_secs(15)).await;
    let text = std::fs::read_to_string(env.config()).expect("the configuration can be read");
    std::fs::write(env.config(), text.replace("plan = \"plan\"", "plan = 7"))
        .expect("the configuration can be written");
    signal(&daemon, "HUP");
    env.eventually("the log reports the failed reload", async || {
        env.printed("run", "err").contains("was not reloaded")
    })
    .await;
    env.execute("UPDATE users SET city = 'still', updated_at = now() WHERE id = 'u00001'").await;
    env.converges(Duration::from_secs(10)).await;
    sent(&env);
    env.configure(&edited(WITH_NOTE));
    signal(&daemon, "HUP");
    env.eventually("the new attribute arrives", async || env.handle().user("u00005").contains_key("note")).await;
    env.eventually("all six accounts have the new attribute", async || {
        env.handle().users().values().filter(|held| held.contains_key("note")).count() == 6
    })
    .await;
    assert_eq!(sent(&env), (only("note"), 6));
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.handle().user("nobody"), attributes(&[]));
    expect_truth(&env).await;
}
