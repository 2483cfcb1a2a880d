//! What a pass would do: the same transactions and comparing, without a lease, a call or a write.
//!
//! Owns: `preview` and `--dry-run`. Must not know: printing.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::compare::{AccountDiff, CompareOptions, PageComparer, RetryRejections};
use super::guard::{self, PendingRemovals};
use super::{FullOptions, PassError, binding, full_due_at_start, saved_tracker};
use crate::config::Config;
use crate::mapping::Mapping;
use crate::model::{Account, AcknowledgedValue, AttributeIndex, Row};
use crate::source::Source;
use crate::source::watermark::WatermarkTracker;
use crate::state::State;
use crate::state::sync::{SyncRow, append_names};

/// What would be looked at.
#[derive(Clone, Debug)]
pub enum DryRunScope {
    /// What the next pass of the daemon would.
    Next,
    Full,
    Accounts(Vec<Account>),
}

/// What it would come to, in accounts.
#[derive(Clone, Debug, Default)]
pub struct DryRunSummary {
    pub rows_read: u64,
    /// Rows whose account is NULL or empty: nothing is sent for them.
    pub without_account: u64,
    pub changed: u64,
    pub set: u64,
    pub removed: u64,
    /// Refused here, and with rejections that stand and stay; what is sent is taken to be accepted.
    pub rejected: u64,
    /// Accounts with rejections that stand now and do not stay as they are.
    answered: u64,
    pub calls: u64,
    /// The guard's document if it would trip or stands tripped.
    pub guard: Option<Value>,
    /// The next pass would be a full one, for this reason.
    pub full_because: Option<String>,
}

/// A reader of the table beside the state, with no right to change either.
#[derive(Debug)]
pub struct DryRun {
    config: Arc<Config>,
    source: Source,
    state: State,
    row: Option<SyncRow>,
    comparer: PageComparer,
}

impl DryRun {
    /// Without state tables, or before first use, everything counts as never sent.
    pub async fn new(
        config: Arc<Config>,
        mapping: Arc<Mapping>,
        source: Source,
        state: State,
    ) -> Result<Self, PassError> {
        let row = state.sync_row().await?;
        if let Some(row) = &row {
            row.check_binding(&config.name, &binding(&config, &source))?;
        }
        let known = row.as_ref().map(|row| row.attribute_names.clone()).unwrap_or_default();
        let (names, attributes) = append_names(&known, mapping.names());
        let ledger = row.as_ref().map(|row| (state.clone(), row.id, row.generation));
        let comparer = PageComparer::new(&config, mapping, names.into(), attributes, ledger);
        Ok(Self { config, source, state, row, comparer })
    }

    pub fn comparer(&self) -> &PageComparer {
        &self.comparer
    }

    /// Walks the scope and hands every account with something to do to `see`; stops early when it returns false.
    pub async fn walk(
        &mut self,
        scope: DryRunScope,
        options: FullOptions,
        mut see: impl FnMut(&AccountDiff, &PageComparer) -> bool,
    ) -> Result<DryRunSummary, PassError> {
        let mut forecast = DryRunSummary::default();
        let mut pending = PendingRemovals::default();
        let compare = CompareOptions {
            removals: true,
            retry: RetryRejections::RetryDue,
            force: options.force,
            ..CompareOptions::default()
        };
        let full_because = match (&scope, &self.row) {
            (DryRunScope::Next, Some(row)) => {
                full_due_at_start(&self.config, &self.comparer.mapping, row).or_else(|| self.overdue(row))
            }
            (DryRunScope::Next, None) => Some("the first pass of this sync".to_owned()),
            _ => None,
        };
        let only = match &scope {
            DryRunScope::Accounts(accounts) => Some(accounts.clone()),
            DryRunScope::Next | DryRunScope::Full => None,
        };
        let tracker = self.row.as_ref().and_then(|row| saved_tracker(&self.config, row));
        let all = only.is_none() && (matches!(scope, DryRunScope::Full) || full_because.is_some());
        match scope {
            DryRunScope::Accounts(accounts) => {
                for chunk in accounts.chunks(self.page_size()) {
                    if !self.compare_accounts(chunk, compare, &mut forecast, &mut pending, &mut see).await? {
                        break;
                    }
                }
            }
            DryRunScope::Next if full_because.is_none() && tracker.is_some() => {
                let tracker = tracker.expect("asked just before");
                self.walk_changes(tracker, compare, &mut forecast, &mut pending, &mut see).await?;
            }
            DryRunScope::Next | DryRunScope::Full => {
                self.walk_all(compare, &mut forecast, &mut pending, &mut see).await?
            }
        }
        forecast.full_because = full_because;
        let per_call = self.config.im.users_per_call as u64;
        forecast.calls = forecast.set.div_ceil(per_call) + forecast.removed.div_ceil(per_call);
        forecast.guard = self.guard(&pending, options, all).await?;
        if let Some(row) = &self.row {
            let standing = self.state.count_rejected(row.id, only.as_deref()).await?;
            forecast.rejected += standing.saturating_sub(forecast.answered);
        }
        Ok(forecast)
    }

    fn page_size(&self) -> usize {
        self.config.source.page_size as usize
    }

    fn overdue(&self, row: &SyncRow) -> Option<String> {
        let every = self.config.schedule.full_every?;
        let due =
            row.full_pass_ended_at.is_none_or(|ended| (row.read_at - ended).to_std().unwrap_or_default() >= every);
        due.then(|| "schedule.full_every is over".to_owned())
    }

    /// `all`: by a full pass, which lifts a guard when it counts below the share.
    async fn guard(
        &self,
        pending: &PendingRemovals,
        options: FullOptions,
        all: bool,
    ) -> Result<Option<Value>, PassError> {
        let Some(row) = &self.row else { return Ok(None) };
        if options.allow_removals {
            return Ok(None);
        }
        let max_share = self.config.removal.max_share;
        let trips = guard::judge(&self.state, row.id, pending, max_share, &mut None).await?;
        Ok(trips.or_else(|| row.guard.clone().filter(|_| !all)))
    }

    async fn walk_changes(
        &mut self,
        mut tracker: WatermarkTracker,
        options: CompareOptions,
        forecast: &mut DryRunSummary,
        pending: &mut PendingRemovals,
        see: &mut impl FnMut(&AccountDiff, &PageComparer) -> bool,
    ) -> Result<(), PassError> {
        // Observed on a copy: the state keeps the transaction list it has.
        tracker.observe(&self.source.transactions().await?);
        let Some(id) = self.row.as_ref().map(|row| row.id) else { return Ok(()) };
        let limit = i64::try_from(self.page_size()).unwrap_or(i64::MAX);
        let doubts = self.state.doubts_due(id, None, limit).await?;
        let doubts: Vec<Account> = doubts.into_iter().map(|(_, account)| account).collect();
        let mut shown: HashSet<Account> = doubts.iter().cloned().collect();
        if !self.compare_accounts(&doubts, options, forecast, pending, see).await? {
            return Ok(());
        }
        let mut cursor = None;
        loop {
            let page = self.source.changed_since(tracker.read_from(), cursor.as_ref()).await?;
            cursor = page.cursor();
            let fresh = |diff: &AccountDiff| shown.insert(diff.account().clone());
            if !self.compare_page(page.rows, Vec::new(), options, forecast, pending, fresh, see).await? {
                return Ok(());
            }
            if page.last {
                break;
            }
        }
        let due = self.state.rejections_due(id, limit).await?;
        let due: Vec<Account> = due.into_iter().filter(|account| !shown.contains(account)).collect();
        self.compare_accounts(&due, options, forecast, pending, see).await?;
        Ok(())
    }

    async fn walk_all(
        &mut self,
        options: CompareOptions,
        forecast: &mut DryRunSummary,
        pending: &mut PendingRemovals,
        see: &mut impl FnMut(&AccountDiff, &PageComparer) -> bool,
    ) -> Result<(), PassError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.source.all_after(after.as_deref()).await?;
            after = page.rows.iter().rev().find_map(|row| row.account.as_deref().map(str::to_owned)).or(after);
            if !self.compare_page(page.rows, Vec::new(), options, forecast, pending, |_| true, see).await? {
                return Ok(());
            }
            if page.last {
                break;
            }
        }
        let Some(id) = self.row.as_ref().map(|row| row.id) else { return Ok(()) };
        let mut after: Option<String> = None;
        loop {
            let limit = i64::try_from(self.page_size()).unwrap_or(i64::MAX);
            let accounts = self.state.accounts_after(id, after.as_deref(), limit).await?;
            let Some(last) = accounts.last() else { return Ok(()) };
            after = Some(last.as_str().to_owned());
            let rows = self.source_rows(&accounts).await?;
            let found = self.accounts_of(&rows);
            let missing = accounts.into_iter().filter(|account| !found.contains(account)).collect();
            if !self.compare_page(Vec::new(), missing, options, forecast, pending, |_| true, see).await? {
                return Ok(());
            }
        }
    }

    async fn source_rows(&mut self, accounts: &[Account]) -> Result<Vec<Row>, PassError> {
        Ok(self.source.rows_of(accounts).await?)
    }

    fn accounts_of(&self, rows: &[Row]) -> HashSet<Account> {
        rows.iter().filter_map(|row| row.account.as_deref()).map(|text| self.config.source.account_of(text)).collect()
    }

    async fn compare_accounts(
        &mut self,
        accounts: &[Account],
        options: CompareOptions,
        forecast: &mut DryRunSummary,
        pending: &mut PendingRemovals,
        see: &mut impl FnMut(&AccountDiff, &PageComparer) -> bool,
    ) -> Result<bool, PassError> {
        if accounts.is_empty() {
            return Ok(true);
        }
        let rows = self.source_rows(accounts).await?;
        let found = self.accounts_of(&rows);
        let missing = accounts.iter().filter(|account| !found.contains(*account)).cloned().collect();
        self.compare_page(rows, missing, options, forecast, pending, |_| true, see).await
    }

    #[expect(clippy::too_many_arguments, reason = "the collectors of one walk travel together")]
    async fn compare_page(
        &mut self,
        rows: Vec<Row>,
        missing: Vec<Account>,
        options: CompareOptions,
        forecast: &mut DryRunSummary,
        pending: &mut PendingRemovals,
        mut fresh: impl FnMut(&AccountDiff) -> bool,
        see: &mut impl FnMut(&AccountDiff, &PageComparer) -> bool,
    ) -> Result<bool, PassError> {
        forecast.rows_read += rows.len() as u64;
        let page_diff = self.comparer.compare_page(&rows, missing, options).await?;
        forecast.without_account += page_diff.without_account as u64;
        for diff in page_diff.diffs.iter().filter(|diff| fresh(diff)) {
            forecast.answered += u64::from(answers_rejections(diff));
            forecast.set += u64::from(!diff.change.set.is_empty());
            forecast.removed += u64::from(!diff.change.remove.is_empty());
            forecast.changed += u64::from(diff.sends());
            forecast.rejected += u64::from(!diff.refused.is_empty());
            let loses = |attribute: &AttributeIndex| {
                diff.acknowledged.get(attribute.index()).is_some_and(AcknowledgedValue::may_be_held)
            };
            if diff.change.remove.iter().any(loses) {
                pending.note(std::iter::once(diff.account().clone()));
            }
            if diff.sends() && !see(diff, &self.comparer) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// All rejections of the account that stand now are over if IM accepts what is sent, or are put anew.
fn answers_rejections(diff: &AccountDiff) -> bool {
    let over = |attribute: &Option<AttributeIndex>| {
        diff.resolved.contains(attribute)
            || match attribute {
                Some(attribute) => {
                    diff.change.set.iter().any(|(set, _)| set == attribute) || diff.change.remove.contains(attribute)
                }
                None => diff.sends(),
            }
    };
    !diff.standing.is_empty() && (!diff.refused.is_empty() || diff.standing.iter().all(over))
}
