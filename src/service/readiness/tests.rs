//! Readiness on a paused clock: each part of the rule, its limits, and its sentences.

use std::time::Duration;

use serde_json::json;
use tokio::time::advance;

use super::{InstanceRole, Readiness, ReadinessStatus};
use crate::clock::monotonic;

const LEADER: ReadinessStatus = ReadinessStatus::Ready(InstanceRole::Leader);

fn every(seconds: u64) -> Readiness {
    Readiness::new(Duration::from_secs(seconds))
}

fn leader(interval: u64) -> Readiness {
    let readiness = every(interval);
    readiness.set_leader();
    readiness
}

async fn after(seconds: f64) {
    advance(Duration::from_secs_f64(seconds)).await;
}

#[track_caller]
fn ready(readiness: &Readiness) {
    assert_eq!(readiness.status(monotonic()), LEADER);
}

#[track_caller]
fn not_ready(readiness: &Readiness, reason: &str) {
    assert_eq!(readiness.status(monotonic()), ReadinessStatus::NotReady(reason.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn not_ready_after_the_start_with_the_reason() {
    let readiness = every(10);
    after(2.0).await;
    not_ready(&readiness, "started 2 s ago, not known yet whether another instance leads");
    readiness.set_problem("the state database is unreachable: connection refused".into());
    not_ready(&readiness, "the state database is unreachable: connection refused");
    readiness.set_leader();
    not_ready(&readiness, "no pass has ended in the 0 s since this instance took the lease");
    readiness.set_problem("the source database is unreachable: connection refused".into());
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
async fn a_short_interval_still_allows_five_seconds() {
    let readiness = leader(1);
    readiness.pass_finished(None);
    after(4.9).await;
    ready(&readiness);
    after(0.1).await;
    not_ready(&readiness, "no pass has ended for 5 s");
}

#[tokio::test(start_paused = true)]
async fn ready_while_the_first_pass_records_outcomes() {
    let readiness = leader(10);
    readiness.pass_started();
    after(5.0).await;
    not_ready(
        &readiness,
        "no pass has ended in the 5 s since this instance took the lease; the running one has recorded nothing so far",
    );
    for _ in 0..100 {
        readiness.pass_recorded_outcomes();
        after(60.0).await;
        ready(&readiness);
    }
    after(1.0).await;
    not_ready(
        &readiness,
        "no pass has ended in the 100 min since this instance took the lease; the running one last recorded something 61 s ago",
    );
}

#[tokio::test(start_paused = true)]
async fn a_running_pass_has_three_long_intervals_to_record() {
    let readiness = leader(60);
    readiness.pass_finished(None);
    after(600.0).await;
    readiness.pass_started();
    readiness.pass_recorded_outcomes();
    after(180.0).await;
    ready(&readiness);
    after(1.0).await;
    not_ready(&readiness, "no pass has ended for 13 min; the running one last recorded something 3 min ago");
}

#[tokio::test(start_paused = true)]
async fn a_finished_pass_does_not_count_for_the_next() {
    let readiness = leader(1);
    readiness.pass_started();
    readiness.pass_recorded_outcomes();
    readiness.pass_finished(None);
    after(6.0).await;
    not_ready(&readiness, "no pass has ended for 6 s");
    readiness.pass_started();
    not_ready(&readiness, "no pass has ended for 6 s; the running one has recorded nothing so far");
}

#[tokio::test(start_paused = true)]
async fn an_incremental_pass_does_not_end_the_full_one() {
    let readiness = leader(10);
    readiness.pass_started();
    readiness.pass_started();
    readiness.pass_recorded_outcomes();
    readiness.pass_finished(None);
    after(50.0).await;
    ready(&readiness);
}

#[tokio::test(start_paused = true)]
async fn not_ready_from_a_failed_pass_until_one_succeeds() {
    let readiness = leader(10);
    readiness.pass_started();
    readiness.pass_finished(Some("IM refused the UserSig (code 70001)".into()));
    after(12.0).await;
    not_ready(&readiness, "the last pass failed 12 s ago: IM refused the UserSig (code 70001)");

    // The running pass has recorded something, but the newest finished one failed.
    readiness.pass_started();
    readiness.pass_recorded_outcomes();
    not_ready(&readiness, "the last pass failed 12 s ago: IM refused the UserSig (code 70001)");
    readiness.pass_finished(None);
    ready(&readiness);
}

#[tokio::test(start_paused = true)]
async fn a_problem_explains_but_does_not_decide_for_a_leader() {
    let readiness = leader(10);
    readiness.pass_finished(None);
    readiness.set_problem("the source database is unreachable: time-out".into());
    ready(&readiness);
    after(40.0).await;
    not_ready(&readiness, "no pass has ended for 40 s; now: the source database is unreachable: time-out");
    readiness.pass_finished(Some("the source database is unreachable: time-out".into()));
    not_ready(&readiness, "the last pass failed 0 s ago: the source database is unreachable: time-out");
}

#[tokio::test(start_paused = true)]
async fn a_standby_is_ready_while_it_can_try_the_lease() {
    let readiness = every(10);
    readiness.set_standby();
    after(86_400.0).await;
    assert_eq!(readiness.status(monotonic()), ReadinessStatus::Ready(InstanceRole::Standby));
    readiness.set_problem("the state database is unreachable: broken pipe".into());
    not_ready(&readiness, "the state database is unreachable: broken pipe");
    readiness.set_standby();
    assert_eq!(readiness.status(monotonic()), ReadinessStatus::Ready(InstanceRole::Standby));
}

#[tokio::test(start_paused = true)]
async fn a_new_period_as_leader_starts_without_passes() {
    let readiness = leader(10);
    readiness.pass_started();
    readiness.pass_finished(Some("the lease was lost".into()));
    readiness.set_standby();
    after(3.0).await;
    readiness.set_leader();
    after(1.0).await;
    not_ready(&readiness, "no pass has ended in the 1 s since this instance took the lease");
    readiness.pass_started();
    readiness.pass_finished(None);
    readiness.set_leader(); // A second call changes nothing.
    ready(&readiness);
}

#[test]
fn the_status_as_json() {
    assert_eq!(ReadinessStatus::Ready(InstanceRole::Leader).to_json(), json!({"ready": true, "role": "leader"}));
    assert_eq!(ReadinessStatus::Ready(InstanceRole::Standby).to_json(), json!({"ready": true, "role": "standby"}));
    assert_eq!(ReadinessStatus::NotReady("why".into()).to_json(), json!({"ready": false, "reason": "why"}));
}
