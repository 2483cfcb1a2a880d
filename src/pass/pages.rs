//! The pages that passes read, in their order.
//!
//! Owns: which scans make up a pass, what the next page of a scan is, and how it is compared. Real passes and dry runs read
//! the same scans, so a dry run cannot differ from the pass. Must not know: what becomes of a page.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::error::PassError;
use super::page_diff::{CompareOptions, RetryRejections};
use crate::config::Config;
use crate::model::{Account, LocalRefusal, MAX_STORED_ACCOUNT_BYTES, Rows};
use crate::push::{ChangeOrigin, unknown_account_code};
use crate::source::{AccountRows, Cursor, OutlyingRows, Source, UnreadableRow, WatermarkPoint};
use crate::state::State;

/// Accounts with rejections that one pass tries again.
pub(super) const MAX_RETRIED_ACCOUNTS: usize = 1_000;

/// Reads pages from the source and the state. Both real passes and dry runs have one.
#[derive(Debug)]
pub(super) struct PageReader {
    pub(super) config: Arc<Config>,
    pub(super) source: Source,
    pub(super) state: State,
    /// `None` in a dry run before the first use of a sync: the state has no accounts then.
    pub(super) sync_id: Option<i32>,
}

/// One page.
#[derive(Debug, Default)]
pub(super) struct ReadPage {
    /// Rows of one snapshot.
    pub(super) rows: Rows,
    /// Accounts that were looked up and have no row.
    pub(super) missing: Vec<Account>,
    /// Accounts with a row that the database cannot evaluate. They are neither present nor gone.
    pub(super) unreadable: Vec<(Account, LocalRefusal)>,
    /// The accounts that were looked up. Empty for a scan of the table.
    pub(super) looked_up: Vec<Account>,
    /// By how much a progress bar moves on.
    pub(super) scanned: usize,
    /// The account column's text of the last row that has one, for a scan of the whole table.
    pub(super) end: Option<String>,
    /// There is no further page.
    pub(super) is_last: bool,
}

impl ReadPage {
    /// A last page without rows.
    pub(super) fn empty_last() -> Self {
        Self { is_last: true, ..Self::default() }
    }
}

/// One of the scans that make up a pass, and its position.
#[derive(Debug)]
pub(super) enum PageScan {
    /// Rows whose watermark is at or after `from`. Where an account may have several rows, all rows of a page's accounts
    /// are read: another row of an account may be outside of the range, and only all of them decide.
    ChangedRows { from: WatermarkPoint, cursor: Option<Cursor> },
    /// Rows to which no read position leads. A pass of the daemon reads one page of them, and the next pass goes on there.
    Outlying { rows: OutlyingRows, cursor: Option<Cursor> },
    /// All rows, in the order of the account column. Where rows with different texts may have the same account, all rows
    /// of a page's accounts are read too.
    WholeTable { after: Option<String> },
    /// Stored accounts that have no row. Rows that are marked as gone were already in the scan of the table.
    GoneAccounts { after: Option<Account> },
    /// The accounts named on the command line. One without a row is gone.
    NamedAccounts { accounts: Vec<Account>, next: usize },
    /// Accounts in doubt whose retry is due.
    InDoubt { after: Option<(DateTime<Utc>, Account)>, seen: HashSet<Account> },
    /// Accounts with rejections whose retry is due, at most `limit`. It has one page: those that were tried again are no
    /// longer due, so a pass starts this scan several times.
    RejectionRetries { of: RetriedAccounts, limit: usize },
}

/// Which accounts with rejections a scan finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetriedAccounts {
    All,
    /// Those that Chat did not know. A check finds a hundred of them in one call.
    Unknown,
    /// Those that Chat knows, as far as was known when they were rejected.
    Known,
}

impl PageScan {
    /// The scans of an incremental pass, in their order.
    pub(super) fn incremental(from: WatermarkPoint) -> [Self; 5] {
        let [in_doubt, retries] = Self::follow_up();
        let [unstamped, far_future] = Self::outlying();
        [Self::ChangedRows { from, cursor: None }, unstamped, far_future, in_doubt, retries]
    }

    /// The scans of rows to which no read position leads.
    pub(super) fn outlying() -> [Self; 2] {
        [OutlyingRows::Unstamped, OutlyingRows::FarFuture].map(|rows| Self::Outlying { rows, cursor: None })
    }

    /// The scans of a full pass, in their order. `after`: the account column's text of the row after which it resumes.
    pub(super) fn full(after: Option<String>) -> [Self; 4] {
        let [in_doubt, retries] = Self::follow_up();
        [Self::WholeTable { after }, Self::GoneAccounts { after: None }, in_doubt, retries]
    }

    /// The scan of a pass over named accounts.
    pub(super) fn selected(accounts: &[Account]) -> Self {
        Self::NamedAccounts { accounts: accounts.to_vec(), next: 0 }
    }

    fn follow_up() -> [Self; 2] {
        let in_doubt = Self::InDoubt { after: None, seen: HashSet::new() };
        [in_doubt, Self::rejections(RetriedAccounts::All, MAX_RETRIED_ACCOUNTS)]
    }

    /// The scan of rejections whose retry is due.
    pub(super) fn rejections(of: RetriedAccounts, limit: usize) -> Self {
        Self::RejectionRetries { of, limit }
    }

    /// How pages of this scan are compared. Removals wait for the removal guard.
    pub(super) fn compare_options(&self, force: bool) -> CompareOptions {
        let options = CompareOptions { force, ..CompareOptions::default() };
        match self {
            Self::ChangedRows { .. } | Self::Outlying { .. } | Self::WholeTable { .. } | Self::GoneAccounts { .. } => {
                options
            }
            Self::NamedAccounts { .. } => CompareOptions { retry: RetryRejections::All, ..options },
            Self::InDoubt { .. } => CompareOptions { origin: ChangeOrigin::UnknownOutcome, ..options },
            Self::RejectionRetries { of, .. } => {
                let origin = match of {
                    RetriedAccounts::Unknown => ChangeOrigin::UnknownAccountRetry,
                    RetriedAccounts::All | RetriedAccounts::Known => ChangeOrigin::RejectionRetry,
                };
                CompareOptions { retry: RetryRejections::Due, origin, ..options }
            }
        }
    }

    /// Sets how many accounts the next page of rejections may have.
    pub(super) fn limit_retries(&mut self, accounts: usize) {
        if let Self::RejectionRetries { limit, .. } = self {
            *limit = accounts;
        }
    }

    /// Reads the next page; `None` if there is none. Not to be called after a page that was the last one.
    pub(super) async fn next(&mut self, reader: &mut PageReader) -> Result<Option<ReadPage>, PassError> {
        match self {
            Self::ChangedRows { from, cursor } => {
                let page = reader.source.changed_since(*from, cursor.as_ref()).await?;
                *cursor = page.cursor();
                let (scanned, is_last) = (page.rows.len() + page.unreadable.len(), page.last);
                let mut read = reader.read_page(page.rows, page.unreadable);
                if !reader.source.account_is_unique() {
                    read = reader.all_rows_of(read).await?;
                }
                Ok(Some(ReadPage { scanned, is_last, ..read }))
            }
            Self::Outlying { rows, cursor } => {
                let Some(page) = reader.source.outlying(*rows, cursor.as_ref()).await? else { return Ok(None) };
                *cursor = if page.last { None } else { page.cursor() };
                let (scanned, is_last) = (page.rows.len() + page.unreadable.len(), page.last);
                let mut read = reader.read_page(page.rows, page.unreadable);
                if !reader.source.account_is_unique() {
                    read = reader.all_rows_of(read).await?;
                }
                Ok(Some(ReadPage { scanned, is_last, ..read }))
            }
            Self::WholeTable { after } => {
                let page = reader.source.all_after(after.as_deref()).await?;
                let end = page.cursor().and_then(|cursor| cursor.account);
                if end.is_some() {
                    after.clone_from(&end);
                }
                let (scanned, is_last) = (page.rows.len() + page.unreadable.len(), page.last);
                let mut read = reader.read_page(page.rows, page.unreadable);
                if reader.source.account_has_spellings() {
                    read = reader.all_rows_of(read).await?;
                }
                Ok(Some(ReadPage { scanned, end, is_last, ..read }))
            }
            Self::GoneAccounts { after } => {
                let accounts = reader.stored_accounts_after(after.as_ref()).await?;
                let Some(last) = accounts.last() else { return Ok(None) };
                *after = Some(last.clone());
                reader.look_up_missing(accounts).await.map(Some)
            }
            Self::NamedAccounts { accounts, next } => {
                let end = next.saturating_add(reader.page_size()).min(accounts.len());
                let named = accounts[*next..end].to_vec();
                *next = end;
                reader.look_up_page(named).await
            }
            Self::InDoubt { after, seen } => {
                let accounts = reader.in_doubt_after(after, seen).await?;
                reader.look_up_page(accounts).await
            }
            Self::RejectionRetries { of, limit } => {
                let accounts = reader.rejections_due(*of, *limit).await?;
                let page = reader.look_up_page(accounts).await?;
                Ok(page.map(|page| ReadPage { is_last: true, ..page }))
            }
        }
    }
}

impl PageReader {
    /// Rows of a page, at most.
    pub(super) fn page_size(&self) -> usize {
        self.config.source.page_size as usize
    }

    /// The accounts of these rows.
    pub(super) fn accounts_of(&self, rows: &Rows) -> HashSet<Account> {
        rows.iter().filter_map(|row| row.account).map(|text| self.config.source.account_of(text)).collect()
    }

    /// The page with all rows of its accounts. Rows without an account stay, because they are counted.
    async fn all_rows_of(&mut self, mut page: ReadPage) -> Result<ReadPage, PassError> {
        let mut accounts = self.accounts_of(&page.rows);
        accounts.extend(page.unreadable.into_iter().map(|(account, _)| account));
        let accounts: Vec<Account> = accounts.into_iter().collect();
        let found = self.source.rows_of(&accounts).await?;
        page.rows.retain(|row| row.account.is_none_or(str::is_empty));
        page.rows.extend(&found.rows);
        Ok(self.read_page(page.rows, found.unreadable))
    }

    /// Looks accounts up in the source. At most a page of them.
    pub(super) async fn look_up(&mut self, accounts: Vec<Account>) -> Result<ReadPage, PassError> {
        let AccountRows { rows, unreadable } = self.source.rows_of(&accounts).await?;
        let page = self.read_page(rows, unreadable);
        let mut found = self.accounts_of(&page.rows);
        found.extend(page.unreadable.iter().map(|(account, _)| account.clone()));
        let missing = accounts.iter().filter(|account| !found.contains(*account)).cloned().collect();
        let scanned = accounts.len();
        Ok(ReadPage { missing, looked_up: accounts, scanned, ..page })
    }

    /// Looks accounts up in the source. The page has only those without a row: the others were in the scan of the table.
    pub(super) async fn look_up_missing(&mut self, accounts: Vec<Account>) -> Result<ReadPage, PassError> {
        let page = self.look_up(accounts).await?;
        Ok(ReadPage { rows: Rows::default(), unreadable: Vec::new(), ..page })
    }

    /// A page with these rows. Accounts that cannot be recorded are left out, as those of readable rows are.
    fn read_page(&self, rows: Rows, unreadable: Vec<UnreadableRow>) -> ReadPage {
        let refused = unreadable.into_iter().map(|UnreadableRow { account, raised }| {
            (self.config.source.account_of(&account), LocalRefusal::Unreadable { raised: raised.into() }, account)
        });
        let is_stored =
            |account: &Account, text: &str| !text.is_empty() && account.as_str().len() <= MAX_STORED_ACCOUNT_BYTES;
        let refused = refused.filter(|(account, _, text)| is_stored(account, text));
        let unreadable = refused.map(|(account, refusal, _)| (account, refusal)).collect();
        ReadPage { rows, unreadable, ..ReadPage::default() }
    }

    async fn look_up_page(&mut self, accounts: Vec<Account>) -> Result<Option<ReadPage>, PassError> {
        if accounts.is_empty() { Ok(None) } else { self.look_up(accounts).await.map(Some) }
    }

    fn page_limit(&self) -> i64 {
        i64::from(self.config.source.page_size)
    }

    async fn stored_accounts_after(&self, after: Option<&Account>) -> Result<Vec<Account>, PassError> {
        let Some(sync_id) = self.sync_id else { return Ok(Vec::new()) };
        Ok(self.state.accounts_after(sync_id, after.map(Account::as_str), self.page_limit()).await?)
    }

    /// The next `limit` accounts after `after` that have a row in `account`.
    pub(super) async fn accounts_with_values_after(&self, after: &str, limit: i64) -> Result<Vec<String>, PassError> {
        let Some(sync_id) = self.sync_id else { return Ok(Vec::new()) };
        Ok(self.state.accounts_with_values_after(sync_id, after, limit).await?)
    }

    /// The next page of accounts after `after` that have a rejection or owe a removal, each with whether it has a row in
    /// `account`.
    pub(super) async fn rejected_or_owed_after(
        &self,
        after: Option<&Account>,
    ) -> Result<Vec<(Account, bool)>, PassError> {
        let Some(sync_id) = self.sync_id else { return Ok(Vec::new()) };
        let after = after.map_or("", Account::as_str);
        Ok(self.state.rejected_or_owed_after(sync_id, after, self.page_limit()).await?)
    }

    /// The next accounts in doubt that have not been `seen`; none at the end. Accounts whose removal waits stay due, and
    /// must not hide those that come after them.
    async fn in_doubt_after(
        &self,
        after: &mut Option<(DateTime<Utc>, Account)>,
        seen: &mut HashSet<Account>,
    ) -> Result<Vec<Account>, PassError> {
        let Some(sync_id) = self.sync_id else { return Ok(Vec::new()) };
        loop {
            let due = self.state.in_doubt_accounts_due(sync_id, after.as_ref(), self.page_limit()).await?;
            let Some(last) = due.last() else { return Ok(Vec::new()) };
            *after = Some(last.clone());
            let accounts = due.into_iter().map(|(_, account)| account);
            let unseen: Vec<Account> = accounts.filter(|account| seen.insert(account.clone())).collect();
            if !unseen.is_empty() {
                return Ok(unseen);
            }
        }
    }

    /// At most `limit` of the accounts whose retry has been due longest.
    async fn rejections_due(&self, of: RetriedAccounts, limit: usize) -> Result<Vec<Account>, PassError> {
        let Some(sync_id) = self.sync_id else { return Ok(Vec::new()) };
        let limit = limit.min(self.page_size());
        // Both kinds are among those that have been due longest, so neither has to search behind the other.
        let searched = if of == RetriedAccounts::All { limit } else { MAX_RETRIED_ACCOUNTS };
        let searched = i64::try_from(searched).unwrap_or(i64::MAX);
        let due = self.state.accounts_with_due_rejections(sync_id, unknown_account_code(), searched).await?;
        let is_wanted = |is_unknown: bool| match of {
            RetriedAccounts::All => true,
            RetriedAccounts::Unknown => is_unknown,
            RetriedAccounts::Known => !is_unknown,
        };
        let wanted = due.into_iter().filter(|(_, is_unknown)| is_wanted(*is_unknown));
        Ok(wanted.map(|(account, _)| account).take(limit).collect())
    }
}
