//! The mapping of one attribute: from the text of its column to the value that IM should hold.
//!
//! Owns: the order of NULL, look-up and length. Must not know: accounts, the other attributes.

use std::collections::HashMap;
use std::sync::Arc;

use unicode_segmentation::UnicodeSegmentation;

use crate::config::{self, Null, TooLong, Unlisted};
use crate::model::{DesiredText, LocalRefusal, MAX_VALUE_BYTES};

/// The settings of one attribute.
#[derive(Clone, Debug)]
pub(super) struct AttributeMapping {
    /// The position of its column in the mapped columns.
    column_index: usize,
    column: Arc<str>,
    /// The target of each text that `values` lists; `None` without `values`.
    listed: Option<HashMap<Box<str>, Box<str>>>,
    unlisted: Unlisted,
    too_long: TooLong,
    null: Null,
}

impl AttributeMapping {
    /// The mapping of a configured attribute whose column is at `column_index` of the mapped columns.
    pub(super) fn new(attribute: &config::AttributeConfig, column_index: usize) -> Self {
        let listed = attribute.values.as_ref();
        Self {
            column_index,
            column: Arc::from(attribute.column.as_str()),
            listed: listed.map(|values| {
                values.iter().map(|(text, target)| (text.as_str().into(), target.as_str().into())).collect()
            }),
            unlisted: attribute.unlisted,
            too_long: attribute.too_long,
            null: attribute.null,
        }
    }

    /// The position of its column in the mapped columns.
    pub(super) fn column_index(&self) -> usize {
        self.column_index
    }

    /// Maps the text of the column. NULL and the empty text are mapped by `null`, whatever `values` lists.
    pub(super) fn apply<'a>(&'a self, text: Option<&'a str>) -> DesiredText<'a> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return self.empty();
        };
        let Some(listed) = &self.listed else {
            return self.limited(text);
        };
        match listed.get(text) {
            Some(target) => self.limited(target),
            None => match self.unlisted {
                Unlisted::Reject => DesiredText::Refused(LocalRefusal::Unlisted { column: Arc::clone(&self.column) }),
                Unlisted::Send => self.limited(text),
                Unlisted::Keep => DesiredText::Keep,
                Unlisted::Remove => DesiredText::Absent,
            },
        }
    }

    fn empty(&self) -> DesiredText<'static> {
        match self.null {
            Null::Remove => DesiredText::Absent,
            Null::Keep => DesiredText::Keep,
        }
    }

    /// The value for a text from the column or from `values`, with the limit of its length applied.
    fn limited<'a>(&self, text: &'a str) -> DesiredText<'a> {
        if text.is_empty() {
            // IM has no empty values; a target of "" in `values` means the same as an empty column.
            return self.empty();
        }
        if text.len() <= MAX_VALUE_BYTES {
            return DesiredText::Value(text);
        }
        match self.too_long {
            TooLong::Truncate => truncated(text).map(DesiredText::Value),
            TooLong::Reject => None,
        }
        .unwrap_or_else(|| {
            DesiredText::Refused(LocalRefusal::ValueTooLong { column: Arc::clone(&self.column), bytes: text.len() })
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
