//! What IM should hold of an account, compared with what it holds. Pure.
//!
//! Owns: which attributes are expected to have which value, and why one differs. Must not know: where rows, state and IM are
//! read.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::diff::DiffRules;
use crate::mapping::MappedRow;
use crate::model::{AcknowledgedValue, AttributeIndex, AttributeNames, DesiredValue};

/// What the state holds of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AccountFacts {
    /// In the order of the attribute indexes.
    pub(super) acknowledged: Vec<AcknowledgedValue>,
    /// Names of rejected attributes; `None` is the whole account.
    pub(super) rejected: Vec<Option<String>>,
    /// Attributes that another sync of the app holds.
    pub(super) held_by_others: Vec<AttributeIndex>,
    /// A call with this account is under way, or its row is to be looked at when one has ended.
    pub(super) is_under_way: bool,
    /// A removal waits for the removal guard.
    pub(super) owes_removal: bool,
    /// When the newest outcome was recorded.
    pub(super) recorded_at: Option<DateTime<Utc>>,
}

/// Table and state of an account at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) row: MappedRow,
    /// The table has no row, not even one that is marked as deleted or left out.
    pub(super) is_missing: bool,
    pub(super) facts: AccountFacts,
}

/// Why IM does not hold what the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DifferenceCause {
    /// IM acknowledged the value, and does not hold it.
    Drift,
    /// It was not sent yet.
    Unsent,
    /// The outcome of a call is unknown.
    InDoubt,
    /// IM refused it.
    Rejected,
}

/// An attribute that IM does not hold as the table says. `None` is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) name: String,
    pub(super) expected: Option<String>,
    pub(super) acknowledged: Option<String>,
    pub(super) actual: Option<String>,
    pub(super) cause: DifferenceCause,
}

/// What every account is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectations<'a> {
    pub(super) rules: &'a DiffRules,
    pub(super) names: &'a AttributeNames,
}

impl Expectations<'_> {
    /// Whether IM may hold something else than it should. What only the state can tell is left open.
    pub(super) fn may_differ(&self, row: &MappedRow, actual: &BTreeMap<String, String>) -> bool {
        self.expected(row, None).into_iter().any(|(index, expected)| {
            let actual = self.name_of(index).and_then(|name| actual.get(name)).map(String::as_str);
            actual != expected
        })
    }

    /// The attributes that differ.
    pub(super) fn differences(
        &self,
        row: &MappedRow,
        actual: &BTreeMap<String, String>,
        facts: &AccountFacts,
    ) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (index, expected) in self.expected(row, Some(facts)) {
            let Some(name) = self.name_of(index) else { continue };
            let actual = actual.get(name).cloned();
            if actual.as_deref() == expected {
                continue;
            }
            let acknowledged = facts.acknowledged.get(index.index()).cloned().unwrap_or_default();
            let is_rejected = |rejected: &Option<String>| rejected.as_deref().is_none_or(|rejected| rejected == name);
            let cause = if facts.rejected.iter().any(is_rejected) {
                DifferenceCause::Rejected
            } else if acknowledged.in_doubt() {
                DifferenceCause::InDoubt
            } else if acknowledged.value() != expected {
                DifferenceCause::Unsent
            } else {
                DifferenceCause::Drift
            };
            differences.push(Difference {
                name: name.to_owned(),
                expected: expected.map(str::to_owned),
                acknowledged: acknowledged.value().map(str::to_owned),
                actual,
                cause,
            });
        }
        differences
    }

    /// The value that each attribute should have, where that is certain: nothing for a value that cannot be sent or that the
    /// mapping keeps. Without `facts`, IM may hold anything that imsync ever set.
    fn expected<'r>(&self, row: &'r MappedRow, facts: Option<&AccountFacts>) -> Vec<(AttributeIndex, Option<&'r str>)> {
        let DiffRules { attribute_indexes: mapped, remove_gone, remove_unmapped, .. } = self.rules;
        let was_set = |index: AttributeIndex| {
            facts.is_none_or(|facts| facts.acknowledged.get(index.index()).is_some_and(AcknowledgedValue::may_be_held))
        };
        let is_free = |index: AttributeIndex| facts.is_none_or(|facts| !facts.held_by_others.contains(&index));
        let all = (0..self.names.len()).filter_map(|index| u16::try_from(index).ok().map(AttributeIndex));
        let removed = |index: &AttributeIndex| was_set(*index) && is_free(*index);
        match row {
            MappedRow::NoAccount | MappedRow::Refused(..) => Vec::new(),
            MappedRow::Gone(_) if !remove_gone => Vec::new(),
            MappedRow::Gone(_) => all.filter(removed).map(|index| (index, None)).collect(),
            MappedRow::Present(desired) => {
                let of_mapped = mapped.iter().zip(&desired.values).filter_map(|(index, desired)| match desired {
                    DesiredValue::Value(value) => Some((*index, Some(&**value))),
                    DesiredValue::Absent => is_free(*index).then_some((*index, None)),
                    DesiredValue::Keep | DesiredValue::Refused(_) => None,
                });
                let others = all.filter(|index| *remove_unmapped && !mapped.contains(index)).filter(removed);
                of_mapped.chain(others.map(|index| (index, None))).collect()
            }
        }
    }

    fn name_of(&self, index: AttributeIndex) -> Option<&str> {
        self.names.get(index.index()).map(|name| &**name)
    }
}

/// Whether a value of the row, or its account, cannot be sent.
pub(super) fn has_refusal(row: &MappedRow) -> bool {
    match row {
        MappedRow::Refused(..) => true,
        MappedRow::Present(desired) => desired.values.iter().any(|value| matches!(value, DesiredValue::Refused(_))),
        MappedRow::NoAccount | MappedRow::Gone(_) => false,
    }
}

#[cfg(test)]
mod tests;
