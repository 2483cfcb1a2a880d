//! Tests when a rejection is retried: after a changed value, a changed mapping, the retry delay or a command. Tests
//! that nothing else causes a retry.
//!
//! Owns: the causes of a retry, one by one. Must not know: how many calls a bisection needs.

use std::collections::BTreeMap;
use std::time::Duration;

use imsync::simulator::RecordedUser;
use serde_json::Value;

use super::state_truth::expect_truth;
use super::{environment_of, fault, rejected};
use crate::support::{ATTRIBUTES, Setup, TestEnvironment, ended, signal};

/// The attributes that were sent since the last call of this function, by account and in the order of sending.
fn sent(env: &TestEnvironment) -> BTreeMap<String, Vec<(String, Option<String>)>> {
    let mut sent: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for RecordedUser { account, attributes } in env.handle().calls().into_iter().flat_map(|call| call.users) {
        sent.entry(account).or_default().extend(attributes);
    }
    env.handle().clear_records();
    sent
}

fn only(account: &str, attributes: &[(&str, Option<&str>)]) -> BTreeMap<String, Vec<(String, Option<String>)>> {
    let owned = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
    BTreeMap::from([(account.to_owned(), owned.collect())])
}

fn nothing() -> BTreeMap<String, Vec<(String, Option<String>)>> {
    BTreeMap::new()
}

async fn pass(env: &TestEnvironment, code: i32) {
    env.imsync(&["run", "--once"]).await.expect_code(code);
}

/// Makes the retries of all rejections due.
async fn make_retries_due(env: &TestEnvironment) {
    env.execute("UPDATE imsync.rejection SET next_at = clock_timestamp() - interval '1 second'").await;
}

/// The standing rejections: account, attribute, number of attempts, and retry delay in hours.
async fn standing(env: &TestEnvironment) -> Vec<(String, Value, i64, i64)> {
    let delay =
        "SELECT round(extract(epoch FROM next_at - last_at) / 3600)::bigint FROM imsync.rejection WHERE account = '";
    let mut standing = Vec::new();
    for entry in rejected(env).await {
        let account = entry["account"].as_str().expect("the account is a string").to_owned();
        let hours = env.number(&format!("{delay}{account}'")).await;
        standing.push((
            account,
            entry["attribute"].clone(),
            entry["attempts"].as_i64().expect("the field is a number"),
            hours,
        ));
    }
    standing
}

fn plan_of_three(attempts: i64, hours: i64) -> Vec<(String, Value, i64, i64)> {
    vec![("u00003".to_owned(), "plan".into(), attempts, hours)]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_is_retried_for_each_cause_and_no_other() {
    let env = environment_of(9, Setup::default()).await;
    let refusal = fault(&env, "refuse:70402:account=u00003:attribute=plan");
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(standing(&env).await, plan_of_three(1, 1));
    assert_eq!(env.handle().user("u00003"), super::attributes(&[("city", "city 3"), ("sex", "female")]));
    sent(&env);

    // Another pass, a new timestamp or a change of another attribute does not cause a retry.
    pass(&env, 3).await;
    env.imsync(&["backfill"]).await.expect_code(3);
    env.execute("UPDATE users SET updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    env.execute("UPDATE users SET city = 'Quito', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("city", Some("Quito"))]));
    assert_eq!(standing(&env).await, plan_of_three(1, 1));

    // After the retry delay the attribute is sent alone. Each refusal doubles the delay, up to 24 times the first
    // delay.
    for (attempts, hours) in [(2, 2), (3, 4), (4, 8), (5, 16), (6, 24), (7, 24)] {
        make_retries_due(&env).await;
        pass(&env, 3).await;
        assert_eq!(sent(&env), only("u00003", &[("plan", Some("pro"))]));
        assert_eq!(standing(&env).await, plan_of_three(attempts, hours));
    }

    // A changed value is sent at once, and the number of attempts starts again.
    env.execute("UPDATE users SET plan = 'gold', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", Some("gold"))]));
    assert_eq!(standing(&env).await, plan_of_three(1, 1));

    // A changed mapping of any attribute ends the delay of all rejections.
    let edited = ATTRIBUTES.replace("f = \"female\"", "f = \"female\", d = \"diverse\"");
    env.configure(&Setup { attributes: edited, ..Setup::default() });
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", Some("gold"))]));
    assert_eq!(standing(&env).await, plan_of_three(2, 2));

    // The command retries the selected accounts or all.
    env.imsync(&["rejected", "retry", "--account", "u00004"]).await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    env.imsync(&["rejected", "retry", "--account", "u00003"]).await.expect_code(0);
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", Some("gold"))]));
    assert_eq!(standing(&env).await, plan_of_three(3, 4));
    expect_truth(&env).await;

    // The value that was refused first differs from the last one, so it counts as a changed value.
    env.execute("UPDATE users SET plan = 'pro', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", Some("pro"))]));
    assert_eq!(standing(&env).await, plan_of_three(1, 1));

    // IM no longer refuses the value, and the next retry succeeds.
    env.handle().remove_fault(refusal);
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    make_retries_due(&env).await;
    pass(&env, 0).await;
    assert_eq!(standing(&env).await, vec![]);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// A rejection ends when the table no longer requires the refused change.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_change_is_no_longer_rejected() {
    let env = environment_of(9, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    fault(&env, "refuse:70402:account=u00003:attribute=plan:command=set_attr");
    env.execute("UPDATE users SET plan = 'gold', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(standing(&env).await, plan_of_three(1, 1));
    // The value in IM is unknown after a refusal, so the old value is sent again.
    env.handle().clear_faults();
    sent(&env);
    env.execute("UPDATE users SET plan = 'pro', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 0).await;
    assert_eq!((sent(&env), standing(&env).await), (only("u00003", &[("plan", Some("pro"))]), vec![]));

    // The same applies to a refused removal: it is rejected, retried after its delay, and withdrawn.
    fault(&env, "refuse:70402:account=u00003:command=remove_attr");
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    sent(&env);
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    make_retries_due(&env).await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", None)]));
    assert_eq!(standing(&env).await, plan_of_three(2, 2));
    env.execute("UPDATE users SET plan = 'free', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 0).await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// IM refuses the account as a whole. All of its attributes wait, and a change of any attribute causes a retry of all.
#[tokio::test(flavor = "multi_thread")]
async fn a_wholly_refused_account_is_retried_as_a_whole() {
    let env = environment_of(9, Setup::default()).await;
    let refusal = fault(&env, "refuse:70107:account=u00003");
    env.imsync(&["backfill"]).await.expect_code(3);
    let whole = |attempts, hours| vec![("u00003".to_owned(), Value::Null, attempts, hours)];
    assert_eq!(standing(&env).await, whole(1, 1));
    let all = |city| only("u00003", &[("city", Some(city)), ("plan", Some("pro")), ("sex", Some("female"))]);
    sent(&env);
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    make_retries_due(&env).await;
    pass(&env, 3).await;
    assert_eq!((sent(&env), standing(&env).await), (all("city 3"), whole(2, 2)));
    env.execute("UPDATE users SET city = 'Quito', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!((sent(&env), standing(&env).await), (all("Quito"), whole(1, 1)));
    env.handle().remove_fault(refusal);
    env.imsync(&["rejected", "retry"]).await.expect_code(0);
    pass(&env, 0).await;
    assert_eq!((sent(&env), standing(&env).await), (all("Quito"), vec![]));
    expect_truth(&env).await;
}

/// `timpush` accepts a call and lists refused accounts, with a code about the account or a code about an attribute.
#[tokio::test(flavor = "multi_thread")]
async fn timpush_refuses_one_attribute_and_the_others_arrive() {
    let setup =
        Setup { im: "service = \"timpush\"\ntimeout = \"2s\"\nretry_for = \"3s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(150, setup).await;
    fault(&env, "refuse:70402:per-account:account=u00003,u00120:attribute=plan");
    fault(&env, "refuse:70107:per-account:account=u00005");
    env.imsync(&["backfill"]).await.expect_code(3);
    let plan = Value::from("plan");
    let expected = [("u00003", plan.clone()), ("u00005", Value::Null), ("u00120", plan)];
    let listed: Vec<(String, Value)> =
        standing(&env).await.into_iter().map(|(account, attribute, ..)| (account, attribute)).collect();
    assert_eq!(listed, expected.map(|(account, attribute)| (account.to_owned(), attribute)));
    // Two calls for the batches, a check of the account that IM lists as unknown, and one call for each attribute of the two
    // accounts with a refused attribute.
    assert_eq!(env.handle().counters().arrived, 2 + 1 + 2 * 3);
    let mut wanted = env.wanted_of_users().await;
    wanted.remove("u00005");
    for account in ["u00003", "u00120"] {
        wanted.get_mut(account).expect("the account is in the table").remove("plan");
    }
    assert_eq!(env.handle().users(), wanted);
    expect_truth(&env).await;
    env.handle().clear_faults();
    make_retries_due(&env).await;
    pass(&env, 0).await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

/// A daemon reloads its mapping. Rejections with a delay of an hour are retried at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_reloaded_mapping_retries_all_rejections() {
    let env = environment_of(9, Setup::default()).await;
    fault(&env, "refuse:70107:account=u00003");
    fault(&env, "refuse:70402:account=u00004:attribute=plan");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("both accounts are rejected", async || rejected(&env).await.len() == 2).await;
    env.handle().clear_faults();
    let edited = ATTRIBUTES.replace("f = \"female\"", "f = \"female\", d = \"diverse\"");
    env.configure(&Setup { attributes: edited, ..Setup::default() });
    signal(&daemon, "HUP");
    env.converges(Duration::from_secs(20)).await;
    env.eventually("no account is rejected", async || rejected(&env).await.is_empty()).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}
