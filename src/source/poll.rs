//! The first pages of a poll in one statement: changed rows, and rows to which no read position leads.
//!
//! Owns: taking the answer apart, and until when the pages of the other rows may be used. Must not know: the conditions of
//! the parts, the order in which a pass compares them.
//!
//! The statement also reads what the relation is. It locks the relation before it takes its snapshot, so it shows the one
//! whose rows it has read.

use sqlx::postgres::PgRow;
use sqlx::{Row as _, SqlStr};

use super::column_text::RowForm;
use super::error::SourceError;
use super::page::{Page, PollState, end_of, same_stamp_and_account};
use super::reader::Source;
use super::statements::PollPart;
use crate::model::Rows;

/// An answer, taken apart.
#[derive(Default)]
struct PollRows {
    changed: Rows,
    unstamped: Rows,
    far_future: Rows,
    relation: Option<String>,
}

impl PollRows {
    /// The server returns the rows of a part in their order, whatever is between them.
    fn decode(answer: &[PgRow], form: &RowForm) -> Result<Self, SourceError> {
        let (mut parts, mut number) = (Self::default(), String::new());
        for row in answer {
            let part: i32 = row.try_get(form.width())?;
            let rows = match part {
                part if part == PollPart::Changed as i32 => &mut parts.changed,
                part if part == PollPart::Unstamped as i32 => &mut parts.unstamped,
                part if part == PollPart::FarFuture as i32 => &mut parts.far_future,
                _ => {
                    parts.relation = row.try_get(form.width() + 1)?;
                    continue;
                }
            };
            form.decode(row, rows, &mut number)?;
        }
        Ok(parts)
    }
}

impl Source {
    /// The first page of changed rows; the first pages of the other rows are kept for [`Source::outlying`]. `None` when a
    /// row raises an error: each page has to be read by itself then.
    pub(super) async fn poll(&mut self, statement: SqlStr, bound: String) -> Result<Option<Page>, SourceError> {
        let answer = self.session.rows(sqlx::query(statement).bind(bound)).await;
        let parts = match answer.and_then(|answer| PollRows::decode(&answer, &self.statements.form)) {
            Err(SourceError::Raised(_)) => return Ok(None),
            parts => parts?,
        };
        if parts.relation.as_deref() != self.fingerprint.relation() {
            return Err(SourceError::Changed("table".to_owned()));
        }
        let page = |rows| {
            let (rows, last) = self.cut_page(rows, self.limit, same_stamp_and_account);
            Page { end: end_of(&rows), rows, unreadable: Vec::new(), last }
        };
        let changed = page(parts.changed);
        let (unstamped, far_future) =
            if changed.last { (Some(page(parts.unstamped)), Some(page(parts.far_future))) } else { (None, None) };
        self.poll_state = PollState { unstamped, far_future, is_checked: true };
        Ok(Some(changed))
    }
}
