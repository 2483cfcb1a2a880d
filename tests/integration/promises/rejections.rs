//! Tests rejections: a row that cannot be sent is listed with a reason, is retried later, and affects no other row.
//!
//! Owns: refusals by IM and values that imsync cannot send. Must not know: the limit on refused shares.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::{Setup, TestEnvironment, ended, signal};

use super::state_truth::expect_truth;
use super::{account, environment_of, fault, rejected};

#[tokio::test(flavor = "multi_thread")]
async fn thirty_of_ten_thousand_accounts_are_rejected() {
    let mut setup =
        Setup { more: "[schedule]\ninterval = \"200ms\"\nrejected_retry = \"1h\"\n".to_owned(), ..Setup::default() };
    setup.simulator.imported_accounts = Some((1..=10_000).filter(|number| number % 700 != 0).map(account).collect());
    let env = environment_of(10_000, setup).await;
    // 14 accounts were never imported, and IM considers 16 accounts malformed.
    let malformed: Vec<String> = (1..=16).map(|number| account(number * 600 + 1)).collect();
    let refusal = fault(&env, &format!("refuse:70402:per-account:account={}", malformed.join(",")));

    let backfill = env.imsync(&["backfill", "--json"]).await.expect_code(3).json();
    assert_eq!(
        (&backfill["outcome"], &backfill["rejected"], &backfill["pushed"]),
        (&"rejected".into(), &30.into(), &9_970.into())
    );
    assert_eq!(env.handle().users().len(), 9_970);
    // 100 calls for the batches. For each refused account, two calls for each of seven halvings, and one call for each
    // attribute.
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
        assert_eq!(
            entry["attribute"].is_null(),
            code == 70107,
            "a code about the account rejects the whole account: {entry}"
        );
        assert_eq!(entry["attempts"], 1);
    }
    expect_truth(&env).await;

    // Nothing has changed and no retry is due, so no call is made.
    env.handle().clear_records();
    env.imsync(&["run", "--once"]).await.expect_code(3);
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.handle().counters().arrived, 0);

    // A changed value is sent at once and alone. It is refused again, and the number of attempts starts again.
    env.execute(&format!(
        "UPDATE users SET city = 'elsewhere', updated_at = now() WHERE id IN ('{}', 'u00700')",
        malformed[0]
    ))
    .await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    let retried: HashSet<String> =
        env.handle().calls().into_iter().flat_map(|call| call.users).map(|user| user.account).collect();
    assert_eq!(retried, HashSet::from([malformed[0].clone(), "u00700".to_owned()]));

    // IM now accepts all accounts. Nothing is retried before the retry delay ends, and everything after `rejected
    // retry`.
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
async fn a_refused_retry_doubles_the_retry_delay() {
    let setup =
        Setup { more: "[schedule]\ninterval = \"100ms\"\nrejected_retry = \"1s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(5, setup).await;
    fault(&env, "refuse:60015:per-account:account=u00003");
    let mut daemon = env.start("run", &["run"]);
    env.eventually("IM has refused the account three times", async || {
        env.handle().calls().iter().filter(|call| call.code == Some(60015) && call.users.len() == 1).count() >= 3
    })
    .await;
    let third = "SELECT count(*) FROM imsync.rejection WHERE account = 'u00003' AND attempts >= 3";
    env.eventually("the third refusal is recorded", async || env.number(third).await == 1).await;
    // The delays are 1 s, 2 s, 4 s and 8 s. A fourth refusal is possible by now.
    let doubled = "SELECT count(*) FROM imsync.rejection WHERE account = 'u00003'
        AND round(extract(epoch FROM next_at - last_at)) = least(2 ^ (attempts - 1), 24)";
    assert_eq!(env.number(doubled).await, 1, "{:?}", rejected(&env).await);
    env.handle().clear_faults();
    env.imsync(&["rejected", "retry", "--account", "u00003"]).await.expect_code(0);
    env.converges(Duration::from_secs(10)).await;
    env.eventually("no account is rejected", async || rejected(&env).await.is_empty()).await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

/// A table whose account column is not unique, with values that cannot be sent.
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

/// The account and the attribute of each rejection.
async fn rejected_attributes(env: &TestEnvironment) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("(account)").to_owned();
    rejected(env).await.iter().map(|entry| (text(&entry["account"]), text(&entry["attribute"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn unsendable_values_are_listed_and_other_values_arrive() {
    let mut setup = odd_setup("reject");
    let env = TestEnvironment::set_up(Setup { ..odd_setup("reject") }).await;
    env.imsync(&["backfill"]).await.expect_code(3);
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    let xs = "x".repeat(33);
    assert_eq!(
        rejected_attributes(&env).await,
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

    // Nothing is sent while nothing changes.
    env.handle().clear_records();
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(env.handle().counters().arrived, 0);

    // Each row is repaired in its own way, and its rejection ends.
    env.execute(&format!(
        "UPDATE users SET city = 'Linz', updated_at = now() WHERE id = 'long';
             UPDATE users SET gender = 'f', updated_at = now() WHERE id = 'odd';
             UPDATE users SET id = 'short', updated_at = now() WHERE id = '{xs}';
             DELETE FROM users WHERE id = 'twin' AND city = 'Wien';
             UPDATE users SET updated_at = now() WHERE id = 'twin'"
    ))
    .await;
    env.imsync(&["run", "--once"]).await;
    // A wholly rejected account has no acknowledged values. The full pass finds that its row no longer exists.
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(rejected_attributes(&env).await, vec![]);
    assert_eq!(env.handle().user("long")["city"], "Linz");
    assert_eq!(env.handle().user("twin"), super::attributes(&[("city", "Graz"), ("plan", "pro"), ("sex", "male")]));
    assert_eq!(env.handle().user("short")["city"], "Wien");
    expect_truth(&env).await;

    // A value that is not listed can be kept, sent unchanged, removed or rejected.
    env.execute("UPDATE users SET gender = 'other', updated_at = now() WHERE id = 'odd'").await;
    for (unlisted, held) in [("keep", Some("female")), ("send", Some("other")), ("remove", None), ("reject", None)] {
        setup.attributes = odd_setup(unlisted).attributes;
        env.configure(&Setup { simulator: default_simulator(), ..odd_setup(unlisted) });
        let code = if unlisted == "reject" { 3 } else { 0 };
        env.imsync(&["run", "--once"]).await.expect_code(code);
        assert_eq!(env.handle().user("odd").get("sex").map(String::as_str), held, "unlisted = {unlisted}");
        expect_truth(&env).await;
    }
}

fn default_simulator() -> imsync::simulator::SimulatorOptions {
    Setup::default().simulator
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_twice_in_a_view_is_rejected_until_repaired() {
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
    // Only the new row is in the range that an incremental pass reads. The other row of the account is old.
    env.execute("INSERT INTO two (id, city) VALUES ('b', 'Z')").await;
    let preview = env.imsync(&["preview", "--json"]).await.expect_code(0).json_lines();
    assert!(preview.is_empty(), "the preview reads the other row too: {preview:?}");
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(rejected_attributes(&env).await, [("b".to_owned(), "(account)".to_owned())]);
    assert_eq!(env.handle().user("b")["city"], "B", "imsync cannot decide between the two rows");
    env.execute("DELETE FROM one WHERE id = 'b'; UPDATE two SET updated_at = now() WHERE id = 'b'").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().user("b")["city"], "Z");
    assert_eq!(rejected_attributes(&env).await, vec![]);
    expect_truth(&env).await;
}

/// `timpush` accepts a call in part and lists the refused accounts.
#[tokio::test(flavor = "multi_thread")]
async fn timpush_accepts_the_other_accounts_of_a_call() {
    let setup =
        Setup { im: "service = \"timpush\"\ntimeout = \"10s\"\nretry_for = \"20s\"\n".to_owned(), ..Setup::default() };
    let env = environment_of(250, setup).await;
    fault(&env, "refuse:90035:per-account:account=u00007,u00150");
    fault(&env, "refuse:91000:per-account:account=u00008:times=1");
    env.imsync(&["backfill"]).await.expect_code(3);
    let calls = env.handle().counters();
    assert!(calls.endpoints.contains_key("timpush/set_attr") && calls.endpoints.len() == 1, "{calls:?}");
    // Three calls for the batches, and one more for the account that IM refused temporarily.
    assert_eq!(calls.arrived, 4);
    assert_eq!(
        rejected_attributes(&env).await,
        [("u00007".to_owned(), "(account)".to_owned()), ("u00150".to_owned(), "(account)".to_owned())]
    );
    assert_eq!(env.handle().users().len(), 248);
    expect_truth(&env).await;
    env.handle().clear_faults();
    env.imsync(&["rejected", "retry"]).await.expect_code(0);
    env.imsync(&["run", "--once"]).await.expect_code(0);
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
}
