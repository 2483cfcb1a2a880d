//! The difference of one account, attribute by attribute.
//!
//! Owns: when a value is sent, when a rejection is resolved, what stays in doubt. Must not know: how rejections are stored.

use std::sync::Arc;

use super::digest::DigestKey;
use crate::model::{Account, AcknowledgedValue, AttributeIndex, Change, DesiredAccount, DesiredValue, LocalRefusal};

/// What every account of a pass is compared with: the attributes of the mapping, and the settings outside of it.
#[derive(Clone, Debug)]
pub struct DiffRules {
    /// The index of each configured attribute, in the order of `DesiredAccount::values`.
    pub attribute_indexes: Vec<AttributeIndex>,
    /// Remove attributes that imsync set and that the mapping no longer names.
    pub remove_unmapped: bool,
    /// Remove the attributes of accounts that are gone from the table.
    pub remove_gone: bool,
    /// Send every attribute again, whatever was acknowledged.
    pub force: bool,
    /// The key of the digests of rejections.
    pub digest_key: DigestKey,
    /// Remove attributes that are to be absent although nothing is acknowledged for them. Part of `force`.
    pub force_removals: bool,
}

/// A recorded rejection, reduced to what the comparison needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorRejection {
    /// `None`: the whole account was rejected.
    pub attribute: Option<AttributeIndex>,
    /// The digest of what was rejected: [`DigestKey::of_value`] of the value or of [`REMOVAL`], or
    /// [`DigestKey::of_desired_values`] for a whole account.
    pub desired_digest: i64,
    /// It is to be retried now.
    pub due: bool,
}

impl PriorRejection {
    /// The vendor refused to remove the attribute.
    fn is_of_removal(&self, key: &DigestKey) -> bool {
        self.desired_digest == key.of_value(REMOVAL)
    }

    /// The vendor refused to remove the attribute, and the retry is not due.
    fn blocks_removal(&self, key: &DigestKey) -> bool {
        !self.due && self.is_of_removal(key)
    }

    /// The vendor refused this value, and the retry is not due.
    fn blocks_value(&self, value: &str, key: &DigestKey) -> bool {
        !self.due && self.desired_digest == key.of_value(value)
    }
}

/// Represents a removal in the digest of a rejection. No value is empty.
pub const REMOVAL: &str = "";

/// What has to be done for one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeDiff {
    /// What to send. `set` and `remove` are empty when nothing differs.
    pub change: Change,
    /// Values that cannot be sent, by attribute; `None` stands for the whole account.
    pub refused: Vec<(Option<AttributeIndex>, LocalRefusal)>,
    /// Recorded rejections that no longer apply although nothing is sent for them: what was rejected is no longer
    /// desired, or IM holds it. `None` stands for the whole account.
    pub resolved: Vec<Option<AttributeIndex>>,
    /// An attribute is in doubt and no call can settle it now: its value is rejected, or the mapping keeps whatever IM
    /// holds.
    pub stays_in_doubt: bool,
}

/// One attribute of an account that has a row.
struct AttributeInput<'a> {
    index: AttributeIndex,
    desired: &'a DesiredValue,
    acknowledged: &'a AcknowledgedValue,
    rejection: Option<&'a PriorRejection>,
    /// The whole account is rejected with these values, and the retry is not due.
    account_blocked: bool,
    rules: &'a DiffRules,
}

impl AttributeInput<'_> {
    fn in_doubt(&self) -> bool {
        *self.acknowledged == AcknowledgedValue::Unknown
    }

    fn value_blocked(&self, value: &str) -> bool {
        self.account_blocked
            || (!self.rules.force
                && self.rejection.is_some_and(|rejection| rejection.blocks_value(value, &self.rules.digest_key)))
    }
}

impl AttributeDiff {
    fn unchanged(account: Account) -> Self {
        Self {
            change: Change { account, set: Vec::new(), remove: Vec::new() },
            refused: Vec::new(),
            resolved: Vec::new(),
            stays_in_doubt: false,
        }
    }

    fn compare(&mut self, input: &AttributeInput<'_>) {
        let key = &input.rules.digest_key;
        let resolved = match input.desired {
            DesiredValue::Keep => {
                self.stays_in_doubt |= input.in_doubt();
                true
            }
            DesiredValue::Absent if !input.acknowledged.may_be_held() && !input.rules.force_removals => true,
            DesiredValue::Absent if input.rejection.is_some_and(|rejection| rejection.blocks_removal(key)) => {
                self.stays_in_doubt |= input.in_doubt();
                false
            }
            DesiredValue::Absent => {
                self.change.remove.push(input.index);
                // A rejected removal that is retried keeps its number of attempts.
                !input.rejection.is_some_and(|rejection| rejection.is_of_removal(key))
            }
            DesiredValue::Refused(refusal) => {
                self.refused.push((Some(input.index), refusal.clone()));
                self.stays_in_doubt |= input.in_doubt();
                false
            }
            DesiredValue::Value(value) if input.acknowledged.value() == Some(&**value) && !input.rules.force => true,
            DesiredValue::Value(value) if input.value_blocked(value) => {
                self.stays_in_doubt |= input.in_doubt();
                false
            }
            DesiredValue::Value(value) => {
                self.change.set.push((input.index, value.clone()));
                false
            }
        };
        if resolved && input.rejection.is_some() {
            self.resolved.push(Some(input.index));
        }
    }
}

fn acknowledged_at(acknowledged: &[AcknowledgedValue], index: AttributeIndex) -> &AcknowledgedValue {
    acknowledged.get(index.index()).unwrap_or(&AcknowledgedValue::Absent)
}

/// Every attribute that IM holds or may hold.
fn possibly_held(acknowledged: &[AcknowledgedValue]) -> impl Iterator<Item = AttributeIndex> + '_ {
    acknowledged
        .iter()
        .enumerate()
        .filter(|(_, value)| value.may_be_held())
        .map(|(index, _)| AttributeIndex(u16::try_from(index).expect("there are at most 63 attributes")))
}

/// The vendor refused to remove this attribute, and the retry is not due.
fn removal_blocked(rejections: &[PriorRejection], index: AttributeIndex, key: &DigestKey) -> bool {
    rejections.iter().any(|rejection| rejection.attribute == Some(index) && rejection.blocks_removal(key))
}

/// The difference of an account that has a row.
pub fn of_present_account(
    desired: &DesiredAccount,
    acknowledged: &[AcknowledgedValue],
    rejections: &[PriorRejection],
    rules: &DiffRules,
) -> AttributeDiff {
    let mut diff = AttributeDiff::unchanged(desired.account.clone());
    let account_rejection = rejections.iter().find(|rejection| rejection.attribute.is_none());
    let is_same =
        |rejection: &PriorRejection| rejection.desired_digest == rules.digest_key.of_desired_values(&desired.values);
    let account_blocked =
        !rules.force && account_rejection.is_some_and(|rejection| !rejection.due && is_same(rejection));

    for (desired, index) in desired.values.iter().zip(rules.attribute_indexes.iter().copied()) {
        diff.compare(&AttributeInput {
            index,
            desired,
            acknowledged: acknowledged_at(acknowledged, index),
            rejection: rejections.iter().find(|rejection| rejection.attribute == Some(index)),
            account_blocked,
            rules,
        });
    }
    if account_rejection.is_some() && !account_blocked && diff.change.set.is_empty() {
        diff.resolved.push(None);
    }

    let is_mapped = |index: AttributeIndex| rules.attribute_indexes.contains(&index);
    for index in possibly_held(acknowledged).filter(|index| !is_mapped(*index)) {
        if rules.remove_unmapped && !removal_blocked(rejections, index, &rules.digest_key) {
            diff.change.remove.push(index);
        } else {
            diff.stays_in_doubt |= *acknowledged_at(acknowledged, index) == AcknowledgedValue::Unknown;
        }
    }
    // The rejected value of an attribute that the mapping no longer names is not desired any more.
    let unmapped = rejections.iter().filter(|rejection| {
        rejection.attribute.is_some_and(|index| !is_mapped(index)) && !rejection.is_of_removal(&rules.digest_key)
    });
    diff.resolved.extend(unmapped.map(|rejection| rejection.attribute));
    diff.change.set.sort_by_key(|(index, _)| *index);
    diff.change.remove.sort();
    diff
}

/// The difference of an account that is gone from the table: everything that imsync set is removed.
pub fn of_gone_account(
    account: Account,
    acknowledged: &[AcknowledgedValue],
    rejections: &[PriorRejection],
    rules: &DiffRules,
) -> AttributeDiff {
    let mut diff = AttributeDiff::unchanged(account);
    if rules.remove_gone {
        diff.change.remove = possibly_held(acknowledged)
            .filter(|index| !removal_blocked(rejections, *index, &rules.digest_key))
            .collect();
    }
    diff.stays_in_doubt = diff.change.remove.is_empty() && acknowledged.contains(&AcknowledgedValue::Unknown);
    // No value is desired any more, so rejected values do not matter; rejected removals do.
    let of_values = rejections.iter().filter(|rejection| !rejection.is_of_removal(&rules.digest_key));
    diff.resolved = of_values.map(|rejection| rejection.attribute).collect();
    diff
}

/// The difference of an account that cannot be sent at all: only the refusal.
pub fn of_refused_account(account: Account, refusal: LocalRefusal, rejections: &[PriorRejection]) -> AttributeDiff {
    let mut diff = AttributeDiff::unchanged(account);
    diff.refused.push((None, refusal));
    // Rejections of single attributes do not apply to an account that is refused as a whole.
    let of_attributes = rejections.iter().filter(|rejection| rejection.attribute.is_some());
    diff.resolved = of_attributes.map(|rejection| rejection.attribute).collect();
    diff
}

/// For each attribute of a change, its name and the value that IM acknowledged last, for a preview of the change.
pub fn previous_values(
    change: &Change,
    acknowledged: &[AcknowledgedValue],
    names: &[Arc<str>],
) -> Vec<(Arc<str>, Option<Box<str>>)> {
    let set = change.set.iter().map(|(index, _)| *index);
    set.chain(change.remove.iter().copied())
        .filter_map(|index| {
            let name = names.get(index.index())?.clone();
            Some((name, acknowledged_at(acknowledged, index).value().map(Into::into)))
        })
        .collect()
}
