//! Reads accounts that differ again, until nothing of them moves: only then a difference is drift.
//!
//! Owns: the order of these reads, and what an account counts as. Must not know: which accounts are verified.
//!
//! Table and state are read, then IM, then table and state again. If both are the same as before, and no call with the
//! account is under way, then no pass has sent anything in between, and what IM held belongs to what the table says. Else
//! the account is read again at the end.
//!
//! The read position is taken before all of that: what is not sent yet lies at or after it. Calls under way are read before
//! the values: a record that is committed in between shows in the values.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::compare::{AccountFacts, Difference, DifferenceCause, Snapshot, has_refusal};
use super::verifier::{PassesRun, Verifier};
use crate::model::Account;
use crate::pass::error::PassError;
use crate::pass::page_diff::Absent;
use crate::push::ReadAccount;
use crate::state::account::StoredAccount;

/// So often accounts that move are read again.
const ROUNDS: usize = 10;
/// The pause before each of these.
const PAUSE: Duration = Duration::from_millis(500);

impl Verifier {
    /// Begins to find out why these accounts differ: they are read again.
    pub(super) async fn examine(&mut self, accounts: Vec<Account>) -> Result<(), PassError> {
        if accounts.is_empty() {
            return Ok(());
        }
        self.dry_run.refresh().await?;
        let mut before = self.snapshots(&accounts).await?;
        let known = |account: Account| before.remove(&account).map(|snapshot| (account, snapshot));
        let before = accounts.into_iter().filter_map(known).collect();
        self.read_again(before);
        Ok(())
    }

    /// Finds out why these accounts differ, and counts them. `before`: table and state before they were read.
    pub(super) async fn conclude(
        &mut self,
        before: Vec<(Account, Snapshot)>,
        read: Vec<ReadAccount>,
    ) -> Result<(), PassError> {
        let accounts: Vec<Account> = before.iter().map(|(account, _)| account.clone()).collect();
        let mut after = self.snapshots(&accounts).await?;
        let passes_run = self.passes_run().await?;
        let mut undecided = Vec::new();
        for ((account, before), read) in before.into_iter().zip(read) {
            let Some(snapshot) = after.remove(&account) else { continue };
            if snapshot.facts.is_under_way && !passes_run {
                // A process that was killed has left it.
                self.report.checked += 1;
                self.report.in_doubt += 1;
                continue;
            }
            if before != snapshot || snapshot.facts.is_under_way {
                self.unsettled.push(account);
                continue;
            }
            self.report.checked += 1;
            match read {
                ReadAccount::Held(actual) => {
                    let differences = self.expectations().differences(&snapshot.row, &actual, &snapshot.facts);
                    undecided.extend(self.count(account, &snapshot, differences));
                }
                ReadAccount::Refused(_) if !snapshot.facts.rejected.is_empty() => self.report.rejected += 1,
                ReadAccount::Refused(reason) => {
                    self.report.unreadable += 1;
                    self.report.unreadable_reason.get_or_insert(reason);
                }
            }
        }
        self.decide(undecided, passes_run).await
    }

    /// Reads the accounts again that moved.
    pub(super) async fn settle(&mut self) -> Result<(), PassError> {
        for _ in 0..ROUNDS {
            let unsettled = std::mem::take(&mut self.unsettled);
            if unsettled.is_empty() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            for part in unsettled.chunks(self.dry_run.reader.config.im.users_per_call.max(1)) {
                self.examine(part.to_vec()).await?;
            }
            while self.finish_call().await? {}
        }
        let moving = std::mem::take(&mut self.unsettled).len() as u64;
        self.report.checked += moving;
        self.report.in_flight += moving;
        self.progress.show(&self.report);
        Ok(())
    }

    /// Whether somebody runs passes now.
    async fn passes_run(&self) -> Result<bool, PassError> {
        match self.passes {
            PassesRun::Here => Ok(true),
            PassesRun::ByLeaseHolder => self.dry_run.lease_is_held().await,
            PassesRun::Nowhere => Ok(false),
        }
    }

    /// Counts an account, unless that depends on what the next pass sends.
    fn count(&mut self, account: Account, snapshot: &Snapshot, differences: Vec<Difference>) -> Option<UnsentAccount> {
        let any = |cause: DifferenceCause| differences.iter().any(|difference| difference.cause == cause);
        let report = &mut self.report;
        // A removal that waits for the removal guard is no drift, but a set of the same account may be.
        let waits = |difference: &Difference| difference.expected.is_none() && snapshot.facts.owes_removal;
        let is_unsent = |difference: &Difference| difference.cause == DifferenceCause::Unsent;
        if any(DifferenceCause::Drift) {
            let is_drift = |difference: &Difference| difference.cause == DifferenceCause::Drift;
            report.add_drift(account, differences.into_iter().filter(is_drift).collect());
        } else if any(DifferenceCause::Unsent) {
            let unsent: Vec<Difference> =
                differences.into_iter().filter(|difference| is_unsent(difference) && !waits(difference)).collect();
            if !unsent.is_empty() {
                return Some(UnsentAccount { account, differences: unsent, is_missing: snapshot.is_missing });
            }
            report.pending += 1;
        } else if any(DifferenceCause::InDoubt) {
            report.in_doubt += 1;
        } else if any(DifferenceCause::Rejected) || has_refusal(&snapshot.row) {
            report.rejected += 1;
        } else {
            report.matching += 1;
        }
        None
    }

    /// A change that a pass is going to send is pending: the next one, because of its stamp; a full pass that is due, or that
    /// is going to find a deleted row, if somebody runs passes. What no pass sees is drift.
    async fn decide(&mut self, unsent: Vec<UnsentAccount>, passes_run: bool) -> Result<(), PassError> {
        if unsent.is_empty() {
            return Ok(());
        }
        let accounts: Vec<Account> = unsent.iter().map(|unsent| unsent.account.clone()).collect();
        let next = self.dry_run.seen_by_next_pass(&accounts).await?;
        let finds_missing = passes_run && self.dry_run.reader.config.schedule.full_every.is_some();
        for UnsentAccount { account, differences, is_missing } in unsent {
            let is_seen = next.stamped.contains(&account) || (next.sees_all && passes_run);
            if is_seen || (is_missing && finds_missing) {
                self.report.pending += 1;
            } else {
                self.report.add_drift(account, differences);
            }
        }
        Ok(())
    }

    async fn snapshots(&mut self, accounts: &[Account]) -> Result<HashMap<Account, Snapshot>, PassError> {
        let page = self.dry_run.reader.look_up(accounts.to_vec()).await?;
        let (comparer, reader) = (&self.dry_run.comparer, &self.dry_run.reader);
        let (owed, under_way, mut recorded) = match reader.sync_id {
            Some(sync_id) => (
                reader.state.owed_removals_of(sync_id, accounts.iter()).await?,
                reader.state.accounts_under_way(sync_id, accounts).await?,
                reader.state.recorded_at(sync_id, accounts).await?,
            ),
            None => Default::default(),
        };
        let outlined = comparer.outline_page(&page.rows, &page.missing, page.unreadable);
        let missing: HashSet<&str> = page.missing.iter().map(Account::as_str).collect();
        let (stored, mut standing, mut held) = comparer.read_state(&outlined, |_| true, Absent::default()).await?;
        let mut snapshots = HashMap::with_capacity(outlined.len());
        for (outlined, stored) in outlined.into_iter().zip(stored) {
            let account = Account::new(&*outlined.account);
            let is_missing = missing.contains(&*outlined.account);
            let rejected = standing.remove(&account).unwrap_or_default();
            let facts = AccountFacts {
                acknowledged: match stored {
                    Some(StoredAccount::Acknowledged { known, .. }) => known,
                    Some(StoredAccount::UpToDate) | None => Vec::new(),
                },
                rejected: rejected.into_iter().map(|rejection| rejection.attribute).collect(),
                held_by_others: held.remove(&account).unwrap_or_default(),
                is_under_way: under_way.contains(&account),
                owes_removal: owed.contains_key(&account),
                recorded_at: recorded.remove(&account),
            };
            snapshots.insert(account, Snapshot { row: comparer.mapping.complete(outlined), is_missing, facts });
        }
        Ok(snapshots)
    }
}

/// An account with values that were not sent yet.
struct UnsentAccount {
    account: Account,
    differences: Vec<Difference>,
    is_missing: bool,
}
