//! The accounts whose removals wait for the removal guard.
//!
//! Owns: how many are remembered, and how they are handed out. Must not know: the guard's decision, how a removal is sent.

use std::collections::HashSet;

use crate::model::Account;

/// Accounts whose removals wait for the removal guard's decision.
///
/// Up to [`PendingRemovals::MAX_ACCOUNTS`] are remembered (about 20 MB); of the others only the number is known. If there
/// are others and the guard allows the removals, the pass reads its rows a second time. On that repeated read removals are
/// sent in batches, and each batch is counted and judged as if it were a pass of its own: an account that was not
/// pending on the first read is judged too.
#[derive(Debug, Default)]
pub(super) struct PendingRemovals {
    accounts: HashSet<Account>,
    not_remembered: u64,
    is_repeat: bool,
}

impl PendingRemovals {
    const MAX_ACCOUNTS: usize = 200_000;
    /// A batch and the largest page (100,000 rows) together are not more than can be remembered.
    const BATCH_SIZE: usize = Self::MAX_ACCOUNTS / 2;

    /// Adds accounts. An account that is remembered already counts once.
    pub(super) fn add(&mut self, accounts: impl Iterator<Item = Account>) {
        for account in accounts {
            if self.accounts.len() < Self::MAX_ACCOUNTS {
                self.accounts.insert(account);
            } else if !self.accounts.contains(&account) {
                self.not_remembered += 1;
            }
        }
    }

    /// All accounts, those that are not remembered included.
    pub(super) fn count(&self) -> u64 {
        self.accounts.len() as u64 + self.not_remembered
    }

    /// The remembered accounts.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }

    /// Whether some accounts are not remembered, so that the rows have to be read a second time.
    pub(super) fn overflowed(&self) -> bool {
        self.not_remembered > 0
    }

    /// Begins the repeated read, with no account pending.
    pub(super) fn start_repeat(&mut self) {
        *self = Self { is_repeat: true, ..Self::default() };
    }

    /// Whether the rows are being read for the second time.
    pub(super) fn is_repeat(&self) -> bool {
        self.is_repeat
    }

    /// On the repeated read: whether enough accounts for a batch are pending.
    pub(super) fn batch_is_full(&self) -> bool {
        self.is_repeat && self.accounts.len() >= Self::BATCH_SIZE
    }

    /// Whether the account is pending, or may be among those that are not remembered.
    pub(super) fn may_contain(&self, account: &Account) -> bool {
        self.overflowed() || self.accounts.contains(account)
    }

    /// Takes the remembered accounts, sorted. Nothing is pending afterwards.
    pub(super) fn take(&mut self) -> Vec<Account> {
        self.not_remembered = 0;
        let mut accounts: Vec<Account> = self.accounts.drain().collect();
        accounts.sort();
        accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(numbers: std::ops::Range<usize>) -> impl Iterator<Item = Account> {
        numbers.map(|number| Account::new(number.to_string()))
    }

    #[test]
    fn counts_each_account_once() {
        let mut pending = PendingRemovals::default();
        pending.add(["b", "a", "b"].into_iter().map(Account::new));
        assert_eq!(pending.count(), 2);
        assert!(pending.may_contain(&Account::new("a")) && !pending.may_contain(&Account::new("c")));
        assert_eq!(pending.take(), vec![Account::new("a"), Account::new("b")]);
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn accounts_over_the_limit_are_only_counted() {
        let mut pending = PendingRemovals::default();
        pending.add(numbered(0..PendingRemovals::MAX_ACCOUNTS));
        assert!(!pending.overflowed());
        pending.add(numbered(0..PendingRemovals::MAX_ACCOUNTS + 5));
        assert!(pending.overflowed() && pending.may_contain(&Account::new("any")));
        assert_eq!(pending.count(), PendingRemovals::MAX_ACCOUNTS as u64 + 5);
    }

    #[test]
    fn batches_are_full_on_the_repeated_read_only() {
        let mut pending = PendingRemovals::default();
        pending.add(numbered(0..PendingRemovals::BATCH_SIZE));
        assert!(!pending.batch_is_full());
        pending.start_repeat();
        assert!(pending.is_repeat() && pending.count() == 0);
        pending.add(numbered(0..PendingRemovals::BATCH_SIZE));
        assert!(pending.batch_is_full());
        pending.take();
        assert!(pending.is_repeat() && !pending.batch_is_full());
    }
}
