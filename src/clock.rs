//! The only door to the clocks, and what is shared about time and stopping.
//!
//! Owns: monotonic and wall time, the heartbeat of the lease, the shutdown signal.
//! Must not know: what is done with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

/// Wall clock. For showing and for signatures; never for deciding what was read.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn now_utc() -> DateTime<Utc> {
    Utc::now()
}

/// Monotonic clock (tokio's, so that tests can pause it).
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// A lease counts as held for this long after the start of the last ping that was answered. No call to IM starts later.
pub const LEASE_VALID_FOR: Duration = Duration::from_secs(3);

/// The last moment at which something answered; shared between who asks and who depends on it.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    origin: Instant,
    /// Milliseconds after `origin`, plus one; 0 means never.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { origin: monotonic(), last: Arc::new(AtomicU64::new(0)) }
    }
}

impl Heartbeat {
    /// Something that was asked at `asked` has answered.
    pub fn beat(&self, asked: Instant) {
        let millis = asked.saturating_duration_since(self.origin).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX - 1);
        self.last.fetch_max(millis + 1, Ordering::SeqCst);
    }

    /// The last answered question was asked no longer ago than `limit`.
    pub fn fresh(&self, limit: Duration) -> bool {
        match self.last.load(Ordering::SeqCst) {
            0 => false,
            millis => (self.origin + Duration::from_millis(millis - 1)).elapsed() <= limit,
        }
    }

    /// Forget all answers: nothing is fresh until the next beat.
    pub fn stop(&self) {
        self.last.store(0, Ordering::SeqCst);
    }
}

/// A request to stop, seen by everybody who holds a clone. It never goes back.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
    receiver: watch::Receiver<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        let (sender, receiver) = watch::channel(false);
        Self { sender: Arc::new(sender), receiver }
    }
}

impl Shutdown {
    /// Ask everybody to stop.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    pub fn requested(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Wait until somebody asks to stop.
    pub async fn wait(&self) {
        let mut receiver = self.receiver.clone();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = receiver.wait_for(|stop| *stop).await;
    }

    /// Sleep, but no longer than until the stop.
    pub async fn sleep(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.wait() => {}
        }
    }
}
