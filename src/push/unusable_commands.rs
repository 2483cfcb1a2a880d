//! Commands of the vendor's service of accounts that cannot be used.
//!
//! Owns: one flag for each of them. Must not know: why a command cannot be used, what is done instead.
//!
//! The service is apart from the one that holds the attributes. An app, a proxy or a firewall may permit the one and refuse
//! the other, so a refusal of the one says nothing about the other.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::im::ApiCommand;

/// The commands that cannot be used.
#[derive(Debug, Default)]
pub(super) struct UnusableCommands {
    check: AtomicBool,
    import: AtomicBool,
}

impl UnusableCommands {
    fn of(&self, command: ApiCommand) -> Option<&AtomicBool> {
        match command {
            ApiCommand::AccountCheck => Some(&self.check),
            ApiCommand::AccountImport => Some(&self.import),
            ApiCommand::SetAttr
            | ApiCommand::GetAttr
            | ApiCommand::RemoveAttr
            | ApiCommand::SetAttrName
            | ApiCommand::GetAttrName => None,
        }
    }

    /// Whether the command cannot be used.
    pub(super) fn contains(&self, command: ApiCommand) -> bool {
        self.of(command).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// The command cannot be used. Returns whether this was not known before.
    pub(super) fn add(&self, command: ApiCommand) -> bool {
        self.of(command).is_some_and(|flag| !flag.swap(true, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_added_once() {
        let unusable = UnusableCommands::default();
        assert!(unusable.add(ApiCommand::AccountCheck));
        assert!(!unusable.add(ApiCommand::AccountCheck));
        assert!(unusable.contains(ApiCommand::AccountCheck) && !unusable.contains(ApiCommand::AccountImport));
        assert!(!unusable.add(ApiCommand::SetAttr), "the commands of attributes are always used");
        assert!(!unusable.contains(ApiCommand::SetAttr));
    }
}
