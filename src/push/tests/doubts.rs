//! Calls without an answer: what is told of them, who is asked instead, how the one that never gets an answer is parted.

use std::time::Duration;

use super::im::*;
use crate::clock::monotonic;
use crate::im::{Code, Command};
use crate::model::{Account, AttributeIndex, Change};
use crate::push::ChangeOrigin::{New, UnknownOutcome};
use crate::push::StopReason;

/// IM never answers a call that carries this account, and applies nothing of it.
fn never_answers(stage: &Stage, account: &'static str) {
    stage.plan(move |_, sent| {
        sent.users.iter().any(|(carried, _)| carried == account).then_some(Fault::Fail(Code::Timeout))
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_after_a_call_without_an_answer_may_have_a_ghost_over_it() {
    let stage = Stage::new();
    stage.plan(|number, _| (number == 1).then_some(Fault::ApplyThenFail(Code::Timeout)));
    let pass = stage.pass();
    let first = pass.deliver(sets(100, 1), New).await;
    assert_eq!((count(&first, done), first.iter().any(|outcome| outcome.may_be_overwritten)), (100, false));
    let second = pass.deliver((100..300).map(|number| set(number, 1)).collect(), New).await;
    assert_eq!((count(&second, provisional), count(&second, done)), (100, 100), "only the batch that was repeated");
    assert_eq!(second.iter().filter(|outcome| outcome.may_be_overwritten).count(), 100);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_certainly_not_applied_leaves_no_ghost() {
    let stage = Stage::new();
    stage.plan(|number, _| match number {
        0 => Some(Fault::Fail(Code::Vendor(60007))),
        1 => Some(Fault::Fail(Code::Connect)),
        _ => None,
    });
    let outcomes = stage.pass().deliver(sets(100, 2), New).await;
    assert_eq!(count(&outcomes, done), 200);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn doubts_that_run_out_again_are_halved_until_the_silent_one_stands_alone() {
    let stage = Stage::new();
    never_answers(&stage, "u42");
    let pass = stage.pass_with_probe();
    let begun = monotonic();
    let outcomes = pass.deliver(sets(100, 2), UnknownOutcome).await;
    assert_eq!((count(&outcomes, unknown), count(&outcomes, done) + count(&outcomes, provisional)), (2, 198));
    assert_eq!(pass.stopped(), None, "one account is no absent IM");
    // The batch, one call to somebody else, and two for each of seven halvings; each asked once.
    assert!(pass.calls() <= 2 + 2 * 7, "{} calls", pass.calls());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn without_anybody_to_ask_the_halves_tell() {
    let stage = Stage::new();
    never_answers(&stage, "u1");
    let pass = stage.pass();
    let outcomes = pass.deliver(sets(40, 1), UnknownOutcome).await;
    assert_eq!((count(&outcomes, unknown), pass.stopped()), (1, None));
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn a_fresh_batch_that_runs_out_is_not_an_absent_im_where_somebody_else_gets_an_answer() {
    let stage = Stage::new();
    never_answers(&stage, "u7");
    let pass = stage.pass_with_probe();
    let outcomes = pass.deliver(sets(100, 1), New).await;
    assert_eq!((count(&outcomes, unknown), pass.stopped()), (100, None), "they are due again, as doubts");
    let probes = stage.im.sent(Command::SetAttr).iter().filter(|sent| sent.users[0].0 == "probe_account").count();
    assert_eq!(probes, 1);
    stage.assert_promises();
}

#[tokio::test(start_paused = true)]
async fn an_im_that_answers_nobody_is_away_after_one_more_call() {
    let stage = Stage::new();
    stage.plan(|_, _| Some(Fault::Fail(Code::Timeout)));
    let pass = stage.pass_with_probe();
    let outcomes = pass.deliver(sets(1_000, 1), UnknownOutcome).await;
    assert!(matches!(pass.stopped(), Some(StopReason::Unreachable { .. })), "{:?}", pass.stopped());
    assert_eq!((pass.calls(), count(&outcomes, unknown)), (2, 100), "the first batch and somebody else, each once");
}

/// A probe stands in no intent. Where it has no answer it may land later, over a newer value of its account.
#[tokio::test(start_paused = true)]
async fn what_follows_a_probe_without_an_answer_may_have_a_ghost_over_it() {
    let stage = Stage::new();
    stage.plan(|_, _| Some(Fault::Fail(Code::Timeout)));
    let pass = stage.pass_with_probe();
    pass.deliver(sets(10, 1), UnknownOutcome).await;
    assert!(matches!(pass.stopped(), Some(StopReason::Unreachable { .. })));
    stage.plan(|_, _| None);
    let moved = || Change {
        account: Account::new("probe_account"),
        set: vec![(AttributeIndex(0), "Rome".into())],
        remove: Vec::new(),
    };
    let soon = stage.pass().deliver(vec![moved()], New).await;
    assert_eq!((count(&soon, provisional), soon[0].may_be_overwritten), (1, true));
    tokio::time::sleep(Duration::from_secs(21)).await;
    let later = stage.pass().deliver(vec![moved()], New).await;
    assert_eq!(count(&later, done), 1);
    stage.assert_promises();
}
