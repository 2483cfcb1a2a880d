//! Each fault as a caller meets it.

use std::time::Duration;

use serde_json::json;

use super::{World, set, soon, within_a_second};
use crate::simulator::code;

const SET: &str = "all_member_push/im_set_attr";

/// Send a call that sets u1's city, and give what came of it: status and body, or an error of the connection.
async fn raw(world: &World, path: &str) -> Result<(u16, Vec<u8>), reqwest::Error> {
    let response = world.request(path, &set(&[("u1", json!({"city": "a"}))])).send().await?;
    let status = response.status().as_u16();
    Ok((status, response.bytes().await?.to_vec()))
}

#[tokio::test]
async fn refusing_applies_nothing_and_ends_when_the_rule_goes() {
    let world = World::start().await;
    let rule = world.fault("refuse:91000:account=u1");
    assert_eq!(world.set_city("u1", "a").await, 91000);
    assert_eq!(world.set_city("u2", "b").await, 0, "the rule is about u1");
    assert_eq!((world.city("u1"), world.city("u2")), (None, Some("b".to_owned())));
    assert!(world.handle().remove_fault(rule));
    assert_eq!(world.set_city("u1", "a").await, 0);
}

#[tokio::test]
async fn refusing_single_accounts_leaves_the_others_of_a_newer_call() {
    let world = World::start().await;
    world.fault("refuse:70402:account=u2,u4:per-account");
    let users = ["u1", "u2", "u3", "u4"].map(|account| (account, json!({"city": "a"})));
    let answer = world.call("timpush/set_attr", &set(&users)).await;
    assert_eq!(answer.code(), 0);
    let expected = json!([{"To_Account": "u2", "ErrorCode": 70402}, {"To_Account": "u4", "ErrorCode": 70402}]);
    assert_eq!(answer.body["ErrorList"], expected);
    assert_eq!(world.handle().users().into_keys().collect::<Vec<_>>(), ["u1", "u3"]);
    assert_eq!(world.handle().calls()[0].errors.len(), 2);
    assert_eq!(world.call(SET, &set(&users)).await.code(), 70402);
}

#[tokio::test]
async fn answers_can_be_wrong_with_and_without_the_call_being_applied() {
    for applies in [false, true] {
        let action = if applies { "apply-then-fail" } else { "fail" };
        for wrong in ["91000", "http-502", "html", "cut", "close", "garbage", "huge-1"] {
            let world = World::start().await;
            world.fault(&format!("{action}:{wrong}:times=1"));
            let result = soon(raw(&world, SET)).await;
            let seen = result.as_ref().map(|(status, body)| (*status, String::from_utf8_lossy(body).into_owned()));
            match (wrong, seen) {
                ("91000", Ok((200, body))) => assert!(body.contains(r#""ErrorCode":91000"#), "{body}"),
                ("http-502", Ok((502, _))) => {}
                ("html", Ok((200, body))) => assert!(body.starts_with("<!DOCTYPE html>")),
                ("garbage", Ok((200, body))) => assert!(!body.contains("ErrorCode")),
                ("huge-1", Ok((200, body))) => assert_eq!(body.len(), 1 << 20),
                ("cut", Err(error)) => assert!(error.is_body() || error.is_decode(), "{error:?}"),
                ("close", Err(error)) => assert!(error.is_request(), "{error:?}"),
                (_, other) => panic!("{action}:{wrong} gave {other:?}"),
            }
            assert_eq!(world.city("u1").is_some(), applies, "{action}:{wrong}");
            assert_eq!(world.handle().calls()[0].applied, applies);
            assert_eq!(world.set_city("u1", "b").await, 0, "after {wrong} all is well again");
        }
    }
}

#[tokio::test]
async fn a_gateway_says_when_to_come_again() {
    let world = World::start().await;
    world.fault("http:429:retry-after=7");
    let response = world.request(SET, &set(&[("u1", json!({"city": "a"}))])).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(world.city("u1"), None);
}

#[tokio::test]
async fn a_held_call_waits_for_its_release() {
    let world = World::start().await;
    let rule = world.fault("hold:account=u1");
    let held = soon(async {
        tokio::join!(world.set_city("u1", "a"), async {
            world.handle().wait_until(|counters| counters.held == 1).await;
            assert_eq!(world.city("u1"), None, "held before it is applied");
            assert_eq!(world.set_city("u2", "b").await, 0, "others go on");
            world.handle().release(rule);
        })
    });
    assert_eq!(held.await.0, 0);
    assert_eq!(world.city("u1").as_deref(), Some("a"));
    world.handle().clear_faults();
    assert_eq!(world.set_city("u1", "b").await, 0);
}

#[tokio::test]
async fn an_applied_call_can_be_held_and_given_up() {
    let world = World::start().await;
    let rule = world.fault("apply-then-hold:times=1");
    let caller = tokio::spawn(world.request(SET, &set(&[("u1", json!({"city": "a"}))])).send());
    soon(world.handle().wait_until(|counters| counters.held == 1)).await;
    assert_eq!(world.city("u1").as_deref(), Some("a"), "applied before it is held");
    caller.abort();
    soon(world.handle().wait_until(|counters| counters.given_up == 1 && counters.in_flight == 0)).await;
    world.handle().release(rule);
    soon(world.handle().wait_until(|counters| counters.held == 0)).await;
    let call = &world.handle().calls()[0];
    assert!(call.applied && call.given_up);
}

#[tokio::test]
async fn a_held_call_is_applied_although_its_caller_went_away() {
    let world = World::start().await;
    let rule = world.fault("hold");
    let caller = tokio::spawn(world.request(SET, &set(&[("u1", json!({"city": "a"}))])).send());
    soon(world.handle().wait_until(|counters| counters.held == 1)).await;
    caller.abort();
    soon(world.handle().wait_until(|counters| counters.given_up == 1)).await;
    assert_eq!(world.city("u1"), None);
    world.handle().release(rule);
    soon(world.handle().wait_until(|counters| counters.applied == 1)).await;
    assert_eq!(world.city("u1").as_deref(), Some("a"));
}

#[tokio::test]
async fn a_ghost_is_applied_after_its_caller_went_away_and_later_calls_were_answered() {
    let world = World::start().await;
    world.fault("ghost:100ms:times=1");
    let caller = tokio::spawn(world.request(SET, &set(&[("u1", json!({"city": "old"}))])).send());
    soon(world.handle().wait_until(|counters| counters.held == 1)).await;
    caller.abort();
    assert_eq!(world.set_city("u1", "new").await, 0);
    soon(world.handle().wait_until(|counters| counters.applied == 2)).await;
    assert_eq!(world.city("u1").as_deref(), Some("old"), "the ghost came last");
    assert!(world.handle().violations().is_empty(), "to call again after giving up is right");
}

#[tokio::test]
async fn a_hold_with_a_limit_and_a_slow_call_end_by_themselves() {
    let world = World::start().await;
    world.fault("hold:50ms:times=1");
    world.fault("slow:50ms:times=1");
    let before = crate::simulator::clock::monotonic();
    assert_eq!(soon(world.set_city("u1", "a")).await, 0);
    assert!(before.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_throttle_lets_so_many_through() {
    let start = async || {
        let world = World::start().await;
        world.fault("throttle:3:command=set_attr");
        world
    };
    let (world, codes) = within_a_second(5, start).await;
    assert_eq!(codes, [0, 0, 0, code::TOO_OFTEN, code::TOO_OFTEN]);
    assert!(world.handle().violations().is_empty(), "nobody could know of it");
}

#[tokio::test]
async fn rules_count_the_calls_they_are_about() {
    let world = World::start().await;
    world.fault("refuse:1:after=1:every=2:times=2:attribute=city:service=all_member_push");
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(world.set_city("u1", "a").await);
        assert_eq!(world.call(SET, &set(&[("u1", json!({"sex": "f"}))])).await.code(), 0);
    }
    assert_eq!(codes, [0, 0, 1, 0, 1, 0, 0, 0]);
    assert_eq!(world.handle().faults()[0].2, 2);
}

#[tokio::test]
async fn chances_are_repeatable_and_about_right() {
    let mut rows = Vec::new();
    for seed in [1, 1, 2] {
        let mut options = super::options();
        options.calls_per_second = 0;
        let world = World::with(options).await;
        world.fault(&format!("refuse:1:chance=0.3:seed={seed}"));
        let mut row = Vec::new();
        for _ in 0..200 {
            row.push(world.set_city("u1", "a").await);
        }
        rows.push(row);
    }
    assert_eq!(rows[0], rows[1]);
    assert_ne!(rows[0], rows[2]);
    let refused = rows[0].iter().filter(|code| **code == 1).count();
    assert!((30..=90).contains(&refused), "{refused} of 200 at 30 %");
}

#[tokio::test]
async fn a_simulator_that_stops_lets_held_calls_go_on() {
    let world = World::start().await;
    world.fault("hold");
    let handle = world.handle().clone();
    let caller = tokio::spawn(world.request(SET, &set(&[("u1", json!({"city": "a"}))])).send());
    soon(handle.wait_until(|counters| counters.held == 1)).await;
    let address = world.running.address();
    soon(world.running.stop()).await;
    assert_eq!(soon(caller).await.unwrap().unwrap().status().as_u16(), 200);
    assert_eq!(handle.user("u1")["city"], "a");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
