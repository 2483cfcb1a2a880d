//! Tests of the reasons to stop a pass: the outcomes, the message, and the calls until then.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::fake_im::*;
use super::fake_probes::FakeProbes;
use crate::clock::monotonic;
use crate::im::{ApiCommand, Code};
use crate::model::Account;
use crate::push::ChangeOrigin::New;
use crate::push::{PushLimits, PushSession, StopReason};

/// Delivers ten thousand accounts in pages of a thousand, three at a time.
async fn pages(pass: &PushSession, attributes: u16) -> Vec<crate::model::AccountOutcome> {
    let mut outcomes = Vec::new();
    for turn in 0..4 {
        let pages = (0..3).filter(|page| turn * 3 + page < 10).map(|page| {
            let first = (turn * 3 + page) * 1000;
            pass.deliver_all((first..first + 1000).map(|number| set(number, attributes)).collect(), New)
        });
        outcomes.extend(join_all(pages).await.concat());
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn an_undefined_attribute_costs_two_calls_and_no_rejection() {
    let fixture = PushFixture::new();
    fixture.im.state().names = vec!["city".to_owned(), "sex".to_owned()];
    fixture.refuse(|_, name, _| (name == "vip").then_some(90033));
    let pass = fixture.begin_pass();
    let outcomes = pages(&pass, 3).await;
    assert_eq!(count(&outcomes, not_sent), 30_000);
    let Some(StopReason::Systemic { code, attribute, message }) = pass.stop_reason() else {
        panic!("{:?}", pass.stop_reason())
    };
    assert_eq!((code, attribute.as_deref()), (Code::Vendor(90033), Some("vip")));
    assert!(message.contains("\"vip\"") && message.contains("\"city\", \"sex\""), "{message}");
    assert_eq!(pass.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_code_for_all_accounts_stops_the_pass_early() {
    for attributes in [1, 3] {
        let fixture = PushFixture::new();
        fixture.refuse(|_, _, _| Some(424_242));
        let pass = fixture.begin_pass();
        let outcomes = pages(&pass, attributes).await;
        assert_eq!(count(&outcomes, |outcome| not_sent(outcome) || unknown(outcome)), 10_000 * usize::from(attributes));
        let Some(StopReason::Systemic { code, message, .. }) = pass.stop_reason() else {
            panic!("{:?}", pass.stop_reason())
        };
        assert_eq!(code, Code::Vendor(424_242));
        assert!(message.contains("424242") && message.contains("no account was rejected"), "{message}");
        assert!(pass.calls() < 100, "{} calls", pass.calls());
        fixture.assert_limits_kept();
    }
}

#[tokio::test(start_paused = true)]
async fn an_accepted_probe_means_that_rows_are_at_fault() {
    let fixture = PushFixture::new();
    fixture.refuse(|account, _, _| (account != "probe_account").then_some(70402));
    let pass = fixture.begin_pass_with_probe();
    let outcomes = pass.deliver_all(sets(60, 1), New).await;
    assert_eq!(count(&outcomes, refused_with(70402)), 60);
    assert_eq!(pass.stop_reason(), None);
    let probes = fixture.im.sent(ApiCommand::SetAttr).iter().filter(|sent| sent.users[0].0 == "probe_account").count();
    assert_eq!(probes, 1);
    assert_eq!(fixture.im.state().holds[&("probe_account".to_owned(), "city".to_owned())], "Paris");
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn a_refused_probe_means_that_the_app_is_at_fault() {
    let fixture = PushFixture::new();
    fixture.refuse(|_, _, _| Some(70402));
    let pass = fixture.begin_pass_with_probe();
    let outcomes = pass.deliver_all(sets(60, 1), New).await;
    assert_eq!(count(&outcomes, not_sent), 60);
    assert!(matches!(pass.stop_reason(), Some(StopReason::Systemic { code: Code::Vendor(70402), .. })));
}

#[tokio::test(start_paused = true)]
async fn an_attribute_refused_for_all_accounts_is_named() {
    let fixture = PushFixture::new();
    fixture.refuse(|account, name, _| (name == "sex" || account == "probe_account").then_some(70402));
    let pass = fixture.begin_pass_with_probe();
    assert_eq!(count(&pass.deliver_all(sets(100, 1), New).await, done), 100);
    let outcomes = pass.deliver_all((100..400).map(|number| set(number, 2)).collect(), New).await;
    let Some(StopReason::Systemic { attribute, .. }) = pass.stop_reason() else { panic!("{:?}", pass.stop_reason()) };
    assert_eq!(attribute.as_deref(), Some("sex"));
    assert_eq!(count(&outcomes, refused_with(70402)), 0, "no account is rejected for it");
    fixture.assert_limits_kept();
}

/// The refusal of a probe can be about its account only, for example because Chat no longer knows it.
#[tokio::test(start_paused = true)]
async fn a_probe_refused_for_its_account_is_followed_by_another() {
    for (accounts, stops) in [(&["gone_1", "probe_account"][..], false), (&["gone_1", "gone_2"], true)] {
        let fixture = PushFixture::new();
        fixture.refuse(|account, _, _| match account {
            "probe_account" => None,
            _ if account.starts_with("gone") => Some(70107),
            _ => Some(70402),
        });
        let pass = fixture.begin_pass_with(FakeProbes::of(accounts));
        let outcomes = pass.deliver_all(sets(60, 1), New).await;
        assert_eq!(matches!(pass.stop_reason(), Some(StopReason::Systemic { .. })), stops, "{accounts:?}");
        assert_eq!(count(&outcomes, refused_with(70402)), if stops { 0 } else { 60 });
        fixture.assert_limits_kept();
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_an_answer_is_recorded_as_one_that_may_come() {
    for (fault, may_be_applied_later) in
        [(CallFault::Fail(Code::Timeout), true), (CallFault::Fail(Code::Connect), false)]
    {
        let fixture = PushFixture::new();
        fixture.refuse(|_, _, _| Some(70402));
        fixture.inject(move |_, sent| (sent.users[0].0 == "probe_account").then(|| fault.clone()));
        let probes = FakeProbes::of(&["probe_account"]);
        let pass = fixture.begin_pass_with(probes.clone());
        pass.deliver_all(sets(60, 1), New).await;
        assert!(matches!(pass.stop_reason(), Some(StopReason::Unreachable { .. })), "{:?}", pass.stop_reason());
        let ended = probes.ended.lock().expect("not poisoned").clone();
        assert_eq!(ended, [(Account::new("probe_account"), may_be_applied_later)]);
        fixture.assert_limits_kept();
    }
}

#[tokio::test(start_paused = true)]
async fn fewer_than_twenty_refusals_at_the_end_are_rejected() {
    let fixture = PushFixture::new();
    fixture.refuse(|_, name, _| (name == "sex").then_some(70402));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(19, 2), New).await;
    assert_eq!((count(&outcomes, refused_with(70402)), count(&outcomes, done)), (19, 19));
    assert_eq!(pass.stop_reason(), None);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_stop_the_pass_at_the_first_call() {
    let fixture = PushFixture::new();
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Vendor(70003))));
    let pass = fixture.begin_pass();
    let outcomes = pages(&pass, 1).await;
    assert_eq!(count(&outcomes, not_sent), 10_000);
    assert_eq!(pass.calls(), 1);
    let Some(StopReason::Credentials { code, message }) = pass.stop_reason() else {
        panic!("{:?}", pass.stop_reason())
    };
    assert_eq!(code, Code::Vendor(70003));
    assert!(message.contains(&code.advice()), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_the_retries_of_one_batch() {
    let fixture = PushFixture::new();
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Connect)));
    let pass = fixture.begin_pass();
    let begun = monotonic();
    let outcomes = pages(&pass, 1).await;
    assert_eq!(count(&outcomes, not_sent), 10_000);
    assert!((60..71).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(pass.calls() < 40, "{} calls", pass.calls());
    let Some(StopReason::Unreachable { message }) = pass.stop_reason() else { panic!("{:?}", pass.stop_reason()) };
    assert!(message.starts_with("IM is unreachable") && message.contains("connection failure"), "{message}");
    assert_eq!(fixture.im.state().most_in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn timeouts_only_are_an_outage_after_one_more_call() {
    let fixture = PushFixture::new();
    // Otherwise half a second of calls starts.
    fixture.pusher.last_answers.note_failed_change();
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Timeout)));
    let pass = fixture.begin_pass();
    let outcomes = pages(&pass, 1).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, not_sent)), (200, 9800));
    assert!(matches!(pass.stop_reason(), Some(StopReason::Unreachable { .. })));
}

/// IM becomes unreachable in the middle of a pass. The calls in flight run out of attempts; then one batch at a time is
/// sent until IM answers again.
#[tokio::test(start_paused = true)]
async fn an_outage_in_the_middle_leaves_few_accounts_unknown() {
    let fixture = PushFixture::new();
    let begun = monotonic();
    fixture.inject(move |_, sent| {
        let unreachable = Duration::from_secs(1)..Duration::from_mins(10);
        unreachable.contains(&(sent.at - begun)).then_some(CallFault::Fail(Code::Timeout))
    });
    let pass = fixture.begin_pass();
    let mut unknowns = 0;
    for page in 0..100 {
        let outcomes = pass.deliver_all((0..1000).map(|number| set(page * 1000 + number, 1)).collect(), New).await;
        unknowns += count(&outcomes, unknown);
        assert_eq!(count(&outcomes, |outcome| acknowledged(outcome) || unknown(outcome)), 1000);
    }
    assert_eq!(pass.stop_reason(), None);
    assert!(unknowns <= 2000, "{unknowns} unknown");
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn too_many_refusals_with_one_code_stop_the_pass() {
    let fixture = PushFixture::new();
    fixture.refuse(|account, _, _| (account_number(account) % 2 == 1).then_some(70107));
    let pass = fixture.begin_pass();
    let outcomes = pages(&pass, 1).await;
    let Some(StopReason::TooManyRejected { code, message }) = pass.stop_reason() else {
        panic!("{:?}", pass.stop_reason())
    };
    assert_eq!(code, Code::Vendor(70107));
    assert!(message.contains("70107") && message.contains("im.max_rejected_share"), "{message}");
    assert!(message.contains(&code.advice()), "{message}");
    let refused = count(&outcomes, refused_with(70107));
    assert!((400..3000).contains(&refused), "{refused} refused");
    assert_eq!(fixture.im.state().holds.len(), count(&outcomes, done));
}

#[tokio::test(start_paused = true)]
async fn a_refused_share_below_the_limit_does_not_stop() {
    let fixture = PushFixture::new();
    fixture.refuse(|account, _, _| account_number(account).is_multiple_of(3).then_some(70107));
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(3000, 1), New).await;
    assert_eq!((count(&outcomes, refused_with(70107)), count(&outcomes, done)), (1000, 2000));
    assert_eq!(pass.stop_reason(), None);
}

#[tokio::test(start_paused = true)]
async fn no_call_starts_without_a_valid_lease() {
    let fixture = PushFixture::new();
    fixture.lease.stop();
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(500, 1), New).await;
    assert_eq!((count(&outcomes, not_sent), pass.calls()), (500, 0));
    assert_eq!(pass.stop_reason(), Some(StopReason::LeaseLost));
    assert_eq!(fixture.pusher.last_call(), None);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_only_lets_calls_in_flight_end() {
    let fixture = PushFixture::with(PushLimits { max_in_flight: 2, ..limits() });
    fixture.inject(|call, _| (call > 2).then_some(CallFault::Slow(Duration::from_secs(5))));
    let pass = Arc::new(fixture.begin_pass());
    let delivery = tokio::spawn({
        let pass = Arc::clone(&pass);
        async move { pass.deliver_all(sets(5000, 1), New).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    fixture.shutdown.request();
    let begun = monotonic();
    let outcomes = delivery.await.expect("the delivery ends");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let sent = fixture.im.state().sent.len();
    assert_eq!((count(&outcomes, done), count(&outcomes, not_sent)), (sent * 100, 5000 - sent * 100));
    assert_eq!(fixture.im.state().holds.len(), sent * 100);
    assert_eq!(pass.stop_reason(), Some(StopReason::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn a_halt_ends_the_pause_before_a_retry_at_once() {
    let fixture = PushFixture::new();
    fixture.inject(|_, _| Some(CallFault::RetryAfter(Code::Http(503), Duration::from_secs(30))));
    let pass = Arc::new(fixture.begin_pass());
    let delivery = tokio::spawn({
        let pass = Arc::clone(&pass);
        async move { pass.deliver_all(sets(100, 1), New).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    pass.halt();
    let begun = monotonic();
    let outcomes = delivery.await.expect("the delivery ends");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(count(&outcomes, unknown), 100, "a 503 may have been applied");
    let next = fixture.begin_pass();
    fixture.inject(|_, _| None);
    assert_eq!(count(&next.deliver_all(sets(100, 1), New).await, done), 100, "a halt concerns one pass");
}

#[tokio::test(start_paused = true)]
async fn a_new_lease_holder_waits_before_its_first_call() {
    let fixture = PushFixture::new();
    let moment = monotonic() + Duration::from_secs(1);
    fixture.pusher.hold_until(moment);
    fixture.begin_pass().deliver_all(sets(1, 1), New).await;
    assert!(fixture.im.state().sent[0].at >= moment);
    assert_eq!(fixture.pusher.last_call(), Some(fixture.im.state().sent[0].at));
}
