//! The rate in force: what a "slow down" takes of it, and how it comes back.
//!
//! Owns: the last limit that was found, and the curve between it and the configured rate. Must not know: who waits, and
//! when the next call is due.
//!
//! The curve is CUBIC's (RFC 9438), for the same reason: fast back to just below the last limit found, slow around it,
//! and then ever faster, in case that limit has gone.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What a cut leaves of the rate that IM was found to take.
const CUT: f64 = 0.9;
/// Share of the configured rate that no cut goes below.
const FLOOR: f64 = 0.02;
/// After a cut the calls of this long lead to no other: the vendor still counts those of the second before. How many of
/// them are refused tells what IM takes.
const BLIND: Duration = Duration::from_secs(1);
/// What one cut leaves at least, whatever share of the blind second's calls was refused: a vendor that counts refused
/// calls as well may refuse all of them although it takes some at a lower rate.
const DEEPEST: f64 = 0.3;
/// What is taken for the rate is the count of the second before the refused call; where less was asked for than may be
/// sent, this share of the rate that was in force.
const ASKED_FOR: f64 = 0.75;
/// Starts are remembered for so long, which an answer may take and a second more.
const REMEMBERED: Duration = Duration::from_secs(3);
/// Seconds from the last limit found to the configured rate more, on the part of the curve that grows.
const REACH: f64 = 12.0;
/// The log is told of another cut when it leaves less than this of what it was told before.
const NEWS: f64 = 0.75;

/// The rate of one vendor command, in calls per second. Never over the configured one.
#[derive(Debug)]
pub(super) struct CubicRate {
    configured: f64,
    cut: Option<Cut>,
    /// When calls started, oldest first.
    starts: VecDeque<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    at: Instant,
    /// The rate that it left.
    left: f64,
    /// The rate that IM was found to take.
    found: f64,
    /// Calls sent in the blind second, and refused of them.
    sent: u32,
    refused: u32,
    /// The rate that the log was told last.
    told: f64,
}

/// The rate was lowered.
#[derive(Clone, Copy, Debug)]
pub(in crate::push) struct RateCut {
    pub rate: f64,
    /// It is worth a line in the log: not one more of the small cuts around a limit that is known.
    pub news: bool,
}

impl Cut {
    fn blind(&self, started: Instant) -> bool {
        started < self.at + BLIND
    }

    /// Share of the blind second's calls that IM took, for a refused call that started in the second after it. Later
    /// ones were refused because the rate has grown since.
    fn taken(&self, started: Instant) -> f64 {
        if self.sent == 0 || started >= self.at + 2 * BLIND {
            return 1.0;
        }
        (1.0 - f64::from(self.refused) / f64::from(self.sent)).max(DEEPEST)
    }
}

impl CubicRate {
    pub(super) fn new(configured: f64) -> Self {
        Self { configured, cut: None, starts: VecDeque::new() }
    }

    pub(super) fn now(&self, now: Instant) -> f64 {
        let Some(cut) = self.cut else { return self.configured };
        let quiet = now.saturating_duration_since(cut.at + BLIND).as_secs_f64();
        // The curve is flat where it passes the limit found, `level` after its beginning.
        let level = REACH * ((cut.found - cut.left) / self.configured).cbrt();
        let rate = cut.found + self.configured * ((quiet - level) / REACH).powi(3);
        rate.clamp(cut.left, self.configured)
    }

    /// A call started.
    pub(super) fn sent(&mut self, started: Instant) {
        while self.starts.front().is_some_and(|earlier| *earlier + REMEMBERED < started) {
            self.starts.pop_front();
        }
        self.starts.push_back(started);
        if let Some(cut) = self.cut.as_mut().filter(|cut| started >= cut.at && cut.blind(started)) {
            cut.sent += 1;
        }
    }

    /// The calls of the second that ended with this one. While the rate grows they are fewer than the rate has become,
    /// and it is they that were too many.
    fn counted(&self, started: Instant, rate: f64) -> f64 {
        let second =
            self.starts.iter().filter(|start| **start <= started && **start + Duration::from_secs(1) > started);
        f64::from(u32::try_from(second.count()).unwrap_or(u32::MAX)).max(rate * ASKED_FOR).min(rate)
    }

    /// A call that started at `started` was answered "slow down".
    pub(super) fn slow_down(&mut self, started: Instant, now: Instant) -> Option<RateCut> {
        let rate = self.now(now);
        let taken = match &mut self.cut {
            Some(cut) if cut.blind(started) => {
                cut.refused += u32::from(started >= cut.at);
                return None;
            }
            Some(cut) => cut.taken(started),
            None => 1.0,
        };
        let floor = self.configured * FLOOR;
        let found = (self.counted(started, rate) * taken).max(floor);
        let left = (found * CUT).max(floor);
        let told = self.cut.filter(|_| rate < self.configured).map(|cut| cut.told);
        let news = told.is_none_or(|told| left < told * NEWS);
        let told = if news { left } else { told.unwrap_or(left) };
        self.cut = Some(Cut { at: now, left, found, sent: 0, refused: 0, told });
        Some(RateCut { rate: left, news })
    }
}
