//! Reloading the configuration of a running daemon on SIGHUP.
//!
//! Owns: receiving the signal, and which keys may not change. Must not know: what the daemon does with a new
//! configuration.

use std::fmt;

use futures_util::FutureExt as _;
use tokio::signal::unix::Signal;

use crate::config::{self, Config};

/// Reads the configuration again from the place where it was read at the start. The error lists all mistakes.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Waits for SIGHUP and reads the configuration.
pub struct Reloader {
    hangups: Signal,
    read_config: ReadConfig,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Reloader {
    /// Takes the signal from `signals::hangup_signal`.
    pub fn new(hangups: Signal, read_config: ReadConfig) -> Self {
        Self { hangups, read_config }
    }

    /// Waits for the next SIGHUP. Cancel safe.
    pub(super) async fn hangup(&mut self) {
        self.hangups.recv().await;
    }

    /// Whether a SIGHUP has arrived that was not handled yet. Handles it.
    pub(super) fn take_hangup(&mut self) -> bool {
        self.hangups.recv().now_or_never().is_some()
    }

    /// The new configuration, or why the `current` one stays in force.
    pub(super) fn read(&self, current: &Config) -> Result<Config, String> {
        let new = (self.read_config)()?;
        let fixed = changed_fixed_keys(current, &new);
        if fixed.is_empty() {
            Ok(new)
        } else {
            Err(format!("{} cannot change while the daemon runs; restart it", fixed.join(", ")))
        }
    }
}

/// The keys with a new value that only a restart can apply.
fn changed_fixed_keys(current: &Config, new: &Config) -> Vec<&'static str> {
    let mut fixed = config::changed_fixed_keys(current, new);
    // The state is bound to the app. `migrate --rebind` accepts another one, a reload does not.
    if new.im.sdk_app_id != current.im.sdk_app_id {
        fixed.push("im.sdk_app_id");
    }
    if new.im.service != current.im.service {
        fixed.push("im.service");
    }
    fixed
}
