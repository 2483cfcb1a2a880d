//! What a sync may do with an account of which another sync of the app uses the same attributes. Pure.
//!
//! Owns: the decision for one account. Must not know: statements, and how the other syncs were read.
//!
//! IM holds one value of an attribute, whoever set it. Two rules keep the states of both syncs true:
//!
//! - An attribute of an account is in the intent of one sync at a time. Another sync waits.
//! - A sync does not remove what another one holds. It gives up its own claim instead. If its value was the newer one, the
//!   other sync sends its own again: see [`SharedDecision::overwrites`] and [`SharedDecision::releases`].

use std::time::Duration;

use super::acknowledged_json::encode;
use super::other_syncs::OtherSync;
use crate::model::{AcknowledgedValue, AttributeIndex, Change};

/// A change that is about to be sent, with what is stored for its account.
#[derive(Clone, Copy, Debug)]
pub struct IntendedChange<'a> {
    /// What to send.
    pub change: &'a Change,
    /// Attributes that are no longer wanted, and that another sync held when the account was compared.
    pub given_up: &'a [AttributeIndex],
    /// The acknowledged values, by attribute index.
    pub acknowledged: &'a [AcknowledgedValue],
    /// The state has a row for the account.
    pub is_stored: bool,
    /// For how long an earlier call of unknown outcome may still be applied by IM.
    pub late_write: Option<Duration>,
}

/// What another sync stores for the account.
#[derive(Clone, Debug, Default)]
pub(super) struct OtherClaim {
    /// Its acknowledged values, by its attribute index. Values of an older generation are unknown.
    pub(super) acknowledged: Vec<AcknowledgedValue>,
    /// The account is in one of its stored intents.
    pub(super) has_intent: bool,
    /// For how long an earlier call of it may still be applied by IM.
    pub(super) late_write: Option<Duration>,
}

/// The decision for one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SharedDecision {
    /// Another sync has a call for the account in flight, whichever attributes it carries. Nothing else is decided.
    pub(super) blocked: bool,
    /// Attributes that another sync holds: they are not removed, and this sync gives up its claim.
    pub(super) dropped: Vec<AttributeIndex>,
    /// Attributes whose acknowledged value another sync has overwritten, or that nobody holds any more.
    pub(super) unknown: Vec<AttributeIndex>,
    /// For how long a call of another sync may still be applied after the calls of this one.
    pub(super) late_write: Option<Duration>,
    /// Values of other syncs that the change overwrites: the sync's id and the attribute.
    pub(super) overwrites: Vec<(i32, String)>,
    /// Claims of other syncs that are the only ones from now on.
    pub(super) releases: Vec<(i32, String)>,
}

/// Decides what becomes of a change. `others`: what each of the other syncs stores for the account. `overwritten`: the
/// attributes of this sync over which another one has set a value.
pub(super) fn decide(
    intended: &IntendedChange<'_>,
    others: &[(&OtherSync, OtherClaim)],
    overwritten: &[AttributeIndex],
) -> SharedDecision {
    let IntendedChange { change, given_up, .. } = intended;
    if others.iter().any(|(_, claim)| claim.has_intent) {
        return SharedDecision { blocked: true, ..SharedDecision::default() };
    }
    let mut decision = SharedDecision {
        late_write: others.iter().filter_map(|(_, claim)| claim.late_write).max(),
        ..SharedDecision::default()
    };
    for attribute in change.remove.iter().chain(*given_up) {
        let holders = holders(others, *attribute);
        if !holders.is_empty() {
            decision.dropped.push(*attribute);
            decision.releases.extend(holders.into_iter().map(|(id, name, _)| (id, name.to_owned())));
        } else if given_up.contains(attribute) || overwritten.contains(attribute) {
            decision.unknown.push(*attribute);
        }
    }
    for (attribute, value) in &change.set {
        if overwritten.contains(attribute) {
            decision.unknown.push(*attribute);
        }
        for (id, name, held) in holders(others, *attribute) {
            // Any other value than an acknowledged one is sent again by the other sync anyway.
            if matches!(held, AcknowledgedValue::Value(held) if held != value) {
                decision.overwrites.push((id, name.to_owned()));
            }
        }
    }
    decision
}

/// The syncs for which IM holds, or may hold, a value of this attribute.
fn holders<'a>(
    others: &'a [(&OtherSync, OtherClaim)],
    attribute: AttributeIndex,
) -> Vec<(i32, &'a str, &'a AcknowledgedValue)> {
    let held = |(other, claim): &'a (&OtherSync, OtherClaim)| {
        let shared = other.shared.iter().find(|shared| shared.own == attribute)?;
        let value = claim.acknowledged.get(shared.other.index())?;
        (*value != AcknowledgedValue::Absent).then_some((other.id, shared.name.as_str(), value))
    };
    others.iter().filter_map(held).collect()
}

/// The acknowledged values after a decision.
pub fn claims_after(
    acknowledged: &[AcknowledgedValue],
    dropped: &[AttributeIndex],
    unknown: &[AttributeIndex],
) -> Vec<AcknowledgedValue> {
    let mut after = acknowledged.to_vec();
    for (attributes, value) in [(dropped, AcknowledgedValue::Absent), (unknown, AcknowledgedValue::Unknown)] {
        for attribute in attributes {
            if after.len() <= attribute.index() {
                after.resize(attribute.index() + 1, AcknowledgedValue::Absent);
            }
            after[attribute.index()] = value.clone();
        }
    }
    after
}

/// Whether the state has a row for an account with these values.
pub fn has_row(acknowledged: &[AcknowledgedValue]) -> bool {
    encode(acknowledged).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::other_syncs::SharedAttribute;
    use super::*;
    use crate::model::Account;

    /// Index 0 here is index 1 in the other sync. Index 1 is not shared.
    fn other() -> OtherSync {
        let shared = SharedAttribute { name: "city".to_owned(), own: AttributeIndex(0), other: AttributeIndex(1) };
        OtherSync { id: 7, name: "b".to_owned(), account_prefix: String::new(), shared: vec![shared] }
    }

    fn holding(city: AcknowledgedValue) -> OtherClaim {
        OtherClaim { acknowledged: vec![AcknowledgedValue::Absent, city], ..OtherClaim::default() }
    }

    fn decided(set: Option<&str>, given_up: bool, claim: OtherClaim, overwritten: bool) -> SharedDecision {
        let city = AttributeIndex(0);
        let change = Change {
            account: Account::new("u"),
            set: set.map(|value| (city, value.into())).into_iter().collect(),
            remove: if set.is_none() && !given_up { vec![city] } else { Vec::new() },
        };
        let given_up = if given_up { vec![city] } else { Vec::new() };
        let intended = IntendedChange {
            change: &change,
            given_up: &given_up,
            acknowledged: &[AcknowledgedValue::Value("Graz".into())],
            is_stored: true,
            late_write: None,
        };
        decide(&intended, &[(&other(), claim)], if overwritten { &[AttributeIndex(0)] } else { &[] })
    }

    fn value(text: &str) -> AcknowledgedValue {
        AcknowledgedValue::Value(text.into())
    }

    #[test]
    fn what_another_sync_may_hold_is_not_removed() {
        let city = vec![AttributeIndex(0)];
        for held in [value("Wien"), AcknowledgedValue::Unknown, AcknowledgedValue::Provisional(None)] {
            for given_up in [false, true] {
                let decision = decided(None, given_up, holding(held.clone()), false);
                assert_eq!((decision.dropped, decision.releases.len()), (city.clone(), 1), "{held:?}");
            }
        }
        assert_eq!(decided(None, false, holding(AcknowledgedValue::Absent), false), SharedDecision::default());
        // Both gave up at the same time: the second one must still remove it.
        let nobody = decided(None, true, holding(AcknowledgedValue::Absent), false);
        assert_eq!((nobody.dropped, nobody.unknown), (vec![], city));
    }

    #[test]
    fn a_set_notes_which_value_it_overwrites() {
        let overwrites = |claim| decided(Some("Wien"), false, claim, false).overwrites;
        assert_eq!(overwrites(holding(value("Graz"))), vec![(7, "city".to_owned())]);
        assert!(overwrites(holding(value("Wien"))).is_empty(), "both hold the same value");
        assert!(overwrites(holding(AcknowledgedValue::Unknown)).is_empty());
        let own = decided(Some("Wien"), false, holding(AcknowledgedValue::Absent), true);
        assert_eq!(
            own.unknown,
            vec![AttributeIndex(0)],
            "if the call does not happen, the old value is no longer true"
        );
    }

    #[test]
    fn a_change_waits_for_the_intent_of_another_sync() {
        let busy = || OtherClaim { has_intent: true, ..OtherClaim::default() };
        assert!(decided(Some("Wien"), false, busy(), false).blocked);
        assert!(decided(None, true, busy(), false).blocked);
        let late = OtherClaim { late_write: Some(Duration::from_secs(3)), ..OtherClaim::default() };
        assert_eq!(decided(Some("Wien"), false, late, false).late_write, Some(Duration::from_secs(3)));
    }
}
