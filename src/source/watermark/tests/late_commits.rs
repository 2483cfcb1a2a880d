//! Transactions that commit after a pass has read past their stamps, failed passes, and restarts.

use chrono::DateTime;

use super::super::{HeldBackBy, SavedWatermark, TransactionList, WatermarkPoint, WatermarkTracker};
use super::{list_at, pass, tracker_begun_at};

#[test]
fn a_late_commit_is_read_from_the_last_list_without_it() {
    let mut tracker = tracker_begun_at(100);
    assert_eq!(pass(&mut tracker, &list_at(200).with_running("3/1")), WatermarkPoint::At(100));
    assert_eq!(
        pass(&mut tracker, &list_at(300).with_running("3/1")),
        WatermarkPoint::At(200),
        "still open: no row is read again"
    );
    assert_eq!(
        pass(&mut tracker, &list_at(400)),
        WatermarkPoint::At(100),
        "ended: the stamps of its rows are 100 or later"
    );
    assert_eq!(pass(&mut tracker, &list_at(500)), WatermarkPoint::At(400));
}

#[test]
fn a_short_transaction_is_read_before_the_long_ones_end() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1"));
    pass(&mut tracker, &list_at(300).with_running("3/1").with_running("4/1"));
    assert_eq!(
        pass(&mut tracker, &list_at(400).with_running("3/1")),
        WatermarkPoint::At(200),
        "the bound of the short transaction, not of the long one"
    );
    assert_eq!(pass(&mut tracker, &list_at(500).with_running("3/1")), WatermarkPoint::At(400));
    assert_eq!(pass(&mut tracker, &list_at(600)), WatermarkPoint::At(100));
}

#[test]
fn an_idle_transaction_holds_the_watermark_back() {
    // It has written nothing yet, but the stamp of its rows is fixed.
    let mut tracker = tracker_begun_at(100);
    for clock in [200, 300, 400] {
        pass(&mut tracker, &list_at(clock).with_running("3/1"));
    }
    assert_eq!(tracker.watermark(), WatermarkPoint::At(100));
    let held = tracker.held_back_by().unwrap();
    let since = DateTime::from_timestamp_micros(200).unwrap();
    let expected = HeldBackBy { pid: Some(3), prepared: None, application: Some("psql".to_owned()), since };
    assert_eq!(held, expected);
    assert_eq!(pass(&mut tracker, &list_at(500)), WatermarkPoint::At(100));
    assert_eq!(tracker.held_back_by(), None);
}

#[test]
fn a_failed_pass_loses_no_bound() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1"));
    tracker.observe(&list_at(300)); // it has ended, but this pass fails
    tracker.observe(&list_at(400)); // and so does this one
    assert_eq!(pass(&mut tracker, &list_at(500)), WatermarkPoint::At(100));
    assert_eq!(pass(&mut tracker, &list_at(600)), WatermarkPoint::At(500));
}

#[test]
fn the_list_of_a_failed_pass_bounds_later_transactions() {
    let mut tracker = tracker_begun_at(100);
    tracker.observe(&list_at(200)); // fails
    pass(&mut tracker, &list_at(300).with_running("3/1"));
    pass(&mut tracker, &list_at(400).with_running("3/1"));
    assert_eq!(pass(&mut tracker, &list_at(500)), WatermarkPoint::At(200), "it was not open at 200");
}

#[test]
fn a_visible_start_lowers_a_bound_and_never_raises_it() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_started("3/1", 90).with_started("4/1", 150));
    assert_eq!(pass(&mut tracker, &list_at(300).with_started("4/1", 150)), WatermarkPoint::At(90));
    assert_eq!(pass(&mut tracker, &list_at(400)), WatermarkPoint::At(100));
}

#[test]
fn transactions_of_the_first_list_require_one_full_pass() {
    let mut tracker = WatermarkTracker::begin(&list_at(100).with_running("3/1").with_started("4/1", 40));
    assert_eq!(tracker.read_from(), WatermarkPoint::At(100));
    assert_eq!(tracker.watermark(), WatermarkPoint::Beginning);
    assert!(!tracker.initial_transactions_ended());
    assert_eq!(
        pass(&mut tracker, &list_at(200).with_started("4/1", 40)),
        WatermarkPoint::At(100),
        "the transaction without a bound does not cause a read of the whole table"
    );
    assert!(!tracker.initial_transactions_ended(), "4/1 was open in the first list too");
    assert_eq!(
        pass(&mut tracker, &list_at(300).with_running("5/1")),
        WatermarkPoint::At(40),
        "a visible start is a bound"
    );
    assert!(tracker.initial_transactions_ended(), "5/1 was not open in the first list");
    let mut tracker = WatermarkTracker::restore(tracker.save());
    assert!(tracker.initial_transactions_ended(), "remembered until it is acknowledged");
    tracker.acknowledge_initial_ended();
    pass(&mut tracker, &list_at(400));
    assert!(!tracker.initial_transactions_ended(), "only once");
    assert!(!tracker_begun_at(100).initial_transactions_ended(), "an empty first list requires nothing");
}

#[test]
fn no_running_transaction_survives_a_server_restart() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1"));
    let restarted = |clock| TransactionList { server_start: 8, ..list_at(clock) };
    // Virtual ids and process ids start again.
    assert_eq!(
        pass(&mut tracker, &restarted(300).with_running("3/1")),
        WatermarkPoint::At(100),
        "what ran before the restart has ended"
    );
    assert_eq!(pass(&mut tracker, &restarted(400)), WatermarkPoint::At(200), "this one began after 200");
}

#[test]
fn a_virtual_id_with_another_pid_is_another_transaction() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1"));
    let mut other = list_at(300).with_running("3/1");
    other.running[0].pid = 4711;
    assert_eq!(pass(&mut tracker, &other), WatermarkPoint::At(100), "the old one has ended");
    assert_eq!(pass(&mut tracker, &list_at(400)), WatermarkPoint::At(200), "the new one began after 200");
}

#[test]
fn other_releases_read_a_saved_watermark_of_their_version() {
    let mut tracker = WatermarkTracker::begin(&list_at(100).with_running("3/1"));
    tracker.observe(&list_at(200).with_running("3/1").with_prepared("5/2", "g"));
    let saved = tracker.save();
    let json = serde_json::to_string(&saved).unwrap();
    assert_eq!(serde_json::from_str::<SavedWatermark>(&json).unwrap(), saved);
    let mut newer: serde_json::Value = serde_json::from_str(&json).unwrap();
    newer["something_new"] = serde_json::json!(1);
    newer["open"][0]["more"] = serde_json::json!("x");
    assert_eq!(serde_json::from_value::<SavedWatermark>(newer.clone()).unwrap(), saved);
    newer["v"] = serde_json::json!(2);
    assert!(serde_json::from_value::<SavedWatermark>(newer).is_err());
}
