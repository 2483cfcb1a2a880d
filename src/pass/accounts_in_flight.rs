//! Which accounts have a change that is pending, in flight, or about to be recorded.
//!
//! Owns: the sets of these accounts and of their intents, and the rule that each belongs to one delivery or probe at a time. Must not know: what
//! is sent for an account, or in what order.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedMutexGuard};

use crate::model::Account;

/// The intents of deliveries and probes in flight. Locked while an intent is stored and while left-over intents are
/// resolved, so that no intent is ever seen in the table before it is in this set.
pub(super) type LiveIntents = Arc<tokio::sync::Mutex<HashSet<i64>>>;

/// The accounts that nothing else may compare or send now. Clones share the set.
#[derive(Clone, Debug, Default)]
pub(super) struct AccountsInFlight {
    accounts: Arc<Mutex<HashSet<Account>>>,
    /// Held while accounts are compared and enqueued, and while one is reserved.
    comparison: Arc<tokio::sync::Mutex<()>>,
    /// Notified when a reservation ends.
    released: Arc<Notify>,
}

/// One account that is reserved until this is dropped.
#[derive(Debug)]
pub(super) struct AccountReservation {
    accounts: AccountsInFlight,
    account: Account,
}

impl AccountsInFlight {
    fn lock(&self) -> MutexGuard<'_, HashSet<Account>> {
        // Accounts are added and removed one by one, so the set that a panic left behind is a valid one.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the account belongs to a delivery or a probe.
    pub(super) fn contains(&self, account: &Account) -> bool {
        self.lock().contains(account)
    }

    /// How many accounts there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Adds accounts, which must not be in flight.
    pub(super) fn add<'a>(&self, accounts: impl Iterator<Item = &'a Account>) {
        self.lock().extend(accounts.cloned());
    }

    /// Removes accounts whose outcome is recorded.
    pub(super) fn remove<'a>(&self, accounts: impl Iterator<Item = &'a Account>) {
        let mut set = self.lock();
        for account in accounts {
            set.remove(account);
        }
    }

    /// Until the guard is dropped, no account is reserved. Held from the check that accounts are idle until those that
    /// differ are added: a probe in between would send a value that is older than the change.
    pub(super) async fn pause_reservations(&self) -> OwnedMutexGuard<()> {
        self.comparison.clone().lock_owned().await
    }

    /// Reserves an account that is not in flight; `None` if it is. Waits while accounts are compared and enqueued.
    pub(super) async fn reserve(&self, account: &Account) -> Option<AccountReservation> {
        let _paused = self.comparison.lock().await;
        let is_idle = self.lock().insert(account.clone());
        is_idle.then(|| AccountReservation { accounts: self.clone(), account: account.clone() })
    }

    /// Waits until none of these accounts is in flight, as long as they are reserved only.
    pub(super) async fn wait_until_released<'a>(&self, accounts: impl Iterator<Item = &'a Account> + Clone) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Registered before the check, so that no release in between is lost.
            released.as_mut().enable();
            if !accounts.clone().any(|account| self.contains(account)) {
                return;
            }
            released.await;
        }
    }
}

impl Drop for AccountReservation {
    fn drop(&mut self) {
        self.accounts.remove(std::iter::once(&self.account));
        self.accounts.released.notify_waiters();
    }
}
