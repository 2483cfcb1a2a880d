//! Compares what the table values with what IM acknowledged: what to set, what to remove. Pure.
//!
//! Owns: the decision of what is sent. Must not know: Postgres, IM, how the mapping came to its wishes.

use std::sync::Arc;

use crate::model::{Account, AcknowledgedValue, AttributeIndex, Change, DesiredAccount, DesiredValue, LocalRefusal};

pub mod digest;

#[cfg(test)]
mod tests;

/// What one pass compares with: the mapping's attributes and the rules that are not the mapping's.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The attribute of each configured attribute, in the mapping's order.
    pub attributes: Vec<AttributeIndex>,
    /// Attributes that imsync set and the mapping no longer names are removed.
    pub remove_unmapped: bool,
    /// Attributes of accounts that left the table are removed.
    pub remove_gone: bool,
    /// Send every attribute again, whatever was acknowledged.
    pub force: bool,
}

/// A standing rejection, as far as the diff must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// `None`: the whole account.
    pub attribute: Option<AttributeIndex>,
    pub desired_digest: i64,
    /// It is to be tried again now.
    pub due: bool,
}

impl Rejected {
    /// What the vendor refused was a removal.
    fn of_removal(&self) -> bool {
        self.desired_digest == digest::of_value(REMOVAL)
    }

    /// It was, and it is not yet time to ask again.
    fn removal_stands(&self) -> bool {
        !self.due && self.of_removal()
    }
}

/// Stands for a removal where a rejection is keyed to what was wanted; no value is empty.
pub const REMOVAL: &str = "";

/// What is to be done for one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub change: Change,
    /// Values that cannot be sent, by attribute; an entry without attribute speaks of the whole account.
    pub refused: Vec<(Option<AttributeIndex>, LocalRefusal)>,
    /// StandingRejection rejections that have lost their ground without a call: what was refused is no longer wanted, or IM holds it.
    pub resolved: Vec<Option<AttributeIndex>>,
    /// Attributes in doubt that no call can settle now (a value that stands rejected, `null = "keep"`).
    pub stuck: bool,
}

impl Difference {
    fn nothing(account: Account) -> Self {
        Self {
            change: Change { account, set: Vec::new(), remove: Vec::new() },
            refused: Vec::new(),
            resolved: Vec::new(),
            stuck: false,
        }
    }
}

fn known(acknowledged: &[AcknowledgedValue], attribute: AttributeIndex) -> &AcknowledgedValue {
    acknowledged.get(attribute.index()).unwrap_or(&AcknowledgedValue::Absent)
}

/// Every attribute of which something is acknowledged or in doubt.
fn held(acknowledged: &[AcknowledgedValue]) -> impl Iterator<Item = AttributeIndex> + '_ {
    acknowledged
        .iter()
        .enumerate()
        .filter(|(_, known)| known.may_be_held())
        .map(|(index, _)| AttributeIndex(u16::try_from(index).expect("there are at most 63 attributes")))
}

/// The difference for an account that has a row.
pub fn present(
    desired: &DesiredAccount,
    acknowledged: &[AcknowledgedValue],
    rejected: &[Rejected],
    rules: &Rules,
) -> Difference {
    let mut result = Difference::nothing(desired.account.clone());
    let whole = rejected.iter().find(|r| r.attribute.is_none());
    let whole_stands =
        whole.is_some_and(|r| !r.due && r.desired_digest == digest::of_desired(&desired.values)) && !rules.force;

    for (desired, attribute) in desired.values.iter().zip(rules.attributes.iter().copied()) {
        let known = known(acknowledged, attribute);
        let rejection = rejected.iter().find(|r| r.attribute == Some(attribute));
        let mut wish_is_moot = true;
        match desired {
            DesiredValue::Keep => result.stuck |= *known == AcknowledgedValue::Unknown,
            DesiredValue::Absent if !known.may_be_held() && !rules.force => {}
            DesiredValue::Absent if rejection.is_some_and(Rejected::removal_stands) => {
                wish_is_moot = false;
                result.stuck |= *known == AcknowledgedValue::Unknown;
            }
            DesiredValue::Absent => {
                // A refused removal that is tried again keeps its count of attempts.
                wish_is_moot = !rejection.is_some_and(Rejected::of_removal);
                result.change.remove.push(attribute);
            }
            DesiredValue::Refused(refusal) => {
                wish_is_moot = false;
                result.refused.push((Some(attribute), refusal.clone()));
                result.stuck |= *known == AcknowledgedValue::Unknown;
            }
            DesiredValue::Value(value) => {
                let same = known.value() == Some(&**value);
                if !same || rules.force {
                    wish_is_moot = false;
                    let stands = whole_stands
                        || (!rules.force
                            && rejection.is_some_and(|r| !r.due && r.desired_digest == digest::of_value(value)));
                    if stands {
                        result.stuck |= *known == AcknowledgedValue::Unknown;
                    } else {
                        result.change.set.push((attribute, value.clone()));
                    }
                }
            }
        }
        if wish_is_moot && rejection.is_some() {
            result.resolved.push(Some(attribute));
        }
    }
    if whole.is_some() && !whole_stands && result.change.set.is_empty() {
        result.resolved.push(None);
    }

    for attribute in held(acknowledged).filter(|attribute| !rules.attributes.contains(attribute)) {
        let refused = rejected.iter().any(|r| r.attribute == Some(attribute) && r.removal_stands());
        if rules.remove_unmapped && !refused {
            result.change.remove.push(attribute);
        } else {
            result.stuck |= *known(acknowledged, attribute) == AcknowledgedValue::Unknown;
        }
    }
    // A rejection of an attribute that the mapping no longer names has lost its ground.
    let unmapped =
        |r: &&Rejected| r.attribute.is_some_and(|attribute| !rules.attributes.contains(&attribute)) && !r.of_removal();
    result.resolved.extend(rejected.iter().filter(unmapped).map(|r| r.attribute));
    result.change.set.sort_by_key(|(attribute, _)| *attribute);
    result.change.remove.sort();
    result
}

/// The difference for an account that is gone: everything that imsync gave it is removed.
pub fn gone(account: Account, acknowledged: &[AcknowledgedValue], rejected: &[Rejected], rules: &Rules) -> Difference {
    let mut result = Difference::nothing(account);
    let refuses =
        |attribute: AttributeIndex| rejected.iter().any(|r| r.attribute == Some(attribute) && r.removal_stands());
    if rules.remove_gone {
        result.change.remove = held(acknowledged).filter(|attribute| !refuses(*attribute)).collect();
    }
    result.stuck = result.change.remove.is_empty() && acknowledged.contains(&AcknowledgedValue::Unknown);
    // Nothing is wanted any more, so no refused value still matters; a refused removal does.
    result.resolved = rejected.iter().filter(|r| !r.of_removal()).map(|r| r.attribute).collect();
    result
}

/// The difference for an account that cannot be sent at all: only the refusal.
pub fn refused(account: Account, refusal: LocalRefusal, rejected: &[Rejected]) -> Difference {
    let mut result = Difference::nothing(account);
    result.refused.push((None, refusal));
    // What stood against single attributes says nothing of an account that is refused as a whole.
    result.resolved = rejected.iter().filter(|r| r.attribute.is_some()).map(|r| r.attribute).collect();
    result
}

/// What a wish was, by name, old value beside it: for people who look before they send.
pub fn was(
    change: &Change,
    acknowledged: &[AcknowledgedValue],
    names: &[Arc<str>],
) -> Vec<(Arc<str>, Option<Box<str>>)> {
    change
        .set
        .iter()
        .map(|(attribute, _)| *attribute)
        .chain(change.remove.iter().copied())
        .filter_map(|attribute| {
            let name = names.get(attribute.index())?.clone();
            Some((name, known(acknowledged, attribute).value().map(Into::into)))
        })
        .collect()
}
