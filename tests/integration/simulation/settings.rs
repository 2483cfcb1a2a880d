//! The settings of a system, drawn from a random number generator.
//!
//! Owns: the settings and their probabilities. Must not know: operations.

use super::operation::Watermark;
use super::rng::Rng;

/// `im.timeout`, the smallest value that the configuration accepts.
pub(super) const TIMEOUT_MILLIS: u64 = 1_000;

/// An `im.timeout` with which a pass of a daemon ends before a slow call that IM answers in the end.
pub(super) const LONG_TIMEOUT_MILLIS: u64 = 4_000;

/// The only `removal.max_share` of these systems, in percent, that can trip the removal guard.
pub(super) const GUARDED_SHARE: u64 = 20;

/// The settings of a system. They are small, so that page boundaries and half-filled calls are frequent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// The number of accounts in the table at the beginning. Ten more may be added.
    pub(super) accounts: u64,
    pub(super) page_size: u64,
    pub(super) users_per_call: u64,
    pub(super) max_in_flight: u64,
    pub(super) watermark: Watermark,
    /// imsync reads a view.
    pub(super) view: bool,
    /// The filter casts a text to a number, which raises an error for some rows.
    pub(super) casts: bool,
    pub(super) timpush: bool,
    pub(super) keep_gone: bool,
    pub(super) keep_unmapped: bool,
    /// Every third account is missing in IM until it is imported.
    pub(super) unimported: bool,
    /// `removal.max_share`, in percent.
    pub(super) max_share: u64,
    /// `im.timeout`, in milliseconds.
    pub(super) timeout: u64,
    /// `im.calls_per_second`. The vendor allows half as many again.
    pub(super) calls_per_second: u32,
    /// `schedule.full_every`, in seconds.
    pub(super) full_every: u64,
    /// `schedule.rejected_retry`, in seconds.
    pub(super) rejected_retry: u64,
    /// Whether the faults include calls that are applied after their caller gave up.
    pub(super) late_writes: bool,
}

impl Settings {
    pub(super) fn random(rng: &mut Rng) -> Self {
        Self {
            accounts: rng.between(12, 60),
            page_size: rng.between(3, 7),
            users_per_call: rng.pick(&[1, 2, 3, 5, 20, 100]),
            max_in_flight: rng.pick(&[1, 2, 64]),
            watermark: rng.pick(&[
                Watermark::Zoned,
                Watermark::Zoned,
                Watermark::Zoned,
                Watermark::Local,
                Watermark::Counter,
                Watermark::None,
            ]),
            view: rng.percent(25),
            casts: rng.percent(50),
            timpush: rng.percent(50),
            keep_gone: rng.percent(15),
            keep_unmapped: rng.percent(50),
            unimported: rng.percent(15),
            max_share: rng.pick(&[100, 100, GUARDED_SHARE]),
            timeout: rng.pick(&[TIMEOUT_MILLIS, TIMEOUT_MILLIS, TIMEOUT_MILLIS, TIMEOUT_MILLIS, LONG_TIMEOUT_MILLIS]),
            calls_per_second: rng.pick(&[20, 66, 66]),
            full_every: rng.pick(&[86_400, 86_400, 1]),
            rejected_retry: rng.pick(&[1, 3_600]),
            late_writes: rng.percent(50),
        }
    }
}
