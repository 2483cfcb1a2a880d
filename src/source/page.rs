//! Pages of rows in keyset order.
//!
//! Owns: decoding of rows, the end of a page, where the next one begins. Must not know: the statements that read them.

use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef};

use super::error::SourceError;
use crate::model::Row;
use crate::sqlstate::described;

/// The last row of a page, after which an incremental scan continues. Made by [`Page::cursor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The text of the watermark column; `None` without one, when the scan is in the order of the account alone.
    pub watermark: Option<String>,
    /// The text of the account column; `None` for NULL, which sorts last among the rows of one watermark.
    pub account: Option<String>,
}

/// A row that the server cannot evaluate: an expression of it raises an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRow {
    /// The text of the account column.
    pub account: Box<str>,
    /// The code that is raised, with its meaning.
    pub raised: String,
}

/// Rows that were read, and those that cannot be.
#[derive(Debug, Default)]
pub struct AccountRows {
    /// The rows.
    pub rows: Vec<Row>,
    /// Accounts with a row that cannot be evaluated.
    pub unreadable: Vec<UnreadableRow>,
}

/// A page of rows in order.
#[derive(Debug)]
pub struct Page {
    /// At most `page_size` plus one rows.
    pub rows: Vec<Row>,
    /// Accounts of the page with a row that cannot be evaluated. Only then have the rows no order.
    pub unreadable: Vec<UnreadableRow>,
    /// The scan has reached its end.
    pub last: bool,
    /// The last row of the page, in the order of the scan.
    pub(super) end: Option<Cursor>,
}

impl Page {
    /// Where the next page of the same scan begins; `None` for a page without rows.
    pub fn cursor(&self) -> Option<Cursor> {
        self.end.clone()
    }
}

/// The position of the last of these rows.
pub(super) fn end_of(rows: &[Row]) -> Option<Cursor> {
    let row = rows.last()?;
    let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
    Some(Cursor { watermark: owned(&row.watermark), account: owned(&row.account) })
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
    let text = value.as_str().map_err(|_| SourceError::Raised(described("22021")))?;
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
