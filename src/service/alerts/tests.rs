//! Which alerts follow from which conditions, on a clock that the tests advance.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::alert_state::AlertState;
use super::conditions::{Conditions, PassFacts};
use super::document::{Sender, document};
use crate::clock;
use crate::service::readiness::{InstanceRole, ReadinessStatus};

const LEADER: ReadinessStatus = ReadinessStatus::Ready(InstanceRole::Leader);
const STANDBY: ReadinessStatus = ReadinessStatus::Ready(InstanceRole::Standby);

/// An alert state with its clock. Every alert that is due is delivered at once.
struct Story {
    state: AlertState,
    now: Instant,
    at: DateTime<Utc>,
}

impl Story {
    fn leader(stored: Option<&Value>) -> Self {
        let now = clock::monotonic();
        let mut state = AlertState::new(Conditions::new(Duration::from_secs(10), now));
        state.begin_leading(stored, 0, 0);
        state.conditions.note_readiness(LEADER, now);
        Self { state, now, at: DateTime::UNIX_EPOCH }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.at += Duration::from_secs(seconds);
    }

    /// The state of readiness from now on, looked at every second for so long. Returns what was delivered.
    fn readiness(&mut self, readiness: &ReadinessStatus, seconds: u64) -> Vec<String> {
        let mut delivered = Vec::new();
        for _ in 0..seconds {
            self.state.conditions.note_readiness(readiness.clone(), self.now);
            delivered.extend(self.deliver());
            self.wait(1);
        }
        delivered
    }

    fn pass(&mut self, facts: PassFacts) -> Vec<String> {
        self.state.conditions.note_pass(facts, self.now);
        self.deliver()
    }

    fn rejected(&mut self, rejected: u64) -> Vec<String> {
        self.pass(PassFacts { rejected, ..PassFacts::default() })
    }

    /// The texts of the alerts that are due.
    fn deliver(&mut self) -> Vec<String> {
        let sender = Sender { sync: "users".to_owned(), host: "h".to_owned() };
        let mut texts = Vec::new();
        while let Some(alert) = self.state.next(self.now, self.at) {
            let document = document(&alert, &sender, self.at);
            texts.push(document["text"].as_str().unwrap_or_default().to_owned());
            self.state.delivered(&alert, self.now);
            assert!(texts.len() < 10, "an alert that was delivered is not due again: {texts:?}");
        }
        texts
    }

    fn stored(&self) -> Value {
        self.state.unsaved().expect("something was told")
    }
}

fn not_ready(reason: &str) -> ReadinessStatus {
    ReadinessStatus::NotReady(reason.to_owned())
}

const NONE: [&str; 0] = [];

#[test]
fn a_failure_is_told_after_six_intervals_and_once() {
    let mut story = Story::leader(None);
    let failing = not_ready("the last pass failed 1 s ago: no table");
    assert_eq!(story.readiness(&failing, 59), NONE, "less than a minute");
    assert_eq!(story.readiness(&LEADER, 1), NONE);
    assert_eq!(story.readiness(&failing, 59), NONE, "it has been ready in between");
    let told = story.readiness(&failing, 600);
    assert_eq!(told, ["[imsync users] failing: the sync does not work: the last pass failed 1 s ago: no table"]);
    assert_eq!(story.readiness(&LEADER, 10), NONE, "it has to stay ready for a quarter of a minute");
    assert_eq!(story.readiness(&failing, 5), NONE);
    assert_eq!(story.readiness(&LEADER, 300), ["[imsync users] recovered: the sync works again"]);
}

#[test]
fn new_rejections_are_told_and_fixed_ones_are_not() {
    let mut story = Story::leader(None);
    assert_eq!(story.rejected(0), NONE);
    let one = "[imsync users] rejected: 1 account is rejected, 1 of them new; `imsync rejected` lists the reasons";
    assert_eq!(story.rejected(1), [one]);
    for rejected in 2..60 {
        story.wait(10);
        assert_eq!(story.rejected(rejected), NONE, "within ten minutes");
    }
    story.wait(30);
    let more = "[imsync users] rejected: 60 accounts are rejected, 59 of them new; `imsync rejected` lists the reasons";
    assert_eq!(story.rejected(60), [more]);
    story.wait(3600);
    assert_eq!(story.rejected(30), NONE, "fewer");
    let again = "[imsync users] rejected: 31 accounts are rejected, 1 of them new; `imsync rejected` lists the reasons";
    assert_eq!(story.rejected(31), [again], "more than after the fix");
    assert_eq!(story.rejected(0), ["[imsync users] rejected resolved: no account is rejected any more"]);
    assert_eq!(story.rejected(0), NONE);
}

#[test]
fn the_guard_is_told_when_it_trips_and_when_it_is_lifted() {
    let mut story = Story::leader(None);
    let guard = json!({ "since": "then", "accounts": 500, "known": 1000, "lost_within_24h": 3, "max_share": 0.2 });
    let tripped = PassFacts { guard: Some(guard), ..PassFacts::default() };
    let told = story.pass(tripped.clone());
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("500 of 1000 known accounts would lose an attribute"), "{told:?}");
    assert_eq!(story.pass(tripped), NONE);
    assert_eq!(story.pass(PassFacts::default()), ["[imsync users] guard resolved: the removal guard is lifted"]);
}

#[test]
fn accounts_in_doubt_are_told_after_an_hour() {
    let mut story = Story::leader(None);
    let pending = |in_doubt_pending| PassFacts { in_doubt_pending, ..PassFacts::default() };
    for _ in 0..360 {
        assert_eq!(story.pass(pending(true)), NONE);
        story.wait(10);
    }
    let told = story.pass(pending(true));
    assert!(told.len() == 1 && told[0].contains("for a clear answer for 60 min"), "{told:?}");
    story.wait(10);
    assert_eq!(story.pass(pending(true)), NONE);
    assert!(story.pass(pending(false))[0].starts_with("[imsync users] in_doubt resolved: "));
    assert_eq!(story.pass(pending(true)), NONE, "the hour begins again");
}

#[test]
fn drift_and_missed_changes_are_told_until_they_are_gone() {
    let mut story = Story::leader(None);
    let full = |missed| PassFacts { missed_changes: Some(missed), ..PassFacts::default() };
    assert_eq!(story.pass(full(0)), NONE);
    assert!(story.pass(full(3))[0].contains("missed_changes: 3 accounts changed without the watermark column moving"));
    assert_eq!(story.pass(PassFacts::default()), NONE, "an incremental pass says nothing about it");
    assert_eq!(story.pass(full(5)), NONE, "it stands");
    assert!(story.pass(full(0))[0].starts_with("[imsync users] missed_changes resolved: "));
    for (drifted, told) in [(2, "drift: "), (2, ""), (7, "7 accounts"), (1, ""), (0, "drift resolved: ")] {
        story.state.conditions.note_verification(drifted);
        let texts = story.deliver();
        assert_eq!(texts.len(), usize::from(!told.is_empty()), "{drifted}: {texts:?}");
        assert!(texts.iter().all(|text| text.contains(told)), "{drifted}: {texts:?}");
    }
}

#[test]
fn a_restart_repeats_nothing_and_ends_what_has_ended() {
    let mut before = Story::leader(None);
    before.readiness(&not_ready("no table"), 70);
    assert_eq!(before.rejected(5).len(), 1);
    let stored = before.stored();
    let mut after = Story::leader(Some(&stored));
    assert_eq!(after.deliver(), NONE, "nothing is known before the first pass");
    assert_eq!(after.rejected(5), NONE);
    assert_eq!(after.readiness(&LEADER, 100), ["[imsync users] recovered: the sync works again"]);
    assert!(after.rejected(6)[0].contains("6 accounts are rejected, 1 of them new"));
}

#[test]
fn a_standby_ends_only_what_it_has_told_itself() {
    let mut stored = Story::leader(None);
    stored.rejected(5);
    let stored = stored.stored();
    let mut story = Story::leader(Some(&stored));
    story.state.conditions.stop_leading();
    assert_eq!(story.readiness(&STANDBY, 100), NONE, "its leader sends alerts");
    assert_eq!(story.readiness(&not_ready("no database"), 100).len(), 1);
    assert_eq!(story.readiness(&STANDBY, 100), ["[imsync users] recovered: the sync works again"]);
}

#[test]
fn what_was_told_without_a_database_is_stored_later() {
    let mut story = Story::leader(None);
    story.state.conditions.stop_leading();
    assert_eq!(story.readiness(&not_ready("no database"), 100).len(), 1);
    story.state.begin_leading(None, 0, 0);
    assert!(story.stored()["standing"]["failing"].is_object());
    assert_eq!(story.readiness(&LEADER, 100).len(), 1, "recovered");
}

#[test]
fn an_alert_that_ends_before_it_is_delivered_is_not_sent() {
    let mut story = Story::leader(None);
    story.state.conditions.note_pass(PassFacts { rejected: 2, ..PassFacts::default() }, story.now);
    assert!(story.state.next(story.now, story.at).is_some());
    story.state.failed("the receiver answered 500", story.at);
    assert_eq!(story.stored()["undelivered"]["error"], "the receiver answered 500");
    story.wait(60);
    story.state.failed("the receiver answered 500", story.at);
    assert_eq!(story.stored()["undelivered"]["since"], "1970-01-01T00:00:00Z", "since the first attempt");
    assert_eq!(story.rejected(0), NONE);
}

#[test]
fn a_document_has_a_text_for_every_kind_of_chat() {
    let mut story = Story::leader(None);
    let reason = "<!channel> <at user_id=\"all\">\nline two";
    for _ in 0..100 {
        story.state.conditions.note_readiness(not_ready(reason), story.now);
        story.wait(1);
    }
    let alert = story.state.next(story.now, story.at).expect("it has failed for long enough");
    let sender = Sender { sync: "users".to_owned(), host: "db1".to_owned() };
    let document = document(&alert, &sender, story.at);
    let text = "[imsync users] failing: the sync does not work: ‹!channel› ‹at user_id=\"all\"› line two";
    assert_eq!(
        document,
        json!({
            "version": 1, "sync": "users", "kind": "failing", "status": "firing", "severity": "error",
            "summary": "the sync does not work: <!channel> <at user_id=\"all\"> line two",
            "key": "imsync/users/failing", "since": "1970-01-01T00:00:00Z", "at": "1970-01-01T00:01:40Z", "host": "db1",
            "details": { "reason": reason }, "text": text, "msg_type": "text", "content": { "text": text },
            "msgtype": "markdown", "markdown": { "title": "imsync users", "content": text, "text": text },
        })
    );
}
