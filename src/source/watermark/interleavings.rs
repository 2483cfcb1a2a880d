//! The interleavings that each lost a row somewhere, by name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use super::{
    HeldBackBy, PreparedTransaction, RunningTransaction, SavedWatermark, TransactionList, WatermarkBound,
    WatermarkKind, WatermarkTracker,
};
use crate::clock;
use chrono::DateTime;

fn at(clock: i64) -> TransactionList {
    TransactionList {
        kind: WatermarkKind::Timestamp,
        clock,
        candidate: WatermarkBound::At(clock),
        server_start: 7,
        between: None,
        running: Vec::new(),
        prepared: Vec::new(),
    }
}

fn counted(clock: i64, largest: i64) -> TransactionList {
    TransactionList { kind: WatermarkKind::Counter, candidate: WatermarkBound::At(largest), ..at(clock) }
}

impl TransactionList {
    fn with(mut self, id: &str) -> Self {
        let pid = id.split('/').next().unwrap().parse().unwrap();
        self.running.push(RunningTransaction {
            id: id.to_owned(),
            pid,
            started: None,
            application: Some("psql".to_owned()),
        });
        self
    }

    fn started(mut self, id: &str, started: i64) -> Self {
        self = self.with(id);
        self.running.last_mut().unwrap().started = Some(started);
        self
    }

    fn prepared(mut self, id: &str, gid: &str) -> Self {
        self.prepared.push(PreparedTransaction { id: id.to_owned(), gid: gid.to_owned(), prepared_at: self.clock });
        self
    }
}

/// A sync whose first transaction list was empty.
fn begun(clock: i64) -> WatermarkTracker {
    WatermarkTracker::begin(&at(clock))
}

fn pass(tracker: &mut WatermarkTracker, transactions: &TransactionList) -> WatermarkBound {
    tracker.observe(transactions);
    let from = tracker.read_from();
    tracker.complete();
    from
}

#[test]
fn a_late_commit_is_read_from_the_last_fence_that_did_not_hold_it() {
    let mut tracker = begun(100);
    assert_eq!(pass(&mut tracker, &at(200).with("3/1")), WatermarkBound::At(100));
    assert_eq!(pass(&mut tracker, &at(300).with("3/1")), WatermarkBound::At(200), "still open: nothing to read again");
    assert_eq!(pass(&mut tracker, &at(400)), WatermarkBound::At(100), "ended: its rows are dated 100 or later");
    assert_eq!(pass(&mut tracker, &at(500)), WatermarkBound::At(400));
}

#[test]
fn a_short_transaction_among_long_open_ones_is_read_by_the_next_pass() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1"));
    pass(&mut tracker, &at(300).with("3/1").with("4/1"));
    assert_eq!(
        pass(&mut tracker, &at(400).with("3/1")),
        WatermarkBound::At(200),
        "the short one's started_after, not the long one's"
    );
    assert_eq!(pass(&mut tracker, &at(500).with("3/1")), WatermarkBound::At(400));
    assert_eq!(pass(&mut tracker, &at(600)), WatermarkBound::At(100));
}

#[test]
fn a_session_idle_in_transaction_that_holds_nothing_yet_holds_its_floor() {
    // It has begun and only thinks; its stamp is fixed all the same.
    let mut tracker = begun(100);
    for clock in [200, 300, 400] {
        pass(&mut tracker, &at(clock).with("3/1"));
    }
    assert_eq!(tracker.durable(), WatermarkBound::At(100));
    let held = tracker.held_back_by().unwrap();
    let since = DateTime::from_timestamp_micros(200).unwrap();
    let expected = HeldBackBy { pid: Some(3), prepared: None, application: Some("psql".to_owned()), since };
    assert_eq!(held, expected);
    assert_eq!(pass(&mut tracker, &at(500)), WatermarkBound::At(100));
    assert_eq!(tracker.held_back_by(), None);
}

#[test]
fn a_failed_pass_swallows_no_floor() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1"));
    tracker.observe(&at(300)); // it has ended, but this pass fails
    tracker.observe(&at(400)); // and so does this one
    assert_eq!(pass(&mut tracker, &at(500)), WatermarkBound::At(100));
    assert_eq!(pass(&mut tracker, &at(600)), WatermarkBound::At(500));
}

#[test]
fn a_failed_pass_gives_floors_too() {
    let mut tracker = begun(100);
    tracker.observe(&at(200)); // fails
    pass(&mut tracker, &at(300).with("3/1"));
    pass(&mut tracker, &at(400).with("3/1"));
    assert_eq!(pass(&mut tracker, &at(500)), WatermarkBound::At(200), "it was not in progress at 200");
}

#[test]
fn a_visible_start_lowers_a_floor_and_never_raises_it() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).started("3/1", 90).started("4/1", 150));
    assert_eq!(pass(&mut tracker, &at(300).started("4/1", 150)), WatermarkBound::At(90));
    assert_eq!(pass(&mut tracker, &at(400)), WatermarkBound::At(100));
}

#[test]
fn the_first_fence_asks_for_one_more_full_pass() {
    let mut tracker = WatermarkTracker::begin(&at(100).with("3/1").started("4/1", 40));
    assert_eq!(tracker.read_from(), WatermarkBound::At(100));
    assert_eq!(tracker.durable(), WatermarkBound::Beginning);
    assert!(!tracker.first_list_cleared());
    assert_eq!(
        pass(&mut tracker, &at(200).started("4/1", 40)),
        WatermarkBound::At(100),
        "the whole table is not read for it"
    );
    assert!(!tracker.first_list_cleared(), "4/1 is of the first transaction list too");
    assert_eq!(pass(&mut tracker, &at(300).with("5/1")), WatermarkBound::At(40), "a visible start is a bound");
    assert!(tracker.first_list_cleared(), "5/1 is not of the first transaction list");
    let mut tracker = WatermarkTracker::restore(tracker.save());
    assert!(tracker.first_list_cleared(), "remembered until it is noted");
    tracker.note_first_list_cleared();
    pass(&mut tracker, &at(400));
    assert!(!tracker.first_list_cleared(), "once");
    assert!(!begun(100).first_list_cleared(), "an empty first transaction list asks for nothing");
}

#[test]
fn a_prepared_transaction_stays_the_member_it_was() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1"));
    assert_eq!(
        pass(&mut tracker, &at(300).prepared("3/1", "order 5")),
        WatermarkBound::At(200),
        "prepared is not ended"
    );
    let held = tracker.held_back_by().unwrap();
    assert_eq!((held.pid, held.prepared.as_deref()), (None, Some("order 5")));
    assert_eq!(pass(&mut tracker, &at(400)), WatermarkBound::At(100));
}

#[test]
fn a_prepared_orphan_survives_the_server() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1").with("4/1"));
    pass(&mut tracker, &at(300).with("4/1").prepared("3/1", "orphan"));
    let restarted = |clock| TransactionList { server_start: 8, ..at(clock) };
    // The running one is gone with the server; the other shows its transaction id now; 4/1 is somebody new.
    assert_eq!(pass(&mut tracker, &restarted(400).with("4/1").prepared("-1/733", "orphan")), WatermarkBound::At(100));
    let mut tracker = WatermarkTracker::restore(tracker.save());
    let again = |clock| TransactionList { server_start: 9, ..at(clock) };
    pass(&mut tracker, &again(500).prepared("-1/733", "orphan"));
    assert_eq!(pass(&mut tracker, &again(600)), WatermarkBound::At(100), "its started_after outlived both restarts");
}

#[test]
fn an_orphan_keeps_its_own_floor_over_restarts() {
    let mut tracker = begun(100);
    let restarted = |clock, start| TransactionList { server_start: start, ..at(clock) };
    pass(&mut tracker, &restarted(200, 8).prepared("-1/700", "old"));
    pass(&mut tracker, &restarted(300, 8).prepared("-1/700", "old").prepared("-1/733", "young"));
    assert_eq!(pass(&mut tracker, &restarted(400, 8).prepared("-1/733", "young")), WatermarkBound::At(100));
    pass(&mut tracker, &restarted(500, 8).with("5/1").prepared("-1/733", "young"));
    let started_after =
        tracker.save().open.iter().find(|member| member.id == "-1/733").map(|member| member.started_after);
    pass(&mut tracker, &restarted(600, 9).prepared("-1/733", "young"));
    assert_eq!(tracker.save().open.len(), 1);
    assert_eq!(tracker.save().open.first().map(|member| member.started_after), started_after);
    let since = tracker.held_back_by().unwrap().since;
    assert_eq!(since, DateTime::from_timestamp_micros(300).unwrap(), "still the one that was seen first at 300");
}

#[test]
fn nobody_who_runs_after_a_restart_of_the_server_ran_before_it() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1"));
    let restarted = |clock| TransactionList { server_start: 8, ..at(clock) };
    // Ids and process ids begin anew.
    assert_eq!(pass(&mut tracker, &restarted(300).with("3/1")), WatermarkBound::At(100), "what ran before has ended");
    assert_eq!(pass(&mut tracker, &restarted(400)), WatermarkBound::At(200), "this one began after 200");
}

#[test]
fn a_visible_start_passes_to_what_was_prepared() {
    // The second transaction of one message, stamped long before the last transaction list, is prepared between the two lists of a
    // server that does not keep the id.
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200));
    assert_eq!(pass(&mut tracker, &at(300).started("3/1", 50).prepared("-1/55", "g")), WatermarkBound::At(200));
    assert_eq!(pass(&mut tracker, &at(400).prepared("-1/55", "g")), WatermarkBound::At(50), "3/1 has ended");
    assert_eq!(
        pass(&mut tracker, &at(500)),
        WatermarkBound::At(50),
        "its started_after had passed to the one that commits now"
    );
}

#[test]
fn prepared_between_the_two_lists_it_is_seen_in_both() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1").prepared("3/1", "g"));
    assert_eq!(tracker.save().open.len(), 1);
    pass(&mut tracker, &at(300).prepared("3/1", "g"));
    assert_eq!(pass(&mut tracker, &at(400)), WatermarkBound::At(100));
}

#[test]
fn prepared_between_the_two_lists_of_a_server_that_does_not_keep_the_id() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1"));
    pass(&mut tracker, &at(300).with("3/1").prepared("-1/55", "g")); // one transaction under two ids
    assert_eq!(pass(&mut tracker, &at(400).prepared("-1/55", "g")), WatermarkBound::At(100));
    assert_eq!(
        pass(&mut tracker, &at(500)),
        WatermarkBound::At(100),
        "the vanished member's started_after passed to it"
    );
}

#[test]
fn short_prepared_transactions_hand_no_old_floor_on() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1"));
    pass(&mut tracker, &at(300).prepared("3/1", "a")); // the server keeps ids
    let mut clock = 300;
    for number in 0..20 {
        clock += 100;
        let from = pass(&mut tracker, &at(clock).with("9/9").prepared(&format!("4/{number}"), "b"));
        if number > 2 {
            assert_eq!(from, WatermarkBound::At(clock - 200), "its predecessor's started_after, no older one");
        }
    }
}

#[test]
fn a_virtual_id_that_comes_round_is_another_transaction() {
    let mut tracker = begun(100);
    pass(&mut tracker, &at(200).with("3/1"));
    let mut other = at(300).with("3/1");
    other.running[0].pid = 4711;
    assert_eq!(pass(&mut tracker, &other), WatermarkBound::At(100), "the old one has ended");
    assert_eq!(pass(&mut tracker, &at(400)), WatermarkBound::At(200), "the new one began after 200");
}

#[test]
fn a_counter_has_no_start_times() {
    let mut tracker = WatermarkTracker::begin(&counted(1, 1_000));
    assert_eq!(pass(&mut tracker, &counted(2, 1_010).started("3/1", 5)), WatermarkBound::At(1_000));
    assert_eq!(pass(&mut tracker, &counted(3, 1_020)), WatermarkBound::At(1_000));
    assert_eq!(pass(&mut tracker, &counted(4, 1_020)), WatermarkBound::At(1_020));
}

#[test]
fn a_counter_that_falls_is_remembered_over_a_failed_pass() {
    let mut tracker = WatermarkTracker::begin(&counted(1, 1_000));
    tracker.observe(&counted(2, 10).with("3/1"));
    assert!(tracker.fell());
    tracker.observe(&counted(3, 11).with("3/1")); // the pass failed
    assert!(tracker.fell());
    let mut tracker = WatermarkTracker::restore(tracker.save());
    assert!(tracker.fell());
    tracker.complete();
    assert!(!tracker.fell());
    assert_eq!(pass(&mut tracker, &counted(4, 12)), WatermarkBound::Beginning, "3/1 may hold any value");
}

#[test]
fn a_counter_that_jumps_is_told() {
    let mut tracker = WatermarkTracker::begin(&counted(1, 1_000));
    tracker.observe(&counted(2, 50_000));
    assert_eq!(tracker.jumped(), None);
    tracker.observe(&counted(3, 1_700_000_000_000));
    assert_eq!(tracker.jumped(), Some((50_000, 1_700_000_000_000)));
}

#[test]
fn an_empty_counted_table_is_read_from_the_beginning() {
    let empty = TransactionList { candidate: WatermarkBound::Beginning, ..counted(1, 0) };
    let mut tracker = WatermarkTracker::begin(&empty);
    pass(&mut tracker, &TransactionList { clock: 2, ..empty }.with("3/1"));
    pass(&mut tracker, &counted(3, 5).with("3/1"));
    assert_eq!(
        pass(&mut tracker, &counted(4, 5)),
        WatermarkBound::Beginning,
        "what 3/1 wrote may be the very first row"
    );
}

#[test]
fn an_empty_table_is_not_taken_for_the_first_fence() {
    // A prepared transaction of unknown origin inherits both: a started_after at the beginning (an empty table's counter) and
    // the suspicion that it is of the first transaction list. The started_after must still lower what is read.
    let empty = |clock| TransactionList { candidate: WatermarkBound::Beginning, ..counted(clock, 0) };
    let mut tracker = WatermarkTracker::begin(&empty(1).with("3/1"));
    pass(&mut tracker, &empty(2).with("3/1").with("4/1"));
    pass(&mut tracker, &counted(3, 5).with("3/1").prepared("-1/9", "g"));
    pass(&mut tracker, &counted(4, 6).with("3/1").prepared("-1/9", "g"));
    assert_eq!(pass(&mut tracker, &counted(5, 7).with("3/1")), WatermarkBound::Beginning);
}

#[test]
fn a_clock_set_back_below_the_last_fence_shows_by_itself() {
    let mut tracker = begun(1_000);
    pass(&mut tracker, &at(2_000));
    assert_eq!(pass(&mut tracker, &at(1_500)), WatermarkBound::At(1_500));
    assert_eq!(tracker.stepped_back(), Some(500));
    assert_eq!(pass(&mut tracker, &at(1_600)), WatermarkBound::At(1_500));
    assert_eq!(tracker.stepped_back(), None);
}

const SECOND: i64 = 1_000_000;

/// The database shows this second while our monotonic clock stands at that one.
fn shown(clock: i64, monotonic: i64) -> TransactionList {
    TransactionList { between: Some(between(monotonic * 1_000, monotonic * 1_000)), ..at(clock * SECOND) }
}

/// In milliseconds of our monotonic clock.
fn between(asked: i64, answered: i64) -> (Instant, Instant) {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(clock::monotonic);
    let moment = |millis: i64| origin + Duration::from_millis(millis.unsigned_abs());
    (moment(asked), moment(answered))
}

fn seconds(seconds: i64) -> WatermarkBound {
    WatermarkBound::At(seconds * SECOND)
}

#[test]
fn a_clock_set_back_and_past_the_last_fence_again_lowers_what_was_read_by_as_much() {
    // 1,000 s: a transaction list. 1,010 s: set back to 910 s, where somebody writes and commits. The next transaction list is at 1,050 s, so
    // nothing looks wrong but that 150 s have gone by on our clock.
    let mut tracker = WatermarkTracker::begin(&shown(1_000, 0));
    assert_eq!(pass(&mut tracker, &shown(1_050, 150)), seconds(900), "the row of 910 is read");
    assert_eq!(tracker.stepped_back(), Some(100 * SECOND));
    assert_eq!(pass(&mut tracker, &shown(1_060, 160)), seconds(1_050), "once");
}

#[test]
fn a_step_that_a_failed_pass_saw_is_not_forgotten() {
    let mut tracker = WatermarkTracker::begin(&shown(1_000, 0));
    tracker.observe(&shown(1_050, 150)); // fails
    let mut tracker = WatermarkTracker::restore(tracker.save());
    tracker.observe(&shown(1_060, 7)); // another process: its clock says nothing about the first one's
    assert_eq!(tracker.stepped_back(), None);
    assert_eq!(tracker.read_from(), seconds(900));
}

#[test]
fn what_begins_after_a_step_has_a_floor_after_the_step() {
    // It begins at 910 s, behind the transaction list of 1,000 s, and is still open at the next one; its start is not to be seen.
    let mut tracker = WatermarkTracker::begin(&shown(1_000, 0));
    pass(&mut tracker, &shown(1_050, 150).with("3/1"));
    assert_eq!(tracker.durable(), seconds(900));
    assert_eq!(pass(&mut tracker, &shown(1_060, 160)), seconds(900));
}

#[test]
fn what_was_open_at_a_step_may_stamp_with_the_wall_clock() {
    // It began at 995 s. After the step it stamps a row with clock_timestamp(), 920 s.
    let mut tracker = WatermarkTracker::begin(&shown(990, 0));
    pass(&mut tracker, &shown(1_000, 10).started("3/1", 995 * SECOND));
    pass(&mut tracker, &shown(1_050, 160).started("3/1", 995 * SECOND));
    assert_eq!(pass(&mut tracker, &shown(1_060, 170)), seconds(900));
}

#[test]
fn a_step_between_the_clock_and_the_lists_is_the_next_fences() {
    // The clock is read, 1,010 s; it is set back; 3/1 begins at 910 s and is in the running list of the same transaction list.
    let mut tracker = WatermarkTracker::begin(&shown(1_000, 0));
    assert_eq!(pass(&mut tracker, &shown(1_010, 10).with("3/1")), seconds(1_000), "3/1 is not to be seen yet");
    assert_eq!(pass(&mut tracker, &shown(1_020, 120)), seconds(910), "what else was written since, too");
}

#[test]
fn round_trips_slewing_and_pauses_are_no_step() {
    let mut tracker =
        WatermarkTracker::begin(&TransactionList { between: Some(between(0, 900)), ..at(1_000 * SECOND) });
    // Read just before the first answer left and just after the second question came: 8.2 s, where ours saw up to 10.
    let slow = TransactionList { between: Some(between(9_050, 10_000)), ..at(1_008 * SECOND + 200_000) };
    assert_eq!(pass(&mut tracker, &slow), seconds(1_000));
    assert_eq!(tracker.stepped_back(), None);
    // A tenth of a second less than ours: a clock that is slewed, which the slack covers ten times over.
    let slewed = TransactionList { between: Some(between(20_000, 20_000)), ..at(1_018 * SECOND + 100_000) };
    pass(&mut tracker, &slewed);
    assert_eq!(tracker.stepped_back(), None);
    // Ours stood still while this machine slept, or theirs was set forward.
    pass(&mut tracker, &shown(5_000, 30));
    assert_eq!(tracker.stepped_back(), None);
}

#[test]
fn a_step_is_taken_for_the_most_that_it_can_be() {
    let mut tracker =
        WatermarkTracker::begin(&TransactionList { between: Some(between(0, 500)), ..at(1_000 * SECOND) });
    // Read right after the first question, and right before the second answer: 11 s went by, and 12 s were taken back.
    let transactions = TransactionList { between: Some(between(10_000, 11_000)), ..at(999 * SECOND) };
    assert_eq!(pass(&mut tracker, &transactions), WatermarkBound::At(988 * SECOND));
}

#[test]
fn a_clock_that_is_none_says_nothing() {
    // A standby shows the last replayed commit: an hour may go by without one.
    let mut tracker = WatermarkTracker::begin(&TransactionList { between: None, ..shown(1_000, 0) });
    pass(&mut tracker, &TransactionList { between: None, ..shown(1_001, 3_600) });
    assert_eq!(tracker.stepped_back(), None);
    let mut counter = WatermarkTracker::begin(&TransactionList { between: Some(between(0, 0)), ..counted(1_000, 5) });
    pass(&mut counter, &TransactionList { between: Some(between(10, 10)), ..counted(7, 6) });
    assert_eq!((counter.stepped_back(), counter.read_from()), (None, WatermarkBound::At(6)));
}

#[test]
fn what_is_saved_is_read_back_by_other_releases_and_only_when_understood() {
    let mut tracker = WatermarkTracker::begin(&at(100).with("3/1"));
    tracker.observe(&at(200).with("3/1").prepared("5/2", "g"));
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
