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

/// The owed removals of a compared page.
#[derive(Debug, Default)]
pub(super) struct OwedOnPage {
    /// The accounts that owe one.
    pub(super) accounts: HashSet<Account>,
    /// How many of them owed it before this comparison.
    pub(super) known_before: usize,
}

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
    pub(super) fn new(stored: &HashMap<Account, RemovalReason>, page_diff: &PageDiff, options: CompareOptions) -> Self {
        let mut changes = Self::default();
        let mut found = HashSet::new();
        for diff in &page_diff.diffs {
            match diff.owed_removal {
                Some(reason) => {
                    found.insert(diff.account());
                    let known = stored.get(diff.account());
                    // What `--force` removes includes what any other comparison finds.
                    if known != Some(&reason) && known != Some(&RemovalReason::Forced) {
                        changes.owed.push((diff.account().clone(), reason));
                    }
                }
                // A removal that is about to be sent is owed until its outcome is recorded.
                None if !diff.change.remove.is_empty() => {
                    found.insert(diff.account());
                }
                None => {}
            }
        }
        let has_ended = |(account, reason): &(&Account, &RemovalReason)| {
            !found.contains(account) && (**reason != RemovalReason::Forced || options.ends_forced_removals())
        };
        changes.ended = stored.iter().filter(has_ended).map(|(account, _)| account.clone()).collect();
        changes
    }
}

impl Engine {
    /// Stores which of the compared accounts owe a removal, before anything may move past their rows. Counts the removals
    /// that the guard has permitted, before the first call.
    pub(super) async fn store_owed_removals(
        &mut self,
        compared: &HashSet<Account>,
        page_diff: &PageDiff,
        options: CompareOptions,
    ) -> Result<OwedOnPage, PassError> {
        let stored = if self.owed_at_most == 0 {
            HashMap::new()
        } else {
            self.state.owed_removals_of(self.writer.sync_id(), compared.iter()).await?
        };
        let changes = OwedChanges::new(&stored, page_diff, options);
        if !changes.owed.is_empty() || !changes.ended.is_empty() {
            self.writer.update_owed_removals(&changes.owed, &changes.ended).await?;
            self.owed_at_most += changes.owed.len() as u64;
        }
        if options.removals == (RemovalMode::Permitted { counted: true }) {
            let removes = |diff: &&AccountDiff| !diff.change.remove.is_empty();
            let accounts: Vec<&str> =
                page_diff.diffs.iter().filter(removes).map(|diff| diff.account().as_str()).collect();
            if !accounts.is_empty() {
                self.writer.record_removals(&accounts).await?;
                self.guard.note_permitted(accounts.len() as u64);
                crash::point("removals: permitted");
            }
        }
        let owes = |diff: &&AccountDiff| diff.owed_removal.is_some();
        let accounts: HashSet<Account> =
            page_diff.diffs.iter().filter(owes).map(|diff| diff.account().clone()).collect();
        let known_before = accounts.iter().filter(|account| stored.contains_key(*account)).count();
        Ok(OwedOnPage { accounts, known_before })
    }
}
