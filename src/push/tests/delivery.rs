//! Tests of deliveries: what arrives, how many calls it takes, and the outcomes.

use std::time::Duration;

use futures_util::future::join_all;

use super::fake_im::*;
use crate::clock::monotonic;
use crate::im::{ApiCommand, Code};
use crate::model::{Account, AttributeIndex, AttributeOutcome, Change};
use crate::push::ChangeOrigin::{New, RejectionRetry};
use crate::push::{PushLimits, StopReason};

#[tokio::test(start_paused = true)]
async fn good_rows_are_sent_in_full_batches_at_the_full_rate() {
    let fixture = PushFixture::new();
    let pass = fixture.begin_pass();
    let begun = monotonic();
    let outcomes = pass.deliver_all(sets(50_000, 2), New).await;
    assert_eq!(count(&outcomes, done), 100_000);
    assert_eq!((pass.calls(), pass.stop_reason()), (500, None));
    let took = begun.elapsed().as_secs_f64();
    assert!(took < 500.0 / 95.0 * 1.01 + 0.2, "{took} s");
    assert_eq!(fixture.im.state().holds.len(), 100_000);
    assert_eq!(fixture.metrics.im_calls.with_label_values(&["set_attr", "0"]).get(), 500);
    assert_eq!(fixture.metrics.im_call_duration.with_label_values(&["set_attr"]).get_sample_count(), 500);
    assert!((4.0..6.0).contains(&fixture.metrics.throttle_wait.get()), "{}", fixture.metrics.throttle_wait.get());
    assert!((fixture.metrics.rate_limit.get() - 95.0).abs() < 1e-9);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn outcomes_keep_the_order_and_sets_go_before_removals() {
    let fixture = PushFixture::new();
    let changes = vec![
        Change {
            account: Account::new("b"),
            set: vec![(AttributeIndex(1), "x".into())],
            remove: vec![AttributeIndex(0), AttributeIndex(3)],
        },
        Change { account: Account::new("a"), set: Vec::new(), remove: vec![AttributeIndex(2)] },
    ];
    let outcomes = fixture.begin_pass().deliver_all(changes, New).await;
    assert_eq!(outcomes[0].account, Account::new("b"));
    assert_eq!(
        outcomes[0].attributes,
        [
            (AttributeIndex(1), AttributeOutcome::Done),
            (AttributeIndex(0), AttributeOutcome::Done),
            (AttributeIndex(3), AttributeOutcome::Done)
        ]
    );
    assert_eq!(outcomes[1].attributes, [(AttributeIndex(2), AttributeOutcome::Done)]);
    let commands: Vec<_> = fixture.im.state().sent.iter().map(|sent| (sent.command, sent.users.len())).collect();
    assert_eq!(commands, [(ApiCommand::SetAttr, 1), (ApiCommand::RemoveAttr, 2)]);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_calls_in_flight_is_kept_and_used() {
    let fixture = PushFixture::with(PushLimits { max_in_flight: 3, ..limits() });
    fixture.inject(|_, _| Some(CallFault::Slow(Duration::from_millis(500))));
    let pass = fixture.begin_pass();
    let outcomes = join_all((0..4).map(|delivery| {
        let changes = (0..500).map(|number| set(delivery * 500 + number, 1)).collect();
        pass.deliver_all(changes, New)
    }))
    .await;
    assert_eq!(count(&outcomes.concat(), done), 2000);
    assert_eq!(fixture.im.state().most_in_flight, 3);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn bad_accounts_do_not_affect_others() {
    let fixture = PushFixture::new();
    fixture.refuse(|account, _, _| account_number(account).is_multiple_of(333).then_some(70107));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(10_000, 3), New).await;
    assert_eq!(count(&outcomes, refused_with(70107)), 31 * 3);
    assert_eq!(count(&outcomes, done), (10_000 - 31) * 3);
    assert_eq!(pass.stop_reason(), None);
    // The first of them is refused before anything is known, so its batch is sampled.
    assert!(pass.calls() <= 100 + 31 * 2 * 7 + 20, "{} calls", pass.calls());
    assert_eq!(fixture.metrics.rejections.with_label_values(&["70107"]).get(), 31, "one rejection for each account");
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn a_bad_attribute_does_not_affect_others_of_its_account() {
    let fixture = PushFixture::new();
    fixture.refuse(|account, name, _| (account == "u7" && name == "sex").then_some(90033));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(300, 3), New).await;
    let AttributeOutcome::Refused(refusal) = &outcomes[7].attributes[1].1 else { panic!("{:?}", outcomes[7]) };
    assert_eq!((refusal.code, refusal.of_account), (90033, false));
    assert!(refusal.reason.contains("bad parameter") && refusal.reason.contains("req-7"), "{}", refusal.reason);
    assert!(!refusal.reason.contains("value-7"), "{}", refusal.reason);
    assert_eq!(count(&outcomes, done), 899);
    assert_eq!(fixture.im.sent(ApiCommand::GetAttrName).len(), 1, "the app's names are read once");
    assert_eq!(fixture.metrics.rejections.with_label_values(&["90033"]).get(), 1);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn accounts_unknown_to_chat_cost_about_one_call_each() {
    let fixture = PushFixture::new();
    fixture.refuse(|_, _, _| Some(70107));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(900, 4), New).await;
    assert_eq!(count(&outcomes, refused_with(70107)), 3600);
    assert_eq!(pass.stop_reason(), None, "a code of the account is not systemic");
    // One for each account and each batch, and one for a check of accounts that is not permitted.
    assert!(pass.calls() <= 900 + 9 + 1, "{} calls", pass.calls());
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn the_removal_follows_a_refused_set() {
    let fixture = PushFixture::new();
    fixture.refuse(|account, _, value| (account == "u1" && value.is_some()).then_some(70402));
    let mut changes = sets(3, 1);
    changes[1].remove = vec![AttributeIndex(2)];
    fixture.im.state().holds.insert(("u1".to_owned(), "vip".to_owned()), "yes".to_owned());
    let outcomes = fixture.begin_pass().deliver_all(changes, New).await;
    assert!(refused_with(70402)(&outcomes[1].attributes[0].1));
    assert_eq!(outcomes[1].attributes[1], (AttributeIndex(2), AttributeOutcome::Done));
    assert!(!fixture.im.state().holds.contains_key(&("u1".to_owned(), "vip".to_owned())));
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn a_removal_from_a_missing_account_is_done() {
    let fixture = PushFixture::new();
    fixture.refuse(|account, _, _| (account == "u1").then_some(70107));
    let changes = (0..4)
        .map(|number| Change {
            account: Account::new(format!("u{number}")),
            set: Vec::new(),
            remove: vec![AttributeIndex(0), AttributeIndex(1)],
        })
        .collect();
    let outcomes = fixture.begin_pass().deliver_all(changes, New).await;
    assert_eq!(count(&outcomes, done), 8);
}

#[tokio::test(start_paused = true)]
async fn a_failing_call_is_retried_until_it_succeeds() {
    let fixture = PushFixture::new();
    fixture.inject(|call, _| (call < 4).then_some(CallFault::ApplyThenFail(Code::Vendor(91000))));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(250, 1), New).await;
    // An earlier attempt of a retried call may still be applied.
    assert_eq!((count(&outcomes, acknowledged), count(&outcomes, provisional)), (250, 100));
    assert_eq!(pass.calls(), 4 + 3);
    assert_eq!(fixture.metrics.im_retries.get(), 4);
    assert_eq!(fixture.metrics.im_calls.with_label_values(&["set_attr", "91000"]).get(), 4);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn an_account_without_an_answer_is_isolated_and_others_go_on() {
    let fixture = PushFixture::new();
    fixture.inject(|_, sent| {
        let carries_it = sent.users.iter().any(|(account, _)| account == "u150");
        carries_it.then_some(CallFault::Fail(Code::Timeout))
    });
    let pass = fixture.begin_pass();
    let begun = monotonic();
    let outcomes = pass.deliver_all(sets(1000, 1), New).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, done)), (1, 900));
    assert_eq!(count(&outcomes, acknowledged), 999);
    assert!(outcomes[150].unanswered_alone);
    assert_eq!(pass.stop_reason(), None);
    // A batch, its ten parts, the accounts of one of them, each with at most two attempts.
    assert!(pass.calls() <= 10 + 10 + 11, "{} calls", pass.calls());
    assert!(begun.elapsed() < TIMEOUT * 3 + Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_account_without_an_answer_in_the_first_batch_is_not_an_outage() {
    let fixture = PushFixture::new();
    fixture.inject(|_, sent| {
        sent.users.iter().any(|(account, _)| account == "u0").then_some(CallFault::Fail(Code::Timeout))
    });
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(1000, 1), New).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, acknowledged)), (1, 999));
    assert_eq!(pass.stop_reason(), None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_never_reached_im_is_unknown_too() {
    let fixture = PushFixture::new();
    fixture.inject(|_, sent| {
        sent.users.iter().any(|(account, _)| account == "u150").then_some(CallFault::Fail(Code::Connect))
    });
    let outcomes = fixture.begin_pass().deliver_all(sets(300, 1), New).await;
    // The pass goes on and its watermark moves past them, so an outcome "not sent" would lose them.
    assert_eq!((count(&outcomes, unknown), count(&outcomes, done)), (100, 200));
}

#[tokio::test(start_paused = true)]
async fn a_slow_down_cuts_the_rate_and_retry_after_is_kept() {
    let fixture = PushFixture::new();
    fixture.inject(|call, _| match call {
        0 => Some(CallFault::RetryAfter(Code::Http(429), Duration::from_secs(7))),
        5..=8 => Some(CallFault::Fail(Code::Vendor(60007))),
        _ => None,
    });
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(5000, 1), New).await;
    assert_eq!(count(&outcomes, done), 5000);
    let sent = fixture.im.sent(ApiCommand::SetAttr);
    assert!(sent[1].at - sent[0].at >= Duration::from_secs(7));
    let rate = fixture.metrics.rate_limit.get();
    assert!((45.0..75.0).contains(&rate), "two bursts of refusals, two cuts: {rate}");
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn accounts_listed_by_timpush_follow_their_own_codes() {
    let fixture = PushFixture::new();
    let listed = [("u1", 90035), ("u2", 70402), ("u3", 91000), ("u4", 60007)];
    fixture.inject(move |call, _| {
        (call == 0)
            .then(|| CallFault::List(listed.map(|(account, code)| (account.to_owned(), Code::Vendor(code))).to_vec()))
    });
    fixture.refuse(|account, name, _| (account == "u2" && name == "sex").then_some(70402));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(100, 3), New).await;
    assert_eq!(outcomes[1].attributes.iter().filter(|(_, outcome)| refused_with(90035)(outcome)).count(), 3);
    assert!(refused_with(70402)(&outcomes[2].attributes[1].1), "{:?}", outcomes[2]);
    assert_eq!(count(&outcomes, acknowledged), 300 - 3 - 1);
    assert_eq!(pass.calls(), 1 + 3 + 1, "the call, three attributes of u2, u3 and u4 together");
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn many_listed_accounts_beside_good_ones_are_rejected() {
    let fixture = PushFixture::new();
    fixture.im.state().lists = true;
    fixture.refuse(|account, _, _| (account_number(account) < 30).then_some(70402));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(100, 1), New).await;
    assert_eq!((count(&outcomes, refused_with(70402)), count(&outcomes, done)), (30, 70));
    assert_eq!((pass.calls(), pass.stop_reason()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn rejection_retries_never_count() {
    let fixture = PushFixture::new();
    fixture.refuse(|_, _, _| Some(70402));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(60, 1), RejectionRetry).await;
    assert_eq!(count(&outcomes, refused_with(70402)), 60);
    assert_eq!(pass.stop_reason(), None);
    // The count of new changes begins only now.
    let outcomes = pass.deliver_all((100..119).map(|number| set(number, 1)).collect(), New).await;
    assert_eq!(count(&outcomes, refused_with(70402)), 19);
    assert_eq!(pass.stop_reason(), None);
    let outcomes = pass.deliver_all(vec![set(200, 1)], New).await;
    assert_eq!(count(&outcomes, not_sent), 1);
    assert!(matches!(pass.stop_reason(), Some(StopReason::Systemic { .. })), "the twentieth new one");
}
