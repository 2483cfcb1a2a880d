//! When the next call of one vendor command may start.
//!
//! Owns: the limit of calls in any second, the order of the calls that wait.
//! Must not know: what a call carries, what its answer means besides "slow down".

use std::collections::VecDeque;
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
/// Added to the window. An earlier call may take this much longer to arrive than a later one, and still no second at IM holds
/// N + 1 calls.
const MARGIN: Duration = Duration::from_millis(2);
/// How much earlier than its due time a call may start. Tokio's timers fire on whole milliseconds, and at thousands of calls a
/// second a call must not wait for one of its own.
const TOLERANCE: Duration = Duration::from_millis(2);
/// Calls that start late, because the process or the queue was late, are made up for up to this delay. What is later is lost.
const CATCH_UP: Duration = Duration::from_millis(100);
/// While calls catch up, they are this part of the usual interval apart, so that they do not arrive as a burst.
const CATCH_UP_INTERVAL: f64 = 0.8;
/// How often a process without a share asks whether it has one.
const NO_SHARE_DELAY: Duration = Duration::from_millis(20);

/// The rate limiter of one vendor command.
///
/// Two rules decide when the next call may start. With N calls per second:
///
/// - The limit: at least [`WINDOW`] + [`MARGIN`] after the Nth call before it. So no closed window of a second holds more than N
///   starts, however the calls arrive and whatever the pace is.
/// - The pace: due times are ([`WINDOW`] + [`MARGIN`]) / N apart (the generic cell rate algorithm, ITU-T I.371), so that calls
///   arrive evenly. A late start does not put off the due times after it, up to [`CATCH_UP`], so the sustained rate is over
///   99 % of N, although timers are late and the process does not always run.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// Its owner is the next to start. Tokio's mutex is first come, first served.
    queue: tokio::sync::Mutex<()>,
    /// The queue of urgent calls. The first call of the other queue lets them pass.
    urgent_queue: tokio::sync::Mutex<()>,
    /// An urgent call waits for nothing but the limit.
    urgent_waits: watch::Sender<bool>,
    state: Mutex<LimiterState>,
    /// The configured rate.
    calls_per_second: u32,
    share: CallShare,
}

#[derive(Debug)]
struct LimiterState {
    /// No call starts before this moment.
    held_until: Option<Instant>,
    /// The starts of the last second, oldest first.
    starts: VecDeque<Instant>,
    pace: Pace,
    last_call: Option<Instant>,
    rate: CubicRate,
}

/// When the next call is due; `None` before the first one.
#[derive(Debug, Default)]
struct Pace {
    /// By the usual interval.
    due: Option<Instant>,
    /// By the interval of calls that catch up.
    soonest: Option<Instant>,
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
        let calls_per_second = calls_per_second.max(1);
        Self {
            queue: tokio::sync::Mutex::new(()),
            urgent_queue: tokio::sync::Mutex::new(()),
            urgent_waits: watch::Sender::new(false),
            state: Mutex::new(LimiterState {
                held_until: None,
                starts: VecDeque::new(),
                pace: Pace::default(),
                last_call: None,
                rate: CubicRate::new(f64::from(calls_per_second)),
            }),
            calls_per_second,
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
        state.held_until = state.held_until.max(Some(moment));
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
        let rate = state.rate.now(now).min(f64::from(share));
        let earliest = state.earliest_start(now, share.min(self.calls_per_second));
        if now < earliest {
            self.share.note_wait();
            return Err(earliest);
        }
        state.pace.start(now, (WINDOW + MARGIN).div_f64(rate));
        state.starts.push_back(now);
        self.share.note_start();
        Ok(now)
    }
}

impl LimiterState {
    /// When the next call may start, as far as is known now. `limit`: of the calls in any second.
    fn earliest_start(&mut self, now: Instant, limit: u32) -> Instant {
        while self.starts.front().is_some_and(|start| *start + WINDOW + MARGIN <= now) {
            self.starts.pop_front();
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let by_limit = self.starts.len().checked_sub(limit).map(|oldest| self.starts[oldest] + WINDOW + MARGIN);
        [by_limit, self.pace.earliest_start(), self.held_until].into_iter().flatten().max().unwrap_or(now)
    }
}

impl Pace {
    fn earliest_start(&self) -> Option<Instant> {
        let due = self.due.max(self.soonest)?;
        // An instant minus a duration can lie before the beginning of the clock.
        Some(due.checked_sub(TOLERANCE).unwrap_or(due))
    }

    /// A call starts.
    fn start(&mut self, now: Instant, interval: Duration) {
        let oldest = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.due = Some(self.due.map_or(now, |due| due.max(oldest)) + interval);
        self.soonest = Some(self.soonest.map_or(now, |soonest| soonest.max(now)) + interval.mul_f64(CATCH_UP_INTERVAL));
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
