//! Notifications to systemd: READY, STATUS, STOPPING. Without systemd they do nothing.
//!
//! Owns: the notification socket. Must not know: when a state changes.
//!
//! Source: systemd manual, `sd_notify(3)`.

use sd_notify::NotifyState;

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}

/// The process is up and recovers from errors without a restart. It does not mean that it can sync.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// The status line of `systemctl status`.
pub fn status(line: &str) {
    notify(NotifyState::Status(line));
}

/// A graceful shutdown has begun.
pub fn stopping() {
    notify(NotifyState::Stopping);
}
