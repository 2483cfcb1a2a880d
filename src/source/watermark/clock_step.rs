//! Whether the database clock was set back between two transaction lists, and by how much.
//!
//! Owns: the comparison of the database clock with the monotonic clock of this process. Must not know: what is read again.

use tokio::time::Instant;

/// By how many microseconds more the monotonic clock must have advanced than the database clock before that counts as a
/// step back.
///
/// A clock that is slewed, or runs slower than ours, never goes back; rows would only be read twice if it were taken for
/// a step. ntpd steps the clock from 128 ms on and slews smaller offsets. A smaller step that is made by hand is at most
/// a tenth of the minimum slack, and steps do not add up, since each comparison starts at the list before.
pub(super) const MIN_CLOCK_STEP: i64 = 100_000;

/// One reading of the database clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockReading {
    /// Microseconds since the Unix epoch.
    pub(super) clock: i64,
    /// The monotonic clock before the question and after the answer; `None` where it is not comparable.
    pub(super) read_between: Option<(Instant, Instant)>,
}

impl ClockReading {
    /// By how many microseconds the database clock was set back since `previous`; 0 when it was not.
    ///
    /// The database read its clock at some moment between our question and its answer. A step is only reported when no
    /// such moments explain the difference, and then it is the largest step that they allow. Without monotonic times,
    /// as in the first list of a process, it is what the database clock alone shows.
    pub(super) fn set_back_since(self, previous: ClockReading) -> i64 {
        let advanced = self.clock.saturating_sub(previous.clock);
        let (shortest, longest) = match (previous.read_between, self.read_between) {
            (Some((asked_before, answered_before)), Some((asked, answered))) => {
                (micros_between(answered_before, asked), micros_between(asked_before, answered))
            }
            _ => (0, 0),
        };
        let is_step = advanced < 0 || shortest.saturating_sub(advanced) > MIN_CLOCK_STEP;
        if is_step { longest.saturating_sub(advanced) } else { 0 }
    }
}

fn micros_between(from: Instant, to: Instant) -> i64 {
    i64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(i64::MAX)
}
