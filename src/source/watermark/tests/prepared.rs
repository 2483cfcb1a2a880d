//! Prepared transactions: between the two queries of a list, under another id, and over restarts of the server.

use chrono::DateTime;

use super::super::{TransactionList, WatermarkPoint, WatermarkTracker};
use super::{list_at, pass, tracker_begun_at};

#[test]
fn preparing_a_transaction_does_not_end_it() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1"));
    assert_eq!(
        pass(&mut tracker, &list_at(300).with_prepared("3/1", "order 5")),
        WatermarkPoint::At(200),
        "prepared is not ended"
    );
    let held = tracker.held_back_by().unwrap();
    assert_eq!((held.pid, held.prepared.as_deref()), (None, Some("order 5")));
    assert_eq!(pass(&mut tracker, &list_at(400)), WatermarkPoint::At(100));
}

#[test]
fn a_prepared_transaction_survives_server_restarts() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1").with_running("4/1"));
    pass(&mut tracker, &list_at(300).with_running("4/1").with_prepared("3/1", "orphan"));
    let restarted = |clock| TransactionList { server_start: 8, ..list_at(clock) };
    // The running transaction ended with the server, the prepared one is listed by its xid, and 4/1 is a new one.
    assert_eq!(
        pass(&mut tracker, &restarted(400).with_running("4/1").with_prepared("-1/733", "orphan")),
        WatermarkPoint::At(100)
    );
    let mut tracker = WatermarkTracker::restore(tracker.save());
    let again = |clock| TransactionList { server_start: 9, ..list_at(clock) };
    pass(&mut tracker, &again(500).with_prepared("-1/733", "orphan"));
    assert_eq!(pass(&mut tracker, &again(600)), WatermarkPoint::At(100), "its bound survives both restarts");
}

#[test]
fn a_prepared_transaction_keeps_its_bound_over_restarts() {
    let mut tracker = tracker_begun_at(100);
    let restarted = |clock, start| TransactionList { server_start: start, ..list_at(clock) };
    pass(&mut tracker, &restarted(200, 8).with_prepared("-1/700", "old"));
    pass(&mut tracker, &restarted(300, 8).with_prepared("-1/700", "old").with_prepared("-1/733", "young"));
    assert_eq!(pass(&mut tracker, &restarted(400, 8).with_prepared("-1/733", "young")), WatermarkPoint::At(100));
    pass(&mut tracker, &restarted(500, 8).with_running("5/1").with_prepared("-1/733", "young"));
    let started_after = tracker
        .save()
        .open
        .iter()
        .find(|transaction| transaction.id == "-1/733")
        .map(|transaction| transaction.started_after);
    pass(&mut tracker, &restarted(600, 9).with_prepared("-1/733", "young"));
    assert_eq!(tracker.save().open.len(), 1);
    assert_eq!(tracker.save().open.first().map(|transaction| transaction.started_after), started_after);
    let since = tracker.held_back_by().unwrap().since;
    assert_eq!(since, DateTime::from_timestamp_micros(300).unwrap(), "still the one that was first listed at 300");
}

#[test]
fn a_visible_start_passes_to_the_prepared_transaction() {
    // The second transaction of one message, stamped long before the last list, is prepared between the two queries.
    // The server does not keep its id.
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200));
    assert_eq!(
        pass(&mut tracker, &list_at(300).with_started("3/1", 50).with_prepared("-1/55", "g")),
        WatermarkPoint::At(200)
    );
    assert_eq!(pass(&mut tracker, &list_at(400).with_prepared("-1/55", "g")), WatermarkPoint::At(50), "3/1 has ended");
    assert_eq!(
        pass(&mut tracker, &list_at(500)),
        WatermarkPoint::At(50),
        "its bound passed to the one that commits now"
    );
}

#[test]
fn a_transaction_in_both_lists_counts_once() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1").with_prepared("3/1", "g"));
    assert_eq!(tracker.save().open.len(), 1);
    pass(&mut tracker, &list_at(300).with_prepared("3/1", "g"));
    assert_eq!(pass(&mut tracker, &list_at(400)), WatermarkPoint::At(100));
}

#[test]
fn a_prepared_transaction_under_a_new_id_keeps_its_bound() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1"));
    pass(&mut tracker, &list_at(300).with_running("3/1").with_prepared("-1/55", "g")); // one transaction under two ids
    assert_eq!(pass(&mut tracker, &list_at(400).with_prepared("-1/55", "g")), WatermarkPoint::At(100));
    assert_eq!(
        pass(&mut tracker, &list_at(500)),
        WatermarkPoint::At(100),
        "the bound of the running transaction passed to it"
    );
}

#[test]
fn short_prepared_transactions_pass_no_old_bound_on() {
    let mut tracker = tracker_begun_at(100);
    pass(&mut tracker, &list_at(200).with_running("3/1"));
    pass(&mut tracker, &list_at(300).with_prepared("3/1", "a")); // the server keeps ids
    let mut clock = 300;
    for number in 0..20 {
        clock += 100;
        let from = pass(&mut tracker, &list_at(clock).with_running("9/9").with_prepared(&format!("4/{number}"), "b"));
        if number > 2 {
            assert_eq!(from, WatermarkPoint::At(clock - 200), "the bound of its predecessor, no older one");
        }
    }
}
