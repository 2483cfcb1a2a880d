//! The removal guard: removals of a pass are counted first and go only when they are few enough.
//!
//! Owns: the share and its sentence, the accounts whose removals wait. Must not know: how accounts are removed.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::clock;
use crate::model::Account;

/// Fewer accounts than this never trip the guard.
pub(super) const FEWEST: u64 = 20;

/// Accounts whose removals wait for the guard's decision.
///
/// Kept in memory up to [`Withheld::MOST`] (about 20 MB); of those beyond only the number is kept, and once the guard
/// lets removals go, the pass walks the same range again.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    accounts: HashSet<Account>,
    beyond: u64,
}

impl Withheld {
    const MOST: usize = 200_000;

    pub(super) fn note(&mut self, accounts: impl Iterator<Item = Account>) {
        for account in accounts {
            if self.accounts.len() < Self::MOST {
                self.accounts.insert(account);
            } else if !self.accounts.contains(&account) {
                self.beyond += 1;
            }
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.accounts.len() as u64 + self.beyond
    }

    /// Not all accounts fitted: the range must be walked again.
    pub(super) fn overflowed(&self) -> bool {
        self.beyond > 0
    }

    /// The account's removal waits, or may be among those that are only counted.
    pub(super) fn may_hold(&self, account: &Account) -> bool {
        self.beyond > 0 || self.accounts.contains(account)
    }

    /// The accounts in a fixed order; nothing is withheld afterwards.
    pub(super) fn take(&mut self) -> Vec<Account> {
        self.beyond = 0;
        let mut accounts: Vec<Account> = self.accounts.drain().collect();
        accounts.sort();
        accounts
    }
}

/// The guard's document when so many of the known accounts would lose an attribute; `None` when that is few enough.
pub(super) fn trips(count: u64, known: u64, max_share: f64) -> Option<Value> {
    #[expect(clippy::cast_precision_loss, reason = "a share of accounts")]
    let share = count as f64 / known.max(1) as f64;
    (count >= FEWEST && share > max_share).then(|| {
        json!({
            "since": clock::now_utc(),
            "accounts": count,
            "known": known,
            "share": (share * 10_000.0).round() / 10_000.0,
            "max_share": max_share,
        })
    })
}

/// What to tell of a tripped guard, and what to do.
pub fn sentence(guard: &Value) -> String {
    format!(
        "the removal guard holds removals back: {} of {} known accounts would lose an attribute, more than removal.max_share = {} allows; \
         nothing is removed until it is settled. If that is meant, run `imsync backfill --allow-removals`; if not, look at the filter, \
         the mapping and the table (`imsync preview --full` lists the accounts)",
        guard["accounts"], guard["known"], guard["max_share"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_never_trip_and_a_share_is_a_share() {
        assert!(trips(19, 19, 0.0).is_none());
        assert!(trips(20, 20, 1.0).is_none());
        assert!(trips(20, 100, 0.2).is_none(), "at most this share may go");
        assert!(trips(21, 100, 0.2).is_some());
        let guard = trips(500, 1000, 0.2).expect("half is more than a fifth");
        assert!(sentence(&guard).contains("500 of 1000 known accounts"), "{}", sentence(&guard));
    }

    #[test]
    fn counts_each_account_once() {
        let mut withheld = Withheld::default();
        withheld.note(["a", "b", "a"].into_iter().map(Account::new));
        assert_eq!(withheld.count(), 2);
        assert_eq!(withheld.take(), vec![Account::new("a"), Account::new("b")]);
        assert_eq!(withheld.count(), 0);
    }
}
