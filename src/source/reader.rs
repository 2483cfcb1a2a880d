//! The reader of the source: one connection, the description of the table, and its pages.
//!
//! Owns: paging, the slack below a bound. Must not know: what the rows mean.

use std::collections::HashSet;
use std::time::Duration;

use chrono::DateTime;
use sqlx::{Row as _, SqlStr};

use super::activity::SourceActivity;
use super::column_text::RowForm;
use super::column_type::{AccountType, WatermarkType};
use super::error::SourceError;
use super::fingerprint::{FingerprintReader, SourceFingerprint};
use super::list_transactions::list_transactions;
use super::page::{AccountRows, Cursor, Page, PollState, same_stamp_and_account};
use super::session::{PageQuery, SourceSession};
use super::statements::{PageStatement, Statements};
use super::table::Table;
use super::unmap_account::{account_texts, has_spellings};
use super::watermark::{TransactionList, WatermarkPoint};
use super::whole_scan::WholeScan;
use crate::config;
use crate::finding::Finding;
use crate::model::Account;

/// The minimum that is subtracted from a time. A session may be descheduled between taking `now()` and publishing its
/// transaction; no transaction list contains it in that interval.
const MIN_SLACK: Duration = Duration::from_secs(1);

/// Accounts of one look-up where each has several spellings: so many texts of about 40 bytes are a few megabytes.
const MAX_SPELLED_ACCOUNTS: usize = 5_000;

/// The first day of the year 1, in microseconds since the Unix epoch.
const YEAR_ONE_MICROS: i64 = -62_135_596_800_000_000;

/// Rows to which no read position leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutlyingRows {
    /// Their watermark is NULL.
    Unstamped,
    /// Their stamp is more than a day ahead of the clock, or `infinity`.
    FarFuture,
}

/// An open connection to the source, with the description of the table. All statements run on it one after the other, so
/// no transaction list contains another session of this process.
///
/// It is unusable after an error that it returns and has to be replaced by a new connection: after
/// [`SourceError::Unreachable`] because the connection is closed, after any other error because the table may have changed.
/// An error that single rows raise is not returned: these rows are [`Page::unreadable`].
#[derive(Debug)]
pub struct Source {
    pub(super) session: SourceSession,
    pub(super) config: config::SourceConfig,
    pub(super) table: Table,
    pub(super) qualified_name: String,
    pub(super) account_type: AccountType,
    pub(super) account_nullable: bool,
    pub(super) account_unique: bool,
    pub(super) watermark: Option<WatermarkType>,
    pub(super) statements: Statements,
    /// `LIMIT` of a page.
    pub(super) limit: u64,
    /// An index returns the rows in the order of the polls.
    pub(super) is_indexed: bool,
    pub(super) whole_scan: WholeScan,
    pub(super) warnings: Vec<Finding>,
    pub(super) stamp_remedy: String,
    pub(super) fingerprint_reader: FingerprintReader,
    pub(super) fingerprint: SourceFingerprint,
    /// While the catalogs show this mark, the fingerprint is the same.
    pub(super) mark: Option<String>,
    /// The statement of a transaction list.
    pub(super) list: SqlStr,
    pub(super) poll_state: PollState,
}

/// Why a row counts as gone. Both may be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhyGone {
    /// The deleted column says so.
    pub deleted: bool,
    /// The filter is not true for it. Not evaluated for a row that is marked as deleted.
    pub filtered: bool,
}

impl Source {
    /// What stored positions and values depend on, as it was when this connection was opened.
    pub fn fingerprint(&self) -> &SourceFingerprint {
        &self.fingerprint
    }

    /// Fails with [`SourceError::Changed`] when the table is not the one that this connection was opened for: a column has
    /// another type, or another table has its name. One statement over the system catalogs.
    pub async fn ensure_unchanged(&mut self) -> Result<(), SourceError> {
        let now = self.fingerprint_reader.read(&mut self.session).await?;
        self.compare_fingerprint(&now.fingerprint)?;
        if self.mark.is_some() {
            self.mark = now.mark.or(self.mark.take());
        }
        Ok(())
    }

    /// Like [`Source::ensure_unchanged`], for what was read since the last comparison.
    pub async fn ensure_reads_unchanged(&mut self) -> Result<(), SourceError> {
        if self.poll_state.is_checked { Ok(()) } else { self.ensure_unchanged().await }
    }

    fn compare_fingerprint(&self, now: &SourceFingerprint) -> Result<(), SourceError> {
        if *now == self.fingerprint {
            return Ok(());
        }
        let changes = now.changes_since(&self.fingerprint);
        if !changes.is_empty() {
            return Err(SourceError::Changed(changes.to_string()));
        }
        if now.names_all_parts_of(&self.fingerprint) {
            Ok(())
        } else {
            Err(SourceError::Changed("the table or a column does not exist any more".to_owned()))
        }
    }

    /// `schema.table` as resolved, quoted where needed. The state is bound to it.
    pub fn resolved_table(&self) -> &str {
        &self.qualified_name
    }

    /// A watermark column is configured, so incremental passes are possible.
    pub fn has_watermark(&self) -> bool {
        self.watermark.is_some()
    }

    /// The watermark column is a bigint: a counter instead of a time.
    pub fn watermark_is_counter(&self) -> bool {
        self.watermark == Some(WatermarkType::Int8)
    }

    /// A unique index ensures that no account has two rows. Without one, in a view, and where an account has several
    /// spellings, another row of an account may be on another page.
    pub fn account_is_unique(&self) -> bool {
        self.account_unique && !self.account_has_spellings()
    }

    /// Rows with different texts in the account column may have the same account: another row of an account may be on
    /// another page, also in a scan in the order of the account column.
    pub fn account_has_spellings(&self) -> bool {
        has_spellings(&self.config, self.account_type)
    }

    /// The statement that runs on this connection.
    pub fn activity(&self) -> SourceActivity {
        self.session.activity()
    }

    /// Warnings for the log at start: a replica, a missing index, stamps in the future.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// The approximate number of rows according to the planner's statistics, for progress reports. `None` for a view,
    /// for a table that was never analyzed, and when the source does not tell in time.
    pub async fn estimated_rows(&mut self) -> Option<u64> {
        self.table.estimated_rows(&mut self.session).await
    }

    /// Reads the clock (or the counter), the running and the prepared transactions, in this order.
    ///
    /// # Errors
    /// [`SourceError::Changed`] as [`Source::ensure_unchanged`], [`SourceError::Unsuitable`] behind a pooler in transaction
    /// mode, else that of the statement.
    pub async fn transactions(&mut self) -> Result<TransactionList, SourceError> {
        let listed = list_transactions(&mut self.session, &self.list).await?;
        match &self.mark {
            None => self.compare_fingerprint(&self.fingerprint_reader.parse(listed.fingerprint.as_deref())?)?,
            Some(mark) if listed.fingerprint.as_ref() == Some(mark) => {}
            Some(_) => self.ensure_unchanged().await?,
        }
        Ok(listed.transactions)
    }

    /// The next page in the order (watermark, account): rows from `from` on, less the slack, and after the cursor
    /// `after`.
    ///
    /// Rows whose watermark is NULL are not included. A row without an account may be left out at the end of a page,
    /// since it has no counterpart in IM. Without a watermark column this is [`Source::all_after`], and `from` is
    /// ignored.
    pub async fn changed_since(&mut self, from: WatermarkPoint, after: Option<&Cursor>) -> Result<Page, SourceError> {
        self.poll_state = PollState::default();
        if let (None, Some(kind), Some(poll)) = (after, self.watermark, self.statements.poll.clone())
            && let Some(page) = self.poll(poll, self.bound_text(kind, from)).await?
        {
            self.read_ahead(&page, from);
            return Ok(page);
        }
        let Some((statement, parameters)) = self.changed_query(from, after) else {
            return self.all_after(after.and_then(|cursor| cursor.account.as_deref())).await;
        };
        let page = self.read_page(statement, parameters, same_stamp_and_account).await?;
        self.read_ahead(&page, from);
        Ok(page)
    }

    /// Begins to read the page of changed rows after this one.
    fn read_ahead(&mut self, page: &Page, from: WatermarkPoint) {
        // Else all rows of the page's accounts are read before the next page.
        if self.account_is_unique()
            && let Some((next, parameters)) = page.next_key().and_then(|end| self.changed_query(from, Some(end)))
        {
            self.session.read_ahead(PageQuery { statement: next.rows, parameters }, &self.statements.form);
        }
    }

    /// The statement of [`Source::changed_since`] with its parameters; `None` without a watermark column.
    fn changed_query(
        &self,
        from: WatermarkPoint,
        after: Option<&Cursor>,
    ) -> Option<(PageStatement, Vec<Option<String>>)> {
        let (statement, parameters) = match after {
            None => (&self.statements.changed_from, vec![Some(self.bound_text(self.watermark?, from))]),
            Some(Cursor { watermark, account: Some(account) }) => {
                (&self.statements.changed_after, vec![watermark.clone(), Some(account.clone())])
            }
            Some(Cursor { watermark, account: None }) => {
                (&self.statements.changed_after_watermark, vec![watermark.clone()])
            }
        };
        Some((statement.clone()?, parameters))
    }

    /// The next page of rows that no position leads to, after the row `after`: those without a stamp, or those stamped more
    /// than a day ahead. `None` where there can be none, and where no index serves it: then [`Source::changed_since`] reads
    /// the latter, and the former wait for the full pass.
    pub async fn outlying(&mut self, rows: OutlyingRows, after: Option<&Cursor>) -> Result<Option<Page>, SourceError> {
        let read = match rows {
            OutlyingRows::Unstamped => self.poll_state.unstamped.take(),
            OutlyingRows::FarFuture => self.poll_state.far_future.take(),
        };
        let account = after.and_then(|cursor| cursor.account.clone());
        let (statement, parameters) = match (rows, after) {
            (OutlyingRows::Unstamped, None) => (&self.statements.unstamped, vec![]),
            (OutlyingRows::Unstamped, Some(_)) => (&self.statements.unstamped_after, vec![account]),
            (OutlyingRows::FarFuture, None) => (&self.statements.far_future, vec![]),
            (OutlyingRows::FarFuture, Some(cursor)) => {
                (&self.statements.far_future_after, vec![cursor.watermark.clone(), account])
            }
        };
        let Some(statement) = statement.clone() else { return Ok(None) };
        if after.is_none() && read.is_some() {
            return Ok(read);
        }
        self.read_page(statement, parameters, same_stamp_and_account).await.map(Some)
    }

    /// The next page in the order of the account column, after the row whose account column has this text. The last page
    /// also has rows without an account, at most `page_size` of them.
    pub async fn all_after(&mut self, after: Option<&str>) -> Result<Page, SourceError> {
        let (statement, parameters) = match after {
            None => (self.statements.first_of_all.clone(), Vec::new()),
            Some(account) => (self.statements.all_after.clone(), vec![Some(account.to_owned())]),
        };
        if after.is_none() {
            self.whole_scan = WholeScan::default();
        }
        self.whole_scan.is_reading = true;
        let page = self.read_page(statement, parameters, |one, other| one.account == other.account).await;
        self.whole_scan.is_reading = false;
        let mut page = page?;
        if !self.account_has_spellings()
            && let Some(end) = page.next_key()
        {
            let query =
                PageQuery { statement: self.statements.all_after.rows.clone(), parameters: vec![end.account.clone()] };
            self.session.read_ahead(query, &self.statements.form);
        }
        if page.last && self.account_nullable {
            let query = PageQuery { statement: self.statements.without_account.clone(), parameters: Vec::new() };
            let rows = self.session.page(&query, &RowForm::of_keys()).await?;
            page.rows.extend(&rows);
        }
        Ok(page)
    }

    /// Forgets a page that was read ahead. To be called when a pass begins, which must not see older rows.
    pub async fn forget_ahead(&mut self) {
        self.session.forget_ahead().await;
    }

    /// The rows of these IM accounts. Accounts that have no row, or cannot be a value of the account column, are left
    /// out.
    pub async fn rows_of(&mut self, accounts: &[Account]) -> Result<AccountRows, SourceError> {
        // All spellings of an account are in one statement, so that a row whose spelling changes is found once.
        let part = if self.account_has_spellings() { MAX_SPELLED_ACCOUNTS } else { accounts.len().max(1) };
        let mut found = AccountRows::default();
        for part in accounts.chunks(part) {
            let texts = part.iter().flat_map(|account| account_texts(&self.config, self.account_type, account));
            let AccountRows { rows, unreadable } = self.read_apart(texts.collect()).await?;
            found.rows.extend(&rows);
            found.unreadable.extend(unreadable);
        }
        Ok(found)
    }

    /// Why the rows of this account count as gone.
    pub async fn why_gone(&mut self, account: &Account) -> Result<WhyGone, SourceError> {
        let texts: Vec<String> = account_texts(&self.config, self.account_type, account).collect();
        let row = self.session.row(sqlx::query(self.statements.gone_reasons.clone()).bind(texts)).await?;
        Ok(WhyGone { deleted: row.try_get(0)?, filtered: row.try_get(1)? })
    }

    /// Which of these accounts have a row whose watermark is at or after `from`, less the slack. Without a watermark column
    /// none.
    pub async fn stamped_since(
        &mut self,
        from: WatermarkPoint,
        accounts: &[Account],
    ) -> Result<HashSet<Account>, SourceError> {
        let (Some(kind), Some(statement)) = (self.watermark, self.statements.stamped_since.clone()) else {
            return Ok(HashSet::new());
        };
        let part = if self.account_has_spellings() { MAX_SPELLED_ACCOUNTS } else { accounts.len().max(1) };
        let mut stamped = HashSet::new();
        for part in accounts.chunks(part) {
            let texts = part.iter().flat_map(|account| account_texts(&self.config, self.account_type, account));
            let query = sqlx::query(statement.clone()).bind(self.bound_text(kind, from));
            let rows = self.session.rows(query.bind(texts.collect::<Vec<String>>())).await?;
            let found = rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok());
            stamped.extend(found.map(|text| self.config.account_of(&text)));
        }
        Ok(stamped)
    }

    /// A sentence with the trigger that moves the watermark column with every change; empty without such a column.
    pub fn stamp_remedy(&self) -> &str {
        &self.stamp_remedy
    }

    /// The parameter of `changed_from` for a bound; the slack is subtracted from a time.
    pub(super) fn bound_text(&self, kind: WatermarkType, bound: WatermarkPoint) -> String {
        if kind == WatermarkType::Int8 {
            return match bound {
                WatermarkPoint::Beginning => i64::MIN.to_string(),
                WatermarkPoint::At(value) => value.to_string(),
            };
        }
        let slack = self.config.watermark_grace.max(MIN_SLACK);
        match bound.lowered_by(i64::try_from(slack.as_micros()).unwrap_or(i64::MAX)) {
            WatermarkPoint::Beginning => "-infinity".to_owned(),
            WatermarkPoint::At(micros) => timestamp_text(micros),
        }
    }
}

/// A time as PostgreSQL reads it, exact to the microsecond and in UTC. Before the year 1, where everything is read, it is
/// `-infinity`.
fn timestamp_text(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) if micros >= YEAR_ONE_MICROS => time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
        _ => "-infinity".to_owned(),
    }
}
