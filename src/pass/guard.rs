//! The removal guard: removals of a pass are counted first and go only when they are few enough, alone and together with
//! what went in the 24 hours before.
//!
//! Owns: the share and its sentence, the accounts whose removals wait. Must not know: how accounts are removed.
//!
//! Counted are accounts, each once: those whose removal waits and those that lost something within 24 hours by the guard's
//! leave. They are a share of the accounts that hold something now *or have lost their last value within the 24 hours*.
//! With those that hold something now alone, the share would grow by itself as the accounts go: 10 and 10 of 100 would be 20
//! of 90. An account that lost one attribute of several stands among the known ones as before, and counts once below the
//! line too. What `--allow-removals` lets through is on neither side, and a full pass with it begins the count anew: else
//! what went before weighs against the few that are left, and the first account to go after a table was cleaned up by
//! somebody's word would trip the guard.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock;
use crate::model::Account;
use crate::state::{State, StateError};

/// Fewer accounts than this never trip the guard.
pub(super) const FEWEST: u64 = 20;

/// Accounts whose removals wait for the guard's decision.
///
/// Kept in memory up to [`PendingRemovals::MOST`] (about 20 MB); of those beyond only the number is kept, and once the guard
/// lets removals go, the pass walks the same range again. On that second walk they go in portions, each counted and judged
/// like those of a pass of its own: what was not met on the first walk does not slip through.
#[derive(Debug, Default)]
pub(super) struct PendingRemovals {
    accounts: HashSet<Account>,
    beyond: u64,
    second_walk: bool,
}

impl PendingRemovals {
    const MOST: usize = 200_000;
    /// A portion and the largest page (100,000 rows) together are not more than fit.
    const PORTION: usize = Self::MOST / 2;

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

    /// Begins the second walk, with nothing pending.
    pub(super) fn walk_again(&mut self) {
        *self = Self { second_walk: true, ..Self::default() };
    }

    /// The range is walked for the second time.
    pub(super) fn on_second_walk(&self) -> bool {
        self.second_walk
    }

    /// On the second walk: enough for a portion.
    pub(super) fn portion_is_full(&self) -> bool {
        self.second_walk && self.accounts.len() >= Self::PORTION
    }

    /// The account's removal waits, or may be among those that are only counted.
    pub(super) fn may_hold(&self, account: &Account) -> bool {
        self.beyond > 0 || self.accounts.contains(account)
    }

    /// The accounts in a fixed order; nothing is pending afterwards.
    pub(super) fn take(&mut self) -> Vec<Account> {
        self.beyond = 0;
        let mut accounts: Vec<Account> = self.accounts.drain().collect();
        accounts.sort();
        accounts
    }
}

/// The known accounts as they were counted last, and when.
pub(super) type KnownCount = Option<(Instant, u64)>;

/// A count of the known accounts serves so long where the share is far from the limit: ten million take a second to count,
/// and on a busy table every pass has a removal.
const COUNT_SERVES: Duration = Duration::from_mins(10);

/// The guard's document when these removals, together with those of the last 24 hours, are more than the share.
pub(super) async fn judge(
    state: &State,
    sync_id: i32,
    pending: &PendingRemovals,
    max_share: f64,
    counted: &mut KnownCount,
) -> Result<Option<Value>, StateError> {
    if pending.count() == 0 {
        return Ok(None);
    }
    let named: Vec<&str> = pending.accounts.iter().map(Account::as_str).collect();
    let earlier = state.count_recent_removals_except(sync_id, &named).await?;
    let share_of = |known| RemovalShare { waiting: pending.count(), earlier, known };
    if share_of(0).total() < FEWEST {
        return Ok(None);
    }
    // Within this time the known ones cannot have halved but by removals that are counted above, or by a person's word,
    // after which they are counted anew.
    let serves = counted.filter(|(when, _)| when.elapsed() < COUNT_SERVES);
    if serves.is_some_and(|(_, known)| share_of(known).trips(max_share / 2.0).is_none()) {
        return Ok(None);
    }
    let known = state.count_accounts(sync_id).await?.known;
    *counted = Some((clock::monotonic(), known));
    Ok(share_of(known + state.count_fully_removed(sync_id).await?).trips(max_share))
}

/// What is weighed, in accounts.
#[derive(Clone, Copy, Debug)]
struct RemovalShare {
    /// Their removal waits.
    waiting: u64,
    /// Others, that lost something within 24 hours.
    earlier: u64,
    /// AcknowledgedValue now, or known until they lost their last value within 24 hours.
    known: u64,
}

impl RemovalShare {
    fn total(self) -> u64 {
        self.waiting + self.earlier
    }

    /// The guard's document; `None` when it is few enough.
    fn trips(self, max_share: f64) -> Option<Value> {
        let Self { waiting: _, earlier, known } = self;
        #[expect(clippy::cast_precision_loss, reason = "a share of accounts")]
        let share = self.total() as f64 / known.max(1) as f64;
        (self.total() >= FEWEST && share > max_share).then(|| {
            json!({
                "since": clock::now_utc(),
                "accounts": self.total(),
                "lost_within_24h": earlier,
                "known": known,
                "share": (share * 10_000.0).round() / 10_000.0,
                "max_share": max_share,
            })
        })
    }
}

/// What to tell of a tripped guard, and what to do.
pub fn sentence(guard: &Value) -> String {
    let earlier = match guard["lost_within_24h"].as_u64().unwrap_or(0) {
        0 => String::new(),
        earlier => format!(" ({earlier} of them have lost one within 24 hours)"),
    };
    format!(
        "the removal guard holds removals back: {} of {} known accounts would lose an attribute{earlier}, more than removal.max_share = {} allows; \
         nothing is removed until it is settled. If that is meant, run `imsync backfill --allow-removals`; if not, compare_page at the filter, \
         the mapping and the table (`imsync preview --full` lists the accounts)",
        guard["accounts"], guard["known"], guard["max_share"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_never_trip_and_a_share_is_a_share() {
        let trips = |waiting, earlier, known, share| RemovalShare { waiting, earlier, known }.trips(share);
        assert!(trips(10, 9, 19, 0.0).is_none());
        assert!(trips(20, 0, 20, 1.0).is_none());
        assert!(trips(5, 15, 100, 0.2).is_none(), "at most this share may go");
        assert!(trips(5, 16, 100, 0.2).is_some());
        let guard = trips(500, 0, 1000, 0.2).expect("half is more than a fifth");
        assert!(sentence(&guard).contains("500 of 1000 known accounts would lose an attribute, more"), "{guard}");
        let guard = trips(50, 200, 1000, 0.2).expect("a quarter is more than a fifth");
        assert!(sentence(&guard).contains("250 of 1000"), "{guard}");
        assert!(sentence(&guard).contains("(200 of them have lost one within 24 hours)"), "{guard}");
    }

    #[test]
    fn counts_each_account_once() {
        let mut pending = PendingRemovals::default();
        pending.note(["a", "b", "a"].into_iter().map(Account::new));
        assert_eq!(pending.count(), 2);
        assert_eq!(pending.take(), vec![Account::new("a"), Account::new("b")]);
        assert_eq!(pending.count(), 0);
    }
}
