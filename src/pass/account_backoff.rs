//! When an account on which IM did not answer is tried again.
//!
//! Owns: the number of unanswered attempts of each account, and the delay that grows with it. Must not know: calls, records.
//! The numbers are kept in memory only. After a restart an account begins with the shortest delay, which costs one call.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::Account;

/// The longest delay, whatever the number of unanswered attempts.
const MAX_DELAY: Duration = Duration::from_hours(1);
/// Accounts that are remembered. If there are more, the fault is IM's and not the accounts'.
const MAX_ACCOUNTS: usize = 10_000;

/// By account, the number of attempts that IM did not answer while it answered for other accounts.
#[derive(Debug, Default)]
pub(super) struct AccountBackoff(HashMap<Account, u32>);

impl AccountBackoff {
    /// Counts an unanswered attempt and returns the delay before the next one: `base` after the first attempt, then
    /// doubled each time.
    pub(super) fn note_unanswered(&mut self, account: &Account, base: Duration) -> Duration {
        if self.0.len() >= MAX_ACCOUNTS && !self.0.contains_key(account) {
            return base;
        }
        let attempts = self.0.entry(account.clone()).or_default();
        *attempts += 1;
        base.saturating_mul(2_u32.saturating_pow(*attempts - 1)).min(MAX_DELAY.max(base))
    }

    /// Whether IM did not answer the last attempt for this account.
    pub(super) fn is_unresponsive(&self, account: &Account) -> bool {
        self.0.contains_key(account)
    }

    /// IM has answered for this account.
    pub(super) fn note_answered(&mut self, account: &Account) {
        self.0.remove(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_to_an_hour_and_an_answer_resets_it() {
        let (mut backoff, account, base) = (AccountBackoff::default(), Account::new("a"), Duration::from_secs(20));
        let delays: Vec<u64> = (0..10).map(|_| backoff.note_unanswered(&account, base).as_secs()).collect();
        assert_eq!(delays, [20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        backoff.note_answered(&account);
        assert_eq!(backoff.note_unanswered(&account, base), base);
    }
}
