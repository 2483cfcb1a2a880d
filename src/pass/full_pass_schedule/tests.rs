//! When a full pass falls due, which requests it fulfils, and which positions are resumed.
//!
//! Owns: cases of the schedule alone. Must not know: the database, the steps of a pass.

use std::time::Duration;

use serde_json::json;

use super::{COUNTER_FELL, FullOptions, FullPassKey, FullPassPosition, FullPassSchedule, due_at_start};
use crate::clock;

fn key() -> FullPassKey {
    FullPassKey {
        options: FullOptions::default(),
        mapping: "m".to_owned(),
        watermark: "w".to_owned(),
        generation: 1,
        removals_are_stored: true,
    }
}

fn position(request: i64, age: Duration) -> FullPassPosition {
    FullPassPosition { key: key(), request, began_at: clock::now_utc() - age, after: "u7".to_owned(), done: 7 }
}

fn schedule(every: Option<Duration>, due: Option<&str>, position: Option<FullPassPosition>) -> FullPassSchedule {
    let position = position.map(|position| serde_json::to_value(position).expect("a position is JSON"));
    FullPassSchedule::new(every, due.map(str::to_owned), 1, None).with_position(position)
}

#[test]
fn reasons_at_the_start_of_a_process() {
    let same = (Some("f"), "f");
    assert_eq!(due_at_start(None, same, same), None);
    assert_eq!(due_at_start(Some("stored"), same, same).as_deref(), Some("stored"));
    assert!(due_at_start(None, (None, "f"), same).expect("due").contains("first pass"));
    assert!(due_at_start(None, (Some("e"), "f"), same).expect("due").contains("mapping"));
    assert!(due_at_start(None, same, (None, "f")).expect("due").contains("watermark column"));
    assert!(due_at_start(None, same, (Some("e"), "f")).expect("due").contains("watermark column"));
}

#[tokio::test(start_paused = true)]
async fn falls_due_when_full_every_is_over() {
    let every = Duration::from_mins(1);
    let mut schedule = schedule(Some(every), None, None);
    assert!(schedule.due_now().is_some(), "no full pass has ended yet");
    let fulfilled = schedule.fulfilled_by_pass_from_now();
    schedule.note_completed(fulfilled);
    assert_eq!(schedule.due_now(), None);
    tokio::time::advance(every).await;
    assert_eq!(schedule.due_now().as_deref(), Some("schedule.full_every is over"));
    assert_eq!(schedule.requested(), None, "this reason is not stored");
}

#[tokio::test(start_paused = true)]
async fn a_request_during_a_pass_is_not_fulfilled_by_it() {
    let mut schedule = schedule(None, Some("mapping"), None);
    let fulfilled = schedule.fulfilled_by_pass_from_now();
    assert_eq!(fulfilled.newest, 1);
    schedule.request("the value fell");
    assert!(schedule.requested_since(fulfilled));
    schedule.note_completed(fulfilled);
    assert_eq!(schedule.due_now().as_deref(), Some("the value fell"));
    let fulfilled = schedule.fulfilled_by_pass_from_now();
    schedule.note_completed(fulfilled);
    assert_eq!(schedule.due_now(), None);
}

#[test]
fn only_later_full_passes_find_repairs() {
    let mut first = schedule(None, Some("first"), None);
    assert!(!first.finds_repairs());
    let fulfilled = first.fulfilled_by_pass_from_now();
    first.note_completed(fulfilled);
    assert!(first.finds_repairs());
    assert!(schedule(None, None, None).finds_repairs(), "the stored mapping is the configured one");
    first.request("the source has changed");
    assert!(!first.finds_repairs());
    first.request(COUNTER_FELL);
    assert!(first.finds_repairs(), "rows that kept their value have nothing to do with it");
}

#[test]
fn a_position_is_resumed_by_the_same_pass_only() {
    let stored = position(1, Duration::from_secs(1));
    let schedule = schedule(None, Some("first"), Some(stored.clone()));
    assert_eq!(schedule.resume_position(&key()), Some(stored));
    let force = FullOptions { force: true, ..FullOptions::default() };
    assert_eq!(schedule.resume_position(&FullPassKey { options: force, ..key() }), None);
    assert_eq!(schedule.resume_position(&FullPassKey { mapping: "n".to_owned(), ..key() }), None);
    assert_eq!(schedule.resume_position(&FullPassKey { watermark: "x".to_owned(), ..key() }), None);
    assert_eq!(schedule.resume_position(&FullPassKey { generation: 2, ..key() }), None);
}

#[test]
fn a_position_ends_with_its_request_and_its_time() {
    let hour = Duration::from_hours(1);
    let mut other = schedule(None, Some("first"), Some(position(1, Duration::ZERO)));
    other.request("first");
    other.keep_position(serde_json::to_value(position(1, Duration::ZERO)).expect("a position is JSON"));
    assert_eq!(other.resume_position(&key()), None, "the same reason is another request");
    let old = schedule(Some(hour), None, Some(position(1, hour)));
    assert_eq!(old.resume_position(&key()), None);
    let mut schedule = schedule(Some(hour), None, Some(position(1, Duration::ZERO)));
    assert!(schedule.resume_position(&key()).is_some());
    schedule.request("why");
    assert_eq!(schedule.resume_position(&key()), None);
}

#[test]
fn the_first_read_position_starts_from_the_first_row() {
    let mut schedule = schedule(None, None, Some(position(1, Duration::ZERO)));
    let request = schedule.start_from_first_row();
    assert_eq!((request.number, request.why.as_str()), (2, "the first pass of this sync"));
    assert_eq!(schedule.resume_position(&key()), None);
}

#[test]
fn a_position_has_one_flat_document() {
    let document = serde_json::to_value(position(1, Duration::ZERO)).expect("a position is JSON");
    assert_eq!(document["options"], json!({ "force": false, "allow_removals": false }));
    assert_eq!((&document["mapping"], &document["after"], &document["done"]), (&"m".into(), &"u7".into(), &7.into()));
}
