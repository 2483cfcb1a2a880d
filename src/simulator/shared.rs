//! What the routes, the tasks of held calls and the handles have in common.
//!
//! Owns: the lock around state, records and rules, and telling those who wait that something happened. Must not know:
//! HTTP, what is waited for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};

use super::clock::Clock;
use super::faults::Faults;
use super::model::{Change, Limits, Model};
use super::query::Keys;
use super::recording::Recorder;

/// Changes a slow listener may be behind by before it misses some.
const CHANGES_KEPT: usize = 16_384;

/// All that changes, under one lock: a call's record, its plan and its effect belong together.
pub(super) struct World {
    pub(super) model: Model,
    pub(super) recorder: Recorder,
    pub(super) faults: Faults,
}

pub(super) struct Shared {
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) latency: Duration,
    pub(super) clock: Clock,
    calls_per_second: AtomicU32,
    world: Mutex<World>,
    changes: broadcast::Sender<Change>,
    happened: Notify,
    stop: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(
        keys: Keys,
        limits: Limits,
        latency: Duration,
        clock: Clock,
        calls_per_second: u32,
        world: World,
    ) -> Self {
        Self {
            keys,
            limits,
            latency,
            clock,
            calls_per_second: AtomicU32::new(calls_per_second),
            world: Mutex::new(world),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            happened: Notify::new(),
            stop: watch::Sender::new(false),
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        // A panic under the lock leaves records that are at worst incomplete; the simulator goes on.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Do something to the state and publish what it changed, in the order of the changes.
    pub(super) fn publishing<T>(&self, world: &mut World, change: impl FnOnce(&mut Model) -> T) -> T {
        world.model.collect_changes(self.changes.receiver_count() > 0);
        let result = change(&mut world.model);
        for change in world.model.take_changes() {
            // Fails only when the last listener has just gone.
            let _ = self.changes.send(change);
        }
        result
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(super) fn calls_per_second(&self) -> u32 {
        self.calls_per_second.load(Ordering::Relaxed)
    }

    pub(super) fn set_calls_per_second(&self, limit: u32) {
        self.calls_per_second.store(limit, Ordering::Relaxed);
    }

    /// Tell those who wait that something happened.
    pub(super) fn progress(&self) {
        self.happened.notify_waiters();
    }

    /// Wait until `condition` holds for the world; it is asked again whenever something happened.
    pub(super) async fn wait_until(&self, mut condition: impl FnMut(&World) -> bool) {
        loop {
            let happened = self.happened.notified();
            tokio::pin!(happened);
            // Registered before looking, so that nothing that happens after the look is missed.
            happened.as_mut().enable();
            if condition(&self.world()) {
                return;
            }
            happened.await;
        }
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) async fn stopping(&self) {
        // The sender lives as long as `self`, so the channel cannot close while we wait.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}
