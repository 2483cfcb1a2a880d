//! The rows with the largest values of a counter, by which a deletion is told from a counter that was set back.
//!
//! Owns: their stored form, and which of them an earlier list lacks. Must not know: what follows for the watermark.
//!
//! When the newest row is deleted, the largest value falls to that of a row that the last list had. When the counter was
//! set back, rows with values at or below the former largest one appear that the last list did not have.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many rows are remembered. A deletion of fewer rows between two lists is known to be one.
pub const NEWEST_ROWS: usize = 128;

/// The rows with the largest values, the largest first: the value, and 16 bits of a hash of the account. The value alone
/// would not tell a row from another one that was given its value again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewestRows(Vec<(i64, u16)>);

impl NewestRows {
    /// At most [`NEWEST_ROWS`] rows, the largest value first; fewer only if the table has no others.
    pub fn new(rows: Vec<(i64, u16)>) -> Self {
        Self(rows)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The row with the largest value was there earlier.
    pub(super) fn top_is_in(&self, earlier: &Self) -> bool {
        self.0.first().is_some_and(|top| earlier.0.contains(top))
    }

    /// The smallest value, at or below the largest one of `earlier`, of a row that `earlier` lacks. Only values are
    /// considered of which `earlier` had all rows.
    pub(super) fn lowest_missing_in(&self, earlier: &Self) -> Option<i64> {
        let largest = earlier.0.first()?.0;
        let complete_above = if earlier.0.len() < NEWEST_ROWS { None } else { earlier.0.last().map(|row| row.0) };
        let known: HashSet<(i64, u16)> = earlier.0.iter().copied().collect();
        let is_missing = |row: &&(i64, u16)| {
            row.0 <= largest && complete_above.is_none_or(|bound| row.0 > bound) && !known.contains(row)
        };
        self.0.iter().filter(is_missing).map(|row| row.0).min()
    }
}

/// As one text, because 128 pairs of JSON numbers would take three times the space in each stored watermark.
impl Serialize for NewestRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs: Vec<String> = self.0.iter().map(|(value, account)| format!("{value}:{account:x}")).collect();
        serializer.serialize_str(&pairs.join(" "))
    }
}

impl<'de> Deserialize<'de> for NewestRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pair = |pair: &str| {
            let (value, account) = pair.split_once(':')?;
            Some((value.parse().ok()?, u16::from_str_radix(account, 16).ok()?))
        };
        let rows: Option<Vec<(i64, u16)>> = text.split_whitespace().map(pair).collect();
        rows.map(Self).ok_or_else(|| serde::de::Error::custom("the newest rows cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::{NEWEST_ROWS, NewestRows};

    fn rows(values: impl IntoIterator<Item = i64>) -> NewestRows {
        NewestRows::new(values.into_iter().map(|value| (value, 7)).collect())
    }

    #[test]
    fn a_row_that_was_not_there_is_found_where_all_rows_were_known() {
        let earlier = rows([9, 8, 5]);
        assert!(rows([8, 5]).top_is_in(&earlier) && rows([8, 5]).lowest_missing_in(&earlier).is_none());
        assert_eq!(rows([8, 6, 5, 1]).lowest_missing_in(&earlier), Some(1));
        assert_eq!(rows([10, 9]).lowest_missing_in(&earlier), None, "a larger value is a new row");
        assert!(!NewestRows::new(vec![(8, 1)]).top_is_in(&earlier), "another account has the value");
        let full = rows((0..NEWEST_ROWS).zip(0..).map(|(_, row)| 1000 - row));
        assert_eq!(rows([999, 3]).lowest_missing_in(&full), None, "below the remembered rows nothing is known");
    }

    #[test]
    fn the_rows_have_one_text() {
        let rows = NewestRows::new(vec![(9, 65535), (-3, 0)]);
        let text = serde_json::to_string(&rows).expect("rows are a text");
        assert_eq!(text, "\"9:ffff -3:0\"");
        assert_eq!(serde_json::from_str::<NewestRows>(&text).expect("the text is read back"), rows);
    }
}
