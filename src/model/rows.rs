//! Rows of the customer's table, their texts in one buffer.
//!
//! Owns: how the texts of a page are kept together. Must not know: where they come from, what they mean.
//!
//! A page has tens of thousands of small texts, and most of its rows have not changed. So no text has an allocation of its
//! own: a row is a view of the buffer.

use std::fmt;

/// The length that stands for NULL. No text is as long: the source cuts them.
const NULL: u32 = u32::MAX;
/// The texts of a row before those of the mapped columns: account and watermark.
const KEYS: usize = 2;

/// Rows of the customer's table, every value as the text that psql shows.
#[derive(Clone, Default)]
pub struct Rows {
    texts: String,
    /// The lengths of the texts, row after row.
    lengths: Vec<u32>,
    places: Vec<Place>,
}

/// Where the texts of a row are.
#[derive(Clone, Copy)]
struct Place {
    /// In `texts`.
    text: usize,
    /// In `lengths`.
    length: usize,
    count: usize,
    gone: bool,
}

/// A row of the customer's table, as a view of its page.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The text of the account column, without prefix and format; `None` for NULL.
    pub account: Option<&'a str>,
    /// The text of the watermark column; `None` for NULL, without a watermark column, and in a scan by account.
    pub watermark: Option<&'a str>,
    /// The row is soft-deleted, or the filter is not true for it.
    pub gone: bool,
    /// The texts of the mapped columns, one after the other.
    texts: &'a str,
    lengths: &'a [u32],
}

impl Rows {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Begins a row, to which [`Rows::push_text`] adds account, watermark and mapped columns, in this order.
    pub fn begin_row(&mut self, gone: bool) {
        self.places.push(Place { text: self.texts.len(), length: self.lengths.len(), count: 0, gone });
    }

    /// Adds the next text of the row that was begun last; `None` for NULL.
    ///
    /// # Panics
    /// Before [`Rows::begin_row`], and for a text of 4 GiB.
    pub fn push_text(&mut self, text: Option<&str>) {
        let length = text.map_or(NULL, |text| u32::try_from(text.len()).expect("no text of a column is 4 GiB long"));
        self.lengths.push(length);
        self.texts.push_str(text.unwrap_or_default());
        self.places.last_mut().expect("a row was begun").count += 1;
    }

    /// Adds a row.
    pub fn push<'t>(
        &mut self,
        account: Option<&str>,
        watermark: Option<&str>,
        gone: bool,
        values: impl IntoIterator<Item = Option<&'t str>>,
    ) {
        self.begin_row(gone);
        self.push_text(account);
        self.push_text(watermark);
        for value in values {
            self.push_text(value);
        }
    }

    /// The row at this position.
    ///
    /// # Panics
    /// When there is none.
    pub fn row(&self, index: usize) -> Row<'_> {
        let Place { text, length, count, gone } = self.places[index];
        let lengths = &self.lengths[length..length + count];
        let mut texts = &self.texts[text..];
        let mut key = |index: usize| {
            let length = lengths.get(index).copied().filter(|length| *length != NULL)? as usize;
            let (text, rest) = texts.split_at(length);
            texts = rest;
            Some(text)
        };
        let (account, watermark) = (key(0), key(1));
        Row { account, watermark, gone, texts, lengths: lengths.get(KEYS..).unwrap_or_default() }
    }

    /// The rows in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Row<'_>> + ExactSizeIterator {
        (0..self.places.len()).map(|index| self.row(index))
    }

    /// The last row.
    pub fn last(&self) -> Option<Row<'_>> {
        self.iter().next_back()
    }

    /// Drops the rows after the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.places.truncate(count);
    }

    /// Drops the rows for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(Row<'_>) -> bool) {
        let kept: Vec<bool> = self.iter().map(&mut keep).collect();
        let mut kept = kept.into_iter();
        self.places.retain(|_| kept.next().unwrap_or(false));
    }

    /// Adds all rows of another page.
    pub fn extend(&mut self, other: &Self) {
        for row in other.iter() {
            self.push(row.account, row.watermark, row.gone, row.values());
        }
    }
}

impl<'a> Row<'a> {
    /// The text of the mapped column at this position in `Mapping::columns`; `None` for NULL.
    ///
    /// # Panics
    /// For a row that was read with fewer columns: a missing column must not be mistaken for NULL, which removes the
    /// attribute.
    pub fn value(&self, column: usize) -> Option<&'a str> {
        let length = self.lengths[column];
        let before = self.lengths[..column].iter().filter(|length| **length != NULL);
        let start: usize = before.map(|length| *length as usize).sum();
        (length != NULL).then(|| &self.texts[start..start + length as usize])
    }

    /// The texts of the mapped columns, in the order of `Mapping::columns`.
    pub fn values(self) -> impl Iterator<Item = Option<&'a str>> {
        (0..self.lengths.len()).map(move |column| self.value(column))
    }
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<_> = self.values().collect();
        f.debug_struct("Row")
            .field("account", &self.account)
            .field("watermark", &self.watermark)
            .field("gone", &self.gone)
            .field("values", &values)
            .finish()
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Row<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.account, self.watermark, self.gone) == (other.account, other.watermark, other.gone)
            && self.values().eq(other.values())
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Rows {
        let mut rows = Rows::default();
        rows.push(Some("a"), Some("2026"), false, [Some("Quito"), None, Some("")]);
        rows.push(None, None, true, [None, Some("f"), Some("é")]);
        rows.push(Some("c"), None, false, []);
        rows
    }

    #[test]
    fn null_and_the_empty_text_differ() {
        let rows = three();
        let (first, second) = (rows.row(0), rows.row(1));
        assert_eq!((first.account, first.watermark, first.gone), (Some("a"), Some("2026"), false));
        assert_eq!(first.values().collect::<Vec<_>>(), [Some("Quito"), None, Some("")]);
        assert_eq!((second.account, second.watermark, second.gone), (None, None, true));
        assert_eq!([second.value(2), second.value(1), second.value(0)], [Some("é"), Some("f"), None]);
        assert_eq!(rows.row(2).values().count(), 0);
    }

    #[test]
    fn rows_that_are_dropped_leave_the_others_as_they_are() {
        let mut rows = three();
        rows.retain(|row| row.account.is_some());
        assert_eq!((rows.row(0), rows.row(1)), (three().row(0), three().row(2)));
        let mut both = three();
        both.truncate(1);
        both.extend(&rows);
        assert_eq!(both.iter().map(|row| row.account).collect::<Vec<_>>(), [Some("a"), Some("a"), Some("c")]);
        assert_eq!(both.last(), Some(three().row(2)));
    }
}
