//! Dry runs: what a pass would send, found with the pass's own scans and comparisons, without a lease, a call or a write.
//!
//! Owns: `preview` and `--dry-run`. Must not know: how the result is printed.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::binding::binding;
use super::compare::{PageComparer, StateRef};
use super::engine::watermark_column;
use super::error::PassError;
use super::full_pass_schedule::{FullOptions, FullPassSchedule};
use super::page_diff::{AccountDiff, CompareOptions, PageDiff, PageRows};
use super::pages::{PageReader, PageScan, ReadPage};
use super::predicted_removals::{PredictedPass, PredictedRemovals, StateOfSync};
use super::read_position::ReadPosition;
use crate::config::Config;
use crate::mapping::Mapping;
use crate::model::{Account, AttributeIndex};
use crate::source::Source;
use crate::state::State;
use crate::state::account_count::AccountCounts;
use crate::state::attribute_names::append_names;
use crate::state::other_syncs::OtherSyncs;
use crate::state::sync_row::SyncRow;

/// Which pass is tried.
#[derive(Clone, Debug)]
pub enum DryRunScope {
    /// The next pass of the daemon.
    Next,
    /// A full pass.
    Full,
    /// A pass over named accounts.
    Accounts(Vec<Account>),
}

/// What the pass would do, in accounts.
#[derive(Clone, Debug, Default)]
pub struct DryRunSummary {
    /// Rows read from the source.
    pub rows_read: u64,
    /// Rows whose account is NULL or empty. Nothing is sent for them.
    pub without_account: u64,
    /// Accounts with something to send.
    pub changed: u64,
    /// Accounts of which attributes would be set.
    pub set: u64,
    /// Accounts of which attributes would be removed.
    pub removed: u64,
    /// Accounts that would be refused before they are sent, or whose rejections would still stand. Everything that is sent
    /// is assumed to be accepted.
    pub rejected: u64,
    /// Calls to IM, if every call is full and none is repeated.
    pub calls: u64,
    /// The removal guard's document, if the guard would be tripped after the pass.
    pub guard: Option<Value>,
    /// Why the next pass would be a full one.
    pub full_because: Option<String>,
}

/// Tries passes without changing anything.
#[derive(Debug)]
pub struct DryRun {
    pub(super) reader: PageReader,
    pub(super) row: Option<SyncRow>,
    pub(super) comparer: PageComparer,
}

/// What the next pass sees of some accounts.
pub(super) struct NextPassView {
    /// Why it is a full pass.
    pub(super) full_because: Option<String>,
    /// It reads the whole table.
    pub(super) sees_all: bool,
    /// The accounts whose stamp is at or after the read position.
    pub(super) stamped: HashSet<Account>,
}

/// The pass that is tried.
struct DryRunPlan {
    scans: Vec<PageScan>,
    is_full: bool,
    full_because: Option<String>,
    /// The accounts that the pass is limited to.
    only: Option<Vec<Account>>,
}

/// What has been found so far.
#[derive(Default)]
struct DryRunFindings {
    summary: DryRunSummary,
    removals: PredictedRemovals,
    /// Accounts that were counted, where several scans can find the same one. A real pass has sent it after the first.
    counted: Option<HashSet<Account>>,
    /// Accounts whose standing rejections would all end or be replaced.
    rejections_replaced: u64,
}

impl DryRun {
    /// Without state tables, or before the first use of the sync, nothing is acknowledged.
    pub async fn new(
        config: Arc<Config>,
        mapping: Arc<Mapping>,
        source: Source,
        state: State,
    ) -> Result<Self, PassError> {
        let row = state.sync_row().await?;
        if let Some(row) = &row {
            row.binding.check(&config.name, &binding(&config, &source))?;
        }
        let known = row.as_ref().map(|row| row.attribute_names.clone()).unwrap_or_default();
        let (names, attributes) = append_names(&known, mapping.names());
        let texts: Vec<&str> = names.iter().map(|name| &**name).collect();
        let others = state.other_syncs(row.as_ref(), config.im.sdk_app_id, &texts).await?;
        let state_ref = |row: &SyncRow| StateRef {
            state: state.clone(),
            sync_id: row.id,
            generation: row.generation,
            digest_key: row.digest_key.clone(),
            other_syncs: OtherSyncs::new(others.clone()),
        };
        let comparer = PageComparer::new(&config, mapping, names.into(), attributes, row.as_ref().map(state_ref));
        let sync_id = row.as_ref().map(|row| row.id);
        Ok(Self { reader: PageReader { config, source, state, sync_id }, row, comparer })
    }

    /// Tries a pass, and hands every account with something to send to `on_diff`. Ends early when that returns false; the
    /// summary covers what was read until then.
    pub async fn run(
        &mut self,
        scope: DryRunScope,
        options: FullOptions,
        mut on_diff: impl FnMut(&AccountDiff, &PageComparer) -> bool,
    ) -> Result<DryRunSummary, PassError> {
        let mut plan = self.plan(scope).await?;
        // Each account of a full pass, or of named ones, is in one page only.
        let several_scans = plan.scans.len() > 1 && !plan.is_full;
        let counts = match &self.row {
            Some(row) => self.reader.state.account_counts(row.id).await?,
            None => AccountCounts::default(),
        };
        let mut findings = DryRunFindings {
            counted: several_scans.then(HashSet::new),
            removals: PredictedRemovals::new(counts),
            ..DryRunFindings::default()
        };
        let mut goes_on = true;
        for scan in &mut plan.scans {
            let compare = scan.compare_options(options.force).of_whole_pass();
            while goes_on && let Some(page) = scan.next(&mut self.reader).await? {
                let is_last = page.is_last;
                let page_diff = self.compare_page(page, compare, &mut findings, true).await?;
                goes_on = self.show(&page_diff, &mut findings, &mut on_diff);
                if is_last {
                    break;
                }
            }
        }
        let pass = PredictedPass {
            max_share: self.reader.config.removal.max_share,
            is_full: plan.is_full,
            force: options.force,
            allow_removals: options.allow_removals,
        };
        findings.summary.guard = findings.removals.guard(self.state_of_sync(), pass).await?;
        let sends_owed = !plan.is_full && plan.only.is_none() && findings.summary.guard.is_none();
        if goes_on && sends_owed && counts.owed_removals > 0 {
            self.show_owed(&mut findings, &mut on_diff).await?;
        }
        self.summarize(plan, findings).await
    }

    fn state_of_sync(&self) -> StateOfSync<'_> {
        StateOfSync { state: &self.reader.state, row: self.row.as_ref() }
    }

    /// Adds the owed removals that an earlier pass left, which the next one sends.
    async fn show_owed(
        &mut self,
        findings: &mut DryRunFindings,
        on_diff: &mut impl FnMut(&AccountDiff, &PageComparer) -> bool,
    ) -> Result<(), PassError> {
        let Some(sync_id) = self.reader.sync_id else { return Ok(()) };
        let limit = i64::from(self.reader.config.source.page_size);
        let mut after: Option<Account> = None;
        loop {
            let owed = self.reader.state.owed_removals_after(sync_id, after.as_ref(), limit).await?;
            let Some(last) = owed.last() else { return Ok(()) };
            after = Some(last.clone());
            let page = self.reader.look_up(owed).await?;
            let page_diff = self.compare_page(page, CompareOptions::default().of_whole_pass(), findings, false).await?;
            if !self.show(&page_diff, findings, on_diff) {
                return Ok(());
            }
        }
    }

    /// The scans of the pass. A full pass's accounts in doubt and rejections are all found in its table and gone accounts,
    /// since nothing is sent between the scans of a dry run.
    async fn plan(&mut self, scope: DryRunScope) -> Result<DryRunPlan, PassError> {
        let full = || PageScan::full(None).into_iter().take(2).collect();
        match scope {
            DryRunScope::Accounts(accounts) => Ok(DryRunPlan {
                scans: vec![PageScan::selected(&accounts)],
                is_full: false,
                full_because: None,
                only: Some(accounts),
            }),
            DryRunScope::Full => Ok(DryRunPlan { scans: full(), is_full: true, full_because: None, only: None }),
            DryRunScope::Next => {
                let column = watermark_column(&self.reader.source);
                let mut position = ReadPosition::from_row(&self.reader.config, column, self.row.as_ref());
                let full_because = self.full_pass_schedule(&position).due_now();
                if full_because.is_some() || !position.is_known() {
                    return Ok(DryRunPlan { scans: full(), is_full: true, full_because, only: None });
                }
                // Only this copy of the position takes the transaction list; the state keeps its own.
                let transactions = self.reader.source.transactions().await?;
                let start = position.observe(&transactions).ok_or(PassError::NoWatermark)?;
                let scans = PageScan::incremental(start.from).into();
                Ok(DryRunPlan { scans, is_full: false, full_because: None, only: None })
            }
        }
    }

    pub(super) fn full_pass_schedule(&self, position: &ReadPosition) -> FullPassSchedule {
        let Some(row) = &self.row else { return FullPassSchedule::of_new_sync() };
        let every = self.reader.config.schedule.full_every;
        FullPassSchedule::from_row(every, row, self.comparer.mapping.fingerprint(), position.fingerprint())
    }

    /// Reads the row of the sync again.
    pub(super) async fn refresh(&mut self) -> Result<(), PassError> {
        self.row = self.reader.state.sync_row().await?;
        Ok(())
    }

    /// Which of these accounts the next pass sees because of their stamps, as of the row of the sync that was read last.
    pub(super) async fn seen_by_next_pass(&mut self, accounts: &[Account]) -> Result<NextPassView, PassError> {
        let column = watermark_column(&self.reader.source);
        let mut position = ReadPosition::from_row(&self.reader.config, column, self.row.as_ref());
        let full_because = self.full_pass_schedule(&position).due_now();
        let sees_all = full_because.is_some() || !position.is_known();
        let mut stamped = HashSet::new();
        if position.is_known() {
            let transactions = self.reader.source.transactions().await?;
            let start = position.observe(&transactions).ok_or(PassError::NoWatermark)?;
            stamped = self.reader.source.stamped_since(start.from, accounts).await?;
        }
        Ok(NextPassView { full_because, sees_all, stamped })
    }

    /// Whether a process runs passes of this sync.
    pub(super) async fn lease_is_held(&self) -> Result<bool, PassError> {
        Ok(match &self.row {
            Some(_) => self.reader.state.lease_is_held().await?,
            None => false,
        })
    }

    /// `before_guard`: the pass compares the page before it asks the removal guard.
    async fn compare_page(
        &self,
        page: ReadPage,
        options: CompareOptions,
        findings: &mut DryRunFindings,
        before_guard: bool,
    ) -> Result<PageDiff, PassError> {
        findings.summary.rows_read += (page.rows.len() + page.unreadable.len()) as u64;
        let mut compared = self.reader.accounts_of(&page.rows);
        compared.extend(page.missing.iter().chain(page.unreadable.iter().map(|(account, _)| account)).cloned());
        let DryRunFindings { removals, counted, .. } = findings;
        let state = self.state_of_sync();
        let owed = removals.stored(state, &compared).await?;
        let rows = PageRows { rows: page.rows, missing: page.missing, unreadable: page.unreadable };
        let page_diff = self.comparer.compare_page(rows, &owed, options).await?;
        if before_guard {
            let is_new = |account: &Account| !counted.as_ref().is_some_and(|counted| counted.contains(account));
            removals.add_page(state, &owed, &page_diff, is_new).await?;
        }
        findings.summary.without_account += page_diff.without_account as u64;
        Ok(page_diff)
    }

    /// Counts what differs, and hands it to `on_diff`. Returns false if that did.
    fn show(
        &self,
        page_diff: &PageDiff,
        findings: &mut DryRunFindings,
        on_diff: &mut impl FnMut(&AccountDiff, &PageComparer) -> bool,
    ) -> bool {
        page_diff.diffs.iter().all(|diff| !findings.add(diff) || !diff.sends() || on_diff(diff, &self.comparer))
    }

    async fn summarize(&self, plan: DryRunPlan, findings: DryRunFindings) -> Result<DryRunSummary, PassError> {
        let DryRunFindings { mut summary, removals: _, counted: _, rejections_replaced } = findings;
        summary.full_because = plan.full_because;
        let per_call = self.reader.config.im.users_per_call as u64;
        summary.calls = summary.set.div_ceil(per_call) + summary.removed.div_ceil(per_call);
        if let Some(row) = &self.row {
            let standing = match &plan.only {
                Some(only) => self.reader.state.count_rejected_of(row.id, only).await?,
                None => self.reader.state.account_counts(row.id).await?.rejected,
            };
            summary.rejected += standing.saturating_sub(rejections_replaced);
        }
        Ok(summary)
    }
}

impl DryRunFindings {
    /// Counts an account. Returns false if it was counted already.
    fn add(&mut self, diff: &AccountDiff) -> bool {
        if self.counted.as_mut().is_some_and(|counted| !counted.insert(diff.account().clone())) {
            return false;
        }
        let summary = &mut self.summary;
        summary.set += u64::from(!diff.change.set.is_empty());
        summary.removed += u64::from(!diff.change.remove.is_empty());
        summary.changed += u64::from(diff.sends());
        summary.rejected += u64::from(!diff.refused.is_empty());
        self.rejections_replaced += u64::from(replaces_rejections(diff));
        true
    }
}

/// Whether all standing rejections of the account end if IM accepts what is sent, or are replaced by new ones.
fn replaces_rejections(diff: &AccountDiff) -> bool {
    let ends = |attribute: &Option<AttributeIndex>| {
        diff.resolved.contains(attribute)
            || match attribute {
                Some(attribute) => {
                    diff.change.set.iter().any(|(set, _)| set == attribute) || diff.change.remove.contains(attribute)
                }
                None => diff.sends(),
            }
    };
    !diff.standing.is_empty() && (!diff.refused.is_empty() || diff.standing.iter().all(ends))
}
