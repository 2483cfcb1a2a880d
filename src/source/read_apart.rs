//! Reads the rows that can be read, and finds those that cannot: a row for which an expression raises an error.
//!
//! Owns: how a page whose statement raises an error is taken apart, and when that is given up. Must not know: what is
//! recorded for a row that cannot be read.
//!
//! The filter, a cast in a view or a function may fail for one row, and the statement fails as a whole. The keys of the
//! page are then read alone, and the rows are looked up by account, in halves, until each row that raises an error stands
//! alone: about log2 of the page size statements for each of them.

use super::column_text::RowForm;
use super::error::SourceError;
use super::page::{AccountRows, Page, SameKey, UnreadableRow, drop_incomplete_key, end_of};
use super::reader::Source;
use super::session::PageQuery;
use super::statements::PageStatement;
use crate::model::Rows;

impl Source {
    /// Reads a page. Rows that cannot be evaluated are taken out of it.
    pub(super) async fn read_page(
        &mut self,
        statement: PageStatement,
        parameters: Vec<Option<String>>,
        same_key: SameKey,
    ) -> Result<Page, SourceError> {
        self.poll_state.is_checked = false;
        let query = PageQuery { statement: statement.rows, parameters };
        match self.session.page(&query, &self.statements.form).await {
            Ok(rows) => {
                self.whole_scan.add(rows.len(), 0);
                let (rows, last) = self.cut_page(rows, statement.limit, same_key);
                Ok(Page { end: end_of(&rows), rows, unreadable: Vec::new(), last })
            }
            Err(SourceError::Raised(_)) => {
                let query = PageQuery { statement: statement.keys, ..query };
                let keys = self.read_keys(&query).await?;
                let (keys, last) = self.cut_page(keys, statement.limit, same_key);
                let end = end_of(&keys);
                let mut accounts: Vec<String> = keys.iter().filter_map(|key| key.account).map(str::to_owned).collect();
                accounts.dedup();
                let AccountRows { mut rows, unreadable } = self.read_apart(accounts).await?;
                let mut without_account = keys;
                without_account.retain(|key| key.account.is_none());
                rows.extend(&without_account);
                Ok(Page { rows, unreadable, last, end })
            }
            Err(error) => Err(error),
        }
    }

    /// The rows without those of a last account that may go on in the next page, and whether there is no next page. `limit`: of
    /// the page.
    pub(super) fn cut_page(&self, mut rows: Rows, limit: u64, same_key: SameKey) -> (Rows, bool) {
        let last = (rows.len() as u64) < limit;
        if !last && !self.account_unique {
            drop_incomplete_key(&mut rows, same_key);
        }
        (rows, last)
    }

    async fn read_keys(&mut self, query: &PageQuery) -> Result<Rows, SourceError> {
        self.ensure_unchanged().await?;
        let keys = self.session.page(query, &RowForm::of_keys()).await;
        keys.map_err(|error| match error {
            SourceError::Raised(raised) => SourceError::Unsuitable(format!(
                "the source database raises {raised} while it reads the account column, the watermark column or the conditions of the view itself, so the row that causes it cannot be told from others; correct the row or the view, and declare the functions that the view calls as STABLE or IMMUTABLE, so that they are called only where they are needed"
            )),
            other => other,
        })
    }

    /// The rows of the accounts with these texts, and the accounts of which a row cannot be evaluated.
    pub(super) async fn read_apart(&mut self, accounts: Vec<String>) -> Result<AccountRows, SourceError> {
        self.poll_state.is_checked = false;
        self.session.forget_ahead().await;
        let mut found = AccountRows::default();
        let (mut parts, mut is_compared) = (vec![accounts], false);
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let query = sqlx::query(self.statements.rows_of_accounts.clone()).bind(part.clone());
            let read = self.session.rows(query).await.and_then(|rows| self.statements.form.decode_all(&rows));
            let raised = match read {
                Ok(rows) => {
                    self.whole_scan.add(part.len(), 0);
                    found.rows.extend(&rows);
                    continue;
                }
                Err(SourceError::Raised(raised)) => raised,
                Err(error) => return Err(error),
            };
            if !is_compared {
                // A changed column raises errors too, and then no row is at fault.
                self.ensure_unchanged().await?;
                is_compared = true;
            }
            if part.len() > 1 {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
                continue;
            }
            self.whole_scan.add(0, 1);
            found.unreadable.extend(
                part.pop().map(|account| UnreadableRow { account: account.into_boxed_str(), raised: raised.clone() }),
            );
            if self.whole_scan.is_hopeless() {
                return Err(SourceError::Unsuitable(format!(
                    "more than half of the rows cannot be read: the source database raises {raised} while it evaluates them; correct source.filter or the view"
                )));
            }
        }
        Ok(found)
    }
}
