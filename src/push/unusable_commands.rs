//! Commands of the vendor's service of accounts that cannot be used.
//!
//! Owns: what is known of each of them, in a pass and across passes. Must not know: why a command cannot be used, what is
//! done instead.
//!
//! The service is apart from the one that holds the attributes. An app, a proxy or a firewall may permit the one and refuse
//! the other, so a refusal of the one says nothing about the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::monotonic;
use crate::im::ApiCommand;

/// After a temporary fault, a command is not used for so long. A fault of a moment then costs few batches a split.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The pause doubles with each further fault up to this, so that a service that never answers delays few batches.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The commands that cannot be used in a pass.
#[derive(Debug, Default)]
pub(super) struct UnusableCommands {
    check: AtomicBool,
    import: AtomicBool,
}

impl UnusableCommands {
    fn of(&self, command: ApiCommand) -> Option<&AtomicBool> {
        by_command(command, &self.check, &self.import)
    }

    /// Whether the command cannot be used.
    pub(super) fn contains(&self, command: ApiCommand) -> bool {
        self.of(command).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// The command cannot be used.
    pub(super) fn add(&self, command: ApiCommand) {
        if let Some(flag) = self.of(command) {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

/// The faults of the commands since they last worked, in whichever pass.
#[derive(Debug, Default)]
pub(super) struct CommandFaults {
    check: Mutex<CommandFault>,
    import: Mutex<CommandFault>,
}

#[derive(Debug, Default)]
struct CommandFault {
    failed: bool,
    /// The length of the last pause.
    pause: Duration,
    paused_until: Option<Instant>,
}

impl CommandFault {
    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| monotonic() < until)
    }
}

impl CommandFaults {
    fn of(&self, command: ApiCommand) -> Option<MutexGuard<'_, CommandFault>> {
        let fault = by_command(command, &self.check, &self.import)?;
        Some(fault.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the command has failed and has not worked since.
    pub(super) fn has_failed(&self, command: ApiCommand) -> bool {
        self.of(command).is_some_and(|fault| fault.failed)
    }

    /// Whether the command is not used for a while.
    pub(super) fn is_paused(&self, command: ApiCommand) -> bool {
        self.of(command).is_some_and(|fault| fault.is_paused())
    }

    /// The command has failed. Returns whether it had worked until then.
    pub(super) fn record_failed(&self, command: ApiCommand) -> bool {
        self.of(command).is_some_and(|mut fault| !std::mem::replace(&mut fault.failed, true))
    }

    /// The fault may be temporary, so the command is not used for a while.
    pub(super) fn pause(&self, command: ApiCommand) {
        let Some(mut fault) = self.of(command) else { return };
        // Calls that were in flight together have one fault.
        if !fault.is_paused() {
            fault.pause = (fault.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            fault.paused_until = Some(monotonic() + fault.pause);
        }
    }

    /// The command works.
    pub(super) fn clear(&self, command: ApiCommand) {
        if let Some(mut fault) = self.of(command) {
            *fault = CommandFault::default();
        }
    }
}

/// What belongs to the command; `None` for the commands of attributes, which are always used.
fn by_command<T>(command: ApiCommand, check: T, import: T) -> Option<T> {
    match command {
        ApiCommand::AccountCheck => Some(check),
        ApiCommand::AccountImport => Some(import),
        ApiCommand::SetAttr
        | ApiCommand::GetAttr
        | ApiCommand::RemoveAttr
        | ApiCommand::SetAttrName
        | ApiCommand::GetAttrName => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_flag() {
        let unusable = UnusableCommands::default();
        unusable.add(ApiCommand::AccountCheck);
        assert!(unusable.contains(ApiCommand::AccountCheck) && !unusable.contains(ApiCommand::AccountImport));
        unusable.add(ApiCommand::SetAttr);
        assert!(!unusable.contains(ApiCommand::SetAttr), "the commands of attributes are always used");
    }

    #[test]
    fn a_failed_command_is_reported_once_until_it_works() {
        let faults = CommandFaults::default();
        let check = ApiCommand::AccountCheck;
        assert!(faults.record_failed(check) && !faults.record_failed(check));
        assert!(faults.has_failed(check) && !faults.has_failed(ApiCommand::AccountImport));
        faults.clear(check);
        assert!(!faults.has_failed(check) && faults.record_failed(check));
        assert!(!faults.record_failed(ApiCommand::SetAttr));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_of_a_command_doubles_until_it_works() {
        let faults = CommandFaults::default();
        let check = ApiCommand::AccountCheck;
        for seconds in [2, 4, 8, 16, 30, 30] {
            faults.pause(check);
            faults.pause(check);
            tokio::time::advance(Duration::from_millis(seconds * 1_000 - 1)).await;
            assert!(faults.is_paused(check), "{seconds} s");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!faults.is_paused(check), "{seconds} s");
        }
        faults.pause(check);
        faults.clear(check);
        assert!(!faults.is_paused(check));
        faults.pause(check);
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(!faults.is_paused(check));
    }
}
