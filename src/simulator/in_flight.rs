//! The calls in flight and the accounts in them.
//!
//! Owns: detecting that an account is in two writing calls at the same time, or in one twice. Must not know: the log, the
//! counters, HTTP.
//!
//! A call that only reads has no effect that depends on an order, so it may overlap with any other.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::counters::{Violation, ViolationKind};

/// A caller that closes a connection may call again before the simulator notices the close. An overlap of two calls
/// that ends within this time because the first caller disconnected is therefore no violation.
const DISCONNECT_NOTICE_TIME: Duration = Duration::from_millis(500);

/// A call whose caller is waiting for the answer.
#[derive(Default)]
struct CallInFlight {
    /// The accounts, hashed.
    accounts: Vec<u64>,
    /// Overlaps with later calls that contain an account of this call.
    overlaps: Vec<(Instant, Violation)>,
}

/// All calls in flight.
#[derive(Default)]
pub(super) struct CallsInFlight {
    hasher: RandomState,
    /// The writing call that contains the account, by hash of the account.
    accounts: HashMap<u64, u64>,
    /// By number of the call.
    calls: HashMap<u64, CallInFlight>,
}

impl CallsInFlight {
    pub(super) fn start(&mut self, id: u64) {
        self.calls.insert(id, CallInFlight::default());
    }

    /// Registers the accounts of a writing call, and its overlaps with other calls in flight. Returns a violation for each
    /// account that it names twice.
    pub(super) fn add_accounts<'a>(
        &mut self,
        id: u64,
        accounts: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut hashes = Vec::new();
        for account in accounts {
            let hash = self.hasher.hash_one(account);
            match self.accounts.insert(hash, id) {
                Some(other) if other == id => {
                    let text = format!("account {account} is in the call twice");
                    violations.push(Violation { call: id, kind: ViolationKind::AccountTwiceInCall, text });
                    continue;
                }
                Some(other) => self.add_overlap(other, id, account, now),
                None => {}
            }
            hashes.push(hash);
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.accounts = hashes;
        }
        violations
    }

    fn add_overlap(&mut self, earlier: u64, later: u64, account: &str, now: Instant) {
        let Some(call) = self.calls.get_mut(&earlier) else { return };
        let text = format!("account {account} is in call {earlier} and in call {later} at the same time");
        call.overlaps.push((now, Violation { call: later, kind: ViolationKind::AccountInFlightTwice, text }));
    }

    /// Removes a call that was answered or whose caller disconnected. Returns its overlaps that are violations, or
    /// `None` if the call is not in flight.
    pub(super) fn end(&mut self, id: u64, disconnected: bool, now: Instant) -> Option<Vec<Violation>> {
        let call = self.calls.remove(&id)?;
        for hash in call.accounts {
            if self.accounts.get(&hash) == Some(&id) {
                self.accounts.remove(&hash);
            }
        }
        let overlaps = call.overlaps.into_iter().filter(|(since, _)| !disconnected || is_too_long(*since, now));
        Some(overlaps.map(|(_, violation)| violation).collect())
    }

    /// Overlaps of calls in flight that have lasted too long to come from a caller that disconnected.
    pub(super) fn violations(&self, now: Instant) -> impl Iterator<Item = &Violation> {
        let overlaps = self.calls.values().flat_map(|call| &call.overlaps);
        overlaps.filter(move |(since, _)| is_too_long(*since, now)).map(|(_, violation)| violation)
    }
}

fn is_too_long(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) > DISCONNECT_NOTICE_TIME
}
