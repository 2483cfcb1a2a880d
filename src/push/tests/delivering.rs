//! What goes through, what it costs, and what is said of what does not.

use std::time::Duration;

use futures_util::future::join_all;

use super::im::*;
use crate::clock::monotonic;
use crate::im::{Code, Command};
use crate::model::{Account, AttributeIndex, AttributeOutcome, Change};
use crate::push::ChangeOrigin::{New, RejectionRetry};
use crate::push::{PushLimits, StopReason};

#[tokio::test(start_paused = true)]
async fn a_table_of_good_rows_goes_in_full_batches_at_the_full_rate() {
    let stage = Stage::new();
    let pass = stage.pass();
    let begun = monotonic();
    let outcomes = pass.deliver(sets(50_000, 2), New).await;
    assert_eq!(count(&outcomes, done), 100_000);
    assert_eq!((pass.calls(), pass.stopped()), (500, None));
    let took = begun.elapsed().as_secs_f64();
    assert!(took < 500.0 / 95.0 * 1.01 + 0.2, "{took} s");
    assert_eq!(stage.im.state().holds.len(), 100_000);
    assert_eq!(stage.metrics.im_calls.with_label_values(&["set_attr", "0"]).get(), 500);
    assert_eq!(stage.metrics.im_call_duration.with_label_values(&["set_attr"]).get_sample_count(), 500);
    assert!((4.0..6.0).contains(&stage.metrics.throttle_wait.get()), "{}", stage.metrics.throttle_wait.get());
    assert!((stage.metrics.rate_limit.get() - 95.0).abs() < 1e-9);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn outcomes_come_in_the_order_given_and_sets_go_before_removals() {
    let stage = Stage::new();
    let changes = vec![
        Change {
            account: Account::new("b"),
            set: vec![(AttributeIndex(1), "x".into())],
            remove: vec![AttributeIndex(0), AttributeIndex(3)],
        },
        Change { account: Account::new("a"), set: Vec::new(), remove: vec![AttributeIndex(2)] },
    ];
    let outcomes = stage.pass().deliver(changes, New).await;
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
    let commands: Vec<_> = stage.im.state().sent.iter().map(|sent| (sent.command, sent.users.len())).collect();
    assert_eq!(commands, [(Command::SetAttr, 1), (Command::RemoveAttr, 2)]);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn the_ceiling_of_calls_in_flight_holds_and_is_used() {
    let stage = Stage::with(PushLimits { max_in_flight: 3, ..limits() });
    stage.plan(|_, _| Some(Fault::Slow(Duration::from_millis(500))));
    let pass = stage.pass();
    let outcomes = join_all((0..4).map(|delivery| {
        let changes = (0..500).map(|number| set(delivery * 500 + number, 1)).collect();
        pass.deliver(changes, New)
    }))
    .await;
    assert_eq!(count(&outcomes.concat(), done), 2000);
    assert_eq!(stage.im.state().most_in_flight, 3);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn thirty_bad_accounts_among_ten_thousand_harm_nobody_else() {
    let stage = Stage::new();
    stage.refuse(|account, _, _| number(account).is_multiple_of(333).then_some(70107));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(10_000, 3), New).await;
    assert_eq!(count(&outcomes, refused_with(70107)), 31 * 3);
    assert_eq!(count(&outcomes, done), (10_000 - 31) * 3);
    assert_eq!(pass.stopped(), None);
    // The first of them is met before anything is known, and brings a sample about.
    assert!(pass.calls() <= 100 + 31 * 2 * 7 + 20, "{} calls", pass.calls());
    assert_eq!(stage.metrics.rejections.with_label_values(&["70107"]).get(), 31, "one rejection an account");
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn a_bad_attribute_is_refused_and_the_accounts_others_go() {
    let stage = Stage::new();
    stage.refuse(|account, name, _| (account == "u7" && name == "sex").then_some(90033));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(300, 3), New).await;
    let AttributeOutcome::Refused(refusal) = &outcomes[7].attributes[1].1 else { panic!("{:?}", outcomes[7]) };
    assert_eq!((refusal.code, refusal.of_account), (90033, false));
    assert!(refusal.reason.contains("bad parameter") && refusal.reason.contains("req-7"), "{}", refusal.reason);
    assert!(!refusal.reason.contains("value-7"), "{}", refusal.reason);
    assert_eq!(count(&outcomes, done), 899);
    assert_eq!(stage.im.sent(Command::GetAttrName).len(), 1, "the app's names are read once");
    assert_eq!(stage.metrics.rejections.with_label_values(&["90033"]).get(), 1);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn accounts_that_chat_never_saw_cost_hardly_more_than_a_call_each() {
    let stage = Stage::new();
    stage.refuse(|_, _, _| Some(70107));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(900, 4), New).await;
    assert_eq!(count(&outcomes, refused_with(70107)), 3600);
    assert_eq!(pass.stopped(), None, "a code of the account is not systemic");
    assert!(pass.calls() <= 900 + 9, "{} calls", pass.calls());
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn the_removal_follows_a_refused_set() {
    let stage = Stage::new();
    stage.refuse(|account, _, value| (account == "u1" && value.is_some()).then_some(70402));
    let mut changes = sets(3, 1);
    changes[1].remove = vec![AttributeIndex(2)];
    stage.im.state().holds.insert(("u1".to_owned(), "vip".to_owned()), "yes".to_owned());
    let outcomes = stage.pass().deliver(changes, New).await;
    assert!(refused_with(70402)(&outcomes[1].attributes[0].1));
    assert_eq!(outcomes[1].attributes[1], (AttributeIndex(2), AttributeOutcome::Done));
    assert!(!stage.im.state().holds.contains_key(&("u1".to_owned(), "vip".to_owned())));
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn a_removal_from_an_account_that_does_not_exist_is_done() {
    let stage = Stage::new();
    stage.refuse(|account, _, _| (account == "u1").then_some(70107));
    let changes = (0..4)
        .map(|number| Change {
            account: Account::new(format!("u{number}")),
            set: Vec::new(),
            remove: vec![AttributeIndex(0), AttributeIndex(1)],
        })
        .collect();
    let outcomes = stage.pass().deliver(changes, New).await;
    assert_eq!(count(&outcomes, done), 8);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_failed_for_a_while_is_repeated_until_it_goes_through() {
    let stage = Stage::new();
    stage.plan(|call, _| (call < 4).then_some(Fault::ApplyThenFail(Code::Vendor(91000))));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(250, 1), New).await;
    // What was repeated may be overwritten by a late write.
    assert_eq!((count(&outcomes, acknowledged), count(&outcomes, provisional)), (250, 100));
    assert_eq!(pass.calls(), 4 + 3);
    assert_eq!(stage.metrics.im_retries.get(), 4);
    assert_eq!(stage.metrics.im_calls.with_label_values(&["set_attr", "91000"]).get(), 4);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_runs_out_is_unknown_and_the_others_go_on() {
    let stage = Stage::new();
    stage.plan(|_, sent| {
        let poison = sent.users.iter().any(|(account, _)| account == "u150");
        poison.then_some(Fault::Fail(Code::Timeout))
    });
    let pass = stage.pass();
    let begun = monotonic();
    let outcomes = pass.deliver(sets(1000, 1), New).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, done)), (100, 900));
    assert_eq!(pass.stopped(), None);
    assert!((60..75).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_runs_out_first_does_not_pass_for_an_absent_im() {
    let stage = Stage::new();
    stage.plan(|_, sent| sent.users.iter().any(|(account, _)| account == "u0").then_some(Fault::Fail(Code::Timeout)));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(1000, 1), New).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, done)), (100, 900));
    assert_eq!(pass.stopped(), None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_never_reached_im_is_due_again_like_one_without_an_answer() {
    let stage = Stage::new();
    stage.plan(|_, sent| sent.users.iter().any(|(account, _)| account == "u150").then_some(Fault::Fail(Code::Connect)));
    let outcomes = stage.pass().deliver(sets(300, 1), New).await;
    // The pass goes on and its watermark moves past them: what is recorded as nothing would be lost.
    assert_eq!((count(&outcomes, unknown), count(&outcomes, done)), (100, 200));
}

#[tokio::test(start_paused = true)]
async fn slow_down_lowers_the_rate_once_and_retry_after_is_kept() {
    let stage = Stage::new();
    stage.plan(|call, _| match call {
        0 => Some(Fault::RetryAfter(Code::Http(429), Duration::from_secs(7))),
        5..=8 => Some(Fault::Fail(Code::Vendor(60007))),
        _ => None,
    });
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(5000, 1), New).await;
    assert_eq!(count(&outcomes, done), 5000);
    let sent = stage.im.sent(Command::SetAttr);
    assert!(sent[1].at - sent[0].at >= Duration::from_secs(7));
    let rate = stage.metrics.rate_limit.get();
    assert!((45.0..75.0).contains(&rate), "two bursts of refusals, two cuts: {rate}");
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn accounts_listed_by_timpush_are_treated_by_their_own_codes() {
    let stage = Stage::new();
    let listed = [("u1", 90035), ("u2", 70402), ("u3", 91000), ("u4", 60007)];
    stage.plan(move |call, _| {
        (call == 0)
            .then(|| Fault::List(listed.map(|(account, code)| (account.to_owned(), Code::Vendor(code))).to_vec()))
    });
    stage.refuse(|account, name, _| (account == "u2" && name == "sex").then_some(70402));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(100, 3), New).await;
    assert_eq!(outcomes[1].attributes.iter().filter(|(_, outcome)| refused_with(90035)(outcome)).count(), 3);
    assert!(refused_with(70402)(&outcomes[2].attributes[1].1), "{:?}", outcomes[2]);
    assert_eq!(count(&outcomes, acknowledged), 300 - 3 - 1);
    assert_eq!(pass.calls(), 1 + 3 + 1, "the call, three attributes of u2, u3 and u4 together");
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn many_bad_rows_listed_beside_good_ones_are_rows() {
    let stage = Stage::new();
    stage.im.state().lists = true;
    stage.refuse(|account, _, _| (number(account) < 30).then_some(70402));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(100, 1), New).await;
    assert_eq!((count(&outcomes, refused_with(70402)), count(&outcomes, done)), (30, 70));
    assert_eq!((pass.calls(), pass.stopped()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn known_rejections_never_count() {
    let stage = Stage::new();
    stage.refuse(|_, _, _| Some(70402));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(60, 1), RejectionRetry).await;
    assert_eq!(count(&outcomes, refused_with(70402)), 60);
    assert_eq!(pass.stopped(), None);
    // The count of fresh ones begins only now.
    let outcomes = pass.deliver((100..119).map(|number| set(number, 1)).collect(), New).await;
    assert_eq!(count(&outcomes, refused_with(70402)), 19);
    assert_eq!(pass.stopped(), None);
    let outcomes = pass.deliver(vec![set(200, 1)], New).await;
    assert_eq!(count(&outcomes, not_sent), 1);
    assert!(matches!(pass.stopped(), Some(StopReason::Systemic { .. })), "the twentieth fresh one");
}
