//! Tests `explain`: what it says about one account in every situation, and that it changes nothing.
//!
//! Owns: the situations. Must not know: how the facts are gathered.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{assert_keys, assert_time, has_state_schema, people, state_tables};
use crate::support::{ATTRIBUTES, SOURCE, Setup, TestEnvironment, ended, signal};

async fn environment() -> TestEnvironment {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(5)).await;
    env
}

async fn explained(env: &TestEnvironment, account: &str) -> Value {
    env.imsync(&["explain", account, "--json"]).await.expect_code(0).json()
}

/// The entry of an attribute.
fn attribute<'a>(document: &'a Value, name: &str) -> &'a Value {
    let attributes = document["attributes"].as_array().unwrap();
    attributes.iter().find(|attribute| attribute["name"] == name).unwrap()
}

fn verdict(document: &Value) -> &str {
    document["verdict"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_an_account_is_shown() {
    let env = environment().await;
    let document = explained(&env, "u0003").await;
    assert!(!has_state_schema(&env).await, "the command creates nothing");
    assert_keys(&document, &["account", "in_table", "row", "attributes", "rejection", "others", "verdict"]);
    assert_eq!((&document["account"], &document["in_table"]), (&json!("u0003"), &json!(true)));
    assert_eq!(document["row"], json!({"id": "u0003", "city": "city 3", "plan": "pro", "gender": null}));
    let city = attribute(&document, "city");
    let keys =
        ["name", "column", "desired", "problem", "acknowledged", "state", "acknowledged_at", "actual", "rejection"];
    assert_keys(city, &keys);
    assert_eq!(
        (&city["state"], &city["desired"], &city["actual"]),
        (&json!("pending"), &json!("city 3"), &Value::Null)
    );
    assert_eq!(attribute(&document, "sex")["state"], "absent");
    assert!(
        verdict(&document).contains("sets city, plan") && verdict(&document).contains("nothing runs now"),
        "{document}"
    );

    env.imsync(&["backfill"]).await.expect_code(0);
    let before = state_tables(&env.database).await;
    let document = explained(&env, "u0003").await;
    let city = attribute(&document, "city");
    assert_eq!(city["state"], "current");
    assert_eq!((&city["acknowledged"], &city["actual"]), (&json!("city 3"), &json!("city 3")));
    assert_time(&city["acknowledged_at"]);
    assert!(verdict(&document).contains("acknowledged all that the table requires"), "{document}");
    assert_eq!(attribute(&explained(&env, "u0003").await, "sex")["acknowledged_at"], Value::Null);

    // Without the secret key, and without a call.
    let calls = env.handle().calls().len();
    let document = env.imsync(&["explain", "u0003", "--no-im", "--json"]).await.expect_code(0).json();
    assert_eq!(attribute(&document, "city")["actual"], Value::Null);
    assert_eq!(env.handle().calls().len(), calls);
    assert_eq!(state_tables(&env.database).await, before, "the command changes nothing");

    env.execute("UPDATE users SET city = E'Li\\u001b[2Jma', plan = NULL, updated_at = now() WHERE id = 'u0003'").await;
    let text = env.imsync(&["explain", "u0003"]).await.expect_code(0);
    assert!(!text.stdout.contains('\u{1b}'), "control characters are escaped: {text:?}");
    text.expect_all(&[
        "\"Li\\u{1b}[2Jma\"",
        "\"city 3\"",
        "no value",
        "pending",
        "The next pass sets city and removes plan",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_explained_with_its_remedy() {
    let env = environment().await;
    env.execute("UPDATE users SET gender = 'very private' WHERE id = 'u0002'").await;
    env.handle().add_fault("refuse:70107:account=u0004:command=set_attr".parse().unwrap());
    env.imsync(&["backfill"]).await.expect_code(3);

    let document = explained(&env, "u0002").await;
    let sex = attribute(&document, "sex");
    assert_eq!((&sex["state"], &sex["desired"]), (&json!("rejected"), &Value::Null));
    assert!(sex["problem"].as_str().unwrap().contains("`values` does not list the text of column gender"), "{sex}");
    assert_eq!(sex["rejection"]["code"], Value::Null);
    assert_eq!(attribute(&document, "city")["state"], "current");
    assert!(verdict(&document).starts_with("Attribute sex is not sent"), "{document}");

    let document = explained(&env, "u0004").await;
    assert_eq!(document["rejection"]["code"], 70107);
    assert_time(&document["rejection"]["next_at"]);
    assert_eq!(attribute(&document, "city")["state"], "rejected");
    assert!(verdict(&document).contains("refused by IM with code 70107"), "{document}");
    let text = env.imsync(&["explain", "u0004"]).await.expect_code(0);
    text.expect_all(&["the account by IM with code 70107", "next try"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_somebody_else_changed_in_im_is_shown() {
    let env = environment().await;
    env.imsync(&["backfill"]).await.expect_code(0);
    let mut held: BTreeMap<String, String> = env.handle().user("u0001");
    held.insert("city".to_owned(), "elsewhere".to_owned());
    env.handle().set_user("u0001", &held).unwrap();
    let document = explained(&env, "u0001").await;
    let city = attribute(&document, "city");
    assert_eq!((&city["acknowledged"], &city["actual"]), (&json!("city 1"), &json!("elsewhere")));
    assert!(verdict(&document).contains("IM holds something else for city"), "{document}");
    let command = "imsync backfill --account u0001 --force";
    assert!(verdict(&document).contains(command), "{document}");
    // The remedy is one.
    env.imsync(&command.split(' ').skip(1).collect::<Vec<_>>()).await.expect_code(0);
    assert!(!verdict(&explained(&env, "u0001").await).contains("something else"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_gone_is_explained() {
    // The filter raises an error for the row that is marked as deleted.
    let filter = "kind IS DISTINCT FROM 'bot' AND (deleted_at IS NULL OR 1 / (length(id) - length(id)) > 0)";
    let source = format!("{SOURCE}filter = \"{filter}\"\n");
    let env = TestEnvironment::set_up(Setup { source, ..Setup::default() }).await;
    env.execute(&people(5)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u0001'").await;
    env.execute("UPDATE users SET kind = 'bot', updated_at = now() WHERE id = 'u0002'").await;
    env.execute("DELETE FROM users WHERE id = 'u0003'").await;
    for (account, why) in [
        ("u0001", "The row is marked as deleted in deleted_at"),
        ("u0002", "The row is left out by source.filter"),
        ("u0003", "The table public.users has no row for the account"),
    ] {
        let document = explained(&env, account).await;
        assert_eq!(document["in_table"], account != "u0003");
        assert!(verdict(&document).contains(why) && verdict(&document).contains("removes city, plan"), "{document}");
        assert_eq!(attribute(&document, "city")["state"], "pending", "{document}");
    }
    // Nothing but a full pass finds a row that was deleted.
    let document = explained(&env, "u0003").await;
    assert!(verdict(&document).contains("only a full pass finds it; the full pass that is due at"), "{document}");
    env.imsync(&["backfill"]).await.expect_code(0);
    let document = explained(&env, "u0001").await;
    assert!(verdict(&document).contains("nothing that imsync has set is left in IM"), "{document}");
    env.imsync(&["explain", "u0003"]).await.expect_code(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_stamp_did_not_move_waits_for_the_full_pass() {
    let env = environment().await;
    env.execute("UPDATE users SET updated_at = now() - interval '1 day'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET city = 'hidden' WHERE id = 'u0002'").await;
    let document = explained(&env, "u0002").await;
    assert!(verdict(&document).contains("stamp of the row has not moved"), "{document}");
    env.execute("UPDATE users SET updated_at = now() WHERE id = 'u0002'").await;
    let document = explained(&env, "u0002").await;
    assert!(verdict(&document).starts_with("The next pass sets city"), "{document}");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the value arrives", async || env.handle().user("u0002")["city"] == "hidden").await;
    // Beside the daemon, the sentence says when.
    env.handle().add_fault("hold:command=set_attr".parse().unwrap());
    env.execute("UPDATE users SET city = 'soon', updated_at = now() WHERE id = 'u0003'").await;
    let document = explained(&env, "u0003").await;
    assert!(verdict(&document).contains("sets city, which begins within 200 ms"), "{document}");
    env.handle().clear_faults();
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_doubt_is_told_apart() {
    let env = environment().await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.edit("retry_for = \"20s\"", "retry_for = \"1s\"");
    env.handle().add_fault("apply-then-fail:cut:command=set_attr:account=u0002".parse().unwrap());
    env.execute("UPDATE users SET city = 'unsure', updated_at = now() WHERE id = 'u0002'").await;
    env.imsync(&["run", "--once"]).await;
    let document = explained(&env, "u0002").await;
    assert_eq!(attribute(&document, "city")["state"], "in_doubt", "{document}");
    assert!(verdict(&document).contains("t is unknown what IM holds for city"), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_account_is_refused_with_similar_ones() {
    let source = format!("{SOURCE}account_prefix = \"app_\"\n");
    let env = TestEnvironment::set_up(Setup { source, ..Setup::default() }).await;
    env.execute("INSERT INTO users (id, city) VALUES ('Alice', 'Lima')").await;
    // The text of the column is an ID too.
    assert_eq!(explained(&env, "Alice").await["account"], "app_Alice");
    assert_eq!(explained(&env, "app_Alice").await["account"], "app_Alice");
    env.execute("UPDATE users SET id = 'alice'").await;
    let refused = env.imsync(&["explain", "ALICE"]).await.expect_code(1);
    refused.expect_all(&["neither the table, the state nor IM knows", "did you mean app_alice?"]);
    let refused = env.imsync(&["explain", "nobody", "--no-im"]).await.expect_code(1);
    refused.expect_all(&["neither the table nor the state knows", "with the prefix \"app_\""]);
    env.handle().set_user("app_ghost", &BTreeMap::from([("city".to_owned(), "Oslo".to_owned())])).unwrap();
    let document = explained(&env, "app_ghost").await;
    assert_eq!((&document["in_table"], &document["row"]), (&json!(false), &Value::Null));
    assert!(verdict(&document).contains("IM holds something else for city"), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hyphens_of_a_uuid_are_a_similar_account() {
    let mut setup = Setup::default();
    setup.im.push_str("service = \"timpush\"\naccount_type = \"registration_id\"\n");
    let env = TestEnvironment::set_up(setup).await;
    env.execute("INSERT INTO users (id, city) VALUES ('3f2504e0-4f89-11d3-9a0c-0305e82c3301', 'Lima')").await;
    let refused = env.imsync(&["explain", "3F2504E04F8911D39A0C0305E82C3301"]).await.expect_code(1);
    refused.expect_all(&["did you mean 3f2504e0-4f89-11d3-9a0c-0305e82c3301?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_im_the_rest_is_shown_and_the_exit_code_is_1() {
    let env = environment().await;
    env.handle().set_secret_keys(&["another"]);
    let shown = env.imsync(&["explain", "u0001"]).await.expect_code(1);
    shown.expect_all(&["u0001", "The next pass", "IM was not read"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_nothing_is_no_rejection() {
    let env = environment().await;
    env.execute("UPDATE users SET updated_at = now() - interval '1 day'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.handle().add_fault("refuse:90033:account=u0004:command=set_attr".parse().unwrap());
    env.execute("UPDATE users SET city = 'refused', updated_at = now() WHERE id = 'u0004'").await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    let document = explained(&env, "u0004").await;
    assert_eq!(attribute(&document, "city")["state"], "rejected", "{document}");
    // Another value is sent at once.
    env.execute("UPDATE users SET city = 'another', updated_at = now() WHERE id = 'u0004'").await;
    let document = explained(&env, "u0004").await;
    assert_eq!(attribute(&document, "city")["state"], "pending", "{document}");
    assert!(verdict(&document).starts_with("The next pass sets city"), "{document}");
    // So is a retry that is due, whatever the stamp.
    env.execute("UPDATE users SET city = 'refused', updated_at = now() - interval '1 day' WHERE id = 'u0004'").await;
    env.imsync(&["rejected", "retry"]).await.expect_code(0);
    let document = explained(&env, "u0004").await;
    assert!(verdict(&document).starts_with("The next pass sets city"), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_in_im_is_explained() {
    let attributes = format!("{ATTRIBUTES}null = \"keep\"\n");
    let env = TestEnvironment::set_up(Setup { attributes, ..Setup::default() }).await;
    env.execute(&people(5)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET gender = NULL, updated_at = now() WHERE id = 'u0001'").await;
    let document = explained(&env, "u0001").await;
    assert_eq!(attribute(&document, "sex")["state"], "kept", "{document}");
    assert!(verdict(&document).contains("attributes.sex says keep"), "{document}");
    env.edit("plan = \"plan\"\n", "");
    let document = explained(&env, "u0001").await;
    assert_eq!(
        (&attribute(&document, "plan")["state"], &attribute(&document, "plan")["column"]),
        (&json!("kept"), &Value::Null)
    );
    assert!(
        verdict(&document).contains("attribute plan stays in IM because the mapping no longer names it"),
        "{document}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tripped_removal_guard_is_named() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(100)).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET plan = NULL, updated_at = now()").await;
    env.imsync(&["backfill"]).await.expect_code(1);
    let document = explained(&env, "u0001").await;
    assert_eq!(attribute(&document, "plan")["state"], "pending", "{document}");
    assert!(verdict(&document).contains("The removal guard holds back the removal of plan"), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_im_cannot_have_is_explained_without_a_call() {
    let env = environment().await;
    let account = "an-account-that-has-more-than-32-bytes";
    env.execute(&format!("INSERT INTO users (id, city) VALUES ('{account}', 'Lima')")).await;
    env.imsync(&["backfill"]).await.expect_code(3);
    let calls = env.handle().calls().len();
    let document = explained(&env, account).await;
    assert!(
        verdict(&document).contains("Nothing is sent for the account") && verdict(&document).contains("at most 32"),
        "{document}"
    );
    assert_eq!(env.handle().calls().len(), calls);
    env.imsync(&["explain", ""]).await.expect_code(2).expect_all(&["the ID of an account is empty"]);
}
