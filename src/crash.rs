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
        "lease: the epoch rose",
        "full: the first watermark is stored",
        "intents: settled, not committed",
        "intents: settled",
        "fence: taken",
        "page: read",
        "page: compared",
        "delivery: begins",
        "intent: stored",
        "call: about to go",
        "call: answered",
        "push: sets have ended",
        "push: a batch was halved",
        "record: not committed",
        "record: committed",
        "doubts: looked up",
        "doubts: about to be put aside",
        "full: the position is stored",
        "full: the table is walked",
        "full: the gone are walked",
        "removals: about to go",
        "removals: a chunk is taken",
        "rejections: tried again",
        "pass: all is recorded",
        "pass: the watermark is stored",
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
