//! Tests `verify`: it finds exactly what differs in IM, tells it from changes under way, and repairs it.
//!
//! Owns: the ways in which IM and the table can differ. Must not know: how accounts are drawn and compared.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{assert_keys, assert_time, has_state_schema, people, state_tables};
use crate::support::{CommandOutput, SOURCE, Setup, TestEnvironment, ended, signal};

/// Rows that were stamped long before the first pass, so that no later pass reads them again.
async fn environment(accounts: u32, setup: Setup) -> TestEnvironment {
    let env = TestEnvironment::set_up(setup).await;
    env.execute(&people(accounts)).await;
    env.execute("UPDATE users SET updated_at = now() - interval '1 hour'").await;
    env
}

async fn synced(accounts: u32) -> TestEnvironment {
    let env = environment(accounts, Setup::default()).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env
}

/// Replaces one attribute in IM, or removes it.
fn tamper(env: &TestEnvironment, account: &str, name: &str, value: Option<&str>) {
    let mut attributes = env.handle().user(account);
    match value {
        Some(value) => attributes.insert(name.to_owned(), value.to_owned()),
        None => attributes.remove(name),
    };
    env.handle().set_user(account, &attributes).unwrap();
}

/// Account, attribute, expected, acknowledged and actual of each value that differs, in order.
fn drifted(document: &Value) -> Vec<Value> {
    let mut drifted: Vec<Value> = document["drifted"].as_array().unwrap().clone();
    drifted.sort_by_key(ToString::to_string);
    let keys = ["account", "attribute", "expected", "acknowledged", "actual"];
    drifted.iter().map(|value| keys.iter().map(|key| value[key].clone()).collect()).collect()
}

async fn verified(env: &TestEnvironment, code: i32, more: &[&str]) -> Value {
    let arguments: Vec<&str> = ["verify", "--json"].into_iter().chain(more.iter().copied()).collect();
    env.imsync(&arguments).await.expect_code(code).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_differs_is_found_and_nothing_changes() {
    let env = synced(300).await;
    let document = verified(&env, 0, &[]).await;
    assert_keys(&document, &["checked", "matching", "drifted", "repaired"]);
    assert_eq!((&document["checked"], &document["matching"]), (&json!(300), &json!(300)));
    // Another value, a value that is missing, one where the table has none, and an account that lost everything.
    tamper(&env, "u0003", "city", Some("elsewhere"));
    tamper(&env, "u0006", "plan", None);
    tamper(&env, "u0007", "sex", Some("male"));
    env.handle().remove_user("u0008");
    let (before, users) = (state_tables(&env.database).await, env.handle().users());
    for scope in [&["--all"] as &[&str], &["--sample", "5000"], &[]] {
        let document = verified(&env, 3, scope).await;
        let expected = [
            json!(["u0003", "city", "city 3", "city 3", "elsewhere"]),
            json!(["u0006", "plan", "pro", "pro", null]),
            json!(["u0007", "sex", null, null, "male"]),
            json!(["u0008", "city", "city 1", "city 1", null]),
            json!(["u0008", "plan", "free", "free", null]),
            json!(["u0008", "sex", "male", "male", null]),
        ];
        assert_eq!(drifted(&document), expected, "{scope:?}");
        let counts =
            [&document["checked"], &document["matching"], &document["drifted_accounts"], &document["repaired"]];
        assert_eq!(counts, [&json!(300), &json!(296), &json!(4), &json!(0)]);
        assert_eq!(document["attributes"], json!({"city": 2, "plan": 2, "sex": 2}));
    }
    let text = env.imsync(&["verify"]).await.expect_code(3);
    text.expect_all(&[
        "300 accounts compared with IM",
        "296  match",
        "4  differ",
        "2  differ in city",
        "u0003  city: the table says \"city 3\", IM holds \"elsewhere\" and acknowledged \"city 3\"",
        "u0006  plan: the table says \"pro\", IM holds (none)",
        "imsync verify --repair",
    ]);
    assert_eq!(state_tables(&env.database).await, before, "the command changes nothing");
    assert_eq!(env.handle().users(), users);
    assert_eq!(env.handle().violations(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_sends_only_what_differs_and_is_recorded() {
    let env = synced(250).await;
    tamper(&env, "u0003", "city", Some("elsewhere"));
    tamper(&env, "u0007", "sex", Some("male"));
    env.handle().remove_user("u0008");
    env.handle().clear_records();
    let document = verified(&env, 0, &["--all", "--repair"]).await;
    assert_eq!((&document["drifted_accounts"], &document["repaired"]), (&json!(3), &json!(3)));
    assert_eq!(env.handle().users(), env.wanted_of_users().await);
    let calls = env.handle().calls();
    let writes =
        calls.iter().filter(|call| call.endpoint.ends_with("set_attr") || call.endpoint.ends_with("remove_attr"));
    let values: usize = writes.flat_map(|call| &call.users).map(|user| user.attributes.len()).sum();
    assert_eq!(values, 5, "only the values that differ are in calls");
    let status = env.imsync(&["status", "--json"]).await.expect_code(0).json();
    assert_time(&status["verification"]["finished_at"]);
    assert_eq!((&status["verification"]["drifted"], &status["verification"]["repaired"]), (&json!(0), &json!(3)));
    assert_eq!(status["last_passes"][0]["kind"], "selected");
    let again = env.imsync(&["verify", "--all", "--repair"]).await.expect_code(0);
    again.expect_all(&["250 accounts compared", "250  match"]);
    // IM refuses the repair of one account.
    tamper(&env, "u0009", "city", Some("elsewhere"));
    tamper(&env, "u0010", "city", Some("elsewhere"));
    env.handle().add_fault("refuse:70402:command=set_attr:account=u0009".parse().unwrap());
    let text = env.imsync(&["verify", "--repair"]).await.expect_code(3);
    text.expect_all(&["1 account repaired, 1 not: 1 rejected"]);
    env.imsync(&["status"]).await.expect_all(&["1 differ in IM, for example u00"]);
    assert_eq!(env.handle().user("u0010")["city"], env.wanted_of_users().await["u0010"]["city"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pass_is_going_to_do_is_no_drift() {
    let env = synced(40).await;
    let of = |document: &Value| {
        ["drifted_accounts", "pending", "in_doubt", "rejected", "matching"].map(|key| document[key].as_u64().unwrap())
    };
    // The next pass sends it.
    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u0001'").await;
    env.execute("DELETE FROM users WHERE id = 'u0002'").await;
    env.execute("UPDATE users SET deleted_at = now(), updated_at = now() WHERE id = 'u0003'").await;
    // No pass sees these before the next full pass: one is deleted, one changed without its stamp.
    env.execute("UPDATE users SET city = 'hidden' WHERE id = 'u0004'").await;
    let document = verified(&env, 3, &["--all"]).await;
    assert_eq!(of(&document), [2, 2, 0, 0, 36], "{document}");
    let accounts: Vec<Value> = drifted(&document).iter().map(|value| value[0].clone()).collect();
    assert!(accounts.contains(&json!("u0002")) && accounts.contains(&json!("u0004")), "{document}");
    env.imsync(&["backfill"]).await.expect_code(0);

    env.execute("UPDATE users SET gender = 'x', updated_at = now() WHERE id = 'u0005'").await;
    env.handle().add_fault("refuse:70402:command=set_attr:account=u0006".parse().unwrap());
    env.execute("UPDATE users SET city = 'third', updated_at = now() WHERE id = 'u0006'").await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    env.handle().add_fault("fail:cut:command=set_attr:account=u0007".parse().unwrap());
    env.edit("retry_for = \"20s\"", "retry_for = \"1s\"");
    env.execute("UPDATE users SET city = 'third', updated_at = now() WHERE id = 'u0007'").await;
    env.imsync(&["run", "--once"]).await.expect_code(1);
    env.handle().clear_faults();
    let document = verified(&env, 0, &["--all"]).await;
    assert_eq!(of(&document), [0, 0, 1, 2, 36], "{document}");
    env.imsync(&["verify", "--all"]).await.expect_code(0).expect_all(&["1  in doubt", "2  rejected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_under_way_are_never_called_drift() {
    let env = environment(400, Setup::default()).await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the first pass is done", async || env.handle().users().len() == 400).await;
    // Rows change all the time, calls take long, and some have no answer.
    env.handle().add_fault("slow:150ms:command=set_attr".parse().unwrap());
    let stop = tokio::sync::watch::channel(false);
    let changes = async {
        let mut number = 0;
        while !*stop.1.borrow() {
            number += 1;
            env.execute(&format!(
                "UPDATE users SET city = 'c{number}', plan = CASE WHEN random() < 0.2 THEN NULL ELSE 'p{number}' END,
                 updated_at = now() WHERE random() < 0.1"
            ))
            .await;
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
    };
    let verifications = async {
        let mut moved = 0;
        for _ in 0..8 {
            let output = env.imsync(&["verify", "--all", "--json"]).await;
            let document = output.json();
            assert_eq!((output.code, &document["drifted"]), (Some(0), &json!([])), "{document}");
            assert_eq!(document["checked"], 400);
            moved += document["pending"].as_u64().unwrap() + document["in_flight"].as_u64().unwrap();
        }
        stop.0.send_replace(true);
        assert!(moved > 0, "the verifications met changes under way");
    };
    tokio::join!(changes, verifications);
    env.handle().clear_faults();
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.handle().violations(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_state_tables_everything_differs() {
    let env = environment(30, Setup::default()).await;
    let document = verified(&env, 3, &[]).await;
    assert_eq!((&document["checked"], &document["drifted_accounts"]), (&json!(30), &json!(30)));
    assert!(drifted(&document).iter().all(|value| value[3].is_null() && value[4].is_null()));
    assert!(!has_state_schema(&env).await, "the command creates nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_verifies_by_itself_and_says_what_differs() {
    let port = super::free_port();
    let more = format!(
        "[schedule]\ninterval = \"200ms\"\nverify_every = \"1m\"\nverify_sample = 500\n[http]\nlisten = \"127.0.0.1:{port}\"\n"
    );
    let env = environment(200, Setup { more, ..Setup::default() }).await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the first verification is logged", async || {
        env.printed("run", "err").contains("a random sample was compared with IM: no difference")
    })
    .await;
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    // A minute later, as far as the state knows.
    tamper(&env, "u0003", "city", Some("elsewhere"));
    env.execute("UPDATE imsync.sync SET verification = verification || jsonb_build_object('ended_at', now() - interval '2 minutes')").await;
    let mut daemon = env.start("again", &["run"]);
    env.eventually("the drift is logged", async || env.printed("again", "err").contains("for example u0003")).await;
    let (_, metrics) = super::ask(port, "/metrics").await.unwrap();
    assert!(metrics.lines().any(|line| line == "imsync_drifted_accounts 1"), "{metrics}");
    let status = env.imsync(&["status", "--json"]).await.expect_code(0).json();
    assert_eq!(status["verification"]["examples"], json!(["u0003"]));
    env.imsync(&["status"]).await.expect_all(&["1 differ in IM, for example u0003"]);
    // Beside the daemon nobody repairs.
    let refused = env.imsync(&["verify", "--repair"]).await.expect_code(1);
    refused.expect_all(&["imsync run (pid", "holds the lease"]);
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
    assert_eq!(env.handle().user("u0003")["city"], "elsewhere", "the daemon does not repair by itself");
    // The metric is right from the start of the next daemon on, and a repair clears it.
    env.imsync(&["verify", "--repair"]).await.expect_code(0);
    env.imsync(&["status"]).await.expect_all(&["IM holds what the table says"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_chat_does_not_know_cost_few_calls() {
    for service in ["all_member_push", "timpush"] {
        let mut setup = Setup { im: format!("{}service = \"{service}\"\n", Setup::default().im), ..Setup::default() };
        let known: Vec<String> =
            (1..=1000).filter(|number| number % 10 != 0).map(|number| format!("u{number:04}")).collect();
        setup.simulator.imported_accounts = Some(known.into_iter().chain(["administrator".to_owned()]).collect());
        let env = environment(1000, setup).await;
        env.imsync(&["backfill"]).await.expect_code(3);
        tamper(&env, "u0003", "city", None);
        env.handle().clear_records();
        let document = verified(&env, 3, &["--all"]).await;
        let counts = ["checked", "matching", "rejected", "drifted_accounts"].map(|key| document[key].as_u64().unwrap());
        assert_eq!(counts, [1000, 899, 100, 1], "{document}");
        let calls = env.handle().calls().len();
        assert!(calls <= 70, "{service}: {calls} calls");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_im_that_cannot_be_read_is_named() {
    let env = synced(30).await;
    env.edit("retry_for = \"20s\"", "retry_for = \"1s\"");
    for (fault, said) in [
        ("refuse:70003:command=get_attr", "70003"),
        ("fail:http-502:command=get_attr", "IM was not read"),
        ("refuse:12345:command=get_attr", "IM refuses to read 30 of the accounts (code 12345"),
        ("refuse:70402:command=get_attr:account=u0003", "IM refuses to read 1 of the accounts (code 70402"),
    ] {
        env.handle().add_fault(fault.parse().unwrap());
        env.imsync(&["verify"]).await.expect_code(1).expect_all(&[said]);
        env.handle().clear_faults();
    }
    env.edit("base_url = \"http://127.0.0.1:", "base_url = \"http://127.0.0.2:");
    let output: CommandOutput = env.imsync(&["verify", "--repair"]).await.expect_code(1);
    output.expect_all(&["IM was not read", "run the command again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_verification_of_an_app_runs_at_a_time() {
    let mut setup = Setup { im: "calls_per_second = 2\nusers_per_call = 10\n".to_owned(), ..Setup::default() };
    setup.simulator.calls_per_second = 100;
    let env = environment(100, setup).await;
    let mut first = env.start("first", &["verify", "--all"]);
    env.eventually("it reads", async || !env.handle().calls().is_empty()).await;
    env.imsync(&["verify"]).await.expect_code(1).expect_all(&["another verification of app 1400000000 is running"]);
    signal(&first, "INT");
    assert_eq!(ended(&mut first).await, Some(1));
    assert!(env.printed("first", "err").contains("stopped on request"), "{}", env.printed("first", "err"));
    env.imsync(&["verify", "--sample", "5"]).await.expect_code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_repair_is_finished_by_the_next_pass() {
    let env = synced(60).await;
    let wanted: BTreeMap<_, _> = env.wanted_of_users().await;
    for account in ["u0003", "u0004", "u0005"] {
        tamper(&env, account, "city", Some("elsewhere"));
    }
    for fault in ["hold:command=set_attr"] {
        let id = env.handle().add_fault(fault.parse().unwrap());
        let mut repair = env.start("repair", &["verify", "--repair"]);
        env.eventually("it sends", async || env.handle().counters().held > 0).await;
        signal(&repair, "KILL");
        ended(&mut repair).await;
        env.handle().remove_fault(id);
    }
    env.cut_sessions().await;
    env.run_until_no_full_pass_is_due().await;
    env.eventually("IM holds what the table says", async || {
        env.imsync(&["run", "--once"]).await;
        env.handle().users() == wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_sends_what_no_pass_is_going_to_send() {
    let source = SOURCE.replace("watermark_column = \"updated_at\"\nwatermark_grace = \"1s\"\n", "");
    let env = environment(30, Setup { source, ..Setup::default() }).await;
    env.imsync(&["backfill"]).await.expect_code(0);
    env.execute("UPDATE users SET city = 'moved' WHERE id = 'u0003'").await;
    assert_eq!(drifted(&verified(&env, 3, &["--all"]).await).len(), 1);
    let document = verified(&env, 0, &["--all", "--repair"]).await;
    assert_eq!((&document["drifted_accounts"], &document["repaired"]), (&json!(1), &json!(1)));
    assert_eq!(env.handle().user("u0003")["city"], "moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_full_pass_does_not_make_a_stamped_change_drift() {
    let env = synced(30).await;
    env.execute("UPDATE imsync.sync SET full_pass_ended_at = now() - interval '3 days'").await;
    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u0003'").await;
    let document = verified(&env, 0, &["--all"]).await;
    assert_eq!((&document["pending"], &document["matching"]), (&json!(1), &json!(29)));
    // Only a full pass finds a row that was deleted. A daemon runs it; here nobody does.
    env.execute("DELETE FROM users WHERE id = 'u0004'").await;
    assert_eq!(verified(&env, 3, &["--all"]).await["drifted_accounts"], 1);
    env.execute("UPDATE imsync.sync SET full_pass_ended_at = now()").await;
    let mut daemon = env.start("run", &["run"]);
    env.eventually("the daemon leads", async || env.printed("run", "err").contains(" leading")).await;
    env.eventually("the change is sent", async || env.handle().user("u0003")["city"] == "moved").await;
    let document = verified(&env, 0, &["--all"]).await;
    assert_eq!((&document["pending"], &document["matching"]), (&json!(1), &json!(29)));
    signal(&daemon, "TERM");
    assert_eq!(ended(&mut daemon).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_has_left_is_in_doubt() {
    let env = synced(30).await;
    let hold = env.handle().add_fault("hold:command=set_attr".parse().unwrap());
    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id < 'u0006'").await;
    let mut pass = env.start("pass", &["run", "--once"]);
    env.eventually("it sends", async || env.handle().counters().held > 0).await;
    signal(&pass, "KILL");
    ended(&mut pass).await;
    env.cut_sessions().await;
    let document = verified(&env, 0, &["--all"]).await;
    env.handle().remove_fault(hold);
    assert_eq!((&document["in_doubt"], &document["in_flight"]), (&json!(5), &json!(0)), "{document}");
}
