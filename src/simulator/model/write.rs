//! The two commands that write, one user at a time: may it be, and do it.
//!
//! Owns: what is allowed for one user of a writing call. Must not know: which service was called, the other users.

use super::Model;
use crate::simulator::code;
use crate::simulator::wire::{Object, RemoveUser, SetUser};

/// A user of a call that writes.
pub(super) trait WriteUser {
    fn account(&self) -> &str;
    /// What the call carries for this user is allowed.
    fn check(&self, model: &Model) -> Result<(), i64>;
    /// Carry out what `check` allowed.
    fn apply(&self, model: &mut Model);
}

impl WriteUser for Object<SetUser<'_>> {
    fn account(&self) -> &str {
        self.0.account.get().unwrap_or_default()
    }

    /// Assumed: 90033 for a value that is not a string, is empty or is too long.
    fn check(&self, model: &Model) -> Result<(), i64> {
        for (name, value) in &self.0.attributes.0 {
            model.check_attribute(name)?;
            let bytes = value.get().map_or(0, str::len);
            if bytes == 0 || bytes > model.limits.value_bytes {
                return Err(code::BAD_ATTRIBUTE);
            }
        }
        Ok(())
    }

    fn apply(&self, model: &mut Model) {
        for (name, value) in &self.0.attributes.0 {
            if let Some(number) = name.get().and_then(|name| model.number_of(name)) {
                model.put(self.account(), number, value.get());
            }
        }
    }
}

impl WriteUser for Object<RemoveUser<'_>> {
    fn account(&self) -> &str {
        self.0.account.get().unwrap_or_default()
    }

    /// Assumed: removing a name that is not set in the app is refused; removing what a user does not have is not.
    fn check(&self, model: &Model) -> Result<(), i64> {
        self.0.attributes.iter().try_for_each(|name| model.check_attribute(name))
    }

    fn apply(&self, model: &mut Model) {
        for name in &self.0.attributes {
            if let Some(number) = name.get().and_then(|name| model.number_of(name)) {
                model.put(self.account(), number, None);
            }
        }
    }
}
