//! Which accounts have a change that is pending, in flight, or about to be recorded.
//!
//! Owns: the sets of these accounts and of their intents, and the rule that each belongs to one delivery or probe at a time.
//! Must not know: what is sent for an account, or in what order.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::model::Account;

/// The intents of deliveries and probes in flight. Locked while an intent is stored and while left-over intents are
/// resolved, so that no intent is ever seen in the table before it is in this set.
pub(super) type LiveIntents = Arc<tokio::sync::Mutex<HashSet<i64>>>;

/// The accounts that nothing else may compare or send now. Clones share the set.
#[derive(Clone, Debug, Default)]
pub(super) struct AccountsInFlight {
    /// Each with whether it counts as in doubt already.
    accounts: Arc<Mutex<HashMap<Account, bool>>>,
    /// Held while accounts are compared and enqueued, and while one is reserved.
    comparison: Arc<tokio::sync::Mutex<()>>,
}

/// One account that is reserved until this is dropped.
#[derive(Debug)]
pub(super) struct AccountReservation {
    accounts: AccountsInFlight,
    account: Account,
}

impl AccountsInFlight {
    fn lock(&self) -> MutexGuard<'_, HashMap<Account, bool>> {
        // Accounts are added and removed one by one, so the set that a panic left behind is a valid one.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the account belongs to a delivery or a probe.
    pub(super) fn contains(&self, account: &Account) -> bool {
        self.lock().contains_key(account)
    }

    /// Those of these accounts that belong to a delivery or a probe.
    pub(super) fn among<'a>(&self, accounts: impl Iterator<Item = Cow<'a, str>>) -> HashSet<Account> {
        let in_flight = self.lock();
        if in_flight.is_empty() {
            return HashSet::new();
        }
        accounts.filter(|account| in_flight.contains_key(&**account)).map(|account| Account::new(&*account)).collect()
    }

    /// Whether the account is in flight and counts as in doubt already.
    pub(super) fn is_in_doubt(&self, account: &Account) -> bool {
        self.lock().get(account).copied().unwrap_or(false)
    }

    /// How many accounts there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Adds an account, which must not be in flight. `in_doubt`: it counts as in doubt already.
    pub(super) fn add(&self, account: &Account, in_doubt: bool) {
        self.lock().insert(account.clone(), in_doubt);
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
        let mut set = self.lock();
        if set.contains_key(account) {
            return None;
        }
        set.insert(account.clone(), false);
        Some(AccountReservation { accounts: self.clone(), account: account.clone() })
    }
}

impl Drop for AccountReservation {
    fn drop(&mut self) {
        self.accounts.remove(std::iter::once(&self.account));
    }
}
