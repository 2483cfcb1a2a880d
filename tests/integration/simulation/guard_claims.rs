//! What the removal guard promises: without an operator's permission only few accounts lose something, and a tripped guard
//! is lifted only when few removals are owed.
//!
//! Owns: which accounts have lost something since removals were last permitted. Must not know: how the guard counts.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::settings::{GUARDED_SHARE, LONG_TIMEOUT_MILLIS};
use super::system::System;
use super::table::Users;

/// So many accounts never trip the guard. The tables are so small that a fifth of the accounts is less.
const FEW: usize = 19;
/// A call of a process may still be applied this long after its end.
const LATE_WRITE_WINDOW: Duration = Duration::from_millis(2 * LONG_TIMEOUT_MILLIS);

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct GuardClaims {
    held: Users,
    /// Accounts that lost an attribute since removals were last permitted.
    lost: BTreeSet<String>,
    tripped: bool,
    /// Until then, removals may be those that an operator has permitted.
    permitted_until: Option<Instant>,
}

fn permits(text: &str) -> bool {
    text.contains("--allow-removals")
}

impl GuardClaims {
    /// A process starts, perhaps one that may remove everything.
    pub(super) fn note_started(&mut self, arguments: &[String]) {
        if arguments.iter().any(|argument| permits(argument)) {
            self.permitted_until = Some(imsync::clock::monotonic() + Duration::from_hours(1));
        }
    }

    /// A process has ended.
    pub(super) fn note_ended(&mut self, name: &str) {
        if permits(name) {
            self.permitted_until = Some(imsync::clock::monotonic() + LATE_WRITE_WINDOW);
        }
    }

    fn is_permitted(&self) -> bool {
        self.permitted_until.is_some_and(|until| imsync::clock::monotonic() < until)
    }

    fn note_held(&mut self, users: Users) {
        if self.is_permitted() {
            self.lost.clear();
        } else {
            let loses = |(account, attributes): &(&String, &std::collections::BTreeMap<String, String>)| {
                let now = users.get(*account);
                attributes.keys().any(|name| now.is_none_or(|now| !now.contains_key(name)))
            };
            self.lost.extend(self.held.iter().filter(loses).map(|(account, _)| account.clone()));
        }
        self.held = users;
    }
}

impl System {
    /// Checks the promise in a system whose guard can trip.
    pub(super) async fn check_guard(&mut self) -> Result<(), String> {
        if self.settings.max_share != GUARDED_SHARE {
            return Ok(());
        }
        let ready: bool = sqlx::query_scalar("SELECT to_regclass('imsync.owed_removal') IS NOT NULL")
            .fetch_one(&mut self.observer)
            .await
            .map_err(|error| error.to_string())?;
        let (tripped, owed): (bool, i64) = if ready {
            sqlx::query_as(
                "SELECT coalesce(bool_or(guard IS NOT NULL), false), (SELECT count(*) FROM imsync.owed_removal) FROM imsync.sync",
            )
            .fetch_one(&mut self.observer)
            .await
            .map_err(|error| error.to_string())?
        } else {
            (false, 0)
        };
        let users = self.env.handle().users();
        self.guard.note_held(users);
        if self.guard.lost.len() > FEW {
            return Err(format!(
                "the removal guard let more than {FEW} accounts lose an attribute: {:?}",
                self.guard.lost
            ));
        }
        let was_lifted = self.guard.tripped && !tripped;
        // A running daemon may have found new removals since it lifted the guard.
        if was_lifted && !self.guard.is_permitted() && self.daemons.is_empty() && owed > 19 {
            return Err(format!("the removal guard was lifted while {owed} accounts owe a removal"));
        }
        if !self.guard.tripped && tripped {
            self.counts.count("removal guard", "tripped");
        } else if was_lifted {
            self.counts.count("removal guard", "lifted");
        }
        self.guard.tripped = tripped;
        Ok(())
    }
}
