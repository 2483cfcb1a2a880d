//! An account of a page before its state is known.
//!
//! Owns: what the rows of a page say about an account, as a view of the page. Must not know: the state, what is sent.
//!
//! Most accounts of a page have not changed. For them nothing is copied: the account, the values and their digest come from
//! the texts of the page.

use std::borrow::Cow;

use crate::mapping::{MappedRow, Mapping, RowOutline};
use crate::model::{Account, LocalRefusal, Row};

/// An account of a page.
#[derive(Debug)]
pub(super) struct PageAccount<'a> {
    pub(super) account: Cow<'a, str>,
    pub(super) content: PageContent<'a>,
}

/// What the page says about an account.
#[derive(Debug)]
pub(super) enum PageContent<'a> {
    /// It has this row, whose values can be mapped.
    Present(Row<'a>),
    /// Its row is gone, or it has none.
    Gone,
    /// It cannot be sent at all.
    Refused(LocalRefusal),
}

impl<'a> PageAccount<'a> {
    /// `None` for a row without an account.
    pub(super) fn of_row(row: Row<'a>, mapping: &Mapping) -> Option<Self> {
        let (account, content) = match mapping.outline(row) {
            RowOutline::NoAccount => return None,
            RowOutline::Refused(account, refusal) => (account, PageContent::Refused(refusal)),
            RowOutline::Gone(account) => (account, PageContent::Gone),
            RowOutline::Present(account) => (account, PageContent::Present(row)),
        };
        Some(Self { account, content })
    }

    /// The account with its values, for a comparison one by one.
    pub(super) fn mapped(self, mapping: &Mapping) -> MappedRow {
        let account = || Account::new(&*self.account);
        match self.content {
            PageContent::Present(row) => mapping.apply(row),
            PageContent::Gone => MappedRow::Gone(account()),
            PageContent::Refused(refusal) => MappedRow::Refused(account(), refusal),
        }
    }
}
