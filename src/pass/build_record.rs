//! From outcomes to a record: what an account's new acknowledged values and rejections are. Pure.
//!
//! Owns: the meaning of each outcome for the state. Must not know: statements, calls.

use std::sync::Arc;
use std::time::Duration;

use super::page_diff::AccountDiff;
use crate::diff::{DigestKey, REMOVAL};
use crate::model::{
    AccountOutcome, AcknowledgedValue, AttributeIndex, AttributeNames, AttributeOutcome, VendorRefusal,
};
use crate::state::account::{AccountRecord, RetryDue};
use crate::state::history::{HistoryRecord, NewHistoryRow, SendingPass, SentOutcome};
use crate::state::outcome_record::{IntentUpdate, OutcomeRecord};
use crate::state::rejection::NewRejection;

#[cfg(test)]
mod tests;

/// When accounts in doubt are sent again.
#[derive(Clone, Copy, Debug)]
pub(super) struct InDoubtDelays {
    /// How long after a call without a known outcome IM may still apply it.
    pub(super) late_write: Duration,
    /// The delay before an unknown outcome is retried, if it is longer than `late_write`.
    pub(super) unknown: Duration,
}

/// What one delivery did, in numbers of accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OutcomeCounts {
    /// At least one set was accepted.
    pub(super) pushed: usize,
    /// At least one removal was accepted.
    pub(super) removed: usize,
    /// Refused here or by IM.
    pub(super) rejected: usize,
    /// Refusals of values that were not sent. Counts values, not accounts.
    pub(super) local_rejections: usize,
}

/// Collects the outcomes of one delivery.
#[derive(Debug)]
pub(super) struct RecordBuilder {
    names: AttributeNames,
    /// The pass has ended: its rows are not read again, so what was not sent counts as in doubt.
    detached: bool,
    digest_key: DigestKey,
    record: OutcomeRecord,
    counts: OutcomeCounts,
}

impl RecordBuilder {
    /// `names`: the attribute names, by attribute index. `detached`: the pass has ended, and its rows are not read again.
    pub(super) fn new(names: AttributeNames, digest_key: DigestKey, detached: bool) -> Self {
        Self { names, detached, digest_key, record: OutcomeRecord::default(), counts: OutcomeCounts::default() }
    }

    /// Adds a row to the history for everything that was sent. `None`: no history is kept.
    pub(super) fn with_history(mut self, pass: Option<SendingPass>) -> Self {
        self.record.history = pass.map(HistoryRecord::by);
        self
    }

    /// The record with what becomes of its intent, and the counts.
    pub(super) fn finish(self, intent: Option<IntentUpdate>) -> (OutcomeRecord, OutcomeCounts) {
        (OutcomeRecord { intent, ..self.record }, self.counts)
    }

    /// Makes room for so many accounts.
    pub(super) fn reserve(&mut self, accounts: usize) {
        self.record.accounts.reserve(accounts);
    }

    /// Adds an account for which nothing was sent: its local refusals, and rejections that no longer apply.
    pub(super) fn add_refusals(&mut self, diff: &AccountDiff) {
        for (attribute, refusal) in &diff.refused {
            let reason = refusal.to_string();
            let attribute = attribute.map(|attribute| self.name_of(attribute));
            self.record.rejected.push(NewRejection {
                account: diff.account().clone(),
                attribute,
                code: None,
                desired_digest: self.digest_key.of_value(&reason),
                reason,
            });
        }
        self.counts.local_rejections += diff.refused.len();
        self.counts.rejected += usize::from(!diff.refused.is_empty());
        for attribute in &diff.resolved {
            self.add_resolved(diff, *attribute);
        }
    }

    /// Adds an account with the outcome of its change.
    pub(super) fn add_outcome(&mut self, diff: &AccountDiff, outcome: &AccountOutcome, delays: InDoubtDelays) {
        self.add_refusals(diff);
        let locally_refused = !diff.refused.is_empty();

        let mut update = AccountUpdate::new(diff, self.detached);
        for (index, (attribute, outcome)) in outcome.attributes.iter().enumerate() {
            // Outcomes come in the order of the change: first what is set, then what is removed.
            let value = diff.change.set.get(index).map(|(_, value)| value);
            update.apply(*attribute, value, outcome, delays);
            self.add_to_history(diff, *attribute, value, sent_outcome(outcome, update.known(*attribute)));
            if let AttributeOutcome::Refused(refusal) = outcome {
                self.add_vendor_refusal(diff, *attribute, value.map(|value| &**value), refusal);
            }
        }
        let late_write = if outcome.may_be_overwritten {
            Some(delays.late_write.max(diff.late_write.unwrap_or_default()))
        } else {
            diff.late_write
        };
        update.schedule_provisional(late_write);

        self.counts.pushed += usize::from(update.set_done);
        self.counts.removed += usize::from(update.remove_done);
        self.counts.rejected += usize::from(update.refused && !locally_refused);
        // One that was not sent stays owed. The others are recorded: as done, as a rejection, or in doubt.
        let mut removals = outcome.attributes.iter().skip(diff.change.set.len());
        let is_owed = diff.removal_waits || diff.change.remove.is_empty();
        if !is_owed && !removals.any(|(_, outcome)| *outcome == AttributeOutcome::NotSent) {
            self.record.removal_sent.push(diff.account().clone());
        }
        // A rejection of an attribute ends when the attribute was accepted, one of the account when everything was.
        for standing in &diff.standing {
            let fulfilled = standing.map_or(update.all_done, |attribute| update.done.contains(&attribute));
            if fulfilled && !diff.resolved.contains(standing) {
                self.add_resolved(diff, *standing);
            }
        }
        let was_in_doubt = diff.acknowledged.iter().any(AcknowledgedValue::in_doubt);
        if update.acknowledged != diff.acknowledged || (was_in_doubt && update.due != RetryDue::Now) {
            self.record.accounts.push(AccountRecord {
                account: diff.account().clone(),
                exists: diff.is_stored,
                acknowledged: update.acknowledged,
                due: update.due,
                late_write,
            });
        }
    }

    /// `outcome`: `None` for what was not sent.
    fn add_to_history(
        &mut self,
        diff: &AccountDiff,
        attribute: AttributeIndex,
        value: Option<&Arc<str>>,
        outcome: Option<SentOutcome>,
    ) {
        if let (Some(history), Some(outcome)) = (&mut self.record.history, outcome) {
            let old = diff.acknowledged.get(attribute.index()).and_then(AcknowledgedValue::shared_value).cloned();
            let account = diff.account().clone();
            history.rows.push(NewHistoryRow { account, attribute, old, new: value.cloned(), outcome });
        }
    }

    /// Several attributes of an account may carry one refusal of the whole account: it is recorded once.
    fn add_vendor_refusal(
        &mut self,
        diff: &AccountDiff,
        attribute: AttributeIndex,
        value: Option<&str>,
        refusal: &VendorRefusal,
    ) {
        let rejection = NewRejection {
            account: diff.account().clone(),
            attribute: (!refusal.of_account).then(|| self.name_of(attribute)),
            code: Some(refusal.code),
            reason: refusal.reason.clone(),
            desired_digest: if refusal.of_account {
                diff.desired_digest(&self.digest_key)
            } else {
                self.digest_key.of_value(value.unwrap_or(REMOVAL))
            },
        };
        let mut of_account = self.record.rejected.iter().rev().take_while(|known| known.account == rejection.account);
        if !of_account.any(|known| known.attribute == rejection.attribute) {
            self.record.rejected.push(rejection);
        }
    }

    fn add_resolved(&mut self, diff: &AccountDiff, attribute: Option<AttributeIndex>) {
        let attribute = attribute.map(|attribute| self.name_of(attribute));
        self.record.resolved.push((diff.account().clone(), attribute));
    }

    fn name_of(&self, attribute: AttributeIndex) -> String {
        self.names.get(attribute.index()).map_or_else(String::new, |name| (**name).to_owned())
    }
}

/// What the history says of an attribute, of which this is known now. `None`: it was in no call that IM can have applied.
fn sent_outcome(outcome: &AttributeOutcome, known: &AcknowledgedValue) -> Option<SentOutcome> {
    match outcome {
        AttributeOutcome::NotSent => None,
        AttributeOutcome::Refused(_) => Some(SentOutcome::Rejected),
        AttributeOutcome::Unknown => Some(SentOutcome::InDoubt),
        AttributeOutcome::Done | AttributeOutcome::Provisional if known.in_doubt() => Some(SentOutcome::InDoubt),
        AttributeOutcome::Done | AttributeOutcome::Provisional => Some(SentOutcome::Acknowledged),
    }
}

/// The state of one account while the outcomes of its attributes are applied.
struct AccountUpdate {
    acknowledged: Vec<AcknowledgedValue>,
    due: RetryDue,
    /// What was not sent counts as in doubt.
    detached: bool,
    /// An earlier call may still be applied over what is acknowledged now.
    late_write_possible: bool,
    all_done: bool,
    refused: bool,
    set_done: bool,
    remove_done: bool,
    /// The attributes that IM accepted.
    done: Vec<AttributeIndex>,
}

impl AccountUpdate {
    fn new(diff: &AccountDiff, detached: bool) -> Self {
        Self {
            acknowledged: diff.acknowledged.clone(),
            // A removal that the guard allows later resolves unknown outcomes too.
            due: if diff.removal_waits { RetryDue::Now } else { RetryDue::OnChange },
            detached,
            late_write_possible: diff.late_write.is_some(),
            all_done: true,
            refused: false,
            set_done: false,
            remove_done: false,
            done: Vec::new(),
        }
    }

    /// What is known of an attribute whose outcome was applied.
    fn known(&self, attribute: AttributeIndex) -> &AcknowledgedValue {
        &self.acknowledged[attribute.index()]
    }

    /// `value`: the value that was set; `None` for a removal.
    fn apply(
        &mut self,
        attribute: AttributeIndex,
        value: Option<&Arc<str>>,
        outcome: &AttributeOutcome,
        delays: InDoubtDelays,
    ) {
        if self.acknowledged.len() <= attribute.index() {
            self.acknowledged.resize(attribute.index() + 1, AcknowledgedValue::Absent);
        }
        let known = &mut self.acknowledged[attribute.index()];
        let provisional = match outcome {
            AttributeOutcome::Done => self.late_write_possible && known.in_doubt(),
            AttributeOutcome::Provisional => true,
            AttributeOutcome::Refused(_) => {
                self.all_done = false;
                self.refused = true;
                *known = AcknowledgedValue::Unknown;
                return;
            }
            AttributeOutcome::Unknown => {
                self.all_done = false;
                *known = AcknowledgedValue::Unknown;
                if self.due != RetryDue::Now {
                    self.due = RetryDue::In(delays.unknown.max(delays.late_write));
                }
                return;
            }
            AttributeOutcome::NotSent => {
                self.all_done = false;
                if self.detached {
                    *known = AcknowledgedValue::Unknown;
                    self.due = RetryDue::Now;
                }
                if *known == AcknowledgedValue::Unknown && self.due == RetryDue::OnChange {
                    self.due = RetryDue::Now;
                }
                return;
            }
        };
        *known = match value {
            value if provisional => AcknowledgedValue::Provisional(value.cloned()),
            Some(value) => AcknowledgedValue::Value(value.clone()),
            None => AcknowledgedValue::Absent,
        };
        self.done.push(attribute);
        self.set_done |= value.is_some();
        self.remove_done |= value.is_none();
    }

    /// Provisional values are sent once more when no late write is possible any longer.
    fn schedule_provisional(&mut self, late_write: Option<Duration>) {
        let is_provisional = |known: &AcknowledgedValue| matches!(known, AcknowledgedValue::Provisional(_));
        if let Some(late_write) = late_write
            && self.due == RetryDue::OnChange
            && self.acknowledged.iter().any(is_provisional)
        {
            self.due = RetryDue::In(late_write);
        }
    }
}
