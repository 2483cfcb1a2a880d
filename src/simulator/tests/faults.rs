//! Each fault, as a caller sees it.
//!
//! Owns: the tests of the fault actions and of their conditions. Must not know: the text form in detail.

use std::time::Duration;

use serde_json::json;

use super::{TestSimulator, set, soon, within_a_second};
use crate::simulator::error_code;

const SET: &str = "all_member_push/im_set_attr";

/// Sends a call that sets u1's city. Returns status and body, or the connection's error.
async fn raw(simulator: &TestSimulator, path: &str) -> Result<(u16, Vec<u8>), reqwest::Error> {
    let response = simulator.request(path, &set(&[("u1", json!({"city": "a"}))])).send().await?;
    let status = response.status().as_u16();
    Ok((status, response.bytes().await?.to_vec()))
}

#[tokio::test]
async fn a_refused_call_is_not_applied_until_the_rule_is_removed() {
    let simulator = TestSimulator::start().await;
    let rule = simulator.fault("refuse:91000:account=u1");
    assert_eq!(simulator.set_city("u1", "a").await, 91000);
    assert_eq!(simulator.set_city("u2", "b").await, 0, "the rule matches u1 only");
    assert_eq!((simulator.city("u1"), simulator.city("u2")), (None, Some("b".to_owned())));
    assert!(simulator.handle().remove_fault(rule));
    assert_eq!(simulator.set_city("u1", "a").await, 0);
}

#[tokio::test]
async fn timpush_applies_to_the_accounts_that_are_not_refused() {
    let simulator = TestSimulator::start().await;
    simulator.fault("refuse:70402:account=u2,u4:per-account");
    let users = ["u1", "u2", "u3", "u4"].map(|account| (account, json!({"city": "a"})));
    let answer = simulator.call("timpush/set_attr", &set(&users)).await;
    assert_eq!(answer.code(), 0);
    let expected = json!([{"To_Account": "u2", "ErrorCode": 70402}, {"To_Account": "u4", "ErrorCode": 70402}]);
    assert_eq!(answer.body["ErrorList"], expected);
    assert_eq!(simulator.handle().users().into_keys().collect::<Vec<_>>(), ["u1", "u3"]);
    assert_eq!(simulator.handle().calls()[0].errors.len(), 2);
    assert_eq!(simulator.call(SET, &set(&users)).await.code(), 70402);
}

#[tokio::test]
async fn a_wrong_answer_can_come_with_or_without_applying() {
    for applies in [false, true] {
        let action = if applies { "apply-then-fail" } else { "fail" };
        for answer in ["91000", "http-502", "html", "cut", "close", "garbage", "huge-1"] {
            let simulator = TestSimulator::start().await;
            simulator.fault(&format!("{action}:{answer}:times=1"));
            let result = soon(raw(&simulator, SET)).await;
            let seen = result.as_ref().map(|(status, body)| (*status, String::from_utf8_lossy(body).into_owned()));
            match (answer, seen) {
                ("91000", Ok((200, body))) => assert!(body.contains(r#""ErrorCode":91000"#), "{body}"),
                ("http-502", Ok((502, _))) => {}
                ("html", Ok((200, body))) => assert!(body.starts_with("<!DOCTYPE html>")),
                ("garbage", Ok((200, body))) => assert!(!body.contains("ErrorCode")),
                ("huge-1", Ok((200, body))) => assert_eq!(body.len(), 1 << 20),
                ("cut", Err(error)) => assert!(error.is_body() || error.is_decode(), "{error:?}"),
                ("close", Err(error)) => assert!(error.is_request(), "{error:?}"),
                (_, other) => panic!("{action}:{answer} gave {other:?}"),
            }
            assert_eq!(simulator.city("u1").is_some(), applies, "{action}:{answer}");
            assert_eq!(simulator.handle().calls()[0].applied, applies);
            assert_eq!(simulator.set_city("u1", "b").await, 0, "after {answer} the simulator answers normally");
        }
    }
}

#[tokio::test]
async fn an_http_fault_can_send_retry_after() {
    let simulator = TestSimulator::start().await;
    simulator.fault("http:429:retry-after=7");
    let response = simulator.request(SET, &set(&[("u1", json!({"city": "a"}))])).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(simulator.city("u1"), None);
}

#[tokio::test]
async fn a_held_call_waits_for_its_release() {
    let simulator = TestSimulator::start().await;
    let rule = simulator.fault("hold:account=u1");
    let held = soon(async {
        tokio::join!(simulator.set_city("u1", "a"), async {
            simulator.handle().wait_until(|counters| counters.held == 1).await;
            assert_eq!(simulator.city("u1"), None, "held before it is applied");
            assert_eq!(simulator.set_city("u2", "b").await, 0, "other accounts are not held");
            simulator.handle().release_held_calls(rule);
        })
    });
    assert_eq!(held.await.0, 0);
    assert_eq!(simulator.city("u1").as_deref(), Some("a"));
    simulator.handle().clear_faults();
    assert_eq!(simulator.set_city("u1", "b").await, 0);
}

#[tokio::test]
async fn a_caller_can_disconnect_while_its_answer_is_held() {
    let simulator = TestSimulator::start().await;
    let rule = simulator.fault("apply-then-hold:times=1");
    let caller = tokio::spawn(simulator.request(SET, &set(&[("u1", json!({"city": "a"}))])).send());
    soon(simulator.handle().wait_until(|counters| counters.held == 1)).await;
    assert_eq!(simulator.city("u1").as_deref(), Some("a"), "applied before it is held");
    caller.abort();
    soon(simulator.handle().wait_until(|counters| counters.given_up == 1 && counters.in_flight == 0)).await;
    simulator.handle().release_held_calls(rule);
    soon(simulator.handle().wait_until(|counters| counters.held == 0)).await;
    let call = &simulator.handle().calls()[0];
    assert!(call.applied && call.given_up);
}

#[tokio::test]
async fn a_held_call_is_applied_after_its_caller_disconnected() {
    let simulator = TestSimulator::start().await;
    let rule = simulator.fault("hold");
    let caller = tokio::spawn(simulator.request(SET, &set(&[("u1", json!({"city": "a"}))])).send());
    soon(simulator.handle().wait_until(|counters| counters.held == 1)).await;
    caller.abort();
    soon(simulator.handle().wait_until(|counters| counters.given_up == 1)).await;
    assert_eq!(simulator.city("u1"), None);
    simulator.handle().release_held_calls(rule);
    soon(simulator.handle().wait_until(|counters| counters.applied == 1)).await;
    assert_eq!(simulator.city("u1").as_deref(), Some("a"));
}

#[tokio::test]
async fn a_late_call_is_applied_after_a_later_call() {
    let simulator = TestSimulator::start().await;
    simulator.fault("late:100ms:times=1");
    let caller = tokio::spawn(simulator.request(SET, &set(&[("u1", json!({"city": "old"}))])).send());
    soon(simulator.handle().wait_until(|counters| counters.held == 1)).await;
    caller.abort();
    assert_eq!(simulator.set_city("u1", "new").await, 0);
    soon(simulator.handle().wait_until(|counters| counters.applied == 2)).await;
    assert_eq!(simulator.city("u1").as_deref(), Some("old"), "the late call was applied last");
    assert!(simulator.handle().violations().is_empty(), "calling again after a disconnect is no violation");
}

#[tokio::test]
async fn a_hold_with_a_limit_and_a_slow_call_end_without_release() {
    let simulator = TestSimulator::start().await;
    simulator.fault("hold:50ms:times=1");
    simulator.fault("slow:50ms:times=1");
    let before = crate::simulator::clock::monotonic();
    assert_eq!(soon(simulator.set_city("u1", "a")).await, 0);
    assert!(before.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_throttle_accepts_the_given_number_of_calls() {
    let start = async || {
        let simulator = TestSimulator::start().await;
        simulator.fault("throttle:3:command=set_attr");
        simulator
    };
    let (simulator, codes) = within_a_second(5, start).await;
    assert_eq!(codes, [0, 0, 0, error_code::TOO_OFTEN, error_code::TOO_OFTEN]);
    assert!(simulator.handle().violations().is_empty(), "a caller cannot know the limit of a throttle fault");
}

#[tokio::test]
async fn a_rule_counts_the_calls_that_match() {
    let simulator = TestSimulator::start().await;
    simulator.fault("refuse:1:after=1:every=2:times=2:attribute=city:service=all_member_push");
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(simulator.set_city("u1", "a").await);
        assert_eq!(simulator.call(SET, &set(&[("u1", json!({"sex": "f"}))])).await.code(), 0);
    }
    assert_eq!(codes, [0, 0, 1, 0, 1, 0, 0, 0]);
    assert_eq!(simulator.handle().faults()[0].2, 2);
}

#[tokio::test]
async fn a_chance_is_repeatable_and_roughly_right() {
    let mut sequences = Vec::new();
    for seed in [1, 1, 2] {
        let mut options = super::options();
        options.calls_per_second = 0;
        let simulator = TestSimulator::with(options).await;
        simulator.fault(&format!("refuse:1:chance=0.3:seed={seed}"));
        let mut codes = Vec::new();
        for _ in 0..200 {
            codes.push(simulator.set_city("u1", "a").await);
        }
        sequences.push(codes);
    }
    assert_eq!(sequences[0], sequences[1]);
    assert_ne!(sequences[0], sequences[2]);
    let refused = sequences[0].iter().filter(|code| **code == 1).count();
    assert!((30..=90).contains(&refused), "{refused} of 200 at 30 %");
}

#[tokio::test]
async fn a_stopping_simulator_releases_held_calls() {
    let simulator = TestSimulator::start().await;
    simulator.fault("hold");
    let handle = simulator.handle().clone();
    let caller = tokio::spawn(simulator.request(SET, &set(&[("u1", json!({"city": "a"}))])).send());
    soon(handle.wait_until(|counters| counters.held == 1)).await;
    let address = simulator.running.address();
    soon(simulator.running.stop()).await;
    assert_eq!(soon(caller).await.unwrap().unwrap().status().as_u16(), 200);
    assert_eq!(handle.user("u1")["city"], "a");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_rule_can_depend_on_the_content_and_size_of_the_body() {
    let simulator = TestSimulator::start().await;
    simulator.fault("http:403:contains=<script");
    simulator.fault("http:413:larger-than=200");
    let status = async |city: &str| {
        let body = set(&[("u1", json!({"city": city}))]);
        soon(simulator.request(SET, &body).send()).await.unwrap().status().as_u16()
    };
    assert_eq!(status("a <script>").await, 403);
    assert_eq!(status("a script").await, 200);
    assert_eq!(status(&"x".repeat(200)).await, 413);
    assert_eq!(simulator.city("u1"), Some("a script".to_owned()));
}
