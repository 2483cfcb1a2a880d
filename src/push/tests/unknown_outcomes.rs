//! Tests of calls without an answer: their outcomes, the probe, and the isolation of an account that never gets an
//! answer.

use std::time::Duration;

use super::fake_im::*;
use crate::clock::monotonic;
use crate::im::{ApiCommand, Code};
use crate::model::{Account, AttributeIndex, Change};
use crate::push::ChangeOrigin::{New, UnknownOutcome};
use crate::push::StopReason;

/// IM never answers a call with this account, and applies nothing of it.
fn never_answers(fixture: &PushFixture, account: &'static str) {
    fixture.inject(move |_, sent| {
        sent.users.iter().any(|(carried, _)| carried == account).then_some(CallFault::Fail(Code::Timeout))
    });
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_a_call_without_one_is_provisional() {
    let fixture = PushFixture::new();
    fixture.inject(|number, _| (number == 1).then_some(CallFault::ApplyThenFail(Code::Timeout)));
    let pass = fixture.begin_pass();
    let first = pass.deliver(sets(100, 1), New).await;
    assert_eq!((count(&first, done), first.iter().any(|outcome| outcome.may_be_overwritten)), (100, false));
    let second = pass.deliver((100..300).map(|number| set(number, 1)).collect(), New).await;
    assert_eq!((count(&second, provisional), count(&second, done)), (100, 100), "only the batch that was retried");
    assert_eq!(second.iter().filter(|outcome| outcome.may_be_overwritten).count(), 100);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn after_a_call_that_was_not_applied_done_is_final() {
    let fixture = PushFixture::new();
    fixture.inject(|number, _| match number {
        0 => Some(CallFault::Fail(Code::Vendor(60007))),
        1 => Some(CallFault::Fail(Code::Connect)),
        _ => None,
    });
    let outcomes = fixture.begin_pass().deliver(sets(100, 2), New).await;
    assert_eq!(count(&outcomes, done), 200);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_doubt_is_halved_until_one_account_is_left() {
    let fixture = PushFixture::new();
    never_answers(&fixture, "u42");
    let pass = fixture.begin_pass_with_probe();
    let begun = monotonic();
    let outcomes = pass.deliver(sets(100, 2), UnknownOutcome).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, done) + count(&outcomes, provisional)), (2, 198));
    assert_eq!(pass.stop_reason(), None, "one account without an answer is no outage");
    // The batch, the probe, and two calls for each of seven halvings, with one attempt each.
    assert!(pass.calls() <= 2 + 2 * 7, "{} calls", pass.calls());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn without_a_probe_the_halves_show_that_im_answers() {
    let fixture = PushFixture::new();
    never_answers(&fixture, "u1");
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver(sets(40, 1), UnknownOutcome).await;
    assert_eq!((count(&outcomes, unknown), pass.stop_reason()), (1, None));
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn an_answered_probe_shows_that_im_is_reachable() {
    let fixture = PushFixture::new();
    never_answers(&fixture, "u7");
    let pass = fixture.begin_pass_with_probe();
    let outcomes = pass.deliver(sets(100, 1), New).await;
    assert_eq!(
        (count(&outcomes, unknown), pass.stop_reason()),
        (100, None),
        "they are in doubt and will be sent again"
    );
    let probes = fixture.im.sent(ApiCommand::SetAttr).iter().filter(|sent| sent.users[0].0 == "probe_account").count();
    assert_eq!(probes, 1);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_to_the_probe_im_is_unreachable() {
    let fixture = PushFixture::new();
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Timeout)));
    let pass = fixture.begin_pass_with_probe();
    let outcomes = pass.deliver(sets(1_000, 1), UnknownOutcome).await;
    assert!(matches!(pass.stop_reason(), Some(StopReason::Unreachable { .. })), "{:?}", pass.stop_reason());
    assert_eq!((pass.calls(), count(&outcomes, unknown)), (2, 100), "the first batch and the probe, one attempt each");
}

/// A probe has no intent. Without an answer it may be applied later and overwrite a newer value of its account.
#[tokio::test(start_paused = true)]
async fn after_a_probe_without_an_answer_done_is_provisional() {
    let fixture = PushFixture::new();
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Timeout)));
    let pass = fixture.begin_pass_with_probe();
    pass.deliver(sets(10, 1), UnknownOutcome).await;
    assert!(matches!(pass.stop_reason(), Some(StopReason::Unreachable { .. })));
    fixture.inject(|_, _| None);
    let moved = || Change {
        account: Account::new("probe_account"),
        set: vec![(AttributeIndex(0), "Rome".into())],
        remove: Vec::new(),
    };
    let soon = fixture.begin_pass().deliver(vec![moved()], New).await;
    assert_eq!((count(&soon, provisional), soon[0].may_be_overwritten), (1, true));
    tokio::time::sleep(Duration::from_secs(21)).await;
    let later = fixture.begin_pass().deliver(vec![moved()], New).await;
    assert_eq!(count(&later, done), 1);
    fixture.assert_limits_kept();
}
