//! When a rejection is tried again: another wish, another mapping, the end of its pause, a command. And when it is not.
//!
//! Owns: the causes, one by one. Must not know: what isolating a culprit costs.

use std::collections::BTreeMap;
use std::time::Duration;

use imsync::simulator::RecordedUser;
use serde_json::Value;

use super::state_truth::expect_truth;
use super::{fault, rejected, stage_of};
use crate::support::{ATTRIBUTES, Setup, TestEnvironment, ended, signal};

/// What was sent since the last look, by account, in the order of sending: names with their values.
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

/// As if the pauses of all rejections were over.
async fn let_time_pass(env: &TestEnvironment) {
    env.execute("UPDATE imsync.rejection SET next_at = clock_timestamp() - interval '1 second'").await;
}

/// Account, attribute, attempts, and the pause in hours.
async fn standing(env: &TestEnvironment) -> Vec<(String, Value, i64, i64)> {
    let pause =
        "SELECT round(extract(epoch FROM next_at - last_at) / 3600)::bigint FROM imsync.rejection WHERE account = '";
    let mut standing = Vec::new();
    for entry in rejected(env).await {
        let account = entry["account"].as_str().expect("a text").to_owned();
        let hours = env.number(&format!("{pause}{account}'")).await;
        standing.push((account, entry["attribute"].clone(), entry["attempts"].as_i64().expect("a number"), hours));
    }
    standing
}

fn plan_of_three(attempts: i64, hours: i64) -> Vec<(String, Value, i64, i64)> {
    vec![("u00003".to_owned(), "plan".into(), attempts, hours)]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attribute_is_tried_again_for_each_cause_and_for_nothing_else() {
    let env = stage_of(9, Setup::default()).await;
    let refusal = fault(&env, "refuse:70402:account=u00003:attribute=plan");
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(standing(&env).await, plan_of_three(1, 1));
    assert_eq!(env.handle().user("u00003"), super::attributes(&[("city", "city 3"), ("sex", "female")]));
    sent(&env);

    // Not for another pass, a touched row, or another attribute of the account.
    pass(&env, 3).await;
    env.imsync(&["backfill"]).await.expect_code(3);
    env.execute("UPDATE users SET updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    env.execute("UPDATE users SET city = 'Quito', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("city", Some("Quito"))]));
    assert_eq!(standing(&env).await, plan_of_three(1, 1));

    // Its pause is over: tried alone, and each refusal doubles the pause, up to 24 times the first.
    for (attempts, hours) in [(2, 2), (3, 4), (4, 8), (5, 16), (6, 24), (7, 24)] {
        let_time_pass(&env).await;
        pass(&env, 3).await;
        assert_eq!(sent(&env), only("u00003", &[("plan", Some("pro"))]));
        assert_eq!(standing(&env).await, plan_of_three(attempts, hours));
    }

    // Another wish: at once, and its count begins anew.
    env.execute("UPDATE users SET plan = 'gold', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", Some("gold"))]));
    assert_eq!(standing(&env).await, plan_of_three(1, 1));

    // Another mapping, of whatever attribute: the end of a pause for all.
    let edited = ATTRIBUTES.replace("f = \"female\"", "f = \"female\", d = \"diverse\"");
    env.configure(&Setup { attributes: edited, ..Setup::default() });
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", Some("gold"))]));
    assert_eq!(standing(&env).await, plan_of_three(2, 2));

    // On command: of the accounts that are named, or of all.
    env.imsync(&["rejected", "retry", "--account", "u00004"]).await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    env.imsync(&["rejected", "retry", "--account", "u00003"]).await.expect_code(0);
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", Some("gold"))]));
    assert_eq!(standing(&env).await, plan_of_three(3, 4));
    expect_truth(&env).await;

    // Back to the wish that was refused first: another wish than the last.
    env.execute("UPDATE users SET plan = 'pro', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", Some("pro"))]));
    assert_eq!(standing(&env).await, plan_of_three(1, 1));

    // The cause has gone: the next try settles it.
    env.handle().remove_fault(refusal);
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    let_time_pass(&env).await;
    pass(&env, 0).await;
    assert_eq!(standing(&env).await, vec![]);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// A wish that is withdrawn takes its rejection with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_is_withdrawn_is_rejected_no_more() {
    let env = stage_of(9, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    fault(&env, "refuse:70402:account=u00003:attribute=plan:command=set_attr");
    env.execute("UPDATE users SET plan = 'gold', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    assert_eq!(standing(&env).await, plan_of_three(1, 1));
    // What IM holds after a refusal is not known, so the value that it took before is sent again.
    env.handle().clear_faults();
    sent(&env);
    env.execute("UPDATE users SET plan = 'pro', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 0).await;
    assert_eq!((sent(&env), standing(&env).await), (only("u00003", &[("plan", Some("pro"))]), vec![]));

    // The same for a removal that was refused: it is rejected as one, tried again in its time, and withdrawn.
    fault(&env, "refuse:70402:account=u00003:command=remove_attr");
    env.execute("UPDATE users SET plan = NULL, updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 3).await;
    sent(&env);
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    let_time_pass(&env).await;
    pass(&env, 3).await;
    assert_eq!(sent(&env), only("u00003", &[("plan", None)]));
    assert_eq!(standing(&env).await, plan_of_three(2, 2));
    env.execute("UPDATE users SET plan = 'free', updated_at = now() WHERE id = 'u00003'").await;
    pass(&env, 0).await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
}

/// A code that is of the account: everything of it waits, and anything of it that changes is a reason to try all.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_refused_as_a_whole_is_tried_as_a_whole() {
    let env = stage_of(9, Setup::default()).await;
    let refusal = fault(&env, "refuse:70107:account=u00003");
    env.imsync(&["backfill"]).await.expect_code(3);
    let whole = |attempts, hours| vec![("u00003".to_owned(), Value::Null, attempts, hours)];
    assert_eq!(standing(&env).await, whole(1, 1));
    let all = |city| only("u00003", &[("city", Some(city)), ("plan", Some("pro")), ("sex", Some("female"))]);
    sent(&env);
    pass(&env, 3).await;
    assert_eq!(sent(&env), nothing());
    let_time_pass(&env).await;
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

/// `timpush` takes a call and lists some of its accounts: by a code of the account, or by one of an attribute.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_timpush_lists_for_one_attribute_keeps_the_others() {
    let setup =
        Setup { im: "service = \"timpush\"\ntimeout = \"2s\"\nretry_for = \"3s\"\n".to_owned(), ..Setup::default() };
    let env = stage_of(150, setup).await;
    fault(&env, "refuse:70402:per-account:account=u00003,u00120:attribute=plan");
    fault(&env, "refuse:70107:per-account:account=u00005");
    env.imsync(&["backfill"]).await.expect_code(3);
    let plan = Value::from("plan");
    let expected = [("u00003", plan.clone()), ("u00005", Value::Null), ("u00120", plan)];
    let listed: Vec<(String, Value)> =
        standing(&env).await.into_iter().map(|(account, attribute, ..)| (account, attribute)).collect();
    assert_eq!(listed, expected.map(|(account, attribute)| (account.to_owned(), attribute)));
    // Two calls, and one for each attribute of the two that an attribute was refused of.
    assert_eq!(env.handle().counters().arrived, 2 + 2 * 3);
    let mut wanted = env.wanted_of_users().await;
    wanted.remove("u00005");
    for account in ["u00003", "u00120"] {
        wanted.get_mut(account).expect("it is in the table").remove("plan");
    }
    assert_eq!(env.handle().users(), wanted);
    expect_truth(&env).await;
    env.handle().clear_faults();
    let_time_pass(&env).await;
    pass(&env, 0).await;
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}

/// A daemon reads another mapping: what it refused an hour's pause for is tried again at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_reads_another_mapping_tries_everything_again() {
    let env = stage_of(9, Setup::default()).await;
    fault(&env, "refuse:70107:account=u00003");
    fault(&env, "refuse:70402:account=u00004:attribute=plan");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("both are rejected", async || rejected(&env).await.len() == 2).await;
    env.handle().clear_faults();
    let edited = ATTRIBUTES.replace("f = \"female\"", "f = \"female\", d = \"diverse\"");
    env.configure(&Setup { attributes: edited, ..Setup::default() });
    signal(&daemon, "HUP");
    env.converges(Duration::from_secs(20)).await;
    env.eventually("nothing is rejected", async || rejected(&env).await.is_empty()).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    expect_truth(&env).await;
}
