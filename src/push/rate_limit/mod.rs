//! When the next call of one command may start.
//!
//! Owns: the limit of calls in any second, the order of those who wait.
//! Must not know: what a call carries, or what its answer meant beyond "slow down".

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{MutexGuard, watch};
use tokio::time::Instant;

use crate::clock::monotonic;

mod cubic;

use cubic::CubicRate;
pub(super) use cubic::RateCut;

/// The stretch of time in which the vendor counts calls.
const WINDOW: Duration = Duration::from_secs(1);
/// How much earlier than its due time a call may start, to make up for timers that wake late (tokio's by up to 1 ms).
const TOLERANCE: Duration = Duration::from_millis(5);
/// Added to the window, so that N + 1 calls never touch one second from both ends.
const MARGIN: Duration = Duration::from_micros(500);

/// The rate_limiter of one vendor command: the generic cell rate algorithm (ITU-T I.371), one cell a call.
///
/// With N calls per second, T = (1 s + tolerance + margin) / N between due times, and no start earlier than the
/// tolerance before its due time: N + 1 starts span at least N·T − tolerance, which is more than a second. So no
/// closed window of a second holds more than N, however the calls come; sustained it reaches over 99 % of N.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// Waiters stand in line here; tokio's mutex is first come, first served.
    line: tokio::sync::Mutex<()>,
    /// The line of the urgent; who is first in the other one lets them pass.
    express: tokio::sync::Mutex<()>,
    /// An urgent call has all it needs but the limit's leave.
    urgent: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The due time of the next call.
    due: Option<Instant>,
    /// When the last call went out.
    last: Option<Instant>,
    rate: CubicRate,
}

/// The right to be the next to start.
#[derive(Debug)]
pub(super) struct QueuePosition<'a> {
    rate_limiter: &'a RateLimiter,
    urgent: bool,
    _line: MutexGuard<'a, ()>,
}

/// A start, and how long the limit alone held it back.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallStart {
    pub at: Instant,
    pub waited: Duration,
}

impl RateLimiter {
    pub(super) fn new(calls_per_second: u32) -> Self {
        Self {
            line: tokio::sync::Mutex::new(()),
            express: tokio::sync::Mutex::new(()),
            urgent: watch::Sender::new(false),
            state: Mutex::new(State {
                due: None,
                last: None,
                rate: CubicRate::new(f64::from(calls_per_second.max(1))),
            }),
        }
    }

    /// Stand in line. Give the turn up by dropping it.
    pub(super) async fn turn(&self, urgent: bool) -> QueuePosition<'_> {
        let line = if urgent { &self.express } else { &self.line };
        QueuePosition { rate_limiter: self, urgent, _line: line.lock().await }
    }

    /// No start before this moment.
    pub(super) fn hold_until(&self, moment: Instant) {
        let mut state = self.lock();
        let due = moment + TOLERANCE;
        state.due = Some(state.due.map_or(due, |earlier| earlier.max(due)));
    }

    /// The start was used: a call went out.
    pub(super) fn called(&self, at: Instant) {
        let mut state = self.lock();
        state.last = Some(at);
        state.rate.sent(at);
    }

    /// When the last call went out.
    pub(super) fn last(&self) -> Option<Instant> {
        self.lock().last
    }

    /// The rate in force now, in calls per second.
    pub(super) fn rate(&self) -> f64 {
        self.lock().rate.now(monotonic())
    }

    /// A call that started at `started` was answered "slow down". Many calls of one burst are answered so together:
    /// only the first of them lowers the rate. Tells where it was lowered.
    pub(super) fn slow_down(&self, started: Instant) -> Option<RateCut> {
        self.lock().rate.slow_down(started, monotonic())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing between lock and release can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start, if it may be now; else the moment to ask again.
    fn try_start(&self) -> Result<Instant, Instant> {
        let now = monotonic();
        let mut state = self.lock();
        let due = state.due.unwrap_or(now);
        // Written as a sum: an instant minus a duration can lie before the clock's beginning.
        if now + TOLERANCE < due {
            return Err(due.checked_sub(TOLERANCE).unwrap_or(due));
        }
        let interval = (WINDOW + TOLERANCE + MARGIN).div_f64(state.rate.now(now));
        state.due = Some(due.max(now) + interval);
        Ok(now)
    }
}

impl QueuePosition<'_> {
    /// Wait until the limit allows a call; it counts as started at the moment this returns.
    pub(super) async fn start(self) -> CallStart {
        let begun = monotonic();
        if self.urgent {
            // Only now: whoever lets it pass may hold what it still had to wait for.
            self.rate_limiter.urgent.send_replace(true);
        }
        let mut urgent = self.rate_limiter.urgent.subscribe();
        loop {
            if !self.urgent {
                // The sender lives in the rate_limiter, so the channel cannot close while we wait.
                let _ = urgent.wait_for(|urgent| !urgent).await;
            }
            match self.rate_limiter.try_start() {
                Ok(at) => return CallStart { at, waited: at.saturating_duration_since(begun) },
                // Asked again afterwards: somebody may have put the due time off meanwhile.
                Err(moment) => tokio::time::sleep_until(moment).await,
            }
        }
    }
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        if self.urgent {
            // It has started, or was given up. The next in its line says so anew.
            self.rate_limiter.urgent.send_replace(false);
        }
    }
}

#[cfg(test)]
mod tests;
