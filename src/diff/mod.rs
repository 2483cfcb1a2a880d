//! Compares what the table wants with what IM acknowledged: what to set, what to remove. Pure.
//!
//! Owns: the decision of what is sent. Must not know: Postgres, IM, how the mapping came to its wishes.

use std::sync::Arc;

use crate::model::{Account, Change, Desired, Known, Refusal, Slot, Want};

pub mod digest;

#[cfg(test)]
mod tests;

/// What one pass compares with: the mapping's slots and the rules that are not the mapping's.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The slot of each configured attribute, in the mapping's order.
    pub slots: Vec<Slot>,
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
    pub slot: Option<Slot>,
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
    /// Values that cannot be sent, by slot; an entry without slot speaks of the whole account.
    pub refused: Vec<(Option<Slot>, Refusal)>,
    /// Standing rejections that have lost their ground without a call: what was refused is no longer wanted, or IM holds it.
    pub resolved: Vec<Option<Slot>>,
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

fn known(acknowledged: &[Known], slot: Slot) -> &Known {
    acknowledged.get(slot.index()).unwrap_or(&Known::Absent)
}

/// Every slot of which something is acknowledged or in doubt.
fn held(acknowledged: &[Known]) -> impl Iterator<Item = Slot> + '_ {
    acknowledged
        .iter()
        .enumerate()
        .filter(|(_, known)| known.may_be_held())
        .map(|(index, _)| Slot(u16::try_from(index).expect("there are at most 63 slots")))
}

/// The difference for an account that has a row.
pub fn present(desired: &Desired, acknowledged: &[Known], rejected: &[Rejected], rules: &Rules) -> Difference {
    let mut result = Difference::nothing(desired.account.clone());
    let whole = rejected.iter().find(|r| r.slot.is_none());
    let whole_stands =
        whole.is_some_and(|r| !r.due && r.desired_digest == digest::of_wants(&desired.wants)) && !rules.force;

    for (want, slot) in desired.wants.iter().zip(rules.slots.iter().copied()) {
        let known = known(acknowledged, slot);
        let rejection = rejected.iter().find(|r| r.slot == Some(slot));
        let mut wish_is_moot = true;
        match want {
            Want::Keep => result.stuck |= *known == Known::Unknown,
            Want::Absent if !known.may_be_held() && !rules.force => {}
            Want::Absent if rejection.is_some_and(Rejected::removal_stands) => {
                wish_is_moot = false;
                result.stuck |= *known == Known::Unknown;
            }
            Want::Absent => {
                // A refused removal that is tried again keeps its count of attempts.
                wish_is_moot = !rejection.is_some_and(Rejected::of_removal);
                result.change.remove.push(slot);
            }
            Want::Refused(refusal) => {
                wish_is_moot = false;
                result.refused.push((Some(slot), refusal.clone()));
                result.stuck |= *known == Known::Unknown;
            }
            Want::Value(value) => {
                let same = known.value() == Some(&**value);
                if !same || rules.force {
                    wish_is_moot = false;
                    let stands = whole_stands
                        || (!rules.force
                            && rejection.is_some_and(|r| !r.due && r.desired_digest == digest::of_value(value)));
                    if stands {
                        result.stuck |= *known == Known::Unknown;
                    } else {
                        result.change.set.push((slot, value.clone()));
                    }
                }
            }
        }
        if wish_is_moot && rejection.is_some() {
            result.resolved.push(Some(slot));
        }
    }
    if whole.is_some() && !whole_stands && result.change.set.is_empty() {
        result.resolved.push(None);
    }

    for slot in held(acknowledged).filter(|slot| !rules.slots.contains(slot)) {
        let refused = rejected.iter().any(|r| r.slot == Some(slot) && r.removal_stands());
        if rules.remove_unmapped && !refused {
            result.change.remove.push(slot);
        } else {
            result.stuck |= *known(acknowledged, slot) == Known::Unknown;
        }
    }
    // A rejection of an attribute that the mapping no longer names has lost its ground.
    let unmapped = |r: &&Rejected| r.slot.is_some_and(|slot| !rules.slots.contains(&slot)) && !r.of_removal();
    result.resolved.extend(rejected.iter().filter(unmapped).map(|r| r.slot));
    result.change.set.sort_by_key(|(slot, _)| *slot);
    result.change.remove.sort();
    result
}

/// The difference for an account that is gone: everything that imsync gave it is removed.
pub fn gone(account: Account, acknowledged: &[Known], rejected: &[Rejected], rules: &Rules) -> Difference {
    let mut result = Difference::nothing(account);
    let refuses = |slot: Slot| rejected.iter().any(|r| r.slot == Some(slot) && r.removal_stands());
    if rules.remove_gone {
        result.change.remove = held(acknowledged).filter(|slot| !refuses(*slot)).collect();
    }
    result.stuck = result.change.remove.is_empty() && acknowledged.contains(&Known::Unknown);
    // Nothing is wanted any more, so no refused value still matters; a refused removal does.
    result.resolved = rejected.iter().filter(|r| !r.of_removal()).map(|r| r.slot).collect();
    result
}

/// The difference for an account that cannot be sent at all: only the refusal.
pub fn refused(account: Account, refusal: Refusal, rejected: &[Rejected]) -> Difference {
    let mut result = Difference::nothing(account);
    result.refused.push((None, refusal));
    // What stood against single attributes says nothing of an account that is refused as a whole.
    result.resolved = rejected.iter().filter(|r| r.slot.is_some()).map(|r| r.slot).collect();
    result
}

/// What a wish was, by name, old value beside it: for people who look before they send.
pub fn was(change: &Change, acknowledged: &[Known], names: &[Arc<str>]) -> Vec<(Arc<str>, Option<Box<str>>)> {
    change
        .set
        .iter()
        .map(|(slot, _)| *slot)
        .chain(change.remove.iter().copied())
        .filter_map(|slot| {
            let name = names.get(slot.index())?.clone();
            Some((name, known(acknowledged, slot).value().map(Into::into)))
        })
        .collect()
}
