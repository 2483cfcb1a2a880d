//! Which stored accounts a full pass has met, as sums of hashes: constant memory, whatever the size of the table.
//!
//! Owns: what counts as met, and the comparison with what the state holds. Must not know: statements, how a page is read,
//! what is done about accounts that were not met.
//!
//! An account is met when the source was read for it after the full pass began. Each account belongs to one of many
//! buckets. A bucket has the sum of the hashes of the accounts that were met and have a row in `account`. Where the rows
//! of `account` have the same sum, every one of them was met. docs/correctness.md ("Gone accounts") has the argument: what
//! is missed here costs look-ups, and nothing else.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Account, AcknowledgedValue};
use crate::state::account::AccountRecord;

/// The number of buckets is two to this power. An account that was not met costs the look-up of its bucket: with a million
/// accounts, of 15 others. The sums take half a mebibyte.
const BUCKET_BITS: u32 = 16;

/// Incremental passes beside a full pass may insert and delete so many rows before the full pass meets their accounts.
/// More of them cost look-ups.
const MAX_CHANGED: usize = 100_000;

/// For each bucket the wrapping sum of the hashes of its accounts.
#[derive(Clone)]
pub(super) struct BucketSums {
    /// Its key is random. Users choose accounts, and nobody may construct two with one hash.
    hasher: RandomState,
    sums: Box<[u64]>,
}

impl BucketSums {
    fn empty() -> Self {
        Self { hasher: RandomState::new(), sums: vec![0; 1 << BUCKET_BITS].into() }
    }

    fn hash(&self, account: &str) -> u64 {
        self.hasher.hash_one(account)
    }

    fn bucket(hash: u64) -> usize {
        usize::try_from(hash >> (u64::BITS - BUCKET_BITS)).unwrap_or_default()
    }

    fn add_times(&mut self, hash: u64, times: i64) {
        let sum = &mut self.sums[Self::bucket(hash)];
        *sum = sum.wrapping_add(hash.wrapping_mul(times.cast_unsigned()));
    }

    /// Adds an account.
    pub(super) fn add(&mut self, account: &str) {
        self.add_times(self.hash(account), 1);
    }
}

impl std::fmt::Debug for BucketSums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BucketSums")
    }
}

/// The buckets in which an account may be stored that was not met.
#[derive(Debug)]
pub(super) struct DifferingBuckets {
    hasher: RandomState,
    differs: Box<[bool]>,
}

impl DifferingBuckets {
    /// How many buckets there are, also those that do not differ.
    pub(super) fn all(&self) -> usize {
        self.differs.len()
    }

    /// How many differ.
    pub(super) fn len(&self) -> usize {
        self.differs.iter().filter(|differs| **differs).count()
    }

    /// Whether the account belongs to one of them.
    pub(super) fn contain(&self, account: &str) -> bool {
        self.differs[BucketSums::bucket(self.hasher.hash_one(account))]
    }
}

/// What one full pass has met.
#[derive(Debug)]
struct Met {
    /// The number of the full pass. Passes with a lower number may have read their rows before it began.
    pass: u64,
    sums: BucketSums,
    /// Rows of accounts that incremental passes have inserted (1) or deleted (-1) since the full pass began, by hash. They
    /// are in the sums already when the full pass meets the account.
    changed: HashMap<u64, i64>,
    /// Hashes of accounts that were in flight when the full pass read their row. They are met when they are compared.
    in_flight: HashSet<u64>,
    /// The rows of `account` up to this one have been read for the comparison. What is inserted or deleted there later is
    /// not in it.
    read_up_to: Option<Box<str>>,
}

impl Met {
    /// From here on, the sums follow the row of this account.
    fn meet(&mut self, hash: u64, is_stored: bool) {
        let counted = self.changed.remove(&hash).unwrap_or(0);
        self.sums.add_times(hash, i64::from(is_stored) - counted);
    }

    fn note_row_change(&mut self, account: &Account, change: i64, is_incremental: bool) {
        if self.read_up_to.as_deref().is_some_and(|read| account.as_str() <= read) {
            return;
        }
        let hash = self.sums.hash(account.as_str());
        self.sums.add_times(hash, change);
        if is_incremental && (self.changed.len() < MAX_CHANGED || self.changed.contains_key(&hash)) {
            *self.changed.entry(hash).or_default() += change;
        }
    }
}

/// The stored accounts that the full pass under way has met. Its comparisons and the deliveries of all passes share it.
#[derive(Clone, Debug, Default)]
pub(super) struct MetAccounts(Arc<Mutex<Option<Met>>>);

impl MetAccounts {
    fn lock(&self) -> MutexGuard<'_, Option<Met>> {
        // Sums that a panic left behind can only be wrong in a way that costs look-ups.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A full pass with this number begins at the first row of the table. Returns empty sums for the rows of `account`.
    pub(super) fn begin(&self, pass: u64) -> BucketSums {
        let sums = BucketSums::empty();
        let stored = sums.clone();
        *self.lock() = Some(Met { pass, sums, changed: HashMap::new(), in_flight: HashSet::new(), read_up_to: None });
        stored
    }

    /// No full pass needs to know any more.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// These accounts are being compared, each with whether it has a row in `account`. None of them is in flight.
    /// `of_table`: they are a page of the full pass over the table.
    pub(super) fn note_compared<'a>(&self, accounts: impl Iterator<Item = (&'a str, bool)>, of_table: bool) {
        let mut met = self.lock();
        let Some(met) = met.as_mut().filter(|met| of_table || !met.in_flight.is_empty()) else { return };
        for (account, is_stored) in accounts {
            let hash = met.sums.hash(account);
            if met.in_flight.remove(&hash) || of_table {
                met.meet(hash, is_stored);
            }
        }
    }

    /// The full pass has read rows of accounts that are in flight. They are deferred, and compared later.
    pub(super) fn note_in_flight<'a>(&self, accounts: impl Iterator<Item = &'a Account>) {
        if let Some(met) = self.lock().as_mut() {
            met.in_flight.extend(accounts.map(|account| met.sums.hash(account.as_str())));
        }
    }

    /// A delivery of this pass has recorded these rows of `account`. To be called before their accounts cease to be in
    /// flight.
    pub(super) fn note_recorded(&self, pass: u64, records: &[AccountRecord]) {
        let mut met = self.lock();
        let Some(met) = met.as_mut().filter(|met| pass >= met.pass) else { return };
        for record in records {
            let has_row = record.acknowledged.iter().any(|known| *known != AcknowledgedValue::Absent);
            if has_row != record.exists {
                met.note_row_change(&record.account, if has_row { 1 } else { -1 }, pass > met.pass);
            }
        }
    }

    /// The rows of `account` up to this one are in the sums.
    pub(super) fn note_read_up_to(&self, account: &str) {
        if let Some(met) = self.lock().as_mut() {
            met.read_up_to = Some(account.into());
        }
    }

    /// The buckets in which `stored` has another sum than the accounts that were met.
    pub(super) fn differing(&self, stored: &BucketSums) -> DifferingBuckets {
        let met = self.lock();
        let differs = |bucket: usize| met.as_ref().is_none_or(|met| met.sums.sums[bucket] != stored.sums[bucket]);
        DifferingBuckets { hasher: stored.hasher.clone(), differs: (0..stored.sums.len()).map(differs).collect() }
    }
}

#[cfg(test)]
mod tests;
