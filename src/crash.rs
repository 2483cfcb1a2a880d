//! Crash points: places at which a test has the process die, as `kill -9` would have it.
//!
//! Owns: their names and the one that is armed. Must not know: what stands around them.
//!
//! Compiled in with the feature `crash-points` only, which the tests switch on; a release has none of it. Armed by the
//! environment: `IMSYNC_CRASH_AT=<point>` aborts at the first arrival, `<point>#3` at the third.

#[cfg(feature = "crash-points")]
pub use armed::{POINTS, point};

/// Nothing: the feature `crash-points` is off.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &'static str) {}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// All of them, in the order in which a first full pass arrives at most of them.
    pub const POINTS: &[&str] = &[
        "migration: tables are made, not committed",
        "migration: committed",
        "start: the sync row is there",
        "lease: the lock is held",
        "lease: the epoch rose, not committed",
        "lease: the epoch rose",
        "start: the attributes have attributes",
        "generation: raised, not committed",
        "generation: raised",
        "start: a full pass is due",
        "start: rejections are due",
        "pass: begins",
        "intents: settled, not committed",
        "intents: settled",
        "full: the first watermark is about to be stored",
        "full: the first watermark is stored",
        "transaction list: read",
        "page: read",
        "page: compared",
        "page: taken",
        "full: a page of the table is done",
        "full: the table is walked",
        "full: a page of the gone is done",
        "full: the gone are walked",
        "drain: begins",
        "delivery: begins",
        "intent: stored",
        "call: about to go",
        "call: answered",
        "call: about to be repeated",
        "push: a batch was halved",
        "push: attributes go one by one",
        "push: a probe has ended",
        "push: sets have ended",
        "delivery: about to be recorded",
        "record: not committed",
        "record: committed",
        "delivery: recorded",
        "full: a delivery has completed",
        "full: the position is about to be stored",
        "full: the position is stored",
        "drain: ended",
        "doubts: looked up",
        "doubts: about to be put aside",
        "doubts: put aside, not committed",
        "doubts: put aside",
        "removals: about to go",
        "removals: a chunk is taken",
        "rejections: tried again",
        "rejections: postponed",
        "pass: all is recorded",
        "pass: the watermark is stored",
        "pass: stands in the history",
        "goodbye: about to be stored",
        "goodbye: stored",
    ];

    struct Armed {
        point: String,
        /// Arrivals that are let pass.
        before: AtomicUsize,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let text = std::env::var("IMSYNC_CRASH_AT").ok()?;
            let (point, arrival) = text.rsplit_once('#').unwrap_or((&text, "1"));
            let arrival: usize = arrival.parse().ok()?;
            Some(Armed { point: point.to_owned(), before: AtomicUsize::new(arrival.saturating_sub(1)) })
        };
        ARMED.get_or_init(read).as_ref()
    }

    /// Aborts the process if this point is armed and its time has come.
    pub fn point(name: &'static str) {
        debug_assert!(POINTS.contains(&name), "{name} is not in the list of crash points");
        let Some(armed) = armed().filter(|armed| armed.point == name) else { return };
        let passed = armed.before.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if passed.is_err() {
            std::process::abort();
        }
    }
}
