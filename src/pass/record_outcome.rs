//! From outcomes to a record: what becomes of an account's acknowledged values and rejections. Pure.
//!
//! Owns: the meaning of each outcome for the state. Must not know: statements, calls.

use std::time::Duration;

use super::compare::{AccountDiff, PageComparer};
use crate::diff::{REMOVAL, digest};
use crate::model::{AccountOutcome, AcknowledgedValue, AttributeIndex, AttributeOutcome};
use crate::state::account::{AccountRecord, RetryDue};
use crate::state::record::OutcomeRecord;
use crate::state::rejection::NewRejection;

/// How long doubts are left alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryDelays {
    pub(super) doubt: Duration,
    pub(super) unknown: Duration,
}

/// What one delivery came to, in numbers of accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OutcomeCounts {
    pub(super) pushed: usize,
    pub(super) removed: usize,
    pub(super) rejected: usize,
    pub(super) local_rejections: usize,
    pub(super) known_delta: i64,
}

fn holds_something(acknowledged: &[AcknowledgedValue]) -> bool {
    acknowledged.iter().any(|known| known.value().is_some())
}

/// Adds one diff without an outcome: nothing was sent for it.
pub(super) fn record_refusals(
    diff: &AccountDiff,
    comparer: &PageComparer,
    record: &mut OutcomeRecord,
    counts: &mut OutcomeCounts,
) {
    for (attribute, refusal) in &diff.refused {
        let reason = refusal.to_string();
        record.rejected.push(NewRejection {
            account: diff.account().clone(),
            attribute: attribute.map(|attribute| comparer.name_of(attribute).to_owned()),
            code: None,
            desired_digest: digest::of_value(&reason),
            reason,
        });
    }
    counts.local_rejections += diff.refused.len();
    counts.rejected += usize::from(!diff.refused.is_empty());
    record.resolved.extend(
        diff.resolved.iter().map(|attribute| {
            (diff.account().clone(), attribute.map(|attribute| comparer.name_of(attribute).to_owned()))
        }),
    );
}

/// Adds one diff with its outcome. `doubt`: so long a call of unknown outcome may still record_outcome. `pause`: when an unknown
/// outcome is looked into, not before that.
pub(super) fn record_outcome(
    diff: &AccountDiff,
    outcome: &AccountOutcome,
    RetryDelays { doubt, unknown: pause }: RetryDelays,
    comparer: &PageComparer,
    record: &mut OutcomeRecord,
    counts: &mut OutcomeCounts,
) {
    let before_rejected = counts.rejected;
    record_refusals(diff, comparer, record, counts);
    let locally_refused = counts.rejected > before_rejected;

    let mut acknowledged = diff.acknowledged.clone();
    let late_write =
        if outcome.may_be_overwritten { Some(doubt.max(diff.late_write.unwrap_or_default())) } else { diff.late_write };
    // A removal that waits for the guard's decision settles doubts too.
    let mut due = if diff.pending { RetryDue::Now } else { RetryDue::NotByItself };
    let mut refused = false;
    let mut all_done = true;
    let (mut set_done, mut remove_done) = (false, false);
    let mut done_attributes: Vec<AttributeIndex> = Vec::new();
    for (index, (attribute, outcome)) in outcome.attributes.iter().enumerate() {
        if acknowledged.len() <= attribute.index() {
            acknowledged.resize(attribute.index() + 1, AcknowledgedValue::Absent);
        }
        let value = diff.change.set.get(index).map(|(_, value)| value);
        let provisional = match outcome {
            // A call of before may record_outcome over it as well.
            AttributeOutcome::Done => diff.late_write.is_some() && acknowledged[attribute.index()].in_doubt(),
            AttributeOutcome::Provisional => true,
            AttributeOutcome::Refused(refusal) => {
                all_done = false;
                refused = true;
                acknowledged[attribute.index()] = AcknowledgedValue::Unknown;
                let rejection = NewRejection {
                    account: diff.account().clone(),
                    attribute: (!refusal.of_account).then(|| comparer.name_of(*attribute).to_owned()),
                    code: Some(refusal.code),
                    reason: refusal.reason.clone(),
                    desired_digest: if refusal.of_account {
                        diff.desired_digest
                    } else {
                        digest::of_value(value.map_or(REMOVAL, |value| value))
                    },
                };
                let known = record.rejected.iter().rev().take_while(|r| r.account == rejection.account);
                if !known.into_iter().any(|r| r.attribute == rejection.attribute) {
                    record.rejected.push(rejection);
                }
                continue;
            }
            AttributeOutcome::Unknown => {
                all_done = false;
                acknowledged[attribute.index()] = AcknowledgedValue::Unknown;
                if due != RetryDue::Now {
                    due = RetryDue::In(pause.max(doubt));
                }
                continue;
            }
            AttributeOutcome::NotSent => {
                all_done = false;
                if acknowledged[attribute.index()] == AcknowledgedValue::Unknown && due == RetryDue::NotByItself {
                    due = RetryDue::Now;
                }
                continue;
            }
        };
        done_attributes.push(*attribute);
        set_done |= value.is_some();
        remove_done |= value.is_none();
        acknowledged[attribute.index()] = match value {
            value if provisional => AcknowledgedValue::Provisional(value.cloned()),
            Some(value) => AcknowledgedValue::Value(value.clone()),
            None => AcknowledgedValue::Absent,
        };
    }
    if let Some(late_write) = late_write
        && due == RetryDue::NotByItself
        && acknowledged.iter().any(|known| matches!(known, AcknowledgedValue::Provisional(_)))
    {
        due = RetryDue::In(late_write);
    }

    counts.pushed += usize::from(set_done);
    counts.removed += usize::from(remove_done);
    counts.rejected += usize::from(refused && !locally_refused);
    // A rejection goes when its attribute was accepted, one of the whole account when everything was.
    for standing in &diff.standing {
        let fulfilled = standing.map_or(all_done, |attribute| done_attributes.contains(&attribute));
        if fulfilled && !diff.resolved.contains(standing) {
            record
                .resolved
                .push((diff.account().clone(), standing.map(|attribute| comparer.name_of(attribute).to_owned())));
        }
    }
    if acknowledged != diff.acknowledged
        || (diff.acknowledged.iter().any(AcknowledgedValue::in_doubt) && due != RetryDue::Now)
    {
        counts.known_delta +=
            i64::from(holds_something(&acknowledged)) - i64::from(holds_something(&diff.acknowledged));
        record.accounts.push(AccountRecord {
            account: diff.account().clone(),
            exists: diff.exists,
            acknowledged,
            due,
            late_write,
        });
    }
}
