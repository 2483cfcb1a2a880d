//! The removal guard of a dry run: what it would decide after the pass.
//!
//! Owns: the numbers that the pass would have stored by then. Must not know: which pages a dry run reads, how they are
//! compared.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::guard::{RemovalGuard, RemovalShare};
use super::owed_removals::OwedChanges;
use super::page_diff::{AccountDiff, PageDiff};
use crate::model::Account;
use crate::state::account_count::AccountCounts;
use crate::state::owed_removal::RemovalReason;
use crate::state::sync_row::SyncRow;
use crate::state::{State, StateError};

/// How the pass that is tried asks the guard.
#[derive(Clone, Copy, Debug)]
pub(super) struct PredictedPass {
    /// `removal.max_share`.
    pub(super) max_share: f64,
    /// It compares the whole table.
    pub(super) is_full: bool,
    /// It sends every attribute again.
    pub(super) force: bool,
    /// The operator permits its removals.
    pub(super) allow_removals: bool,
}

/// The state of the sync that is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateOfSync<'a> {
    pub(super) state: &'a State,
    /// `None` before its first use.
    pub(super) row: Option<&'a SyncRow>,
}

/// What a pass would change in the numbers that the guard compares.
#[derive(Debug, Default)]
pub(super) struct PredictedRemovals {
    /// The numbers before the pass.
    counts: AccountCounts,
    /// Accounts that would owe a removal and do not yet.
    new: u64,
    /// Accounts that would owe none any more.
    ended: HashSet<Account>,
    /// Accounts with a removal in the last 24 hours among the ended ones, less those among the new ones.
    recent: i64,
    /// Accounts that would be known and are not yet.
    gained: u64,
    /// Accounts with a row that is not gone.
    present: u64,
}

impl PredictedRemovals {
    /// `counts`: the numbers before the pass.
    pub(super) fn new(counts: AccountCounts) -> Self {
        Self { counts, ..Self::default() }
    }

    /// The removals that these accounts owe already.
    pub(super) async fn stored(
        &self,
        state: StateOfSync<'_>,
        compared: &HashSet<Account>,
    ) -> Result<HashMap<Account, RemovalReason>, StateError> {
        match state.row {
            Some(row) if self.counts.owed_removals > 0 => state.state.owed_removals_of(row.id, compared.iter()).await,
            _ => Ok(HashMap::new()),
        }
    }

    /// Adds what the comparison of a page found. `owed`: what its accounts owe already. `is_new`: the account was not
    /// counted on an earlier page.
    pub(super) async fn add_page(
        &mut self,
        state: StateOfSync<'_>,
        owed: &HashMap<Account, RemovalReason>,
        page_diff: &PageDiff,
        is_new: impl Fn(&Account) -> bool,
    ) -> Result<(), StateError> {
        self.present += page_diff.present as u64;
        let gains = |diff: &&AccountDiff| !diff.is_known() && !diff.change.set.is_empty() && is_new(diff.account());
        self.gained += page_diff.diffs.iter().filter(gains).count() as u64;
        let changes = OwedChanges::new(owed, page_diff);
        let added = changes.owed.iter().map(|(account, _)| account);
        let added: Vec<&str> =
            added.filter(|account| is_new(account) && !owed.contains_key(*account)).map(Account::as_str).collect();
        self.new += added.len() as u64;
        let ended: Vec<&str> =
            changes.ended.iter().filter(|account| self.ended.insert((*account).clone())).map(Account::as_str).collect();
        let Some(row) = state.row else { return Ok(()) };
        for (accounts, sign) in [(added, -1), (ended, 1)] {
            if !accounts.is_empty() {
                let recent = state.state.count_recent_removals_of(row.id, &accounts).await?;
                self.recent += sign * i64::try_from(recent).unwrap_or(i64::MAX);
            }
        }
        Ok(())
    }

    /// The guard's document, if the guard would be tripped after the pass.
    pub(super) async fn guard(&self, state: StateOfSync<'_>, pass: PredictedPass) -> Result<Option<Value>, StateError> {
        let mut guard = RemovalGuard::new(state.row.and_then(|row| row.guard.clone()), pass.max_share);
        if pass.allow_removals && pass.is_full {
            guard.lift();
        }
        if !pass.allow_removals && (pass.is_full || !guard.is_tripped()) {
            guard.judge(self.share(state, pass).await?);
        }
        Ok(guard.document().cloned())
    }

    async fn share(&self, state: StateOfSync<'_>, pass: PredictedPass) -> Result<Option<RemovalShare>, StateError> {
        let owed = (self.counts.owed_removals + self.new).saturating_sub(self.ended.len() as u64);
        if owed == 0 {
            return Ok(None);
        }
        let (mut recent, mut known) = (0, self.counts.known + self.gained);
        if let Some(row) = state.row {
            let stored = state.state.count_recent_removals_except_owed(row.id).await?;
            recent = stored.saturating_add_signed(self.recent);
            known += state.state.count_fully_removed(row.id).await?;
        }
        let forced_rows = if pass.is_full && pass.force { self.present } else { 0 };
        Ok(Some(RemovalShare { owed, recent, known: known.max(forced_rows) }))
    }
}
