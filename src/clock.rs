//! The clocks, the heartbeat of the lease, and the shutdown request.
//!
//! Owns: every read of the wall clock and of the monotonic clock (clippy forbids them elsewhere). Must not know: what
//! depends on the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

/// The wall clock. For display and signatures, never to decide what was read.
#[expect(clippy::disallowed_methods, reason = "the clocks are read here only")]
pub fn now_utc() -> DateTime<Utc> {
    Utc::now()
}

/// The monotonic clock of tokio, which tests can pause.
#[expect(clippy::disallowed_methods, reason = "the clocks are read here only")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// A lease counts as held for this long after the start of the last ping that was answered. No call to IM starts later.
pub const LEASE_VALID_FOR: Duration = Duration::from_secs(3);

/// The time of the last successful check, shared between the task that checks and those that depend on the result.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    origin: Instant,
    /// Milliseconds since `origin`, plus one; 0 means never.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { origin: monotonic(), last: Arc::new(AtomicU64::new(0)) }
    }
}

impl Heartbeat {
    /// A check that started at `started` has succeeded.
    pub fn beat(&self, started: Instant) {
        let millis = started.saturating_duration_since(self.origin).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX - 1);
        self.last.fetch_max(millis + 1, Ordering::SeqCst);
    }

    /// The last successful check started no longer ago than `limit`.
    pub fn beat_within(&self, limit: Duration) -> bool {
        match self.last.load(Ordering::SeqCst) {
            0 => false,
            millis => (self.origin + Duration::from_millis(millis - 1)).elapsed() <= limit,
        }
    }

    /// Forgets the last check: [`Heartbeat::beat_within`] is false until the next [`Heartbeat::beat`].
    pub fn stop(&self) {
        self.last.store(0, Ordering::SeqCst);
    }
}

/// A request to stop, visible to every clone. It cannot be withdrawn.
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
    /// Requests the stop.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    /// The stop has been requested.
    pub fn requested(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Waits for the request to stop.
    pub async fn wait(&self) {
        let mut receiver = self.receiver.clone();
        // `self` keeps the sender, so the channel cannot close during the wait.
        let _ = receiver.wait_for(|stop| *stop).await;
    }

    /// Sleeps for `duration`, or until the request to stop.
    pub async fn sleep(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.wait() => {}
        }
    }
}
