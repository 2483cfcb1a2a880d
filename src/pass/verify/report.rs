//! What a verification has found.
//!
//! Owns: the counts, how many differences are listed, and the part that the state keeps. Must not know: how a difference is
//! found, how it is shown.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::compare::Difference;
use crate::clock;
use crate::model::Account;

/// So many values are listed at most. The counts cover all of them.
const MAX_LISTED: usize = 10_000;
/// So many accounts are named in the state.
const MAX_EXAMPLES: usize = 5;

/// A value that differs although IM acknowledged it, or that no pass is going to send. `None` is no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriftedValue {
    /// The IM account.
    pub account: Account,
    /// The attribute.
    pub attribute: String,
    /// What the table says.
    pub expected: Option<String>,
    /// What IM acknowledged last.
    pub acknowledged: Option<String>,
    /// What IM holds.
    pub actual: Option<String>,
}

/// What a verification has found, in accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Accounts that were compared.
    pub checked: u64,
    /// IM holds what the table says.
    pub matching: u64,
    /// IM holds something else, and no pass is going to correct it.
    pub drifted_accounts: u64,
    /// The next pass sends the change.
    pub pending: u64,
    /// Something changed each time they were read, or a call with them is under way.
    pub in_flight: u64,
    /// The outcome of a call is unknown. The next passes send it again.
    pub in_doubt: u64,
    /// A value cannot be sent, or IM refused it.
    pub rejected: u64,
    /// IM refuses to read them.
    pub unreadable: u64,
    /// The reason for one of these.
    pub unreadable_reason: Option<String>,
    /// The first of the values that differ.
    pub drifted: Vec<DriftedValue>,
    /// The number of accounts in which each attribute differs.
    pub by_attribute: BTreeMap<String, u64>,
    /// The accounts that differ, with the names of the attributes. Only examples, unless they are kept for a repair.
    pub(super) to_repair: Vec<(Account, Vec<String>)>,
    keeps_all: bool,
}

impl VerifyReport {
    /// `keeps_all`: all accounts that differ are kept for a repair, not only examples.
    pub(super) fn new(keeps_all: bool) -> Self {
        Self { keeps_all, ..Self::default() }
    }

    /// An account cannot be sent.
    pub(super) fn add_rejected(&mut self) {
        self.checked += 1;
        self.rejected += 1;
    }

    /// An account differs.
    pub(super) fn add_drift(&mut self, account: Account, differences: Vec<Difference>) {
        self.drifted_accounts += 1;
        let mut names = Vec::with_capacity(differences.len());
        for Difference { name, expected, acknowledged, actual, cause: _ } in differences {
            *self.by_attribute.entry(name.clone()).or_default() += 1;
            names.push(name.clone());
            if self.drifted.len() < MAX_LISTED {
                let account = account.clone();
                self.drifted.push(DriftedValue { account, attribute: name, expected, acknowledged, actual });
            }
        }
        if self.keeps_all || self.to_repair.len() < MAX_EXAMPLES {
            self.to_repair.push((account, names));
        }
    }

    /// The accounts that differ.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.to_repair.iter().map(|(account, _)| account)
    }

    /// The first accounts that differ.
    pub fn examples(&self) -> Vec<String> {
        self.to_repair.iter().take(MAX_EXAMPLES).map(|(account, _)| account.as_str().to_owned()).collect()
    }

    /// The part that the state keeps. `after`: the accounts that differed, compared again after they were repaired.
    pub fn stored(&self, is_sample: bool, after: Option<&Self>) -> StoredVerification {
        let left = after.filter(|after| !after.to_repair.is_empty()).unwrap_or(self);
        StoredVerification {
            ended_at: None,
            sample: is_sample,
            checked: self.checked,
            drifted: self.drifted_accounts,
            repaired: after.map_or(0, |after| after.matching),
            attributes: left.by_attribute.clone(),
            examples: left.examples(),
        }
    }
}

/// The last verification, as `sync.verification` stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVerification {
    /// When it ended, by the clock of the state server. The statement that stores it sets it.
    #[serde(skip_serializing)]
    pub ended_at: Option<DateTime<Utc>>,
    /// Only a sample was compared.
    pub sample: bool,
    /// Accounts that were compared.
    pub checked: u64,
    /// Accounts that differed.
    pub drifted: u64,
    /// Accounts of these that were repaired.
    pub repaired: u64,
    /// The number of accounts in which each attribute differed.
    pub attributes: BTreeMap<String, u64>,
    /// The first accounts that differed.
    pub examples: Vec<String>,
}

impl StoredVerification {
    /// As the state has it; `None` before the first verification.
    pub fn read(document: Option<&Value>) -> Option<Self> {
        Self::deserialize(document?).ok()
    }

    /// Accounts that still differed at its end.
    pub fn drifted_now(&self) -> i64 {
        i64::try_from(self.drifted.saturating_sub(self.repaired)).unwrap_or(i64::MAX)
    }

    /// A sentence about what still differs; `None` if nothing does.
    pub fn message(&self) -> Option<String> {
        let drifted = self.drifted_now();
        let attributes: Vec<&str> = self.attributes.keys().map(String::as_str).collect();
        let accounts = if drifted == 1 { "1 account".to_owned() } else { format!("{drifted} accounts") };
        (drifted > 0).then(|| {
            format!(
                "IM does not hold what the table says for {accounts} of {} compared ({}), for example {}; `imsync verify \
                 --repair` sends what the table says",
                self.checked,
                attributes.join(", "),
                self.examples.join(", ")
            )
        })
    }
}

/// How far a verification is.
#[derive(Debug)]
pub struct VerifyProgress {
    /// When it began.
    pub started: Instant,
    /// Accounts compared.
    pub done: AtomicU64,
    /// Accounts to compare, about; 0 if unknown.
    pub total: AtomicU64,
    /// Accounts that differ.
    pub drifted: AtomicU64,
}

impl Default for VerifyProgress {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { started: clock::monotonic(), done: zero(), total: zero(), drifted: zero() }
    }
}

impl VerifyProgress {
    /// Shows the state of a report.
    pub(super) fn show(&self, report: &VerifyReport) {
        self.done.store(report.checked, Ordering::Relaxed);
        self.drifted.store(report.drifted_accounts, Ordering::Relaxed);
    }
}
