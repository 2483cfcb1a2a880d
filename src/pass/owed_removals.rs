//! Keeps the table of owed removals equal to what comparisons find.
//!
//! Owns: what one compared page changes in the table, and that permitted removals are counted before they are sent.
//! Must not know: the removal guard's decision, how a removal is sent.

use std::collections::{HashMap, HashSet};

use super::engine::Engine;
use super::error::PassError;
use super::page_diff::{AccountDiff, CompareOptions, PageDiff, RemovalMode};
use crate::crash;
use crate::model::Account;
use crate::state::owed_removal::RemovalReason;

/// What a comparison changes in the table of owed removals.
#[derive(Debug, Default)]
pub(super) struct OwedChanges {
    /// They are owed from now on, or for another reason than before.
    pub(super) owed: Vec<(Account, RemovalReason)>,
    /// They are owed no longer.
    pub(super) ended: Vec<Account>,
}

impl OwedChanges {
    /// `stored`: the owed removals of all accounts that were compared.
    pub(super) fn new(stored: &HashMap<Account, RemovalReason>, page_diff: &PageDiff) -> Self {
        let mut changes = Self::default();
        let mut found = HashSet::new();
        // A removal that is about to be sent is owed until its outcome is recorded.
        for diff in &page_diff.diffs {
            let Some(reason) = diff.counted_removal else { continue };
            found.insert(diff.account());
            let known = stored.get(diff.account());
            // What `--force` removes includes what any other comparison finds.
            if known != Some(&reason) && known != Some(&RemovalReason::Forced) {
                changes.owed.push((diff.account().clone(), reason));
            }
        }
        changes.ended = stored.keys().filter(|account| !found.contains(account)).cloned().collect();
        changes
    }
}

impl Engine {
    /// The removals that these accounts owe already.
    pub(super) async fn owed_removals_of(
        &self,
        accounts: &HashSet<Account>,
    ) -> Result<HashMap<Account, RemovalReason>, PassError> {
        if self.owed_at_most == 0 || accounts.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(self.state.owed_removals_of(self.writer.sync_id(), accounts.iter()).await?)
    }

    /// Stores which of the compared accounts owe a removal, before anything may move past their rows. Counts the removals
    /// that the guard has permitted, before the first call.
    pub(super) async fn store_owed_removals(
        &mut self,
        stored: &HashMap<Account, RemovalReason>,
        page_diff: &PageDiff,
        options: CompareOptions,
    ) -> Result<(), PassError> {
        let changes = OwedChanges::new(stored, page_diff);
        if !changes.owed.is_empty() || !changes.ended.is_empty() {
            self.writer.update_owed_removals(&changes.owed, &changes.ended).await?;
            self.owed_at_most += changes.owed.len() as u64;
        }
        if options.removals == (RemovalMode::Permitted { counted: true }) {
            let counts = |diff: &&AccountDiff| diff.counted_removal.is_some();
            let accounts: Vec<&str> =
                page_diff.diffs.iter().filter(counts).map(|diff| diff.account().as_str()).collect();
            if !accounts.is_empty() {
                self.writer.record_removals(&accounts).await?;
                self.guard.note_permitted(accounts.len() as u64);
                crash::point("removals: permitted");
            }
        }
        Ok(())
    }
}
