//! When a pass must stop: who is told what, and how few calls it costs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::im::*;
use crate::clock::monotonic;
use crate::im::{Code, Command};
use crate::model::{Account, AttributeIndex, Change};
use crate::push::ChangeOrigin::New;
use crate::push::{PushLimits, PushSession, StopReason};

/// Ten thousand accounts in pages of a thousand, three under way at a time.
async fn pages(pass: &PushSession, attributes: u16) -> Vec<crate::model::AccountOutcome> {
    let mut outcomes = Vec::new();
    for turn in 0..4 {
        let pages = (0..3).filter(|page| turn * 3 + page < 10).map(|page| {
            let first = (turn * 3 + page) * 1000;
            pass.deliver((first..first + 1000).map(|number| set(number, attributes)).collect(), New)
        });
        outcomes.extend(join_all(pages).await.concat());
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_app_does_not_know_costs_two_calls_and_rejects_nobody() {
    let stage = Stage::new();
    stage.im.state().names = vec!["city".to_owned(), "sex".to_owned()];
    stage.refuse(|_, name, _| (name == "vip").then_some(90033));
    let pass = stage.pass();
    let outcomes = pages(&pass, 3).await;
    assert_eq!(count(&outcomes, not_sent), 30_000);
    let Some(StopReason::Systemic { code, attribute, message }) = pass.stopped() else {
        panic!("{:?}", pass.stopped())
    };
    assert_eq!((code, attribute.as_deref()), (Code::Vendor(90033), Some("vip")));
    assert!(message.contains("\"vip\"") && message.contains("\"city\", \"sex\""), "{message}");
    assert_eq!(pass.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_code_for_everybody_stops_the_pass_within_a_hundred_calls() {
    for attributes in [1, 3] {
        let stage = Stage::new();
        stage.refuse(|_, _, _| Some(424_242));
        let pass = stage.pass();
        let outcomes = pages(&pass, attributes).await;
        assert_eq!(count(&outcomes, |outcome| not_sent(outcome) || unknown(outcome)), 10_000 * usize::from(attributes));
        let Some(StopReason::Systemic { code, message, .. }) = pass.stopped() else { panic!("{:?}", pass.stopped()) };
        assert_eq!(code, Code::Vendor(424_242));
        assert!(message.contains("424242") && message.contains("nobody was rejected"), "{message}");
        assert!(pass.calls() < 100, "{} calls", pass.calls());
        stage.assert_promises();
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_accepted_puts_it_on_the_rows() {
    let stage = Stage::new();
    stage.refuse(|account, _, _| (account != "probe_account").then_some(70402));
    let pass = stage.pass_with_probe();
    let outcomes = pass.deliver(sets(60, 1), New).await;
    assert_eq!(count(&outcomes, refused_with(70402)), 60);
    assert_eq!(pass.stopped(), None);
    let probes = stage.im.sent(Command::SetAttr).iter().filter(|sent| sent.users[0].0 == "probe_account").count();
    assert_eq!(probes, 1);
    assert_eq!(stage.im.state().holds[&("probe_account".to_owned(), "city".to_owned())], "Paris");
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_refused_as_well_puts_it_on_the_app() {
    let stage = Stage::new();
    stage.refuse(|_, _, _| Some(70402));
    let pass = stage.pass_with_probe();
    let outcomes = pass.deliver(sets(60, 1), New).await;
    assert_eq!(count(&outcomes, not_sent), 60);
    assert!(matches!(pass.stopped(), Some(StopReason::Systemic { code: Code::Vendor(70402), .. })));
}

#[tokio::test(start_paused = true)]
async fn one_attribute_refused_for_everybody_is_named() {
    let stage = Stage::new();
    stage.refuse(|account, name, _| (name == "sex" || account == "probe_account").then_some(70402));
    let pass = stage.pass_with_probe();
    assert_eq!(count(&pass.deliver(sets(100, 1), New).await, done), 100);
    let outcomes = pass.deliver((100..400).map(|number| set(number, 2)).collect(), New).await;
    let Some(StopReason::Systemic { attribute, .. }) = pass.stopped() else { panic!("{:?}", pass.stopped()) };
    assert_eq!(attribute.as_deref(), Some("sex"));
    assert_eq!(count(&outcomes, refused_with(70402)), 0, "nobody is rejected for it");
    stage.assert_promises();
}

/// The probe's account is itself on its way while it is found out: its old value must not follow its new one.
#[tokio::test(start_paused = true)]
async fn a_probe_never_puts_an_old_value_on_a_newer_one() {
    for slow in [Duration::from_millis(50), Duration::from_secs(3)] {
        let stage = Stage::with(PushLimits { users_per_call: 5, ..limits() });
        stage.refuse(|_, name, value| (name == "sex" && value.is_some()).then_some(70402));
        stage.plan(move |_, sent| (sent.users[0].0 == "probe_account").then_some(Fault::Slow(slow)));
        let pass = stage.pass_with_probe();
        pass.deliver(vec![set(9000, 1)], New).await;
        let moved = Change {
            account: Account::new("probe_account"),
            set: vec![(AttributeIndex(0), "Rome".into())],
            remove: vec![AttributeIndex(2)],
        };
        let (_, outcomes) = tokio::join!(pass.deliver(vec![moved], New), pass.deliver(sets(60, 2), New));
        let probes: Vec<_> =
            stage.im.sent(Command::SetAttr).into_iter().filter(|sent| sent.users[0].0 == "probe_account").collect();
        assert_eq!(probes.len(), 2, "its change, and one probe");
        assert_eq!(stage.im.state().holds[&("probe_account".to_owned(), "city".to_owned())], "Rome");
        assert_eq!((count(&outcomes, refused_with(70402)), count(&outcomes, done)), (60, 60));
        assert_eq!(pass.stopped(), None);
        stage.assert_promises();
    }
}

#[tokio::test(start_paused = true)]
async fn fewer_than_twenty_at_the_end_are_rows() {
    let stage = Stage::new();
    stage.refuse(|_, name, _| (name == "sex").then_some(70402));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(19, 2), New).await;
    assert_eq!((count(&outcomes, refused_with(70402)), count(&outcomes, done)), (19, 19));
    assert_eq!(pass.stopped(), None);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn credentials_stop_the_pass_at_the_first_call() {
    let stage = Stage::new();
    stage.plan(|_, _| Some(Fault::Fail(Code::Vendor(70003))));
    let pass = stage.pass();
    let outcomes = pages(&pass, 1).await;
    assert_eq!(count(&outcomes, not_sent), 10_000);
    assert_eq!(pass.calls(), 1);
    let Some(StopReason::Credentials { code, message }) = pass.stopped() else { panic!("{:?}", pass.stopped()) };
    assert_eq!(code, Code::Vendor(70003));
    assert!(message.contains(code.advice()), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_absent_im_costs_one_batch_of_retries() {
    let stage = Stage::new();
    stage.plan(|_, _| Some(Fault::Fail(Code::Connect)));
    let pass = stage.pass();
    let begun = monotonic();
    let outcomes = pages(&pass, 1).await;
    assert_eq!(count(&outcomes, not_sent), 10_000);
    assert!((60..71).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(pass.calls() < 40, "{} calls", pass.calls());
    let Some(StopReason::Unreachable { message }) = pass.stopped() else { panic!("{:?}", pass.stopped()) };
    assert!(message.starts_with("IM is unreachable") && message.contains("connection failure"), "{message}");
    assert_eq!(stage.im.state().most_in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn an_im_that_only_times_out_is_away_after_one_more_call() {
    let stage = Stage::new();
    stage.plan(|_, _| Some(Fault::Fail(Code::Timeout)));
    let pass = stage.pass();
    let outcomes = pages(&pass, 1).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, not_sent)), (200, 9800));
    assert!(matches!(pass.stopped(), Some(StopReason::Unreachable { .. })));
}

/// IM becomes unreachable in the middle: what is in flight runs out, and then one batch at a time asks whether it is back.
#[tokio::test(start_paused = true)]
async fn an_im_that_leaves_and_comes_back_does_not_leave_everybody_unknown() {
    let stage = Stage::new();
    let begun = monotonic();
    stage.plan(move |_, sent| {
        let unreachable = Duration::from_secs(1)..Duration::from_mins(10);
        unreachable.contains(&(sent.at - begun)).then_some(Fault::Fail(Code::Timeout))
    });
    let pass = stage.pass();
    let mut unknowns = 0;
    for page in 0..100 {
        let outcomes = pass.deliver((0..1000).map(|number| set(page * 1000 + number, 1)).collect(), New).await;
        unknowns += count(&outcomes, unknown);
        assert_eq!(count(&outcomes, |outcome| acknowledged(outcome) || unknown(outcome)), 1000);
    }
    assert_eq!(pass.stopped(), None);
    assert!(unknowns <= 2000, "{unknowns} unknown");
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn too_many_refused_with_one_code_stop_the_pass() {
    let stage = Stage::new();
    stage.refuse(|account, _, _| (number(account) % 2 == 1).then_some(70107));
    let pass = stage.pass();
    let outcomes = pages(&pass, 1).await;
    let Some(StopReason::TooManyRejected { code, message }) = pass.stopped() else { panic!("{:?}", pass.stopped()) };
    assert_eq!(code, Code::Vendor(70107));
    assert!(message.contains("70107") && message.contains("im.max_rejected_share"), "{message}");
    assert!(message.contains(code.advice()), "{message}");
    let refused = count(&outcomes, refused_with(70107));
    assert!((400..3000).contains(&refused), "{refused} refused keep their attributes");
    assert_eq!(stage.im.state().holds.len(), count(&outcomes, done));
}

#[tokio::test(start_paused = true)]
async fn a_share_below_the_limit_goes_on() {
    let stage = Stage::new();
    stage.refuse(|account, _, _| number(account).is_multiple_of(3).then_some(70107));
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(3000, 1), New).await;
    assert_eq!((count(&outcomes, refused_with(70107)), count(&outcomes, done)), (1000, 2000));
    assert_eq!(pass.stopped(), None);
}

#[tokio::test(start_paused = true)]
async fn no_call_starts_without_a_fresh_lease() {
    let stage = Stage::new();
    stage.lease.stop();
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(500, 1), New).await;
    assert_eq!((count(&outcomes, not_sent), pass.calls()), (500, 0));
    assert_eq!(pass.stopped(), Some(StopReason::LeaseLost));
    assert_eq!(stage.pusher.last_call(), None);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_calls_in_flight_end_and_starts_no_other() {
    let stage = Stage::with(PushLimits { max_in_flight: 2, ..limits() });
    stage.plan(|call, _| (call > 2).then_some(Fault::Slow(Duration::from_secs(5))));
    let pass = Arc::new(stage.pass());
    let delivery = tokio::spawn({
        let pass = Arc::clone(&pass);
        async move { pass.deliver(sets(5000, 1), New).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.shutdown.request();
    let begun = monotonic();
    let outcomes = delivery.await.expect("the delivery ends");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let sent = stage.im.state().sent.len();
    assert_eq!((count(&outcomes, done), count(&outcomes, not_sent)), (sent * 100, 5000 - sent * 100));
    assert_eq!(stage.im.state().holds.len(), sent * 100);
    assert_eq!(pass.stopped(), Some(StopReason::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn a_halt_ends_the_pause_before_a_retry_at_once() {
    let stage = Stage::new();
    stage.plan(|_, _| Some(Fault::RetryAfter(Code::Http(503), Duration::from_secs(30))));
    let pass = Arc::new(stage.pass());
    let delivery = tokio::spawn({
        let pass = Arc::clone(&pass);
        async move { pass.deliver(sets(100, 1), New).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    pass.halt();
    let begun = monotonic();
    let outcomes = delivery.await.expect("the delivery ends");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(count(&outcomes, unknown), 100, "a 503 may have been applied");
    let next = stage.pass();
    stage.plan(|_, _| None);
    assert_eq!(count(&next.deliver(sets(100, 1), New).await, done), 100, "a halt is of one pass");
}

#[tokio::test(start_paused = true)]
async fn a_new_holder_waits_before_its_first_call() {
    let stage = Stage::new();
    let moment = monotonic() + Duration::from_secs(1);
    stage.pusher.hold_until(moment);
    stage.pass().deliver(sets(1, 1), New).await;
    assert!(stage.im.state().sent[0].at >= moment);
    assert_eq!(stage.pusher.last_call(), Some(stage.im.state().sent[0].at));
}
