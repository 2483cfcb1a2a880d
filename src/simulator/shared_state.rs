//! The state that the routes, the tasks of held calls and the handles share.
//!
//! Owns: the lock around app state, records and fault rules, and the notification of tasks that wait for a change. Must
//! not know: HTTP, what a task waits for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};

use super::app_state::{AppState, AttributeChange, VendorLimits};
use super::clock::VendorClock;
use super::faults::FaultRules;
use super::options::SimulatorOptions;
use super::query::AppCredentials;
use super::recorder::Recorder;

/// Number of changes by which a subscriber may lag behind before it loses some.
const CHANGE_CHANNEL_CAPACITY: usize = 16_384;

/// Everything that calls change. It is under one lock because the record, the plan and the effect of a call belong
/// together.
pub(super) struct LockedState {
    pub(super) app: AppState,
    pub(super) recorder: Recorder,
    pub(super) faults: FaultRules,
}

/// The state of one simulator.
pub(super) struct SharedState {
    pub(super) credentials: AppCredentials,
    pub(super) limits: VendorLimits,
    pub(super) latency: Duration,
    pub(super) clock: VendorClock,
    calls_per_second: AtomicU32,
    state: Mutex<LockedState>,
    changes: broadcast::Sender<AttributeChange>,
    state_changed: Notify,
    stop: watch::Sender<bool>,
}

impl SharedState {
    /// The initial state. It ignores `options.listen`.
    pub(super) fn new(options: SimulatorOptions) -> Self {
        let SimulatorOptions {
            listen: _,
            sdk_app_id,
            secret_key,
            identifier,
            attribute_names,
            imported_accounts,
            latency,
            calls_per_second,
            limits,
            faults: rules,
            logged_calls,
            clock_offset_seconds,
        } = options;
        let mut faults = FaultRules::default();
        for rule in rules {
            faults.add(rule);
        }
        let state = LockedState {
            app: AppState::new(limits, &attribute_names, imported_accounts.as_deref()),
            recorder: Recorder::new(logged_calls),
            faults,
        };
        Self {
            credentials: AppCredentials { sdk_app_id, identifier, secret_keys: Mutex::new(vec![secret_key]) },
            limits,
            latency,
            clock: VendorClock::new(clock_offset_seconds),
            calls_per_second: AtomicU32::new(calls_per_second),
            state: Mutex::new(state),
            changes: broadcast::Sender::new(CHANGE_CHANNEL_CAPACITY),
            state_changed: Notify::new(),
            stop: watch::Sender::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LockedState> {
        // After a panic under the lock the records may be incomplete. The simulator continues with them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies `change` to the app's state and publishes the changed attributes in order.
    pub(super) fn change_app<T>(&self, state: &mut LockedState, change: impl FnOnce(&mut AppState) -> T) -> T {
        state.app.collect_changes(self.changes.receiver_count() > 0);
        let result = change(&mut state.app);
        for change in state.app.take_changes() {
            // Sending fails only if the last subscriber has just been dropped.
            let _ = self.changes.send(change);
        }
        result
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<AttributeChange> {
        self.changes.subscribe()
    }

    pub(super) fn calls_per_second(&self) -> u32 {
        self.calls_per_second.load(Ordering::Relaxed)
    }

    pub(super) fn set_calls_per_second(&self, limit: u32) {
        self.calls_per_second.store(limit, Ordering::Relaxed);
    }

    /// Wakes the tasks in [`SharedState::wait_until`]. To be called after each change under the lock.
    pub(super) fn notify_waiters(&self) {
        self.state_changed.notify_waiters();
    }

    /// Waits until `condition` holds. It is evaluated again after each change.
    pub(super) async fn wait_until(&self, mut condition: impl FnMut(&LockedState) -> bool) {
        loop {
            let changed = self.state_changed.notified();
            tokio::pin!(changed);
            // Register before evaluating, so that a change after the evaluation is not missed.
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Signals the server and all held calls to stop.
    pub(super) fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for [`SharedState::begin_stop`].
    pub(super) async fn wait_for_stop(&self) {
        // The channel cannot close during the wait, because `self` owns the sender.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}
