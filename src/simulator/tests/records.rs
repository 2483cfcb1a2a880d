//! The records: calls, counters, violations, changes.
//!
//! Owns: the tests of `recorder` and `in_flight`. Must not know: faults in detail.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::{TestSimulator, options, set, soon, within_a_second};
use crate::simulator::clock::monotonic;
use crate::simulator::{
    AttributeChange, SimulatedCommand, SimulatedService, SimulatorOptions, ViolationKind, error_code,
};

const SET: &str = "all_member_push/im_set_attr";

fn kinds(simulator: &TestSimulator) -> Vec<ViolationKind> {
    simulator.handle().violations().into_iter().map(|violation| violation.kind).collect()
}

#[tokio::test]
async fn the_rate_limit_applies_to_each_endpoint_separately() {
    let (simulator, codes) =
        within_a_second(8, async || TestSimulator::with(SimulatorOptions { calls_per_second: 5, ..options() }).await)
            .await;
    assert_eq!(codes, [0, 0, 0, 0, 0, error_code::TOO_OFTEN, error_code::TOO_OFTEN, error_code::TOO_OFTEN]);
    assert_eq!(simulator.call("timpush/set_attr", &set(&[("u9", json!({"city": "a"}))])).await.code(), 0);
    assert_eq!(simulator.handle().users().len(), 6, "refused calls are not applied");
    assert_eq!(kinds(&simulator), [ViolationKind::RateExceeded; 3]);
    let counters = simulator.handle().endpoint_counters(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr);
    assert_eq!((counters.arrived, counters.succeeded, counters.failed, counters.applied), (8, 5, 3, 5));
    assert_eq!(counters.max_in_one_second, 8);
    assert_eq!(simulator.handle().arrival_times(SimulatedService::AllMemberPush, SimulatedCommand::SetAttr).len(), 8);
    simulator.handle().set_calls_per_second(0);
    assert_eq!(simulator.set_city("u1", "b").await, 0);
}

#[tokio::test]
async fn a_random_used_twice_is_a_violation() {
    let simulator = TestSimulator::start().await;
    let url = simulator.url("timpush/get_attr_name");
    for _ in 0..2 {
        assert_eq!(simulator.post(url.clone(), "{}").await.code(), 0);
    }
    assert_eq!(kinds(&simulator), [ViolationKind::RandomRepeated]);
    simulator.handle().clear_records();
    assert_eq!((kinds(&simulator).len(), simulator.handle().counters().arrived), (0, 0));
}

#[tokio::test]
async fn an_account_in_two_writes_at_once_is_a_violation() {
    let simulator = TestSimulator::start().await;
    let rule = simulator.fault("hold:times=1");
    let ((), codes) = soon(async {
        tokio::join!(
            async {
                simulator.handle().wait_until(|counters| counters.held == 1).await;
                assert_eq!(simulator.set_city("u2", "b").await, 0, "another account may be written at the same time");
                assert_eq!(simulator.set_city("u1", "b").await, 0);
                simulator.handle().release_held_calls(rule);
            },
            simulator.set_city("u1", "a"),
        )
    })
    .await;
    assert_eq!(codes, 0);
    assert_eq!(kinds(&simulator), [ViolationKind::AccountInFlightTwice]);
    assert!(simulator.handle().violations()[0].text.contains("u1"));
    assert_eq!(simulator.set_city("u1", "c").await, 0);
    assert_eq!(kinds(&simulator).len(), 1, "the account may be written again afterwards");
    assert_eq!(simulator.handle().counters().max_in_flight, 2);
}

#[tokio::test]
async fn an_account_twice_in_one_call_is_a_violation() {
    let simulator = TestSimulator::start().await;
    let body = set(&[("u1", json!({"city": "a"})), ("u1", json!({"city": "b"}))]);
    assert_eq!(simulator.call(SET, &body).await.code(), 0);
    assert_eq!(simulator.city("u1").as_deref(), Some("b"));
    assert_eq!(kinds(&simulator), [ViolationKind::AccountTwiceInCall]);
}

#[tokio::test]
async fn the_log_keeps_the_bodies_of_the_last_calls() {
    let simulator = TestSimulator::with(SimulatorOptions { logged_calls: 3, ..options() }).await;
    for number in 0..3 {
        simulator.set_city(&format!("u{number}"), "a\"b").await;
    }
    let body = json!({"UserAttrs": [{"To_Account": "u1", "Attrs": ["sex"]}]});
    simulator.call("timpush/remove_attr", &body).await;
    simulator.post(simulator.url(SET), "{").await;
    let calls = simulator.handle().calls();
    let ids: Vec<_> = calls.iter().map(|call| (call.id, call.code, call.applied)).collect();
    assert_eq!(ids, [(2, Some(0), true), (3, Some(0), true), (4, Some(error_code::BAD_BODY), false)]);
    assert_eq!(calls[0].endpoint, SET);
    assert_eq!(calls[0].users[0].account, "u2");
    assert_eq!(calls[0].users[0].attributes, [("city".to_owned(), Some("a\"b".to_owned()))]);
    assert_eq!(calls[1].users[0].attributes, [("sex".to_owned(), None)]);
    assert_eq!((calls[1].body.as_str(), calls[2].body.as_str()), (body.to_string().as_str(), "{"));
}

#[tokio::test]
async fn changes_by_calls_and_edits_are_published_in_order() {
    let simulator = TestSimulator::start().await;
    simulator.set_city("u1", "before the subscription").await;
    let mut changes = simulator.handle().subscribe();
    simulator.set_city("u1", "a").await;
    simulator.set_city("u1", "a").await;
    simulator.handle().set_user("u1", &BTreeMap::from([("sex".to_owned(), "f".to_owned())])).unwrap();
    simulator.handle().remove_user("u1");
    let change = |attribute: &str, old: Option<&str>, new: Option<&str>| AttributeChange {
        account: "u1".to_owned(),
        attribute: attribute.to_owned(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    for expected in [
        change("city", Some("before the subscription"), Some("a")),
        change("sex", None, Some("f")),
        change("city", Some("a"), None),
        change("sex", Some("f"), None),
    ] {
        assert_eq!(changes.try_recv().unwrap(), expected);
    }
    assert!(changes.try_recv().is_err(), "an unchanged value is not published");
    assert_eq!(
        simulator.handle().set_user("u1", &BTreeMap::from([("x".to_owned(), String::new())])),
        Err("x".to_owned())
    );
}

#[test]
fn debug_output_of_options_omits_the_secret_key() {
    assert!(!format!("{:?}", options()).contains(super::SECRET_KEY));
}

/// `cargo test --release --lib three_thousand -- --ignored --nocapture` prints the throughput.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn three_thousand_full_calls_a_second() {
    const CALLERS: usize = 16;
    const CALLS_OF_EACH: usize = 500;
    let simulator = Arc::new(TestSimulator::with(SimulatorOptions { calls_per_second: 0, ..options() }).await);
    let body = |caller: usize, call: usize| {
        let users: Vec<_> = (0..100).map(|user| format!("user-{caller}-{call}-{user}")).collect();
        let attributes = json!({"city": format!("city {call}"), "sex": "f"});
        let users: Vec<_> = users.iter().map(|user| (user.as_str(), attributes.clone())).collect();
        set(&users).to_string()
    };
    let bodies = (0..CALLERS).map(|caller| (0..CALLS_OF_EACH).map(|call| body(caller, call)).collect::<Vec<_>>());
    let bodies: Vec<_> = bodies.collect();
    let before = monotonic();
    let callers = bodies.into_iter().map(|bodies| {
        let simulator = Arc::clone(&simulator);
        tokio::spawn(async move {
            for body in bodies {
                assert_eq!(simulator.post(simulator.url(SET), body).await.code(), 0);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        soon(caller).await.unwrap();
    }
    let calls = CALLERS * CALLS_OF_EACH;
    println!("{calls} calls of 100 users in {:?}, including the work of the callers", before.elapsed());
    assert_eq!(simulator.handle().counters().users, 100 * calls as u64);
}
