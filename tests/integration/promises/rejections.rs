//! One bad row harms nobody else: it is listed with its reason, and tried again when it could succeed.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::{Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{account, fault, rejected, stage_of};

#[tokio::test(flavor = "multi_thread")]
async fn thirty_that_im_refuses_among_ten_thousand() {
    let mut setup =
        Setup { more: "[schedule]\ninterval = \"200ms\"\nrejected_retry = \"1h\"\n".to_owned(), ..Setup::default() };
    setup.simulator.imported_accounts = Some((1..=10_000).filter(|number| number % 700 != 0).map(account).collect());
    let env = stage_of(10_000, setup).await;
    // 14 that were never imported, and 16 that IM takes for malformed.
    let malformed: Vec<String> = (1..=16).map(|number| account(number * 600 + 1)).collect();
    let refusal = fault(&env, &format!("refuse:70402:per-account:account={}", malformed.join(",")));

    let backfill = env.imsync(&["backfill", "--json"]).await.expect_code(3).json();
    assert_eq!(
        (&backfill["outcome"], &backfill["rejected"], &backfill["pushed"]),
        (&"rejected".into(), &30.into(), &9_970.into())
    );
    assert_eq!(env.handle().users().len(), 9_970);
    // 100 calls for the accounts; two for each halving (seven of them) and one an attribute for each culprit.
    let calls = env.handle().counters().arrived;
    assert!(calls <= 101 + 30 * (2 * 7 + 3), "{calls} calls");
    let list = rejected(&env).await;
    let accounts: HashSet<&str> = list.iter().filter_map(|entry| entry["account"].as_str()).collect();
    assert_eq!(accounts.len(), 30);
    for entry in &list {
        let code = if malformed.iter().any(|name| entry["account"] == name.as_str()) { 70402 } else { 70107 };
        assert_eq!(entry["code"], code, "{entry}");
        let reason = entry["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(&code.to_string()) && reason.len() > 30, "{entry}");
        assert_eq!(entry["attribute"].is_null(), code == 70107, "an account's code rejects the account: {entry}");
        assert_eq!(entry["attempts"], 1);
    }
    expect_truth(&env).await;

    // Nothing changed and no pause is over: nobody is bothered.
    env.handle().clear_records();
    env.imsync(&["run", "--once"]).await.expect_code(3);
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.handle().counters().arrived, 0);

    // A value that changes is tried at once, alone; it is refused again and counts anew.
    env.execute(&format!(
        "UPDATE users SET city = 'elsewhere', updated_at = now() WHERE id IN ('{}', 'u00700')",
        malformed[0]
    ))
    .await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    let tried: HashSet<String> =
        env.handle().calls().into_iter().flat_map(|call| call.users).map(|user| user.account).collect();
    assert_eq!(tried, HashSet::from([malformed[0].clone(), "u00700".to_owned()]));

    // The cause goes; nothing happens before the pause is over, all of it after `rejected retry`.
    env.handle().remove_fault(refusal);
    for number in (1..=10_000).filter(|number| number % 700 == 0) {
        env.handle().set_imported(&account(number), true);
    }
    env.imsync(&["run", "--once"]).await.expect_code(3);
    env.imsync(&["rejected", "retry"]).await.expect_code(0);
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    expect_truth(&env).await;
    assert_eq!(super::violations(&env), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_refused_doubles_its_pause() {
    let setup =
        Setup { more: "[schedule]\ninterval = \"100ms\"\nrejected_retry = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = stage_of(5, setup).await;
    fault(&env, "refuse:70107:per-account:account=u00003");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("three refusals", async || {
        env.handle().calls().iter().filter(|call| call.code == Some(70107) && call.users.len() == 1).count() >= 3
    })
    .await;
    let third = "SELECT count(*) FROM imsync.rejection WHERE account = 'u00003' AND attempts >= 3";
    env.eventually("the third is recorded", async || env.number(third).await == 1).await;
    // 1 s, 2 s, 4 s, 8 s: a fourth may have come meanwhile.
    let doubled = "SELECT count(*) FROM imsync.rejection WHERE account = 'u00003'
        AND round(extract(epoch FROM next_at - last_at)) = least(2 ^ (attempts - 1), 24)";
    assert_eq!(env.number(doubled).await, 1, "{:?}", rejected(&env).await);
    env.handle().clear_faults();
    env.imsync(&["rejected", "retry", "--account", "u00003"]).await.expect_code(0);
    env.converges(Duration::from_secs(10)).await;
    env.eventually("the list is empty", async || rejected(&env).await.is_empty()).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// A table without a unique account, with everything a column can hold.
const ODD: &str = "CREATE TABLE users (id text, city text, plan text, gender text, updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz);
    CREATE INDEX ON users (updated_at, id);
    INSERT INTO users (id, city, plan, gender) VALUES
        ('plain', 'Wien', 'pro', 'm'),
        (NULL, 'Nowhere', 'pro', 'm'),
        ('', 'Nowhere', 'pro', 'm'),
        (repeat('x', 33), 'Wien', 'pro', 'm'),
        (repeat('y', 32), 'Wien', 'pro', 'm'),
        ('twin', 'Wien', 'pro', 'm'),
        ('twin', 'Graz', 'pro', 'm'),
        ('long', repeat('é', 26), repeat('ä', 30), 'f'),
        ('odd', 'Wien', 'pro', 'unknown')";

const RULES: &str = r#"city = "city"
[attributes.plan]
column = "plan"
too_long = "truncate"
[attributes.sex]
column = "gender"
values = { m = "male", f = "female" }
unlisted = "UNLISTED"
"#;

fn odd_setup(unlisted: &str) -> Setup {
    Setup { sql: ODD.to_owned(), attributes: RULES.replace("UNLISTED", unlisted), ..Setup::default() }
}

async fn what_is_rejected(env: &TestEnvironment) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("(account)").to_owned();
    rejected(env).await.iter().map(|entry| (text(&entry["account"]), text(&entry["attribute"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_sent_are_listed_and_their_neighbours_go() {
    let mut setup = odd_setup("reject");
    let env = TestEnvironment::set_up(Setup { ..odd_setup("reject") }).await;
    env.imsync(&["backfill"]).await.expect_code(3);
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    let xs = "x".repeat(33);
    assert_eq!(
        what_is_rejected(&env).await,
        owned(&[("long", "city"), ("odd", "sex"), ("twin", "(account)"), (&xs, "(account)")])
    );
    for entry in rejected(&env).await {
        assert!(entry["code"].is_null());
        let reason = entry["reason"].as_str().unwrap_or_default();
        assert!(!reason.contains("éé") && !reason.contains("unknown"), "a reason never contains a value: {reason}");
    }
    let long = env.handle().user("long");
    assert_eq!(long.get("city"), None);
    assert_eq!((long["plan"].as_str(), long["sex"].as_str()), ("ä".repeat(25).as_str(), "female"));
    assert_eq!(env.handle().user("odd"), super::attributes(&[("city", "Wien"), ("plan", "pro")]));
    assert_eq!(env.handle().users().into_keys().collect::<Vec<_>>(), ["long", "odd", "plain", &"y".repeat(32)]);
    expect_truth(&env).await;

    // Nothing of it is sent or counted anew while nothing changes.
    env.handle().clear_records();
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(env.handle().counters().arrived, 0);

    // Each row is mended in its own way, and its rejection goes.
    env.execute(&format!(
        "UPDATE users SET city = 'Linz', updated_at = now() WHERE id = 'long';
             UPDATE users SET gender = 'f', updated_at = now() WHERE id = 'odd';
             UPDATE users SET id = 'short', updated_at = now() WHERE id = '{xs}';
             DELETE FROM users WHERE id = 'twin' AND city = 'Wien';
             UPDATE users SET updated_at = now() WHERE id = 'twin'"
    ))
    .await;
    env.imsync(&["run", "--once"]).await;
    // An account that is only refused has nothing in the state: the full pass finds that its row is gone.
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(what_is_rejected(&env).await, vec![]);
    assert_eq!(env.handle().user("long")["city"], "Linz");
    assert_eq!(env.handle().user("twin"), super::attributes(&[("city", "Graz"), ("plan", "pro"), ("sex", "male")]));
    assert_eq!(env.handle().user("short")["city"], "Wien");
    expect_truth(&env).await;

    // A text that is not listed: kept, sent as it is, removed.
    env.execute("UPDATE users SET gender = 'other', updated_at = now() WHERE id = 'odd'").await;
    for (unlisted, held) in [("keep", Some("female")), ("send", Some("other")), ("remove", None), ("reject", None)] {
        setup.attributes = odd_setup(unlisted).attributes;
        env.configure(&Setup { simulator: stage_simulator(), ..odd_setup(unlisted) });
        let code = if unlisted == "reject" { 3 } else { 0 };
        env.imsync(&["run", "--once"]).await.expect_code(code);
        assert_eq!(env.handle().user("odd").get("sex").map(String::as_str), held, "unlisted = {unlisted}");
        expect_truth(&env).await;
    }
}

fn stage_simulator() -> imsync::simulator::SimulatorOptions {
    Setup::default().simulator
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_seen_twice_in_a_view_is_rejected_and_both_sides_mend_it() {
    let setup = Setup {
        sql: "CREATE TABLE one (id text, city text, updated_at timestamptz DEFAULT now(), deleted_at timestamptz, kind text);
              CREATE TABLE two (LIKE one INCLUDING DEFAULTS);
              CREATE VIEW users AS SELECT * FROM one UNION ALL SELECT * FROM two;
              INSERT INTO one (id, city) VALUES ('a', 'A'), ('b', 'B');
              INSERT INTO two (id, city) VALUES ('c', 'C');"
            .to_owned(),
        attributes: "city = \"city\"\n".to_owned(),
        ..Setup::default()
    };
    let env = TestEnvironment::set_up(setup).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    // Only the new row is in the range that an incremental pass reads; its twin is old.
    env.execute("INSERT INTO two (id, city) VALUES ('b', 'Z')").await;
    let preview = env.imsync(&["preview", "--json"]).await.expect_code(0).json_lines();
    assert!(preview.is_empty(), "the preview reads the other row too: {preview:?}");
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(what_is_rejected(&env).await, [("b".to_owned(), "(account)".to_owned())]);
    assert_eq!(env.handle().user("b")["city"], "B", "which row is meant cannot be known");
    env.execute("DELETE FROM one WHERE id = 'b'; UPDATE two SET updated_at = now() WHERE id = 'b'").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().user("b")["city"], "Z");
    assert_eq!(what_is_rejected(&env).await, vec![]);
    expect_truth(&env).await;
}

/// `timpush` takes a call in part and lists whom it refused.
#[tokio::test(flavor = "multi_thread")]
async fn timpush_takes_the_others_of_a_call_at_once() {
    let setup =
        Setup { im: "service = \"timpush\"\ntimeout = \"10s\"\nretry_for = \"20s\"\n".to_owned(), ..Setup::default() };
    let env = stage_of(250, setup).await;
    fault(&env, "refuse:90035:per-account:account=u00007,u00150");
    fault(&env, "refuse:91000:per-account:account=u00008:times=1");
    env.imsync(&["backfill"]).await.expect_code(3);
    let calls = env.handle().counters();
    assert!(calls.endpoints.contains_key("timpush/set_attr") && calls.endpoints.len() == 1, "{calls:?}");
    // Three calls, and one more for the account that was asked to come again.
    assert_eq!(calls.arrived, 4);
    assert_eq!(
        what_is_rejected(&env).await,
        [("u00007".to_owned(), "(account)".to_owned()), ("u00150".to_owned(), "(account)".to_owned())]
    );
    assert_eq!(env.handle().users().len(), 248);
    expect_truth(&env).await;
    env.handle().clear_faults();
    env.imsync(&["rejected", "retry"]).await.expect_code(0);
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}
