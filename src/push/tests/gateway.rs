//! Tests of refusals by a gateway before IM: content-dependent ones reject rows, all others stop the pass.

use std::sync::Mutex;

use super::fake_im::*;
use super::fake_probes::FakeProbes;
use crate::im::{ApiCommand, Code};
use crate::push::ChangeOrigin::{New, RejectionRetry};
use crate::push::StopReason;

/// The gateway answers so to every set that carries one of these accounts.
fn refuses(fixture: &PushFixture, code: Code, is_bad: impl Fn(usize) -> bool + Send + Sync + 'static) {
    fixture.inject(move |_, sent| {
        let carries_one = sent.users.iter().any(|(account, _)| is_bad(account_number(account)));
        (sent.command == ApiCommand::SetAttr && carries_one).then_some(CallFault::Fail(code))
    });
}

fn is_systemic(reason: Option<&StopReason>, code: Code) -> bool {
    matches!(reason, Some(StopReason::Systemic { code: found, .. }) if *found == code)
}

#[tokio::test(start_paused = true)]
async fn content_that_a_gateway_refuses_rejects_its_account_only() {
    for status in [400, 403, 404, 405, 413, 422] {
        for (accounts, with_probe) in [(1_000, true), (1_000, false), (1, true), (1, false), (19, false)] {
            let fixture = PushFixture::new();
            refuses(&fixture, Code::Http(status), move |number| number == accounts / 2);
            let pass = if with_probe { fixture.begin_pass_with_probe() } else { fixture.begin_pass() };
            let outcomes = pass.deliver_all(sets(accounts, 1), New).await;
            let rejected = count(&outcomes, refused_with(i64::from(status)));
            assert_eq!((rejected, count(&outcomes, done)), (1, accounts - 1), "{status} of {accounts}");
            assert_eq!(pass.stop_reason(), None);
            assert!(pass.calls() <= 10 + 20 + 14 + 4, "{} calls", pass.calls());
            fixture.assert_limits_kept();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_refuses_everything_stops_early() {
    for origin in [New, RejectionRetry] {
        for with_probe in [true, false] {
            let fixture = PushFixture::new();
            fixture.inject(|_, _| Some(CallFault::Fail(Code::Http(403))));
            let pass = if with_probe {
                fixture.begin_pass_with(FakeProbes::of(&["a", "b", "c", "d"]))
            } else {
                fixture.begin_pass()
            };
            let outcomes = pass.deliver_all(sets(1_000, 2), origin).await;
            assert_eq!(count(&outcomes, not_sent), 2_000);
            assert!(is_systemic(pass.stop_reason().as_ref(), Code::Http(403)), "{:?}", pass.stop_reason());
            assert!(pass.calls() <= 4, "{} calls", pass.calls());
            let message = pass.stop_reason().expect("it has stopped").to_string();
            assert!(message.contains("HTTP status 403") && message.contains("im.base_url"), "{message}");
        }
    }
}

/// The gateway begins to refuse everything in the middle of a pass, for example because it has blocked this machine.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_closes_during_a_pass_rejects_nobody() {
    for origin in [New, RejectionRetry] {
        let fixture = PushFixture::new();
        let pass = fixture.begin_pass_with_probe();
        pass.deliver_all(sets(500, 1), origin).await;
        fixture.inject(|_, _| Some(CallFault::Fail(Code::Http(403))));
        let outcomes = pass.deliver_all((1_000..4_000).map(|number| set(number, 1)).collect(), origin).await;
        assert_eq!(count(&outcomes, not_sent), 3_000);
        assert!(is_systemic(pass.stop_reason().as_ref(), Code::Http(403)), "{:?}", pass.stop_reason());
    }
}

/// The gateway refuses every call that sets attributes, and passes reads on. There is no account for a probe.
#[tokio::test(start_paused = true)]
async fn all_sets_refused_without_a_probe_stop_by_the_counts() {
    let fixture = PushFixture::new();
    refuses(&fixture, Code::Http(404), |_| true);
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(1_000, 1), New).await;
    assert_eq!(count(&outcomes, not_sent), 1_000);
    assert!(is_systemic(pass.stop_reason().as_ref(), Code::Http(404)), "{:?}", pass.stop_reason());
    assert!(pass.calls() < 100, "{} calls", pass.calls());
}

#[tokio::test(start_paused = true)]
async fn a_size_limit_of_a_gateway_halves_until_calls_fit() {
    let fixture = PushFixture::new();
    fixture.inject(|_, sent| (sent.users.len() > 10).then_some(CallFault::Fail(Code::Http(413))));
    let pass = fixture.begin_pass_with_probe();
    let outcomes = pass.deliver_all(sets(400, 1), New).await;
    assert_eq!((count(&outcomes, done), pass.stop_reason()), (400, None));
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn one_blocked_attribute_of_all_accounts_is_systemic() {
    let fixture = PushFixture::new();
    fixture.inject(|_, sent| {
        let carries =
            |(_, attrs): &(String, Vec<(String, Option<String>)>)| attrs.iter().any(|(name, _)| name == "sex");
        (sent.command == ApiCommand::SetAttr && sent.users.iter().any(carries))
            .then_some(CallFault::Fail(Code::Http(403)))
    });
    let pass = fixture.begin_pass_with_probe();
    assert_eq!(count(&pass.deliver_all(sets(100, 1), New).await, done), 100);
    let outcomes = pass.deliver_all((100..400).map(|number| set(number, 2)).collect(), New).await;
    let Some(StopReason::Systemic { attribute, .. }) = pass.stop_reason() else { panic!("{:?}", pass.stop_reason()) };
    assert_eq!(attribute.as_deref(), Some("sex"));
    assert!(count(&outcomes, refused_with(403)) < 20);
}

/// A page with status 200 in the place of IM's answer.
#[tokio::test(start_paused = true)]
async fn a_page_for_one_account_rejects_it_and_no_other() {
    for accounts in [1, 300] {
        let fixture = PushFixture::new();
        refuses(&fixture, Code::ForeignAnswer, move |number| number == accounts / 2);
        let pass = fixture.begin_pass_with_probe();
        let outcomes = pass.deliver_all(sets(accounts, 1), New).await;
        assert_eq!((count(&outcomes, refused_with(200)), count(&outcomes, acknowledged)), (1, accounts - 1));
        assert_eq!(pass.stop_reason(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_for_every_call_are_an_outage_and_reject_nobody() {
    let fixture = PushFixture::new();
    fixture.inject(|_, _| Some(CallFault::Fail(Code::ForeignAnswer)));
    let pass = fixture.begin_pass_with_probe();
    let outcomes = pass.deliver_all(sets(100, 1), New).await;
    assert_eq!(count(&outcomes, |outcome| unknown(outcome) || not_sent(outcome)), 100);
    assert!(matches!(pass.stop_reason(), Some(StopReason::Unreachable { .. })), "{:?}", pass.stop_reason());
}

#[tokio::test(start_paused = true)]
async fn a_few_pages_are_retried() {
    let fixture = PushFixture::new();
    let left = Mutex::new(4);
    fixture.inject(move |_, _| {
        let mut left = left.lock().expect("not poisoned");
        (*left > 0).then(|| {
            *left -= 1;
            CallFault::Fail(Code::ForeignAnswer)
        })
    });
    let pass = fixture.begin_pass();
    assert_eq!(count(&pass.deliver_all(sets(1, 1), New).await, provisional), 1);
}
