//! Crash points: named places at which a test makes the process abort, like `kill -9`.
//!
//! Owns: their names, and which one is armed. Must not know: the code around them.
//!
//! Only compiled with the feature `crash-points`, which the tests enable; a release contains no crash points. The
//! environment arms one: with `IMSYNC_CRASH_AT=<point>` the process aborts when it reaches the point for the first time,
//! with `<point>#3` for the third time.

#[cfg(feature = "crash-points")]
pub use armed::{POINTS, point};

/// Does nothing, because the feature `crash-points` is disabled.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &'static str) {}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// All crash points, in the order in which a first full pass reaches most of them.
    pub const POINTS: &[&str] = &[
        "migration: tables created, not committed",
        "migration: committed",
        "start: the sync row exists",
        "lease: the lock is acquired",
        "lease: the epoch is incremented, not committed",
        "lease: the epoch is incremented",
        "start: the attribute names are stored",
        "generation: incremented, not committed",
        "generation: incremented",
        "source: a change is stored",
        "start: a full pass is due",
        "start: rejections are due",
        "pass: begins",
        "intents: resolved, not committed",
        "intents: resolved",
        "full: the first watermark is about to be stored",
        "full: the first watermark is stored",
        "transaction list: read",
        "accounts: deferred",
        "page: read",
        "page: compared",
        "page: enqueued",
        "full: a page of the table is done",
        "full: the table is read",
        "full: a page of gone accounts is done",
        "full: the gone accounts are read",
        "drain: begins",
        "delivery: begins",
        "intent: stored",
        "call: about to be sent",
        "call: answered",
        "call: about to be retried",
        "push: a batch was halved",
        "push: unknown accounts were looked up",
        "push: unknown accounts were imported",
        "push: a batch was split without an answer",
        "push: attributes are sent one by one",
        "probe: the intent is stored",
        "push: a probe has ended",
        "probe: the outcome is recorded",
        "push: sets have ended",
        "delivery: about to be recorded",
        "record: not committed",
        "record: committed",
        "delivery: recorded",
        "delivery: partly recorded",
        "full: a delivery has completed",
        "full: the position is about to be stored",
        "full: the position is stored",
        "drain: ended",
        "in doubt: looked up",
        "in doubt: about to be postponed",
        "in doubt: postponed, not committed",
        "in doubt: postponed",
        "removals: owed, not committed",
        "removals: owed",
        "removals: about to be sent",
        "removals: permitted",
        "removals: a chunk is enqueued",
        "rejections: a step is due",
        "rejections: retried",
        "rejections: postponed",
        "deferrals: ended",
        "pass: outcomes are recorded",
        "pass: the watermark is stored",
        "pass: added to the history",
        "history: old rows are deleted",
        "last call: about to be stored",
        "last call: stored",
    ];

    struct ArmedPoint {
        point: String,
        /// How often the point may still be passed.
        passes_left: AtomicUsize,
    }

    fn armed() -> Option<&'static ArmedPoint> {
        static ARMED: OnceLock<Option<ArmedPoint>> = OnceLock::new();
        let read = || {
            let text = std::env::var("IMSYNC_CRASH_AT").ok()?;
            let (point, occurrence) = text.rsplit_once('#').unwrap_or((&text, "1"));
            let occurrence: usize = occurrence.parse().ok()?;
            Some(ArmedPoint { point: point.to_owned(), passes_left: AtomicUsize::new(occurrence.saturating_sub(1)) })
        };
        ARMED.get_or_init(read).as_ref()
    }

    /// Aborts the process if this point is armed and has been passed often enough.
    pub fn point(name: &'static str) {
        debug_assert!(POINTS.contains(&name), "{name} is not in the list of crash points");
        let Some(armed) = armed().filter(|armed| armed.point == name) else { return };
        let passed = armed.passes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if passed.is_err() {
            std::process::abort();
        }
    }
}
