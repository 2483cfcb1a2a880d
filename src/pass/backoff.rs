//! How long accounts on which IM gave no answer, alone and again, are left alone.
//!
//! Owns: the count of such ends and the pause that grows with it. Must not know: calls, records.
//! Kept in memory: a restart begins with the shortest pause, which costs a call.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::Account;

/// The longest pause, however often an account ended without an answer.
const LONGEST: Duration = Duration::from_hours(1);
/// Accounts that are remembered. With more of them it is IM that is out of order, not an account.
const MOST: usize = 10_000;

/// By account, how often its doubt was looked into without an answer while IM answered others.
#[derive(Debug, Default)]
pub(super) struct Backoff(HashMap<Account, u32>);

impl Backoff {
    /// The pause after another such end, `base` after the first.
    pub(super) fn ended(&mut self, account: &Account, base: Duration) -> Duration {
        if self.0.len() >= MOST && !self.0.contains_key(account) {
            return base;
        }
        let ends = self.0.entry(account.clone()).or_default();
        *ends += 1;
        base.saturating_mul(2_u32.saturating_pow(*ends - 1)).min(LONGEST.max(base))
    }

    /// It stood alone and had no answer.
    pub(super) fn knows(&self, account: &Account) -> bool {
        self.0.contains_key(account)
    }

    /// IM has answered for it.
    pub(super) fn answered(&mut self, account: &Account) {
        self.0.remove(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_an_hour_and_starts_anew_after_an_answer() {
        let (mut patience, account, base) = (Backoff::default(), Account::new("a"), Duration::from_secs(20));
        let pauses: Vec<u64> = (0..10).map(|_| patience.ended(&account, base).as_secs()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        patience.answered(&account);
        assert_eq!(patience.ended(&account, base), base);
    }
}
