//! Accounts whose row was read while a call for them was in flight, and which are looked up when it has ended.
//!
//! Owns: which accounts these are, as the table `deferred_account` has them too, and which of them a pass has looked up.
//! Must not know: statements, how an account is looked up.

use std::collections::{HashMap, HashSet};

use crate::model::Account;

/// The deferred accounts of a sync.
#[derive(Debug, Default)]
pub(super) struct Deferrals(HashMap<Account, Deferral>);

#[derive(Clone, Copy, Debug)]
struct Deferral {
    /// The first pass that has read the row.
    pass: u64,
    /// The account counted as in doubt when it was deferred.
    in_doubt: bool,
    /// The pass that has looked the account up.
    looked_up_by: Option<u64>,
}

impl Deferrals {
    /// The deferrals that an earlier process has stored.
    pub(super) fn stored(accounts: Vec<Account>) -> Self {
        let deferral = Deferral { pass: 0, in_doubt: false, looked_up_by: None };
        Self(accounts.into_iter().map(|account| (account, deferral)).collect())
    }

    /// Adds an account, which has been stored as deferred.
    pub(super) fn add(&mut self, account: &Account, pass: u64, in_doubt: bool) {
        if let Some(known) = self.0.get_mut(account) {
            // The account was looked up before this row was read, so it has to be looked up again.
            known.looked_up_by = None;
            known.in_doubt &= in_doubt;
        } else {
            self.0.insert(account.clone(), Deferral { pass, in_doubt, looked_up_by: None });
        }
    }

    /// Whether the account is deferred.
    pub(super) fn contains(&self, account: &Account) -> bool {
        self.0.contains_key(account)
    }

    /// Whether an account waits for its look-up.
    pub(super) fn any_waits(&self) -> bool {
        self.0.values().any(|deferral| deferral.looked_up_by.is_none())
    }

    /// The accounts to look up: those that are not `busy`. At most `limit`.
    pub(super) fn ready(&self, busy: impl Fn(&Account) -> bool, limit: usize) -> Vec<Account> {
        let waiting = self.0.iter().filter(|(account, deferral)| deferral.looked_up_by.is_none() && !busy(account));
        waiting.map(|(account, _)| account.clone()).take(limit).collect()
    }

    /// Whether no account is deferred.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A pass compares rows of these accounts, none of which is in flight, so those that are deferred need no further
    /// look-up. Returns the first pass that has read a row of one of them.
    pub(super) fn note_compared(&mut self, accounts: &HashSet<Account>, pass: u64) -> u64 {
        let mut first = pass;
        for (account, deferral) in &mut self.0 {
            if accounts.contains(account) {
                deferral.looked_up_by = Some(pass);
                first = first.min(deferral.pass);
            }
        }
        first
    }

    /// The accounts that the pass has looked up and nobody has deferred since.
    pub(super) fn looked_up_by(&self, pass: u64) -> Vec<Account> {
        let by_pass = self.0.iter().filter(|(_, deferral)| deferral.looked_up_by == Some(pass));
        by_pass.map(|(account, _)| account.clone()).collect()
    }

    /// These accounts are no longer deferred.
    pub(super) fn remove(&mut self, accounts: &[Account]) {
        for account in accounts {
            self.0.remove(account);
        }
    }

    /// The pass has failed: what it looked up may not be recorded, so it is looked up again.
    pub(super) fn forget_look_ups(&mut self, pass: u64) {
        for deferral in self.0.values_mut().filter(|deferral| deferral.looked_up_by == Some(pass)) {
            deferral.looked_up_by = None;
        }
    }

    /// The first pass that has read a row which is still deferred, accounts in doubt aside.
    pub(super) fn oldest_pass(&self) -> Option<u64> {
        self.0.values().filter(|deferral| !deferral.in_doubt).map(|deferral| deferral.pass).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account::new(name)
    }

    #[test]
    fn an_account_is_stored_once_and_ready_when_its_call_has_ended() {
        let mut deferrals = Deferrals::default();
        deferrals.add(&account("a"), 3, false);
        deferrals.add(&account("a"), 4, false);
        assert!(deferrals.contains(&account("a")) && deferrals.any_waits());
        assert!(deferrals.ready(|_| true, 10).is_empty());
        assert_eq!(deferrals.ready(|_| false, 10), [account("a")]);
        assert_eq!(deferrals.oldest_pass(), Some(3));
        assert_eq!(deferrals.note_compared(&[account("a")].into(), 5), 3);
        assert!(deferrals.ready(|_| false, 10).is_empty());
        assert_eq!(deferrals.looked_up_by(5), [account("a")]);
        deferrals.remove(&[account("a")]);
        assert!(!deferrals.contains(&account("a")));
    }

    #[test]
    fn a_row_that_is_read_after_the_look_up_is_looked_up_again() {
        let mut deferrals = Deferrals::stored(vec![account("a"), account("b")]);
        deferrals.note_compared(&[account("a"), account("b")].into(), 1);
        deferrals.add(&account("a"), 1, false);
        assert_eq!(deferrals.looked_up_by(1), [account("b")]);
        assert_eq!(deferrals.ready(|_| false, 10), [account("a")]);
    }

    #[test]
    fn a_failed_pass_looks_up_nothing() {
        let mut deferrals = Deferrals::stored(vec![account("a")]);
        deferrals.note_compared(&[account("a")].into(), 1);
        deferrals.forget_look_ups(1);
        assert_eq!(deferrals.ready(|_| false, 10), [account("a")]);
    }

    #[test]
    fn accounts_in_doubt_do_not_hold_the_lag() {
        let mut deferrals = Deferrals::default();
        deferrals.add(&account("silent"), 2, true);
        assert_eq!(deferrals.oldest_pass(), None);
        deferrals.add(&account("silent"), 3, false);
        assert_eq!(deferrals.oldest_pass(), Some(2));
    }
}
