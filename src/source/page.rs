//! Pages of rows in keyset order.
//!
//! Owns: decoding of rows, the end of a page, where the next one begins. Must not know: the statements that read them.

use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef};

use super::error::SourceError;
use crate::model::Row;

/// The last row of a page, after which an incremental scan continues. Made by [`Page::cursor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The text of the watermark column; `None` without one, when the scan is in the order of the account alone.
    pub watermark: Option<String>,
    /// The text of the account column; `None` for NULL, which sorts last among the rows of one watermark.
    pub account: Option<String>,
}

/// A page of rows in order, read by one statement.
#[derive(Debug)]
pub struct Page {
    /// At most `page_size` plus one rows.
    pub rows: Vec<Row>,
    /// The scan has reached its end.
    pub last: bool,
}

impl Page {
    /// Where the next page of the same scan begins; `None` for a page without rows.
    pub fn cursor(&self) -> Option<Cursor> {
        let row = self.rows.last()?;
        let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        Some(Cursor { watermark: owned(&row.watermark), account: owned(&row.account) })
    }
}

/// Decodes rows of the select list account, watermark, gone, and `columns` mapped columns.
pub(super) fn decode_rows(rows: &[PgRow], columns: usize) -> Result<Vec<Row>, SourceError> {
    let decode = |row: &PgRow| {
        let mut values = Vec::with_capacity(columns);
        for index in 0..columns {
            values.push(text_at(row, 3 + index)?);
        }
        Ok(Row { account: text_at(row, 0)?, watermark: text_at(row, 1)?, gone: row.try_get(2)?, values })
    };
    rows.iter().map(decode).collect()
}

fn text_at(row: &PgRow, index: usize) -> Result<Option<Box<str>>, SourceError> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(None);
    }
    let text = value.as_str().map_err(|error| SourceError::Refused(format!("a value is not UTF-8: {error}")))?;
    Ok(Some(text.into()))
}

/// Removes the rows of the last key from a full page, so that the next page has all of them: several rows of one account
/// must be seen together. A page of a single key keeps its rows, which shows the duplicate.
pub(super) fn drop_incomplete_key(rows: &mut Vec<Row>, same_key: fn(&Row, &Row) -> bool) {
    let Some(last) = rows.last() else { return };
    if last.account.is_none() {
        return;
    }
    if let Some(end) = rows.iter().rposition(|row| !same_key(row, last)) {
        rows.truncate(end + 1);
    }
}
