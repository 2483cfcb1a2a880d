//! Values that the document, the layout and the verdict all need.
//!
//! Owns: what IM holds, and what is wrong with a value. Must not know: how anything is shown.

use std::collections::BTreeMap;

use crate::model::DesiredValue;
use crate::pass::explain::{ExplainedAttribute, Explanation};

/// What IM holds of an account, by attribute name.
pub(super) type ActualValues = BTreeMap<String, String>;

/// What IM holds besides: attributes that neither the mapping names nor imsync has set.
pub(super) fn others<'a>(explanation: &Explanation, actual: &'a ActualValues) -> BTreeMap<&'a str, &'a str> {
    let is_shown = |name: &str| explanation.attributes.iter().any(|attribute| attribute.name == name);
    let others = actual.iter().filter(|(name, _)| !is_shown(name));
    others.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Why the value of the table cannot be sent.
pub(super) fn problem(attribute: &ExplainedAttribute) -> Option<String> {
    match &attribute.desired {
        Some(DesiredValue::Refused(refusal)) => Some(refusal.to_string()),
        _ => None,
    }
}
