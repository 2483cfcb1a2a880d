//! The share of the app's call rate that this process may use.
//!
//! Owns: the number, and what is known about the demand for it. Must not know: who else calls, how the share is decided.
//!
//! The holder of the lease decides the share (`state`), and the rate limiters obey it (`push`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A share of the calls per second of an app. It applies to each of the vendor's commands. Clones are the same share.
#[derive(Clone, Debug)]
pub struct CallShare(Arc<ShareState>);

#[derive(Debug)]
struct ShareState {
    calls_per_second: AtomicU32,
    /// Calls that started since the demand was taken.
    started: AtomicU32,
    /// A call had to wait for the share since the demand was taken.
    waited: AtomicBool,
}

/// What was needed since the demand was taken the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallDemand {
    /// Calls that started, of all commands.
    pub started: u32,
    /// A call had to wait for the share.
    pub waited: bool,
}

impl CallShare {
    /// A share of this many calls per second.
    pub fn new(calls_per_second: u32) -> Self {
        Self(Arc::new(ShareState {
            calls_per_second: AtomicU32::new(calls_per_second),
            started: AtomicU32::new(0),
            waited: AtomicBool::new(false),
        }))
    }

    /// No limit besides the configured one.
    pub fn unlimited() -> Self {
        Self::new(u32::MAX)
    }

    /// The calls per second that may start now; 0 if none may.
    pub fn calls_per_second(&self) -> u32 {
        self.0.calls_per_second.load(Ordering::SeqCst)
    }

    /// Changes the share.
    pub fn set(&self, calls_per_second: u32) {
        self.0.calls_per_second.store(calls_per_second, Ordering::SeqCst);
    }

    /// A call starts.
    pub fn note_start(&self) {
        self.0.started.fetch_add(1, Ordering::Relaxed);
    }

    /// A call waits because the share is used up.
    pub fn note_wait(&self) {
        self.0.waited.store(true, Ordering::Relaxed);
    }

    /// The demand since the last time.
    pub fn take_demand(&self) -> CallDemand {
        CallDemand {
            started: self.0.started.swap(0, Ordering::Relaxed),
            waited: self.0.waited.swap(false, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demand_begins_anew_when_it_was_taken() {
        let share = CallShare::new(5);
        let limiter = share.clone();
        limiter.note_start();
        limiter.note_start();
        limiter.note_wait();
        assert_eq!(share.take_demand(), CallDemand { started: 2, waited: true });
        assert_eq!(share.take_demand(), CallDemand { started: 0, waited: false });
        share.set(7);
        assert_eq!(limiter.calls_per_second(), 7);
    }
}
