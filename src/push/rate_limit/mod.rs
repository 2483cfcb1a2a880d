//! When the next call of one vendor command may start.
//!
//! Owns: the limit of calls in any second, the order of the calls that wait.
//! Must not know: what a call carries, what its answer means besides "slow down".

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{MutexGuard, watch};
use tokio::time::Instant;

use crate::call_share::CallShare;
use crate::clock::monotonic;

mod cubic;

use cubic::CubicRate;
pub(super) use cubic::RateCut;

/// The span in which the vendor counts calls.
const WINDOW: Duration = Duration::from_secs(1);
/// How much earlier than its due time a call may start. This makes up for timers that fire late (tokio's by up to 1
/// ms).
const TOLERANCE: Duration = Duration::from_millis(5);
/// How often a process without a share asks whether it has one.
const NO_SHARE_DELAY: Duration = Duration::from_millis(20);
/// Added to the window, so that N + 1 calls never fit into a second whose both ends count.
const MARGIN: Duration = Duration::from_micros(500);

/// The rate limiter of one vendor command: the generic cell rate algorithm (ITU-T I.371), with one cell a call.
///
/// With N calls per second, due times are T = (1 s + tolerance + margin) / N apart, and no call starts earlier than the
/// tolerance before its due time. So N + 1 starts span at least N·T − tolerance, which is more than a second: no closed
/// window of a second holds more than N starts, however the calls arrive. The sustained rate is over 99 % of N.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// Its owner is the next to start. Tokio's mutex is first come, first served.
    queue: tokio::sync::Mutex<()>,
    /// The queue of urgent calls. The first call of the other queue lets them pass.
    urgent_queue: tokio::sync::Mutex<()>,
    /// An urgent call waits for nothing but the limit.
    urgent_waits: watch::Sender<bool>,
    state: Mutex<LimiterState>,
    share: CallShare,
}

#[derive(Debug)]
struct LimiterState {
    /// When the next call is due.
    due: Option<Instant>,
    last_call: Option<Instant>,
    rate: CubicRate,
}

/// The first position in a queue: this call is the next to start.
#[derive(Debug)]
pub(super) struct QueuePosition<'a> {
    rate_limiter: &'a RateLimiter,
    urgent: bool,
    _queue: MutexGuard<'a, ()>,
}

/// The start of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallStart {
    pub at: Instant,
    /// How long the limit alone delayed it.
    pub waited: Duration,
}

impl RateLimiter {
    /// `share`: the part of the rate that this process may use.
    pub(super) fn of_share(calls_per_second: u32, share: CallShare) -> Self {
        Self {
            queue: tokio::sync::Mutex::new(()),
            urgent_queue: tokio::sync::Mutex::new(()),
            urgent_waits: watch::Sender::new(false),
            state: Mutex::new(LimiterState {
                due: None,
                last_call: None,
                rate: CubicRate::new(f64::from(calls_per_second.max(1))),
            }),
            share,
        }
    }

    /// Waits until the call is the first of its queue. Dropping the position lets the next call be first.
    pub(super) async fn wait_for_turn(&self, urgent: bool) -> QueuePosition<'_> {
        let queue = if urgent { &self.urgent_queue } else { &self.queue };
        QueuePosition { rate_limiter: self, urgent, _queue: queue.lock().await }
    }

    /// No call starts before this moment.
    pub(super) fn hold_until(&self, moment: Instant) {
        let mut state = self.lock();
        let due = moment + TOLERANCE;
        state.due = Some(state.due.map_or(due, |earlier| earlier.max(due)));
    }

    /// A call was sent at this start.
    pub(super) fn record_call(&self, at: Instant) {
        let mut state = self.lock();
        state.last_call = Some(at);
        state.rate.record_call(at);
    }

    /// When the last call was sent.
    pub(super) fn last_call(&self) -> Option<Instant> {
        self.lock().last_call
    }

    /// The rate in force now, in calls per second.
    pub(super) fn rate(&self) -> f64 {
        self.lock().rate.now(monotonic()).min(f64::from(self.share.calls_per_second()))
    }

    /// IM answered "slow down" to a call that started at `started`. Many calls of one burst are answered so together;
    /// only the first of them lowers the rate. Returns the new rate where it was lowered.
    pub(super) fn slow_down(&self, started: Instant) -> Option<RateCut> {
        self.lock().rate.slow_down(started, monotonic())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LimiterState> {
        // Nothing between lock and release panics in the middle of an update.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a call if it may start now; else returns when to ask again.
    fn try_start(&self) -> Result<Instant, Instant> {
        let now = monotonic();
        let mut state = self.lock();
        let share = self.share.calls_per_second();
        if share == 0 {
            self.share.note_wait();
            return Err(now + NO_SHARE_DELAY);
        }
        let due = state.due.unwrap_or(now);
        // Written as a sum, because an instant minus a duration can lie before the beginning of the clock.
        if now + TOLERANCE < due {
            self.share.note_wait();
            return Err(due.checked_sub(TOLERANCE).unwrap_or(due));
        }
        let interval = (WINDOW + TOLERANCE + MARGIN).div_f64(state.rate.now(now).min(f64::from(share)));
        state.due = Some(due.max(now) + interval);
        self.share.note_start();
        Ok(now)
    }
}

impl QueuePosition<'_> {
    /// Waits until the limit allows a call. The call counts as started at the moment at which this returns.
    pub(super) async fn wait_for_start(self) -> CallStart {
        let begun = monotonic();
        if self.urgent {
            // Set as late as here, because a call that lets this one pass may hold what this one had to wait for.
            self.rate_limiter.urgent_waits.send_replace(true);
        }
        let mut urgent_waits = self.rate_limiter.urgent_waits.subscribe();
        loop {
            if !self.urgent {
                // The sender lives in the rate limiter, so the channel cannot close while this waits.
                let _ = urgent_waits.wait_for(|waits| !waits).await;
            }
            match self.rate_limiter.try_start() {
                Ok(at) => return CallStart { at, waited: at.saturating_duration_since(begun) },
                // Asked again afterwards, because the due time may have been put off meanwhile.
                Err(moment) => tokio::time::sleep_until(moment).await,
            }
        }
    }
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        if self.urgent {
            // The call has started or was given up. The next call of the urgent queue sets it again.
            self.rate_limiter.urgent_waits.send_replace(false);
        }
    }
}

#[cfg(test)]
mod tests;
