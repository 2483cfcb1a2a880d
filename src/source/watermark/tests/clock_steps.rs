//! A database clock that is set back, seen or unseen, and what must not be taken for that.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{TransactionList, WatermarkPoint, WatermarkTracker};
use super::{counter_list, list_at, pass, tracker_begun_at};
use crate::clock;

const SECOND: i64 = 1_000_000;

/// The database clock shows the second `clock` while the monotonic clock shows the second `monotonic`.
fn list_at_second(clock: i64, monotonic: i64) -> TransactionList {
    let read_between = Some(asked_and_answered(monotonic * 1_000, monotonic * 1_000));
    TransactionList { read_between, ..list_at(clock * SECOND) }
}

/// Two moments of the monotonic clock, in milliseconds.
fn asked_and_answered(asked: i64, answered: i64) -> (Instant, Instant) {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(clock::monotonic);
    let moment = |millis: i64| origin + Duration::from_millis(millis.unsigned_abs());
    (moment(asked), moment(answered))
}

fn seconds(seconds: i64) -> WatermarkPoint {
    WatermarkPoint::At(seconds * SECOND)
}

#[test]
fn a_clock_behind_the_last_list_was_set_back() {
    let mut tracker = tracker_begun_at(1_000);
    pass(&mut tracker, &list_at(2_000));
    assert_eq!(pass(&mut tracker, &list_at(1_500)), WatermarkPoint::At(1_500));
    assert_eq!(tracker.clock_set_back_by(), Some(500));
    assert_eq!(pass(&mut tracker, &list_at(1_600)), WatermarkPoint::At(1_500));
    assert_eq!(tracker.clock_set_back_by(), None);
}

#[test]
fn a_hidden_step_is_found_by_the_monotonic_clock() {
    // A list is taken at 1,000 s. At 1,010 s the clock is set back to 910 s, and a row is committed. The next list is
    // taken at 1,050 s: only the 150 s that passed on the monotonic clock show the step.
    let mut tracker = WatermarkTracker::begin(&list_at_second(1_000, 0));
    assert_eq!(pass(&mut tracker, &list_at_second(1_050, 150)), seconds(900), "the row of 910 s is read");
    assert_eq!(tracker.clock_set_back_by(), Some(100 * SECOND));
    assert_eq!(pass(&mut tracker, &list_at_second(1_060, 160)), seconds(1_050), "only once");
}

#[test]
fn a_failed_pass_remembers_a_step() {
    let mut tracker = WatermarkTracker::begin(&list_at_second(1_000, 0));
    tracker.observe(&list_at_second(1_050, 150)); // fails
    let mut tracker = WatermarkTracker::restore(tracker.save());
    tracker.observe(&list_at_second(1_060, 7)); // another process, with another monotonic clock
    assert_eq!(tracker.clock_set_back_by(), None);
    assert_eq!(tracker.read_from(), seconds(900));
}

#[test]
fn a_transaction_after_a_step_has_a_bound_after_the_step() {
    // It begins at 910 s, before the list of 1,000 s, and is still open in the next list. Its start is not visible.
    let mut tracker = WatermarkTracker::begin(&list_at_second(1_000, 0));
    pass(&mut tracker, &list_at_second(1_050, 150).with_running("3/1"));
    assert_eq!(tracker.watermark(), seconds(900));
    assert_eq!(pass(&mut tracker, &list_at_second(1_060, 160)), seconds(900));
}

#[test]
fn an_open_transaction_may_stamp_rows_after_the_step() {
    // It began at 995 s. After the step it stamps a row with clock_timestamp(), 920 s.
    let mut tracker = WatermarkTracker::begin(&list_at_second(990, 0));
    pass(&mut tracker, &list_at_second(1_000, 10).with_started("3/1", 995 * SECOND));
    pass(&mut tracker, &list_at_second(1_050, 160).with_started("3/1", 995 * SECOND));
    assert_eq!(pass(&mut tracker, &list_at_second(1_060, 170)), seconds(900));
}

#[test]
fn a_step_within_a_reading_is_found_by_the_next_list() {
    // The clock is read at 1,010 s and then set back. 3/1 begins at 910 s and is running in the same list.
    let mut tracker = WatermarkTracker::begin(&list_at_second(1_000, 0));
    assert_eq!(
        pass(&mut tracker, &list_at_second(1_010, 10).with_running("3/1")),
        seconds(1_000),
        "3/1 has not committed"
    );
    assert_eq!(pass(&mut tracker, &list_at_second(1_020, 120)), seconds(910), "and so is what else was written since");
}

#[test]
fn round_trips_slewing_and_suspends_are_no_step() {
    let mut tracker = WatermarkTracker::begin(&TransactionList {
        read_between: Some(asked_and_answered(0, 900)),
        ..list_at(1_000 * SECOND)
    });
    // Read just before the first answer was sent and just after the second question arrived: 8.2 s on the database
    // clock, up to 10 s on ours.
    let slow =
        TransactionList { read_between: Some(asked_and_answered(9_050, 10_000)), ..list_at(1_008 * SECOND + 200_000) };
    assert_eq!(pass(&mut tracker, &slow), seconds(1_000));
    assert_eq!(tracker.clock_set_back_by(), None);
    // A tenth of a second less than ours: a slewed clock. The slack is ten times as long.
    let slewed =
        TransactionList { read_between: Some(asked_and_answered(20_000, 20_000)), ..list_at(1_018 * SECOND + 100_000) };
    pass(&mut tracker, &slewed);
    assert_eq!(tracker.clock_set_back_by(), None);
    // The monotonic clock stood still while this machine was suspended, or the database clock was set forward.
    pass(&mut tracker, &list_at_second(5_000, 30));
    assert_eq!(tracker.clock_set_back_by(), None);
}

#[test]
fn the_largest_possible_step_is_assumed() {
    let mut tracker = WatermarkTracker::begin(&TransactionList {
        read_between: Some(asked_and_answered(0, 500)),
        ..list_at(1_000 * SECOND)
    });
    // Read right after the first question and right before the second answer: 11 s passed, so the step was 12 s.
    let transactions =
        TransactionList { read_between: Some(asked_and_answered(10_000, 11_000)), ..list_at(999 * SECOND) };
    assert_eq!(pass(&mut tracker, &transactions), WatermarkPoint::At(988 * SECOND));
}

#[test]
fn standbys_and_counters_report_no_step() {
    // A standby reports the time of the last replayed commit, which may be an hour old.
    let mut tracker = WatermarkTracker::begin(&TransactionList { read_between: None, ..list_at_second(1_000, 0) });
    pass(&mut tracker, &TransactionList { read_between: None, ..list_at_second(1_001, 3_600) });
    assert_eq!(tracker.clock_set_back_by(), None);
    let mut counter = WatermarkTracker::begin(&TransactionList {
        read_between: Some(asked_and_answered(0, 0)),
        ..counter_list(1_000, 5)
    });
    pass(&mut counter, &TransactionList { read_between: Some(asked_and_answered(10, 10)), ..counter_list(7, 6) });
    assert_eq!((counter.clock_set_back_by(), counter.read_from()), (None, WatermarkPoint::At(6)));
}
