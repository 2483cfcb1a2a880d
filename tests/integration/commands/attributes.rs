//! Tests `attributes` and `attributes apply`.
//!
//! Owns: which names an app has before and after. Must not know: how a slot is chosen.

use std::collections::BTreeMap;

use serde_json::json;

use super::{assert_keys, has_state_schema};
use crate::support::{Setup, TestEnvironment, ended};

/// An app with these names, for a mapping of `city`, `plan` and `sex`.
async fn environment(names: &[&str]) -> TestEnvironment {
    let mut setup = Setup::default();
    setup.simulator.attribute_names = names.iter().map(|name| (*name).to_owned()).collect();
    TestEnvironment::set_up(setup).await
}

fn names(env: &TestEnvironment) -> BTreeMap<u8, String> {
    env.handle().names()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slots_are_shown_beside_the_mapping() {
    let env = environment(&["level", "plan"]).await;
    let listed = env.imsync(&["attributes"]).await.expect_code(0);
    listed.expect_all(&[
        "level",
        "(not mapped)",
        "plan",
        "(free)",
        "does not know \"city\", \"sex\"",
        "attributes apply",
    ]);
    let document = env.imsync(&["attributes", "--json"]).await.expect_code(0).json();
    assert_keys(&document, &["slots", "missing"]);
    assert_eq!(document["missing"], json!(["city", "sex"]));
    let slots = document["slots"].as_array().unwrap();
    assert_eq!(slots.len(), 10);
    assert_eq!(slots[0], json!({"slot": 0, "name": "level", "mapped": false}));
    assert_eq!(slots[1], json!({"slot": 1, "name": "plan", "mapped": true}));
    assert_eq!(slots[9], json!({"slot": 9, "name": null, "mapped": false}));
    assert!(!has_state_schema(&env).await, "the command changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_names_are_set_in_free_slots_only() {
    let env = environment(&["level", "plan", "Sex"]).await;
    // Nobody can be asked here.
    env.imsync(&["attributes", "apply"]).await.expect_code(2).expect_all(&["--yes", "not a terminal"]);
    assert_eq!(names(&env).len(), 3);
    let applied = env.imsync(&["attributes", "apply", "--yes"]).await.expect_code(0);
    applied.expect_all(&["slot 3 is \"city\" now", "slot 4 is \"sex\" now", "already has \"Sex\"; case matters"]);
    let all = ["level", "plan", "Sex", "city", "sex"].map(str::to_owned);
    assert_eq!(names(&env), (0..).zip(all).collect());
    env.imsync(&["attributes", "apply"]).await.expect_code(0).expect_all(&["knows all 3 mapped attributes"]);
    env.imsync(&["attributes", "--json"]).await.expect_code(0).expect_all(&["\"missing\":[]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_slot_nothing_is_set() {
    let taken: Vec<String> = (0..9).map(|number| format!("name{number}")).collect();
    let env = environment(&taken.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let refused = env.imsync(&["attributes", "apply", "--yes"]).await.expect_code(1);
    refused.expect_all(&["no free slot for \"plan\", \"sex\"", "slot 8: \"name8\"", "imsync renames none"]);
    assert_eq!(names(&env).len(), 9, "not one of three names is set either");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_somebody_else_sets_are_seen() {
    // The second reading waits, so that the names change between the question and the call that sets them.
    let env = environment(&["level"]).await;
    env.handle().add_fault("hold:command=get_attr_name:after=1:times=1".parse().unwrap());
    let mut apply = env.start("apply", &["attributes", "apply", "--yes"]);
    env.handle().wait_until(|counters| counters.held == 1).await;
    env.handle().set_names(&["level", "mood"].map(str::to_owned));
    env.handle().clear_faults();
    assert_eq!(ended(&mut apply).await, Some(1));
    let printed = env.printed("apply", "err");
    assert!(printed.contains("have changed in the meantime") && printed.contains("slot 1: \"mood\""), "{printed}");
    assert_eq!(names(&env).len(), 2);

    // The third reading waits: somebody takes one of the slots again after the call.
    env.handle().add_fault("hold:command=get_attr_name:after=2:times=1".parse().unwrap());
    let mut apply = env.start("apply", &["attributes", "apply", "--yes"]);
    env.handle().wait_until(|counters| counters.held == 1).await;
    assert_eq!(names(&env).len(), 5);
    env.handle().set_names(&["level", "mood", "weather", "plan", "sex"].map(str::to_owned));
    env.handle().clear_faults();
    assert_eq!(ended(&mut apply).await, Some(1));
    let printed = env.printed("apply", "err");
    assert!(printed.contains("somebody else sets names too") && printed.contains("slot 2: \"weather\""), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_devices_are_set_for_devices() {
    let mut setup = Setup::default();
    setup.im.push_str("service = \"timpush\"\naccount_type = \"registration_id\"\n");
    setup.simulator.attribute_names.clear();
    let env = TestEnvironment::set_up(setup).await;
    env.imsync(&["attributes", "apply", "--yes"]).await.expect_code(0);
    env.execute("INSERT INTO users (id, city) VALUES ('3f2504e0-4f89-11d3-9a0c-0305e82c3301', 'Lima')").await;
    // IM refuses values of attributes that belong to users for a device.
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().user("3f2504e0-4f89-11d3-9a0c-0305e82c3301")["city"], "Lima");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_to_do() {
    let env = environment(&["level"]).await;
    env.handle().add_fault("refuse:90033:command=set_attr_name".parse().unwrap());
    let refused = env.imsync(&["attributes", "apply", "--yes"]).await.expect_code(1);
    refused.expect_all(&["90033", "a slot of the other account type", "imsync attributes"]);
    env.handle().clear_faults();
    env.handle().set_secret_keys(&["another"]);
    env.imsync(&["attributes"]).await.expect_code(1).expect_all(&["get_attr_name failed"]);
}
