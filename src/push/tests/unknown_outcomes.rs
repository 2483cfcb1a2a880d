//! Tests of calls without an answer: their outcomes, the read that shows whether IM answers, and the isolation of an account that never gets an
//! answer.

use std::time::Duration;

use futures_util::future::join_all;

use super::fake_im::*;
use crate::clock::monotonic;
use crate::im::{ApiCommand, Code};
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
    let first = pass.deliver_all(sets(100, 1), New).await;
    assert_eq!((count(&first, done), first.iter().any(|outcome| outcome.may_be_overwritten)), (100, false));
    let second = pass.deliver_all((100..300).map(|number| set(number, 1)).collect(), New).await;
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
    let outcomes = fixture.begin_pass().deliver_all(sets(100, 2), New).await;
    assert_eq!(count(&outcomes, done), 200);
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_doubt_is_halved_until_one_account_is_left() {
    let fixture = PushFixture::new();
    never_answers(&fixture, "u42");
    let pass = fixture.begin_pass();
    let begun = monotonic();
    let outcomes = pass.deliver_all(sets(100, 2), UnknownOutcome).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, done) + count(&outcomes, provisional)), (2, 198));
    assert_eq!(pass.stop_reason(), None, "one account without an answer is no outage");
    // The batch, a read, and two calls for each of seven halvings, with one attempt each.
    assert!(pass.calls() <= 2 + 2 * 7, "{} calls", pass.calls());
    assert!(begun.elapsed() < TIMEOUT * 8 + Duration::from_secs(1), "{:?}", begun.elapsed());
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn an_answered_read_shows_that_im_is_reachable() {
    let fixture = PushFixture::new();
    never_answers(&fixture, "u7");
    let pass = fixture.begin_pass();
    let outcomes = pass.deliver_all(sets(100, 1), New).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, provisional), pass.stop_reason()), (1, 99, None));
    assert!(outcomes[7].unanswered_alone);
    assert_eq!((fixture.im.sent(ApiCommand::GetAttr).len(), pass.unreachable_reason()), (1, None));
    fixture.assert_limits_kept();
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_to_the_read_im_is_unreachable() {
    for origin in [New, UnknownOutcome] {
        let fixture = PushFixture::new();
        fixture.inject(|_, _| Some(CallFault::Fail(Code::Timeout)));
        let pass = fixture.begin_pass();
        let outcomes = pass.deliver_all(sets(100, 1), origin).await;
        assert!(matches!(pass.stop_reason(), Some(StopReason::Unreachable { .. })), "{:?}", pass.stop_reason());
        let reads = fixture.im.sent(ApiCommand::GetAttr).len();
        assert!((1..=2).contains(&reads), "{reads} reads");
        assert_eq!(count(&outcomes, unknown), 100);
    }
}

/// The front of IM works, and every call that sets attributes hangs.
#[tokio::test(start_paused = true)]
async fn answered_reads_do_not_open_the_way_for_sets() {
    for origin in [New, UnknownOutcome] {
        let fixture = PushFixture::new();
        // Otherwise half a second of calls starts.
        fixture.pusher.last_answers.note_failed_change();
        fixture.inject(|_, sent| (sent.command == ApiCommand::SetAttr).then_some(CallFault::Fail(Code::Timeout)));
        let pass = fixture.begin_pass();
        pass.deliver_all(sets(2_000, 1), origin).await;
        // The ten parts of one batch go side by side, and a second batch after a second.
        let most = fixture.im.state().most_in_flight;
        assert!(most <= 11, "{origin:?}: {most} calls in flight");
        let sets = fixture.im.sent(ApiCommand::SetAttr).len();
        assert!(sets <= 50, "{origin:?}: {sets} calls");
        fixture.assert_limits_kept();
    }
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_whether_im_answers_cost_one_read() {
    let fixture = PushFixture::new();
    let pass = fixture.begin_pass();
    let answers = join_all((0..50).map(|_| pass.im_is_alive())).await;
    assert!(answers.into_iter().all(|is_alive| is_alive));
    assert_eq!((pass.calls(), fixture.im.sent(ApiCommand::GetAttr).len()), (1, 1));
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Timeout)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!pass.im_is_alive().await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Vendor(70107))));
    assert!(pass.im_is_alive().await, "a refusal is an answer");
    assert_eq!((pass.calls(), pass.stop_reason()), (3, None));
    pass.halt();
    assert!(!pass.im_is_alive().await, "a pass that has stopped makes no call");
}
