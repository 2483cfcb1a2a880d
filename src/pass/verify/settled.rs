//! Reads accounts that differ again, until nothing of them moves: only then a difference is drift.
//!
//! Owns: the order of these reads, and what an account counts as. Must not know: which accounts are verified.
//!
//! Table and state are read, then IM, then table and state again. If both are the same as before, and no call with the
//! account is under way, then no pass has sent anything in between, and what IM held belongs to what the table says. Else
//! the account is read again at the end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::compare::{AccountFacts, Difference, DifferenceCause, has_refusal};
use super::verifier::Verifier;
use crate::mapping::MappedRow;
use crate::model::Account;
use crate::pass::error::PassError;
use crate::pass::page_diff::Absent;
use crate::push::ReadAccount;
use crate::state::account::StoredAccount;

/// So often accounts that move are read again.
const ROUNDS: usize = 10;
/// The pause before each of these.
const PAUSE: Duration = Duration::from_millis(500);

/// Table and state of an account at one moment.
#[derive(Clone, Debug, PartialEq)]
struct Snapshot {
    row: MappedRow,
    facts: AccountFacts,
}

impl Verifier {
    /// Finds out why these accounts differ, and counts them.
    pub(super) async fn examine(&mut self, accounts: Vec<Account>) -> Result<(), PassError> {
        let mut before = self.snapshots(&accounts).await?;
        let read = self.read(&accounts).await?;
        let mut after = self.snapshots(&accounts).await?;
        let mut undecided = Vec::new();
        for (account, read) in accounts.into_iter().zip(read) {
            let (Some(before), Some(snapshot)) = (before.remove(&account), after.remove(&account)) else { continue };
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
        self.decide(undecided).await
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
        }
        let moving = std::mem::take(&mut self.unsettled).len() as u64;
        self.report.checked += moving;
        self.report.in_flight += moving;
        self.progress.show(&self.report);
        Ok(())
    }

    /// Counts an account, unless that depends on what the next pass sends.
    fn count(
        &mut self,
        account: Account,
        snapshot: &Snapshot,
        differences: Vec<Difference>,
    ) -> Option<(Account, Vec<Difference>)> {
        let any = |cause: DifferenceCause| differences.iter().any(|difference| difference.cause == cause);
        let report = &mut self.report;
        if any(DifferenceCause::Drift) {
            let drifted =
                differences.into_iter().filter(|difference| difference.cause == DifferenceCause::Drift).collect();
            report.add_drift(account, drifted);
        } else if any(DifferenceCause::Unsent) {
            if snapshot.facts.owes_removal {
                report.pending += 1;
            } else {
                return Some((account, differences));
            }
        } else if any(DifferenceCause::InDoubt) {
            report.in_doubt += 1;
        } else if any(DifferenceCause::Rejected) || has_refusal(&snapshot.row) {
            report.rejected += 1;
        } else {
            report.matching += 1;
        }
        None
    }

    /// A change that the next pass sends is pending. One that no pass sees is drift: its timestamp did not move.
    async fn decide(&mut self, unsent: Vec<(Account, Vec<Difference>)>) -> Result<(), PassError> {
        if unsent.is_empty() {
            return Ok(());
        }
        let accounts: Vec<Account> = unsent.iter().map(|(account, _)| account.clone()).collect();
        let next = self.dry_run.seen_by_next_pass(&accounts).await?;
        // Where nobody runs passes, a full pass that is due does not come by itself.
        let sees_all = next.sees_all && self.dry_run.lease_is_held().await?;
        for (account, differences) in unsent {
            if sees_all || next.stamped.contains(&account) {
                self.report.pending += 1;
            } else {
                let of_cause = |difference: &Difference| difference.cause == DifferenceCause::Unsent;
                self.report.add_drift(account, differences.into_iter().filter(of_cause).collect());
            }
        }
        Ok(())
    }

    async fn snapshots(&mut self, accounts: &[Account]) -> Result<HashMap<Account, Snapshot>, PassError> {
        let page = self.dry_run.reader.look_up(accounts.to_vec()).await?;
        let (comparer, reader) = (&self.dry_run.comparer, &self.dry_run.reader);
        let outlined = comparer.outline_page(&page.rows, &page.missing, page.unreadable);
        let (stored, mut standing, mut held) = comparer.read_state(&outlined, |_| true, Absent::default()).await?;
        let (owed, under_way) = match reader.sync_id {
            Some(sync_id) => (
                reader.state.owed_removals_of(sync_id, accounts.iter()).await?,
                reader.state.accounts_under_way(sync_id, accounts).await?,
            ),
            None => (HashMap::new(), HashSet::new()),
        };
        let mut snapshots = HashMap::with_capacity(outlined.len());
        for (outlined, stored) in outlined.into_iter().zip(stored) {
            let account = Account::new(&*outlined.account);
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
            };
            snapshots.insert(account, Snapshot { row: comparer.mapping.complete(outlined), facts });
        }
        Ok(snapshots)
    }
}
