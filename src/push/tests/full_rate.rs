//! Tests of the share of the rate that a pass uses, from its first call to its last, and of the calls before the first answer.

use std::time::Duration;

use super::fake_im::*;
use crate::im::{ApiCommand, Code};
use crate::push::ChangeOrigin::New;
use crate::push::{PushLimits, StopReason};

fn one_user_a_call() -> PushLimits {
    PushLimits { users_per_call: 1, ..limits() }
}

/// As the vendor sees it: no second holds more than 95 calls.
#[tokio::test(start_paused = true)]
async fn each_latency_leaves_99_percent_of_the_rate() {
    for latency in [0, 30, 59, 60, 61, 100, 200, 350, 500, 600].map(Duration::from_millis) {
        for calls in [1_000, 1_050, 2_000] {
            let fixture = PushFixture::with(one_user_a_call());
            fixture.inject(move |_, _| Some(CallFault::Slow(latency)));
            let outcomes = fixture.begin_pass().deliver_all(sets(calls, 1), New).await;
            assert_eq!(count(&outcomes, done), calls);
            let sent = fixture.im.sent(ApiCommand::SetAttr);
            let took = (sent[calls - 1].at - sent[0].at).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a few thousand calls")]
            let share = calls as f64 / took / 95.0;
            assert!(share >= 0.99, "{calls} calls with answers after {latency:?}: {share:.4} of the rate");
            fixture.assert_limits_kept();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_second_of_calls_starts_before_the_first_answer() {
    let fixture = PushFixture::with(one_user_a_call());
    fixture.inject(|_, _| Some(CallFault::Slow(Duration::from_secs(9))));
    let pass = fixture.begin_pass();
    let delivery = pass.deliver_all(sets(500, 1), New);
    let _ = tokio::time::timeout(Duration::from_secs(8), delivery).await;
    let sent = fixture.im.sent(ApiCommand::SetAttr);
    assert_eq!(sent.len(), 1 + 47);
    let since = |number: usize| sent[number].at - sent[0].at;
    assert!(since(1) >= Duration::from_millis(60) && since(47) < Duration::from_secs(1), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_within_the_first_answer_time_costs_one_call() {
    let fixture = PushFixture::with(one_user_a_call());
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Vendor(70003))));
    let pass = fixture.begin_pass();
    pass.deliver_all(sets(500, 1), New).await;
    assert!(matches!(pass.stop_reason(), Some(StopReason::Credentials { .. })));
    assert_eq!(pass.calls(), 1);
}

/// IM did not answer the last call of the pass before.
#[tokio::test(start_paused = true)]
async fn after_a_failure_one_call_waits_for_its_answer() {
    let fixture = PushFixture::with(one_user_a_call());
    fixture.inject(|_, _| Some(CallFault::Fail(Code::Timeout)));
    fixture.begin_pass().deliver_all(sets(1, 1), New).await;
    fixture.inject(|_, _| Some(CallFault::Slow(Duration::from_secs(1))));
    let before = fixture.im.sent(ApiCommand::SetAttr).len();
    let pass = fixture.begin_pass();
    let delivery = pass.deliver_all(sets(500, 1), New);
    let _ = tokio::time::timeout(Duration::from_millis(900), delivery).await;
    assert_eq!(fixture.im.sent(ApiCommand::SetAttr).len(), before + 1);
}
