//! The mapping of one attribute: from the text of its column to the value that IM should hold.
//!
//! Owns: the order of NULL, look-up and length. Must not know: accounts, the other attributes.

use std::collections::HashMap;
use std::sync::Arc;

use unicode_segmentation::UnicodeSegmentation;

use crate::config::{self, Null, TooLong, Unlisted};
use crate::model::{DesiredValue, LocalRefusal, MAX_VALUE_BYTES};

/// The settings of one attribute.
#[derive(Clone, Debug)]
pub(super) struct AttributeMapping {
    /// The position of its column in `Row::values`.
    column_index: usize,
    column: Arc<str>,
    /// The result for each text that `values` lists; `None` without `values`.
    listed: Option<HashMap<Box<str>, DesiredValue>>,
    unlisted: Unlisted,
    too_long: TooLong,
    null: Null,
}

impl AttributeMapping {
    /// The mapping of a configured attribute whose column is at `column_index` of `Row::values`.
    pub(super) fn new(attribute: &config::AttributeConfig, column_index: usize) -> Self {
        let mut mapping = Self {
            column_index,
            column: Arc::from(attribute.column.as_str()),
            listed: None,
            unlisted: attribute.unlisted,
            too_long: attribute.too_long,
            null: attribute.null,
        };
        mapping.listed = attribute.values.as_ref().map(|values| {
            values.iter().map(|(text, target)| (text.as_str().into(), mapping.limited(target))).collect()
        });
        mapping
    }

    /// The position of its column in `Row::values`.
    pub(super) fn column_index(&self) -> usize {
        self.column_index
    }

    /// Maps the text of the column. NULL and the empty text are mapped by `null`, whatever `values` lists.
    pub(super) fn apply(&self, text: Option<&str>) -> DesiredValue {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return self.empty();
        };
        let Some(listed) = &self.listed else {
            return self.limited(text);
        };
        match listed.get(text) {
            Some(desired) => desired.clone(),
            None => match self.unlisted {
                Unlisted::Reject => DesiredValue::Refused(LocalRefusal::Unlisted { column: Arc::clone(&self.column) }),
                Unlisted::Send => self.limited(text),
                Unlisted::Keep => DesiredValue::Keep,
                Unlisted::Remove => DesiredValue::Absent,
            },
        }
    }

    fn empty(&self) -> DesiredValue {
        match self.null {
            Null::Remove => DesiredValue::Absent,
            Null::Keep => DesiredValue::Keep,
        }
    }

    /// The value for a text from the column or from `values`, with the limit of its length applied.
    fn limited(&self, text: &str) -> DesiredValue {
        if text.is_empty() {
            // IM has no empty values; a target of "" in `values` means the same as an empty column.
            return self.empty();
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

/// The longest prefix of at most 50 bytes that ends at a grapheme boundary (Unicode Standard Annex 29).
///
/// `None` when the first grapheme alone is longer: a part of it would be another character, so the value is refused.
fn truncated(text: &str) -> Option<&str> {
    text.grapheme_indices(true)
        .map(|(start, grapheme)| start + grapheme.len())
        .take_while(|end| *end <= MAX_VALUE_BYTES)
        .last()
        .map(|end| &text[..end])
}
