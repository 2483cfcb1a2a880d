//! What is recorded: calls, counts, violations, changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::{World, options, set, soon, within_a_second};
use crate::simulator::clock::monotonic;
use crate::simulator::{Change, Command, Options, Service, ViolationKind, code};

const SET: &str = "all_member_push/im_set_attr";

fn kinds(world: &World) -> Vec<ViolationKind> {
    world.handle().violations().into_iter().map(|violation| violation.kind).collect()
}

#[tokio::test]
async fn more_calls_than_allowed_in_a_second_are_refused_for_that_command_alone() {
    let (world, codes) =
        within_a_second(8, async || World::with(Options { calls_per_second: 5, ..options() }).await).await;
    assert_eq!(codes, [0, 0, 0, 0, 0, code::TOO_OFTEN, code::TOO_OFTEN, code::TOO_OFTEN]);
    assert_eq!(world.call("timpush/set_attr", &set(&[("u9", json!({"city": "a"}))])).await.code(), 0);
    assert_eq!(world.handle().users().len(), 6, "refused calls are not applied");
    assert_eq!(kinds(&world), [ViolationKind::RateExceeded; 3]);
    let counters = world.handle().endpoint(Service::AllMemberPush, Command::SetAttr);
    assert_eq!((counters.arrived, counters.succeeded, counters.failed, counters.applied), (8, 5, 3, 5));
    assert_eq!(counters.max_in_one_second, 8);
    assert_eq!(world.handle().arrivals(Service::AllMemberPush, Command::SetAttr).len(), 8);
    world.handle().set_calls_per_second(0);
    assert_eq!(world.set_city("u1", "b").await, 0);
}

#[tokio::test]
async fn a_random_used_twice_is_noticed() {
    let world = World::start().await;
    let url = world.url("timpush/get_attr_name");
    for _ in 0..2 {
        assert_eq!(world.post(url.clone(), "{}").await.code(), 0);
    }
    assert_eq!(kinds(&world), [ViolationKind::RandomRepeated]);
    world.handle().clear_records();
    assert_eq!((kinds(&world).len(), world.handle().counters().arrived), (0, 0));
}

#[tokio::test]
async fn an_account_in_two_writing_calls_at_once_is_noticed() {
    let world = World::start().await;
    let rule = world.fault("hold:times=1");
    let ((), codes) = soon(async {
        tokio::join!(
            async {
                world.handle().wait_until(|counters| counters.held == 1).await;
                assert_eq!(world.set_city("u2", "b").await, 0, "another account may be written");
                assert_eq!(world.set_city("u1", "b").await, 0);
                world.handle().release(rule);
            },
            world.set_city("u1", "a"),
        )
    })
    .await;
    assert_eq!(codes, 0);
    assert_eq!(kinds(&world), [ViolationKind::AccountInFlightTwice]);
    assert!(world.handle().violations()[0].text.contains("u1"));
    assert_eq!(world.set_city("u1", "c").await, 0);
    assert_eq!(kinds(&world).len(), 1, "afterwards it may be written again");
    assert_eq!(world.handle().counters().max_in_flight, 2);
}

#[tokio::test]
async fn an_account_twice_in_one_call_is_noticed_and_the_last_one_counts() {
    let world = World::start().await;
    let body = set(&[("u1", json!({"city": "a"})), ("u1", json!({"city": "b"}))]);
    assert_eq!(world.call(SET, &body).await.code(), 0);
    assert_eq!(world.city("u1").as_deref(), Some("b"));
    assert_eq!(kinds(&world), [ViolationKind::AccountTwiceInCall]);
}

#[tokio::test]
async fn the_log_holds_what_each_of_the_last_calls_carried() {
    let world = World::with(Options { logged_calls: 3, ..options() }).await;
    for number in 0..3 {
        world.set_city(&format!("u{number}"), "a\"b").await;
    }
    let body = json!({"UserAttrs": [{"To_Account": "u1", "Attrs": ["sex"]}]});
    world.call("timpush/remove_attr", &body).await;
    world.post(world.url(SET), "{").await;
    let calls = world.handle().calls();
    let ids: Vec<_> = calls.iter().map(|call| (call.id, call.code, call.applied)).collect();
    assert_eq!(ids, [(2, Some(0), true), (3, Some(0), true), (4, Some(code::NOT_JSON), false)]);
    assert_eq!(calls[0].endpoint, SET);
    assert_eq!(calls[0].users[0].account, "u2");
    assert_eq!(calls[0].users[0].attributes, [("city".to_owned(), Some("a\"b".to_owned()))]);
    assert_eq!(calls[1].users[0].attributes, [("sex".to_owned(), None)]);
    assert_eq!((calls[1].body.as_str(), calls[2].body.as_str()), (body.to_string().as_str(), "{"));
}

#[tokio::test]
async fn changes_are_published_in_order_by_calls_and_by_edits() {
    let world = World::start().await;
    world.set_city("u1", "before anybody listens").await;
    let mut changes = world.handle().subscribe();
    world.set_city("u1", "a").await;
    world.set_city("u1", "a").await;
    world.handle().set_user("u1", &BTreeMap::from([("sex".to_owned(), "f".to_owned())])).unwrap();
    world.handle().drop_user("u1");
    let change = |attribute: &str, old: Option<&str>, new: Option<&str>| Change {
        account: "u1".to_owned(),
        attribute: attribute.to_owned(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    for expected in [
        change("city", Some("before anybody listens"), Some("a")),
        change("sex", None, Some("f")),
        change("city", Some("a"), None),
        change("sex", Some("f"), None),
    ] {
        assert_eq!(changes.try_recv().unwrap(), expected);
    }
    assert!(changes.try_recv().is_err(), "what stayed the same is no change");
    assert_eq!(world.handle().set_user("u1", &BTreeMap::from([("x".to_owned(), String::new())])), Err("x".to_owned()));
}

#[test]
fn options_do_not_show_the_secret_key() {
    assert!(!format!("{:?}", options()).contains(super::SECRET_KEY));
}

/// `cargo test --release --lib simulator_takes -- --ignored --nocapture` shows how much it can take.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn the_simulator_takes_three_thousand_full_calls_a_second() {
    const CALLERS: usize = 16;
    const CALLS_OF_EACH: usize = 500;
    let world = Arc::new(World::with(Options { calls_per_second: 0, ..options() }).await);
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
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for body in bodies {
                assert_eq!(world.post(world.url(SET), body).await.code(), 0);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        soon(caller).await.unwrap();
    }
    let calls = CALLERS * CALLS_OF_EACH;
    println!("{calls} calls of 100 users in {:?}, the callers' own work included", before.elapsed());
    assert_eq!(world.handle().counters().users, 100 * calls as u64);
}
