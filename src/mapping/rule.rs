//! One attribute's way from a column's text to a desired.
//!
//! Owns: the order null, look-up, length. Must not know: accounts, the other attributes.

use std::collections::HashMap;
use std::sync::Arc;

use unicode_segmentation::UnicodeSegmentation;

use crate::config::{self, Null, TooLong, Unlisted};
use crate::model::{DesiredValue, LocalRefusal, MAX_VALUE_BYTES};

/// An attribute's rules, ready to apply.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Where in a row its column stands.
    pub(super) place: usize,
    column: Arc<str>,
    /// What each listed text becomes, worked out once; `None` without `values`.
    listed: Option<HashMap<Box<str>, DesiredValue>>,
    unlisted: Unlisted,
    too_long: TooLong,
    null: Null,
}

impl Rule {
    pub(super) fn new(attribute: &config::Attribute, place: usize) -> Self {
        let mut rule = Self {
            place,
            column: Arc::from(attribute.column.as_str()),
            listed: None,
            unlisted: attribute.unlisted,
            too_long: attribute.too_long,
            null: attribute.null,
        };
        rule.listed = attribute
            .values
            .as_ref()
            .map(|values| values.iter().map(|(text, target)| (text.as_str().into(), rule.send(target))).collect());
        rule
    }

    /// NULL and the empty text go by `null`, whatever `values` lists.
    pub(super) fn apply(&self, text: Option<&str>) -> DesiredValue {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return self.nothing();
        };
        let Some(listed) = &self.listed else {
            return self.send(text);
        };
        match listed.get(text) {
            Some(desired) => desired.clone(),
            None => match self.unlisted {
                Unlisted::Reject => DesiredValue::Refused(LocalRefusal::Unlisted { column: Arc::clone(&self.column) }),
                Unlisted::Send => self.send(text),
                Unlisted::Keep => DesiredValue::Keep,
                Unlisted::Remove => DesiredValue::Absent,
            },
        }
    }

    fn nothing(&self) -> DesiredValue {
        match self.null {
            Null::Remove => DesiredValue::Absent,
            Null::Keep => DesiredValue::Keep,
        }
    }

    /// A text on its way to IM, looked up or as the column has it.
    fn send(&self, text: &str) -> DesiredValue {
        if text.is_empty() {
            // IM knows no empty value; a target of "" in `values` means what an empty column means.
            return self.nothing();
        }
        if text.len() <= MAX_VALUE_BYTES {
            return DesiredValue::Value(text.into());
        }
        match self.too_long {
            TooLong::Truncate => truncated(text).map(|text| DesiredValue::Value(text.into())),
            TooLong::Reject => None,
        }
        .unwrap_or_else(|| {
            DesiredValue::Refused(LocalRefusal::ValueTooLong { column: Arc::clone(&self.column), bytes: text.len() })
        })
    }
}

/// The longest beginning of at most 50 bytes that ends where a grapheme ends (Unicode Standard Annex 29).
///
/// `None` when the first grapheme alone is longer: a part of it would be another sign, so the value is refused.
fn truncated(text: &str) -> Option<&str> {
    text.grapheme_indices(true)
        .map(|(start, grapheme)| start + grapheme.len())
        .take_while(|end| *end <= MAX_VALUE_BYTES)
        .last()
        .map(|end| &text[..end])
}
