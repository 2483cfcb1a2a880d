//! How far one delivery is, and whether its pass still waits for it.
//!
//! Owns: the stages of a delivery, and the rule that a pass stops waiting only while an intent stands for all that is open.
//! Must not know: what is delivered, the queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is stored yet.
    Begun,
    /// Its intent is stored. If the process is killed now, the intent makes its attributes unknown.
    IntentStored,
    /// All calls have ended, and their outcomes are about to be recorded.
    Recording,
}

/// The progress of one delivery. The delivery and the queue share it.
#[derive(Debug)]
pub(super) struct DeliveryProgress {
    stage: Mutex<(Stage, bool)>,
    /// Notified when the intent is stored.
    changed: Arc<Notify>,
}

impl DeliveryProgress {
    /// `changed` is notified of each stage.
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { stage: Mutex::new((Stage::Begun, false)), changed }
    }

    fn lock(&self) -> MutexGuard<'_, (Stage, bool)> {
        // A stage is one assignment, so what a panic left behind is a valid stage.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The intent of the delivery is stored and committed.
    pub(super) fn note_intent_stored(&self) {
        self.lock().0 = Stage::IntentStored;
        self.changed.notify_one();
    }

    /// Accounts of the delivery are recorded before the others.
    pub(super) fn note_partly_recorded(&self) {
        self.changed.notify_one();
    }

    /// All calls have ended. Returns whether the pass no longer waits: what was not sent must not be forgotten then.
    pub(super) fn begin_recording(&self) -> bool {
        let mut stage = self.lock();
        stage.0 = Stage::Recording;
        stage.1
    }

    /// Whether an intent stands for everything of the delivery that is not recorded.
    pub(super) fn has_stored_intent(&self) -> bool {
        self.lock().0 == Stage::IntentStored
    }

    /// The pass has stopped waiting for the delivery.
    pub(super) fn is_detached(&self) -> bool {
        self.lock().1
    }

    /// The pass stops waiting for the delivery. Returns false if that is not possible now.
    pub(super) fn detach(&self) -> bool {
        let mut stage = self.lock();
        let can_detach = stage.0 == Stage::IntentStored;
        stage.1 |= can_detach;
        can_detach
    }
}
