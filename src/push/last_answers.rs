//! When IM answered last, in whichever pass.
//!
//! Owns: these moments. Must not know: what an answer means for the accounts of a call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::clock::monotonic;

/// The moments of the last answers. A call without an answer while others are answered tells about its accounts.
#[derive(Debug, Default)]
pub(super) struct LastAnswers(Mutex<Moments>);

#[derive(Debug, Default)]
struct Moments {
    /// Of any call.
    any: Option<Instant>,
    /// Of a call that sets or removes attributes.
    change: Option<Instant>,
    /// IM did not answer the last call that sets or removes attributes.
    change_failed: bool,
}

impl LastAnswers {
    fn lock(&self) -> MutexGuard<'_, Moments> {
        // Each moment is one assignment, so what a panic left behind is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// IM has accepted or refused a call.
    pub(super) fn note(&self, is_change: bool) {
        let mut moments = self.lock();
        let now = Some(monotonic());
        moments.any = now;
        if is_change {
            moments.change = now;
            moments.change_failed = false;
        }
    }

    /// A call that sets or removes attributes got no answer, or one that asks for fewer calls.
    pub(super) fn note_failed_change(&self) {
        self.lock().change_failed = true;
    }

    /// Whether IM did not answer the last call that sets or removes attributes.
    pub(super) fn last_change_failed(&self) -> bool {
        self.lock().change_failed
    }

    /// Whether IM has answered any call since then.
    pub(super) fn any_since(&self, moment: Instant) -> bool {
        self.lock().any.is_some_and(|last| last >= moment)
    }

    /// Whether IM has answered a call that sets or removes attributes since then.
    pub(super) fn change_since(&self, moment: Instant) -> bool {
        self.lock().change.is_some_and(|last| last >= moment)
    }
}
