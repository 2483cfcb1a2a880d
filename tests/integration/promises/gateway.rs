//! Tests answers of a gateway between imsync and IM: a refusal of some content rejects its account, any other one stops.
//!
//! Owns: HTTP statuses and pages in the place of IM's answer. Must not know: refusals by IM itself.

use imsync::simulator::SimulatorHandle;

use crate::support::{Setup, TestEnvironment};

use super::state_truth::expect_truth;
use super::{account, environment_of, fault, in_flight_twice, rejected, status};

const BAD: &str = "<script>alert</script>";

fn setup_of(service: &str) -> Setup {
    let im = format!("timeout = \"10s\"\nretry_for = \"20s\"\nservice = \"{service}\"\n");
    Setup { im, ..Setup::default() }
}

/// 300 rows, of which one has a value that a gateway refuses.
async fn environment_with_a_bad_value(service: &str, rule: &str) -> TestEnvironment {
    let env = environment_of(300, setup_of(service)).await;
    env.execute(&format!("UPDATE users SET city = '{BAD}' WHERE id = 'u00150'")).await;
    fault(&env, rule);
    env
}

fn sets(handle: &SimulatorHandle) -> usize {
    handle.calls().iter().filter(|call| call.endpoint.ends_with("set_attr")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_gateway_refuses_stops_nobody_else() {
    for (service, code) in [("all_member_push", 403), ("timpush", 422), ("all_member_push", 400)] {
        let env = environment_with_a_bad_value(service, &format!("http:{code}:contains=<script")).await;
        env.imsync(&["backfill"]).await.expect_code(3);
        let users = env.handle().users();
        assert_eq!(users.len(), 300, "{service} {code}");
        assert!(!users[&account(150)].contains_key("city"), "the other attributes of the account arrive");
        assert_eq!(users[&account(150)].len(), 2);
        let listed = rejected(&env).await;
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!((&listed[0]["account"], &listed[0]["attribute"]), (&"u00150".into(), &"city".into()));
        assert_eq!(listed[0]["code"], code);
        let reason = listed[0]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("gateway") && reason.contains(&format!("HTTP status {code}")), "{reason}");
        assert!(!reason.contains("script"), "{reason}");
        assert!(sets(env.handle()) <= 3 + 20 + 14 + 3, "{} calls", sets(env.handle()));
        // Later changes of others arrive, and the bad row is not sent again.
        env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id = 'u00151'").await;
        env.imsync(&["run", "--once"]).await.expect_code(3);
        assert_eq!(env.handle().user("u00151")["city"], "moved");
        env.execute("UPDATE users SET city = 'fine', updated_at = now() WHERE id = 'u00150'").await;
        env.imsync(&["run", "--once"]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await);
        assert_eq!(in_flight_twice(&env), vec![]);
        expect_truth(&env).await;
    }
}

/// Nothing else changes, so no other call shows that the gateway passes harmless content.
#[tokio::test(flavor = "multi_thread")]
async fn a_lone_change_that_a_gateway_refuses_is_rejected() {
    for first_row in [true, false] {
        let env = environment_of(if first_row { 1 } else { 30 }, Setup::default()).await;
        if !first_row {
            env.imsync(&["backfill"]).await.expect_code(0);
        }
        fault(&env, "http:403:contains=<script");
        env.execute(&format!("UPDATE users SET city = '{BAD}', updated_at = now() WHERE id = 'u00001'")).await;
        let command: &[&str] = if first_row { &["backfill"] } else { &["run", "--once"] };
        env.imsync(command).await.expect_code(3);
        assert_eq!(rejected(&env).await.len(), 1);
        expect_truth(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_limit_of_a_gateway_delays_nobody() {
    for service in ["all_member_push", "timpush"] {
        let env = environment_of(300, setup_of(service)).await;
        fault(&env, "http:413:larger-than=3000");
        env.imsync(&["backfill"]).await.expect_code(0);
        assert_eq!(env.handle().users(), env.wanted_of_users().await);
        assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_refuses_every_call_stops_the_pass() {
    for service in ["all_member_push", "timpush"] {
        for known in [false, true] {
            for code in [403, 401, 407, 404] {
                let env = environment_of(5, setup_of(service)).await;
                if known {
                    env.imsync(&["backfill"]).await.expect_code(0);
                    env.execute("UPDATE users SET city = 'moved', updated_at = now() WHERE id < 'u00004'").await;
                }
                env.handle().clear_records();
                fault(&env, &format!("http:{code}"));
                let command: &[&str] = if known { &["run", "--once"] } else { &["backfill"] };
                let ran = env.imsync(command).await.expect_code(1);
                assert!(ran.stderr.contains(&format!("HTTP status {code}")), "{}", ran.stderr);
                assert!(ran.stderr.contains("im.base_url"), "{}", ran.stderr);
                assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new(), "{service} {known} {code}");
                assert_eq!(status(&env).await["in_doubt"], 0);
                assert!(env.handle().counters().arrived <= 4, "{:?}", env.handle().counters());
                env.handle().clear_faults();
                env.imsync(&["backfill"]).await.expect_code(0);
                assert_eq!(env.handle().users(), env.wanted_of_users().await);
            }
        }
    }
}

/// Credentials that a proxy wants are missing for every call, whatever one of them carries.
#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_of_a_proxy_are_never_about_content() {
    for code in [401, 407] {
        let env = environment_with_a_bad_value("all_member_push", &format!("http:{code}:contains=<script")).await;
        env.imsync(&["backfill"]).await.expect_code(1);
        assert_eq!(rejected(&env).await, Vec::<serde_json::Value>::new());
        expect_truth(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_the_place_of_an_answer_rejects_its_account_only() {
    for answer in ["html", "garbage"] {
        let env = environment_with_a_bad_value("all_member_push", &format!("fail:{answer}:contains=<script")).await;
        // Exit code 1 is possible while a call that the gateway answered may still be applied.
        let ran = env.imsync(&["backfill"]).await;
        let listed = rejected(&env).await;
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!((&listed[0]["account"], &listed[0]["attribute"]), (&"u00150".into(), &"city".into()));
        assert!(!ran.stderr.contains("script") && ran.stdout.contains("1 rejected"), "{ran:?}");
        assert_eq!(env.handle().users().len(), 300);
        expect_truth(&env).await;
    }
}
