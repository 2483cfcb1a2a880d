//! What each outcome of an attribute makes of an account's record.
//!
//! Owns: tables of outcomes. Must not know: the database, IM.

use std::sync::Arc;
use std::time::Duration;

use super::super::page_diff::AccountDiff;
use super::{InDoubtDelays, OutcomeCounts, RecordBuilder};
use crate::diff::DigestKey;
use crate::model::{
    Account, AccountOutcome, AcknowledgedValue, AttributeIndex, AttributeOutcome, Change, DesiredValue, LocalRefusal,
    VendorRefusal,
};
use crate::state::account::RetryDue;
use crate::state::history::{SendingPass, SentOutcome};
use crate::state::outcome_record::{IntentUpdate, OutcomeRecord};
use crate::state::owed_removal::RemovalReason;

const CITY: AttributeIndex = AttributeIndex(0);
const PLAN: AttributeIndex = AttributeIndex(1);
const DELAYS: InDoubtDelays = InDoubtDelays { late_write: Duration::from_secs(20), unknown: Duration::from_secs(80) };

fn value(text: &str) -> AcknowledgedValue {
    AcknowledgedValue::Value(text.into())
}

/// Sets the city to "Wien" and removes the plan.
fn diff() -> AccountDiff {
    AccountDiff {
        is_stored: true,
        acknowledged: vec![value("Graz"), value("pro")],
        late_write: None,
        retry_scheduled: false,
        change: Change { account: Account::new("a"), set: vec![(CITY, "Wien".into())], remove: vec![PLAN] },
        counted_removal: Some(RemovalReason::Emptied),
        removal_waits: false,
        given_up: Vec::new(),
        may_be_overwritten: false,
        refused: Vec::new(),
        resolved: Vec::new(),
        standing: Vec::new(),
        desired: vec![DesiredValue::Value("Wien".into()), DesiredValue::Absent],
        unresolvable: false,
    }
}

fn record(diff: &AccountDiff, city: AttributeOutcome, plan: AttributeOutcome) -> (OutcomeRecord, OutcomeCounts) {
    record_of(diff, city, plan, false)
}

fn record_of(
    diff: &AccountDiff,
    city: AttributeOutcome,
    plan: AttributeOutcome,
    detached: bool,
) -> (OutcomeRecord, OutcomeCounts) {
    let mut builder =
        RecordBuilder::new([Arc::from("city"), Arc::from("plan")].into(), DigestKey::new(b"a key of a sync"), detached);
    let may_be_overwritten =
        [&city, &plan].iter().any(|o| matches!(o, AttributeOutcome::Unknown | AttributeOutcome::Provisional));
    let attributes = vec![(CITY, city), (PLAN, plan)];
    let outcome =
        AccountOutcome { account: diff.account().clone(), attributes, may_be_overwritten, unanswered_alone: false };
    builder.add_outcome(diff, &outcome, DELAYS);
    builder.finish(Some(IntentUpdate::delete(1)))
}

fn refused(of_account: bool) -> AttributeOutcome {
    AttributeOutcome::Refused(Arc::new(VendorRefusal { code: 70107, reason: "no such user".to_owned(), of_account }))
}

#[test]
fn accepted_values_are_acknowledged() {
    let (record, counts) = record(&diff(), AttributeOutcome::Done, AttributeOutcome::Done);
    assert!(record.intent.is_some());
    assert_eq!(record.accounts[0].acknowledged, [value("Wien"), AcknowledgedValue::Absent]);
    assert_eq!(record.accounts[0].due, RetryDue::OnChange);
    assert_eq!(counts, OutcomeCounts { pushed: 1, removed: 1, ..OutcomeCounts::default() });
}

#[test]
fn the_history_has_a_row_for_everything_that_was_sent() {
    let pass = SendingPass { kind: "incremental", started_at: chrono::DateTime::UNIX_EPOCH };
    let rows = |acknowledged: Vec<AcknowledgedValue>, late_write, city: &AttributeOutcome, plan: &AttributeOutcome| {
        let diff = AccountDiff { acknowledged, late_write, ..diff() };
        let names = [Arc::from("city"), Arc::from("plan")].into();
        let mut builder = RecordBuilder::new(names, DigestKey::new(b"a key of a sync"), true).with_history(Some(pass));
        let attributes = vec![(CITY, city.clone()), (PLAN, plan.clone())];
        let account = diff.account().clone();
        let outcome = AccountOutcome { account, attributes, may_be_overwritten: false, unanswered_alone: false };
        builder.add_outcome(&diff, &outcome, DELAYS);
        let rows = builder.finish(None).0.history.expect("a history is kept").rows;
        rows.into_iter()
            .map(|row| (row.attribute, row.old.as_deref().map(str::to_owned), row.outcome))
            .collect::<Vec<_>>()
    };
    let known = || vec![value("Graz"), value("pro")];
    let (done, not_sent) = (AttributeOutcome::Done, AttributeOutcome::NotSent);
    let (graz, pro) = (Some("Graz".to_owned()), Some("pro".to_owned()));
    for (city, expected) in [
        (done.clone(), SentOutcome::Acknowledged),
        (refused(false), SentOutcome::Rejected),
        (AttributeOutcome::Unknown, SentOutcome::InDoubt),
        (AttributeOutcome::Provisional, SentOutcome::InDoubt),
    ] {
        assert_eq!(rows(known(), None, &city, &not_sent), [(CITY, graz.clone(), expected)]);
        assert_eq!(rows(known(), None, &not_sent, &city), [(PLAN, pro.clone(), expected)]);
    }
    assert_eq!(rows(known(), None, &not_sent, &not_sent), []);
    // An earlier call may still be applied after this one.
    let in_doubt = vec![AcknowledgedValue::Unknown, AcknowledgedValue::Provisional(Some("pro".into()))];
    let late_write = Some(Duration::from_secs(5));
    let expected = [(CITY, None, SentOutcome::InDoubt), (PLAN, pro, SentOutcome::InDoubt)];
    assert_eq!(rows(in_doubt, late_write, &done, &done), expected);
    assert!(record(&diff(), done.clone(), done).0.history.is_none(), "without a history nothing is collected");
}

#[test]
fn the_last_value_removed_makes_the_account_unknown() {
    let mut diff = diff();
    diff.change.set.clear();
    diff.acknowledged = vec![AcknowledgedValue::Absent, value("pro")];
    let mut builder =
        RecordBuilder::new([Arc::from("city"), Arc::from("plan")].into(), DigestKey::new(b"a key of a sync"), false);
    let attributes = vec![(PLAN, AttributeOutcome::Done)];
    let outcome =
        AccountOutcome { account: Account::new("a"), attributes, may_be_overwritten: false, unanswered_alone: false };
    builder.add_outcome(&diff, &outcome, DELAYS);
    let (record, counts) = builder.finish(None);
    assert_eq!((counts.removed, counts.pushed), (1, 0));
    assert!(record.accounts[0].acknowledged.iter().all(|known| *known == AcknowledgedValue::Absent));
}

#[test]
fn an_unknown_outcome_is_retried_after_the_longer_delay() {
    let (record, counts) = record(&diff(), AttributeOutcome::Unknown, AttributeOutcome::NotSent);
    assert_eq!(record.accounts[0].acknowledged, [AcknowledgedValue::Unknown, value("pro")]);
    assert_eq!(record.accounts[0].due, RetryDue::In(DELAYS.unknown));
    assert_eq!(record.accounts[0].late_write, Some(DELAYS.late_write));
    assert_eq!(counts, OutcomeCounts::default());
}

#[test]
fn what_was_not_sent_is_looked_up_after_the_end_of_its_pass() {
    let (record, _) = record_of(&diff(), AttributeOutcome::NotSent, AttributeOutcome::Done, true);
    assert_eq!(record.accounts[0].acknowledged, [AcknowledgedValue::Unknown, AcknowledgedValue::Absent]);
    assert_eq!((record.accounts[0].due, record.accounts[0].late_write), (RetryDue::Now, None));
}

#[test]
fn a_provisional_value_is_sent_again_after_the_late_write() {
    let (record, _) = record(&diff(), AttributeOutcome::Provisional, AttributeOutcome::Done);
    let provisional = AcknowledgedValue::Provisional(Some("Wien".into()));
    assert_eq!(record.accounts[0].acknowledged, [provisional, AcknowledgedValue::Absent]);
    assert_eq!(record.accounts[0].due, RetryDue::In(DELAYS.late_write));
}

#[test]
fn an_earlier_late_write_makes_values_in_doubt_provisional() {
    let mut diff = diff();
    diff.acknowledged[0] = AcknowledgedValue::Unknown;
    diff.late_write = Some(Duration::from_secs(5));
    let (record, _) = record(&diff, AttributeOutcome::Done, AttributeOutcome::Done);
    let provisional = AcknowledgedValue::Provisional(Some("Wien".into()));
    assert_eq!(record.accounts[0].acknowledged, [provisional, AcknowledgedValue::Absent]);
    assert_eq!(record.accounts[0].due, RetryDue::In(Duration::from_secs(5)));
}

#[test]
fn a_pending_removal_keeps_unknown_outcomes_due() {
    let mut diff = diff();
    diff.removal_waits = true;
    let (record, _) = record(&diff, AttributeOutcome::Unknown, AttributeOutcome::Done);
    assert_eq!(record.accounts[0].due, RetryDue::Now);
}

#[test]
fn a_removal_is_owed_until_it_was_sent() {
    let sent = |plan| record(&diff(), AttributeOutcome::Done, plan).0.removal_sent;
    let refusal = Arc::new(VendorRefusal { code: 1, reason: String::new(), of_account: false });
    for outcome in [AttributeOutcome::Done, AttributeOutcome::Unknown, AttributeOutcome::Refused(refusal)] {
        assert_eq!(sent(outcome), [Account::new("a")]);
    }
    assert_eq!(sent(AttributeOutcome::NotSent), Vec::<Account>::new());
}

#[test]
fn nothing_sent_changes_nothing() {
    let (record, counts) = record(&diff(), AttributeOutcome::NotSent, AttributeOutcome::NotSent);
    assert!(record.accounts.is_empty() && record.rejected.is_empty() && record.resolved.is_empty());
    assert_eq!(counts, OutcomeCounts::default());
}

#[test]
fn a_refusal_of_an_account_is_recorded_once() {
    let (record, counts) = record(&diff(), refused(true), refused(true));
    assert_eq!(record.rejected.len(), 1);
    let digest = DigestKey::new(b"a key of a sync").of_desired_values(&diff().desired);
    assert_eq!((&record.rejected[0].attribute, record.rejected[0].desired_digest), (&None, digest));
    assert_eq!(record.accounts[0].acknowledged, [AcknowledgedValue::Unknown, AcknowledgedValue::Unknown]);
    assert_eq!(counts.rejected, 1);
}

#[test]
fn a_refusal_of_an_attribute_names_it() {
    let (record, counts) = record(&diff(), refused(false), AttributeOutcome::Done);
    assert_eq!(record.rejected[0].attribute.as_deref(), Some("city"));
    assert_eq!((counts.rejected, counts.removed, counts.pushed), (1, 1, 0));
}

#[test]
fn standing_rejections_end_when_their_attribute_is_accepted() {
    let mut diff = diff();
    diff.standing = vec![Some(CITY), Some(PLAN), None];
    let (part, _) = record(&diff, AttributeOutcome::Done, AttributeOutcome::NotSent);
    assert_eq!(part.resolved, [(Account::new("a"), Some("city".to_owned()))]);
    let (all, _) = record(&diff, AttributeOutcome::Done, AttributeOutcome::Done);
    assert_eq!(all.resolved.len(), 3, "the rejection of the account too");
}

#[test]
fn an_account_refused_here_and_by_im_counts_once() {
    let mut diff = diff();
    diff.refused = vec![(Some(PLAN), LocalRefusal::DuplicateAccount)];
    let (record, counts) = record(&diff, refused(false), AttributeOutcome::NotSent);
    assert_eq!((counts.rejected, counts.local_rejections, record.rejected.len()), (1, 1, 2));
}
