//! A watermark column of type bigint: no start times, values that decrease or jump, an empty table.

use super::super::{TransactionList, WatermarkPoint, WatermarkTracker};
use super::{counter_list, pass};

#[test]
fn a_counter_has_no_start_times() {
    let mut tracker = WatermarkTracker::begin(&counter_list(1, 1_000));
    assert_eq!(pass(&mut tracker, &counter_list(2, 1_010).with_started("3/1", 5)), WatermarkPoint::At(1_000));
    assert_eq!(pass(&mut tracker, &counter_list(3, 1_020)), WatermarkPoint::At(1_000));
    assert_eq!(pass(&mut tracker, &counter_list(4, 1_020)), WatermarkPoint::At(1_020));
}

#[test]
fn a_decreased_counter_is_remembered_over_a_failed_pass() {
    let mut tracker = WatermarkTracker::begin(&counter_list(1, 1_000));
    tracker.observe(&counter_list(2, 10).with_running("3/1"));
    assert!(tracker.counter_decreased());
    tracker.observe(&counter_list(3, 11).with_running("3/1")); // the pass failed
    assert!(tracker.counter_decreased());
    let mut tracker = WatermarkTracker::restore(tracker.save());
    assert!(tracker.counter_decreased());
    tracker.complete();
    assert!(tracker.counter_decreased(), "the full pass is not recorded as due yet");
    tracker.acknowledge_decrease();
    assert!(!tracker.counter_decreased());
    assert_eq!(pass(&mut tracker, &counter_list(4, 12)), WatermarkPoint::Beginning, "3/1 may have any value");
}

#[test]
fn a_jump_of_the_counter_is_reported() {
    let mut tracker = WatermarkTracker::begin(&counter_list(1, 1_000));
    tracker.observe(&counter_list(2, 50_000));
    assert_eq!(tracker.counter_jump(), None);
    tracker.observe(&counter_list(3, 1_700_000_000_000));
    assert_eq!(tracker.counter_jump(), Some((50_000, 1_700_000_000_000)));
}

#[test]
fn an_empty_counted_table_is_read_from_the_beginning() {
    let empty = TransactionList { taken_at: WatermarkPoint::Beginning, ..counter_list(1, 0) };
    let mut tracker = WatermarkTracker::begin(&empty);
    pass(&mut tracker, &TransactionList { clock: 2, ..empty }.with_running("3/1"));
    pass(&mut tracker, &counter_list(3, 5).with_running("3/1"));
    assert_eq!(
        pass(&mut tracker, &counter_list(4, 5)),
        WatermarkPoint::Beginning,
        "3/1 may have written the first row of the table"
    );
}

#[test]
fn a_bound_at_the_beginning_is_not_a_missing_bound() {
    // A prepared transaction of unknown origin takes over both: a bound at the beginning (the counter of an empty table)
    // and the mark of the first list. Its bound must still lower `read_from`.
    let empty = |clock| TransactionList { taken_at: WatermarkPoint::Beginning, ..counter_list(clock, 0) };
    let mut tracker = WatermarkTracker::begin(&empty(1).with_running("3/1"));
    pass(&mut tracker, &empty(2).with_running("3/1").with_running("4/1"));
    pass(&mut tracker, &counter_list(3, 5).with_running("3/1").with_prepared("-1/9", "g"));
    pass(&mut tracker, &counter_list(4, 6).with_running("3/1").with_prepared("-1/9", "g"));
    assert_eq!(pass(&mut tracker, &counter_list(5, 7).with_running("3/1")), WatermarkPoint::Beginning);
}
