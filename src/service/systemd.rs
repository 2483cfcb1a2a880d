//! What systemd is told: READY, STATUS, STOPPING. Outside systemd nothing happens.
//!
//! Owns: the notify socket. Must not know: what the states mean.

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

/// The process is up and looks after itself from now on (which is not to say that it can sync).
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}
