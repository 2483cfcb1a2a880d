//! Pages of rows in keyset order.
//!
//! Owns: the end of a page, where the next one begins. Must not know: the statements that read them, how a value becomes a
//! text.

use crate::model::{Row, Rows};

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
    pub rows: Rows,
    /// Accounts with a row that cannot be evaluated.
    pub unreadable: Vec<UnreadableRow>,
}

/// A page of rows in order.
#[derive(Debug)]
pub struct Page {
    /// At most `page_size` plus one rows.
    pub rows: Rows,
    /// Accounts of the page with a row that cannot be evaluated. Only then have the rows no order.
    pub unreadable: Vec<UnreadableRow>,
    /// The scan has reached its end.
    pub last: bool,
    /// The last row of the page, in the order of the scan.
    pub(super) end: Option<Cursor>,
}

/// What the newest poll has read besides its changed rows.
#[derive(Debug, Default)]
pub(super) struct PollState {
    /// The first pages of rows to which no read position leads. They are used by the same pass and once, and not after a later
    /// page of changed rows: an account must not be compared with an older row than before.
    pub(super) unstamped: Option<Page>,
    pub(super) far_future: Option<Page>,
    /// The poll has shown that it reads the relation that the connection was opened for, and nothing was read since.
    pub(super) is_checked: bool,
}

impl Page {
    /// Where the next page of the same scan begins; `None` for a page without rows.
    pub fn cursor(&self) -> Option<Cursor> {
        self.end.clone()
    }

    /// After which row the next page is read ahead. None after the last page, and where rows were taken apart.
    pub(super) fn next_key(&self) -> Option<&Cursor> {
        self.end.as_ref().filter(|_| !self.last && self.unreadable.is_empty())
    }
}

/// The position of the last of these rows.
pub(super) fn end_of(rows: &Rows) -> Option<Cursor> {
    let row = rows.last()?;
    Some(Cursor { watermark: row.watermark.map(str::to_owned), account: row.account.map(str::to_owned) })
}

/// Whether two rows have one key, in the order of a scan.
pub(super) type SameKey = fn(&Row<'_>, &Row<'_>) -> bool;

/// The key of a scan in the order (watermark, account).
pub(super) fn same_stamp_and_account(one: &Row<'_>, other: &Row<'_>) -> bool {
    one.watermark == other.watermark && one.account == other.account
}

/// Removes the rows of the last key from a full page, so that the next page has all of them: several rows of one account
/// must be seen together. A page of a single key keeps its rows, which shows the duplicate.
pub(super) fn drop_incomplete_key(rows: &mut Rows, same_key: SameKey) {
    let Some(last) = rows.last().filter(|last| last.account.is_some()) else { return };
    let end = rows.iter().rposition(|row| !same_key(&row, &last));
    if let Some(end) = end {
        rows.truncate(end + 1);
    }
}
