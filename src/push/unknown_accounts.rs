//! Accounts that Chat does not know: which of a batch these are, and their creation.
//!
//! Owns: the calls to the vendor's service of accounts, and what follows where it refuses them. Must not know: batches,
//! deliveries, what becomes of an account.
//!
//! A check changes nothing in IM. An import creates accounts, and sets no attribute: it may be repeated, and it may be applied
//! late, without any effect on what the state claims. So neither has an intent of its own; the accounts stand in the intent of
//! the delivery, which keeps every other call of them away.

use super::attempts::Attempts;
use super::call::{Call, CallReply};
use super::disposition::Disposition;
use super::session::PushSession;
use crate::crash;
use crate::im::{AccountStatus, ApiCommand, CallError, Code, CodeClass, vendor_refusal};
use crate::model::{ImAccountType, UnknownAccounts, VendorRefusal};

/// So often a call of this service is sent that has no usable answer. Bisection needs no such call, so waiting longer for one
/// would only delay the batch.
const MAX_ATTEMPTS: u32 = 3;

/// What is known of the accounts of a batch.
#[derive(Debug)]
pub(super) enum Resolution {
    /// The positions of the accounts that Chat does not know, in ascending order, each with its refusal.
    Unknown(Vec<(usize, VendorRefusal)>),
    /// The service of accounts does not tell.
    Unavailable,
    /// The pass stopped first.
    Halted,
}

/// Why a call to the service of accounts has no result.
#[derive(Debug)]
enum AccountsCallFailure {
    /// The service refuses these accounts, or this call.
    Refused(CallError),
    Halted,
}

impl PushSession {
    /// Whether accounts that Chat does not know are created, as far as this is possible now.
    pub(super) fn imports_accounts(&self) -> bool {
        self.pusher.limits.unknown_accounts == UnknownAccounts::Import && self.is_usable(ApiCommand::AccountImport)
    }

    /// Whether the service of accounts can tell something now.
    pub(super) fn resolves_unknown_accounts(&self) -> bool {
        self.is_usable(ApiCommand::AccountCheck) || self.imports_accounts()
    }

    /// Whether accounts that Chat does not know cost a call for each hundred of them, as far as earlier passes show.
    pub fn unknown_accounts_are_cheap(&self) -> bool {
        self.is_usable(ApiCommand::AccountCheck) && !self.pusher.command_faults.has_failed(ApiCommand::AccountCheck)
    }

    fn is_usable(&self, command: ApiCommand) -> bool {
        self.pusher.limits.account_type == ImAccountType::UserId
            && !self.unusable_commands.contains(command)
            && !self.pusher.command_faults.is_paused(command)
    }

    /// Finds the accounts that Chat does not know. `import`: creates them, where the configuration wants it.
    pub(super) async fn resolve_unknown_accounts(&self, accounts: &[&str], import: bool) -> Resolution {
        let all: Vec<usize> = (0..accounts.len()).collect();
        if !import || !self.imports_accounts() {
            return self.check_accounts(accounts, &all, "").await;
        }
        let resolution = match self.import_accounts(accounts, all.clone()).await {
            Ok(failed) if failed.is_empty() => Resolution::Unknown(Vec::new()),
            Ok(failed) => {
                // One that exists all the same can be set.
                let info = "multiaccount_import lists it in FailAccounts";
                match self.check_accounts(accounts, &failed, info).await {
                    // Without a check nothing is known of them. The batch that is sent next shows it.
                    Resolution::Unavailable => Resolution::Unknown(Vec::new()),
                    resolution => resolution,
                }
            }
            Err(AccountsCallFailure::Refused(error)) => {
                let info = format!("multiaccount_import failed with {}", error.code);
                self.check_accounts(accounts, &all, &info).await
            }
            Err(AccountsCallFailure::Halted) => Resolution::Halted,
        };
        crash::point("push: unknown accounts were imported");
        resolution
    }

    /// Has the service tell which of the accounts at these positions do not exist. `info` goes into their refusals.
    async fn check_accounts(&self, accounts: &[&str], positions: &[usize], info: &str) -> Resolution {
        if !self.is_usable(ApiCommand::AccountCheck) {
            return Resolution::Unavailable;
        }
        let checked = positions.iter().map(|position| accounts[*position]).collect();
        let result = self.call_accounts(&Call::CheckAccounts(checked)).await;
        crash::point("push: unknown accounts were looked up");
        match result {
            Ok(CallReply::Statuses(statuses)) => {
                let unknown =
                    positions.iter().zip(statuses).filter(|(_, status)| *status == AccountStatus::NotImported);
                Resolution::Unknown(refused(unknown.map(|(position, _)| *position).collect(), info))
            }
            Ok(_) | Err(AccountsCallFailure::Refused(_)) => Resolution::Unavailable,
            Err(AccountsCallFailure::Halted) => Resolution::Halted,
        }
    }

    /// Creates the accounts at these positions. Returns the positions of those that could not be created. A call that IM
    /// refuses for one of them is halved, so that it harms no other.
    async fn import_accounts(
        &self,
        accounts: &[&str],
        positions: Vec<usize>,
    ) -> Result<Vec<usize>, AccountsCallFailure> {
        let mut failed = Vec::new();
        let mut parts = vec![positions];
        while let Some(mut part) = parts.pop() {
            let carried = part.iter().map(|position| accounts[*position]).collect();
            match self.call_accounts(&Call::ImportAccounts(carried)).await {
                Ok(CallReply::NotImported(listed)) => failed.extend(listed.into_iter().map(|index| part[index])),
                Ok(_) => {}
                Err(AccountsCallFailure::Refused(error))
                    if error.code.class() == CodeClass::Row && !error.code.comes_from_gateway() =>
                {
                    if part.len() > 1 {
                        let second = part.split_off(part.len().div_ceil(2));
                        parts.extend([second, part]);
                    } else {
                        failed.extend(part);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        failed.sort_unstable();
        failed.dedup();
        Ok(failed)
    }

    /// Sends a call to the service of accounts. A refusal that is not about its accounts ends the use of the command in this
    /// pass, and a temporary fault pauses it for all passes. Neither stops a pass: IM accepts the credentials in other calls,
    /// and a batch can be split without this service.
    async fn call_accounts(&self, call: &Call<'_>) -> Result<CallReply, AccountsCallFailure> {
        let mut attempts = Attempts::default();
        loop {
            if !attempts.pause.is_zero() && self.unless_stopped(tokio::time::sleep(attempts.pause)).await.is_none() {
                return Err(AccountsCallFailure::Halted);
            }
            let error = match self.attempt(call, &mut attempts).await {
                None => return Err(AccountsCallFailure::Halted),
                Some(Ok(reply)) => {
                    self.pusher.command_faults.clear(call.command());
                    return Ok(reply);
                }
                Some(Err(error)) => error,
            };
            let disposition = Disposition::of(error.code);
            let throttled = disposition == Disposition::RetryThrottled;
            if throttled {
                self.pusher.slow_down(call.command(), error.code, attempts.last_at);
            }
            let is_temporary = throttled || (disposition == Disposition::Retry && attempts.count < MAX_ATTEMPTS);
            let retry_for = self.pusher.limits.retry_for;
            let pause = attempts.next_pause(retry_for, throttled, error.retry_after).filter(|_| is_temporary);
            let Some(pause) = pause else {
                // A refusal by IM of the class "row" is about one of the accounts.
                if error.code.class() != CodeClass::Row || error.code.comes_from_gateway() {
                    self.give_up_command(call.command(), &error);
                }
                return Err(AccountsCallFailure::Refused(error));
            };
            attempts.pause = pause;
        }
    }

    fn give_up_command(&self, command: ApiCommand, error: &CallError) {
        match Disposition::of(error.code) {
            Disposition::Retry | Disposition::RetryThrottled => self.pusher.command_faults.pause(command),
            Disposition::Stop | Disposition::Bisect => self.unusable_commands.add(command),
        }
        // It is tried again and again, so one line is enough until it works again or the process restarts.
        if self.pusher.command_faults.record_failed(command) {
            let consequence = if command == ApiCommand::AccountImport {
                "accounts that Chat does not know are rejected"
            } else {
                "a batch with accounts that Chat does not know is split until they stand alone, which takes more calls"
            };
            tracing::warn!(
                command = command.label(),
                request_id = error.request_id.as_deref(),
                "{} cannot be used ({}): {consequence}. {}",
                command.label(),
                error.code,
                error.code.advice()
            );
        }
    }
}

/// The refusals of accounts that Chat does not know.
fn refused(positions: Vec<usize>, info: &str) -> Vec<(usize, VendorRefusal)> {
    let refusal = vendor_refusal(Code::UNKNOWN_ACCOUNT, info, None, std::iter::empty());
    positions.into_iter().map(|position| (position, refusal.clone())).collect()
}

/// The code with which an account is rejected that Chat does not know.
pub fn unknown_account_code() -> i64 {
    Code::UNKNOWN_ACCOUNT.number()
}
