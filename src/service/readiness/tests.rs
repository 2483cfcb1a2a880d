//! Readiness on a paused clock: each sentence of the rule, its edges, and its words.

use std::time::Duration;

use serde_json::json;
use tokio::time::advance;

use super::{Readiness, Role, Verdict};
use crate::clock::monotonic;

const LEADER: Verdict = Verdict::Ready(Role::Leader);

fn every(seconds: u64) -> Readiness {
    Readiness::new(Duration::from_secs(seconds))
}

fn leader(interval: u64) -> Readiness {
    let readiness = every(interval);
    readiness.leading();
    readiness
}

async fn after(seconds: f64) {
    advance(Duration::from_secs_f64(seconds)).await;
}

#[track_caller]
fn ready(readiness: &Readiness) {
    assert_eq!(readiness.verdict(monotonic()), LEADER);
}

#[track_caller]
fn not_ready(readiness: &Readiness, reason: &str) {
    assert_eq!(readiness.verdict(monotonic()), Verdict::NotReady(reason.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_start_is_not_ready_and_says_why() {
    let readiness = every(10);
    after(2.0).await;
    not_ready(&readiness, "started 2 s ago and does not know yet whether another instance leads");
    readiness.trouble("the state database is unreachable: connection refused".into());
    not_ready(&readiness, "the state database is unreachable: connection refused");
    readiness.leading();
    not_ready(&readiness, "no pass has ended in the 0 s since this instance took the lease");
    readiness.trouble("the source database is unreachable: connection refused".into());
    after(130.0).await;
    not_ready(
        &readiness,
        "no pass has ended in the 2 min since this instance took the lease; now: the source database is unreachable: connection refused",
    );
    readiness.pass_started();
    readiness.pass_finished(None);
    ready(&readiness);
}

#[tokio::test(start_paused = true)]
async fn ready_until_three_intervals_after_the_end_of_a_pass() {
    let readiness = leader(10);
    readiness.pass_started();
    readiness.pass_finished(None);
    after(29.9).await;
    ready(&readiness);
    after(0.1).await;
    not_ready(&readiness, "no pass has ended for 30 s");
    readiness.set_interval(Duration::from_secs(11));
    ready(&readiness);
}

#[tokio::test(start_paused = true)]
async fn a_short_interval_leaves_five_seconds() {
    let readiness = leader(1);
    readiness.pass_finished(None);
    after(4.9).await;
    ready(&readiness);
    after(0.1).await;
    not_ready(&readiness, "no pass has ended for 5 s");
}

#[tokio::test(start_paused = true)]
async fn the_first_pass_is_ready_while_it_records() {
    let readiness = leader(10);
    readiness.pass_started();
    after(5.0).await;
    not_ready(
        &readiness,
        "no pass has ended in the 5 s since this instance took the lease; the one under way has recorded nothing so far",
    );
    for _ in 0..100 {
        readiness.pass_recorded_something();
        after(60.0).await;
        ready(&readiness);
    }
    after(1.0).await;
    not_ready(
        &readiness,
        "no pass has ended in the 100 min since this instance took the lease; the one under way last recorded something 61 s ago",
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_interval_gives_a_pass_under_way_three_of_them() {
    let readiness = leader(60);
    readiness.pass_finished(None);
    after(600.0).await;
    readiness.pass_started();
    readiness.pass_recorded_something();
    after(180.0).await;
    ready(&readiness);
    after(1.0).await;
    not_ready(&readiness, "no pass has ended for 13 min; the one under way last recorded something 3 min ago");
}

#[tokio::test(start_paused = true)]
async fn what_a_finished_pass_recorded_says_nothing_about_the_next() {
    let readiness = leader(1);
    readiness.pass_started();
    readiness.pass_recorded_something();
    readiness.pass_finished(None);
    after(6.0).await;
    not_ready(&readiness, "no pass has ended for 6 s");
    readiness.pass_started();
    not_ready(&readiness, "no pass has ended for 6 s; the one under way has recorded nothing so far");
}

#[tokio::test(start_paused = true)]
async fn an_incremental_pass_between_the_pages_of_a_full_one_does_not_end_it() {
    let readiness = leader(10);
    readiness.pass_started();
    readiness.pass_started();
    readiness.pass_recorded_something();
    readiness.pass_finished(None);
    after(50.0).await;
    ready(&readiness);
}

#[tokio::test(start_paused = true)]
async fn a_failed_pass_is_not_ready_until_one_succeeds() {
    let readiness = leader(10);
    readiness.pass_started();
    readiness.pass_finished(Some("IM refused the UserSig (code 70001)".into()));
    after(12.0).await;
    not_ready(&readiness, "the last pass failed 12 s ago: IM refused the UserSig (code 70001)");

    // The next one under way has recorded something, but the newest finished one failed.
    readiness.pass_started();
    readiness.pass_recorded_something();
    not_ready(&readiness, "the last pass failed 12 s ago: IM refused the UserSig (code 70001)");
    readiness.pass_finished(None);
    ready(&readiness);
}

#[tokio::test(start_paused = true)]
async fn trouble_explains_and_does_not_decide_for_a_leader() {
    let readiness = leader(10);
    readiness.pass_finished(None);
    readiness.trouble("the source database is unreachable: time-out".into());
    ready(&readiness);
    after(40.0).await;
    not_ready(&readiness, "no pass has ended for 40 s; now: the source database is unreachable: time-out");
    readiness.pass_finished(Some("the source database is unreachable: time-out".into()));
    not_ready(&readiness, "the last pass failed 0 s ago: the source database is unreachable: time-out");
}

#[tokio::test(start_paused = true)]
async fn a_standby_is_ready_while_it_can_ask_for_the_lease() {
    let readiness = every(10);
    readiness.standing_by();
    after(86_400.0).await;
    assert_eq!(readiness.verdict(monotonic()), Verdict::Ready(Role::Standby));
    readiness.trouble("the state database is unreachable: broken pipe".into());
    not_ready(&readiness, "the state database is unreachable: broken pipe");
    readiness.standing_by();
    assert_eq!(readiness.verdict(monotonic()), Verdict::Ready(Role::Standby));
}

#[tokio::test(start_paused = true)]
async fn a_new_time_as_leader_begins_anew() {
    let readiness = leader(10);
    readiness.pass_started();
    readiness.pass_finished(Some("the lease was lost".into()));
    readiness.standing_by();
    after(3.0).await;
    readiness.leading();
    after(1.0).await;
    not_ready(&readiness, "no pass has ended in the 1 s since this instance took the lease");
    readiness.pass_started();
    readiness.pass_finished(None);
    readiness.leading(); // Said again, it changes nothing.
    ready(&readiness);
}

#[test]
fn the_answer_as_json() {
    assert_eq!(Verdict::Ready(Role::Leader).to_json(), json!({"ready": true, "role": "leader"}));
    assert_eq!(Verdict::Ready(Role::Standby).to_json(), json!({"ready": true, "role": "standby"}));
    assert_eq!(Verdict::NotReady("why".into()).to_json(), json!({"ready": false, "reason": "why"}));
}
