//! Tests `preview`, which shows what the next pass or a backfill would send.
//!
//! Owns: the output of `preview`, and that it changes nothing. Must not know: how a pass compares.

use serde_json::{Value, json};

use super::{assert_keys, people, state_tables};
use crate::support::{Setup, TestEnvironment};

fn accounts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["account"].as_str().unwrap()).collect()
}

/// Asserts the text output, `--limit` and `--account`.
async fn expect_text_and_selection(env: &TestEnvironment) {
    env.imsync(&["preview"]).await.expect_code(0).expect_all(&[
        "u0003",
        "city: \"city 3\" → \"Wien\"",
        "plan: \"pro\" → (none)",
        "city: (none) → \"Graz\"",
    ]);
    let two = env.imsync(&["preview", "--full", "--limit", "2", "--json"]).await.expect_code(0).json_lines();
    assert_eq!(two.len(), 2);
    let named = ["preview", "--account", "u0007", "--account", "u0009", "--account", "u0001", "--json"];
    let named = env.imsync(&named).await.expect_code(0).json_lines();
    let mut named = accounts(&named);
    named.sort_unstable();
    assert_eq!(named, ["u0007", "u0009"], "the selected accounts that differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn preview_shows_old_and_new_values_by_account() {
    let env = TestEnvironment::set_up(Setup::default()).await;
    env.execute(&people(40)).await;
    // The timestamps are older than the watermark grace. Only rows with a newer timestamp are read again.
    env.execute("UPDATE users SET updated_at = now() - interval '1 hour'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.run_until_no_full_pass_is_due().await;
    let unchanged = env.imsync(&["preview"]).await.expect_code(0).expect_all(&["0 accounts"]);
    assert!(unchanged.stdout.is_empty(), "{unchanged:?}");

    env.execute(
        "UPDATE users SET city = 'Wien', plan = NULL, updated_at = now() WHERE id = 'u0003';
             UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u0005';
             INSERT INTO users (id, city) VALUES ('v1', 'Graz');
             UPDATE users SET city = 'unseen' WHERE id = 'u0007';
             DELETE FROM users WHERE id = 'u0009';",
    )
    .await;
    let (before, calls) = (state_tables(&env.database).await, env.handle().counters().arrived);
    let next = env.imsync(&["preview", "--json"]).await.expect_code(0).json_lines();
    let mut changed = accounts(&next);
    changed.sort_unstable();
    assert_eq!(changed, ["u0003", "u0005", "v1"], "the changes that the watermark column shows");
    for line in &next {
        assert_keys(line, &["account", "set", "remove", "was"]);
    }
    let of = |lines: &[Value], account: &str| lines.iter().find(|line| line["account"] == account).unwrap().clone();
    let u3 = of(&next, "u0003");
    assert_eq!(u3["set"], json!({ "city": "Wien" }));
    assert_eq!(u3["remove"], json!(["plan"]));
    assert_eq!(u3["was"], json!({ "city": "city 3", "plan": "pro" }));
    let gone = of(&next, "u0005");
    assert_eq!((&gone["set"], gone["remove"].as_array().unwrap().len()), (&json!({}), 3));
    assert_eq!(of(&next, "v1")["was"], json!({ "city": null }));

    let full = env.imsync(&["preview", "--full", "--json"]).await.expect_code(0).json_lines();
    let mut all = accounts(&full);
    all.sort_unstable();
    assert_eq!(
        all,
        ["u0003", "u0005", "u0007", "u0009", "v1"],
        "a full preview also shows changes without a new timestamp and deleted rows"
    );

    expect_text_and_selection(&env).await;
    assert_eq!(env.handle().counters().arrived, calls, "a preview makes no call");
    assert_eq!(state_tables(&env.database).await, before, "a preview changes nothing");
    env.imsync(&["run", "--once"]).await.expect_code(0);
    let mut sent: Vec<String> = env
        .handle()
        .calls()
        .into_iter()
        .skip(usize::try_from(calls).unwrap())
        .flat_map(|call| call.users)
        .map(|user| user.account)
        .collect();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent, ["u0003", "u0005", "v1"], "the next pass sends what the preview showed");
}
