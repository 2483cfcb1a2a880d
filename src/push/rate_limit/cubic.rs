//! The rate in force: how far a "slow down" lowers it, and how it rises again.
//!
//! Owns: the last limit that was found, the curve from there to the configured rate. Must not know: which calls wait,
//! when the next call is due.
//!
//! The curve is that of CUBIC (RFC 9438), for the same reason: it rises fast to just below the last limit found, slowly
//! around it, and then ever faster, in case that limit no longer exists.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A cut leaves this share of the rate that IM was found to accept.
const CUT_FACTOR: f64 = 0.9;
/// No cut goes below this share of the configured rate.
const MIN_RATE_SHARE: f64 = 0.02;
/// Calls that start within this time after a cut lead to no further cut, because the vendor still counts those of the
/// second before. The refused share of them shows what IM accepts.
const COOLDOWN: Duration = Duration::from_secs(1);
/// One cut leaves at least this share, however many calls of the cooldown were refused. A vendor that counts refused
/// calls too may refuse all of them, although it accepts some at a lower rate.
const MIN_ACCEPTED_SHARE: f64 = 0.3;
/// The rate at the time of a refused call is the number of calls in the second before it. Where fewer calls were made
/// than allowed, it is this share of the rate that was in force.
const MIN_MEASURED_SHARE: f64 = 0.75;
/// Starts of calls are kept for this long: as long as an answer may take, and a second more.
const START_HISTORY: Duration = Duration::from_secs(3);
/// On the part of the curve that lies above the last limit found, the rate grows by the configured rate within this
/// many seconds.
const RECOVERY_SECONDS: f64 = 12.0;
/// A further cut is logged as a warning when it leaves less than this share of the rate that was logged last.
const NOTABLE_CUT: f64 = 0.75;

/// The rate of one vendor command, in calls per second. It never exceeds the configured rate.
#[derive(Debug)]
pub(super) struct CubicRate {
    configured: f64,
    last_cut: Option<LastCut>,
    /// When calls started, oldest first.
    starts: VecDeque<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct LastCut {
    at: Instant,
    /// The rate after the cut.
    rate: f64,
    /// The limit: the rate that IM was found to accept.
    limit: f64,
    /// Calls sent during the cooldown.
    sent: u32,
    /// Those of them that IM refused.
    refused: u32,
    /// The rate that was logged last.
    logged: f64,
}

/// The rate was lowered.
#[derive(Clone, Copy, Debug)]
pub(in crate::push) struct RateCut {
    /// The rate after the cut, in calls per second.
    pub rate: f64,
    /// The cut deserves a warning in the log: it is not one of the small cuts near a limit that is already known.
    pub is_notable: bool,
}

impl LastCut {
    fn is_cooldown(&self, started: Instant) -> bool {
        started < self.at + COOLDOWN
    }

    /// The share of the calls of the cooldown that IM accepted, if a call that started in the second after the cooldown
    /// was refused. Later calls were refused because the rate has grown since.
    fn accepted_share(&self, started: Instant) -> f64 {
        if self.sent == 0 || started >= self.at + 2 * COOLDOWN {
            return 1.0;
        }
        (1.0 - f64::from(self.refused) / f64::from(self.sent)).max(MIN_ACCEPTED_SHARE)
    }
}

impl CubicRate {
    pub(super) fn new(configured: f64) -> Self {
        Self { configured, last_cut: None, starts: VecDeque::new() }
    }

    /// The rate at this moment.
    pub(super) fn now(&self, now: Instant) -> f64 {
        let Some(cut) = self.last_cut else { return self.configured };
        let elapsed = now.saturating_duration_since(cut.at + COOLDOWN).as_secs_f64();
        // The curve is flat where it passes the limit, `plateau` seconds after its beginning.
        let plateau = RECOVERY_SECONDS * ((cut.limit - cut.rate) / self.configured).cbrt();
        let rate = cut.limit + self.configured * ((elapsed - plateau) / RECOVERY_SECONDS).powi(3);
        rate.clamp(cut.rate, self.configured)
    }

    /// A call started.
    pub(super) fn record_call(&mut self, started: Instant) {
        while self.starts.front().is_some_and(|earlier| *earlier + START_HISTORY < started) {
            self.starts.pop_front();
        }
        self.starts.push_back(started);
        if let Some(cut) = self.last_cut.as_mut().filter(|cut| started >= cut.at && cut.is_cooldown(started)) {
            cut.sent += 1;
        }
    }

    /// The calls in the second that ended with this start. While the rate grows they are fewer than the rate in force,
    /// and it is their number that was too high.
    fn measured(&self, started: Instant, rate: f64) -> f64 {
        let second =
            self.starts.iter().filter(|start| **start <= started && **start + Duration::from_secs(1) > started);
        f64::from(u32::try_from(second.count()).unwrap_or(u32::MAX)).max(rate * MIN_MEASURED_SHARE).min(rate)
    }

    /// IM answered "slow down" to a call that started at `started`.
    pub(super) fn slow_down(&mut self, started: Instant, now: Instant) -> Option<RateCut> {
        let rate = self.now(now);
        let accepted_share = match &mut self.last_cut {
            Some(cut) if cut.is_cooldown(started) => {
                cut.refused += u32::from(started >= cut.at);
                return None;
            }
            Some(cut) => cut.accepted_share(started),
            None => 1.0,
        };
        let lowest = self.configured * MIN_RATE_SHARE;
        let limit = (self.measured(started, rate) * accepted_share).max(lowest);
        let lowered = (limit * CUT_FACTOR).max(lowest);
        let logged = self.last_cut.filter(|_| rate < self.configured).map(|cut| cut.logged);
        let is_notable = logged.is_none_or(|logged| lowered < logged * NOTABLE_CUT);
        let logged = if is_notable { lowered } else { logged.unwrap_or(lowered) };
        self.last_cut = Some(LastCut { at: now, rate: lowered, limit, sent: 0, refused: 0, logged });
        Some(RateCut { rate: lowered, is_notable })
    }
}
