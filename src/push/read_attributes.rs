//! Reads what IM holds of many accounts, beside the passes.
//!
//! Owns: the retries of a read, and the search for an account that cannot be read. Must not know: what is expected, where
//! the accounts come from.
//!
//! A read changes nothing in IM, so it needs no intent, no lease and no probe. It waits behind the reads with which a pass
//! finds out whether IM answers.

use std::collections::BTreeMap;

use super::attempts::Attempts;
use super::call::{Call, CallReply};
use super::disposition::Disposition;
use super::pusher::Pusher;
use crate::clock::monotonic;
use crate::im::{CallError, Code, UsersRead};

/// What IM holds of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAccount {
    /// Value by attribute name. Empty also for an account that Chat does not know.
    Held(BTreeMap<String, String>),
    /// IM refuses to read this account: the code with its meaning.
    Refused(String),
}

/// Why accounts could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// IM does not answer, or refuses every call: the reason and the remedy.
    Failed(String),
    /// A shutdown was requested.
    Stopped,
}

/// How a call for some of the accounts ended.
enum ReadEnd {
    Reply(CallReply),
    /// IM refuses what the call carries.
    Refused(CallError),
}

impl Pusher {
    /// Reads at most `users_per_call` accounts, in their order. A call that IM refuses is split until each account that
    /// cannot be read is in a call of its own.
    pub async fn read_attributes(&self, accounts: &[&str]) -> Result<Vec<ReadAccount>, ReadFailure> {
        let mut read: Vec<ReadAccount> = vec![ReadAccount::Held(BTreeMap::new()); accounts.len()];
        let mut parts: Vec<Vec<usize>> = vec![(0..accounts.len()).collect()];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let carried = part.iter().map(|position| accounts[*position]).collect();
            let error = match self.read_with_retry(&Call::ReadAccounts(carried)).await? {
                ReadEnd::Reply(CallReply::Attributes(users)) => {
                    note_users(&part, accounts, users, &mut read);
                    continue;
                }
                ReadEnd::Reply(_) => continue,
                ReadEnd::Refused(error) => error,
            };
            if part.len() == 1 {
                // IM holds nothing of an account that Chat does not know.
                if !error.code.means_unknown_account() {
                    read[part[0]] = ReadAccount::Refused(error.code.to_string());
                }
            } else {
                let second = part.split_off(part.len().div_ceil(2));
                parts.extend([second, part]);
            }
        }
        Ok(read)
    }

    /// Sends the call until IM answers, or its attempts have run out.
    async fn read_with_retry(&self, call: &Call<'_>) -> Result<ReadEnd, ReadFailure> {
        let mut attempts = Attempts::default();
        loop {
            let answer = tokio::select! {
                biased;
                () = self.shutdown.wait() => return Err(ReadFailure::Stopped),
                answer = self.read_once(call, &mut attempts) => answer,
            };
            let error = match answer {
                Ok(reply) => return Ok(ReadEnd::Reply(reply)),
                Err(error) => error,
            };
            let disposition = Disposition::of(error.code);
            let throttled = disposition == Disposition::RetryThrottled;
            match disposition {
                Disposition::Bisect => return Ok(ReadEnd::Refused(error)),
                Disposition::Stop => return Err(failed(&error)),
                Disposition::Retry => {}
                Disposition::RetryThrottled => self.slow_down(call.command(), error.code, attempts.last_at),
            }
            if let Some(retry_after) = error.retry_after {
                let limiter = self.rate_limiters.of(call.command());
                limiter.hold_until(monotonic() + retry_after.min(self.limits.retry_for));
            }
            match attempts.next_pause(self.limits.retry_for, throttled, error.retry_after) {
                Some(pause) => attempts.pause = pause,
                None => return Err(failed(&error)),
            }
        }
    }

    async fn read_once(&self, call: &Call<'_>, attempts: &mut Attempts) -> Result<CallReply, CallError> {
        tokio::time::sleep(attempts.pause).await;
        let limiter = self.rate_limiters.of(call.command());
        let start = limiter.wait_for_turn(false).await.wait_for_start().await;
        // Last, so that no place is taken from the calls of a pass while this one waits for its own limit.
        let _place = self.in_flight.acquire().await.expect("the semaphore is never closed");
        attempts.record_start(start.at);
        limiter.record_call(start.at);
        self.sender.send_once(call).await
    }
}

/// Fills in what IM holds. One that IM leaves out of its answer holds nothing: the vendor shows an empty object for it, so
/// this is an assumption.
fn note_users(part: &[usize], accounts: &[&str], UsersRead { users, failed }: UsersRead, read: &mut [ReadAccount]) {
    let position_of = |account: &str| part.iter().copied().find(|position| accounts[*position] == account);
    for user in users {
        if let Some(position) = position_of(&user.account) {
            read[position] = ReadAccount::Held(user.attrs.into_iter().collect());
        }
    }
    for account in failed.into_iter().filter(|account| !account.code.means_unknown_account()) {
        if let Some(position) = position_of(&account.account) {
            read[position] = ReadAccount::Refused(account.code.to_string());
        }
    }
}

fn failed(error: &CallError) -> ReadFailure {
    let code: Code = error.code;
    ReadFailure::Failed(format!("IM was not read: {error}; {}", code.advice()))
}
