//! Which stored position is used, what a transaction list means for a pass, and how a position is shown.
//!
//! Owns: cases of the position alone. Must not know: the database, the arithmetic of the tracker.

use std::time::Duration;

use super::{ReadPosition, WatermarkColumn, text_of};
use crate::clock;
use crate::source::WatermarkPoint;
use crate::source::watermark::{
    HeldBackBy, NewestRows, RunningTransaction, TransactionList, WatermarkKind, WatermarkTracker,
};
use crate::state::sync_update::SyncUpdate;

const COLUMN: &str = "[\"updated_at\",\"UTC\"]";

fn list(kind: WatermarkKind, at: i64) -> TransactionList {
    TransactionList {
        kind,
        clock: at,
        taken_at: WatermarkPoint::At(at),
        newest: NewestRows::default(),
        read_between: None,
        server_start: 1,
        running: Vec::new(),
        prepared: Vec::new(),
    }
}

fn position(column: WatermarkColumn, kind: WatermarkKind, at: i64) -> ReadPosition {
    let mut position = ReadPosition::new(COLUMN.to_owned(), column, None);
    position.set(WatermarkTracker::begin(&list(kind, at)));
    position
}

fn stored(position: &ReadPosition) -> SyncUpdate {
    let mut update = SyncUpdate::default();
    position.write_to(&mut update);
    update
}

#[test]
fn a_stored_position_is_used_for_its_column_only() {
    let update = stored(&position(WatermarkColumn::Timestamp, WatermarkKind::Timestamp, 5_000_000));
    let state = update.watermark_state.expect("there is a position");
    let restored = |fingerprint, column| {
        ReadPosition::new(COLUMN.to_owned(), column, Some((fingerprint, state.clone()))).is_known()
    };
    assert!(restored(COLUMN, WatermarkColumn::Timestamp));
    assert!(!restored("[\"other\",\"UTC\"]", WatermarkColumn::Timestamp));
    assert!(!restored(COLUMN, WatermarkColumn::None));
    let nonsense = Some((COLUMN, serde_json::json!({ "v": 99 })));
    assert!(!ReadPosition::new(COLUMN.to_owned(), WatermarkColumn::Timestamp, nonsense).is_known());
}

#[test]
fn the_first_position_is_missing_only_with_a_column() {
    let new = |column| ReadPosition::new(COLUMN.to_owned(), column, None);
    assert!(new(WatermarkColumn::Timestamp).is_missing());
    assert!(!new(WatermarkColumn::None).is_missing());
    assert!(!position(WatermarkColumn::Timestamp, WatermarkKind::Timestamp, 1).is_missing());
    assert_eq!(new(WatermarkColumn::Timestamp).observe(&list(WatermarkKind::Timestamp, 1)), None);
}

#[test]
fn the_fingerprint_is_stored_once_a_position_is_known() {
    let new = |column| stored(&ReadPosition::new(COLUMN.to_owned(), column, None)).watermark_fingerprint;
    assert_eq!(new(WatermarkColumn::Timestamp), None);
    assert_eq!(new(WatermarkColumn::None).as_deref(), Some(COLUMN));
    let known = stored(&position(WatermarkColumn::Timestamp, WatermarkKind::Timestamp, 5_000_000));
    assert_eq!(known.watermark_fingerprint.as_deref(), Some(COLUMN));
    assert_eq!(known.watermark.as_deref(), Some("1970-01-01T00:00:05.000000Z"));
}

#[test]
fn a_pass_reads_from_the_last_complete_pass_on() {
    let mut position = position(WatermarkColumn::Timestamp, WatermarkKind::Timestamp, 5_000_000);
    let from = |position: &mut ReadPosition, at| {
        position.observe(&list(WatermarkKind::Timestamp, at)).expect("there is a position").from
    };
    assert_eq!(from(&mut position, 6_000_000), WatermarkPoint::At(5_000_000));
    assert_eq!(from(&mut position, 7_000_000), WatermarkPoint::At(5_000_000), "the pass before did not complete");
    position.complete();
    assert_eq!(from(&mut position, 8_000_000), WatermarkPoint::At(7_000_000));
}

#[test]
fn a_counter_that_falls_names_its_value() {
    let mut position = position(WatermarkColumn::Counter, WatermarkKind::Counter, 100);
    let start = position.observe(&list(WatermarkKind::Counter, 40)).expect("there is a position");
    assert_eq!(start.fell_to.as_deref(), Some("40"));
    assert_eq!((start.jumped, start.stepped_back), (None, None));
}

#[test]
fn a_clock_that_goes_back_is_measured() {
    let mut position = position(WatermarkColumn::Timestamp, WatermarkKind::Timestamp, 5_000_000);
    let start = position.observe(&list(WatermarkKind::Timestamp, 4_000_000)).expect("there is a position");
    assert_eq!(start.stepped_back, Some(Duration::from_secs(1)));
}

#[test]
fn the_end_of_the_first_open_transaction_is_noted_once() {
    let running = RunningTransaction { id: "3/7".to_owned(), pid: 9, started: None, application: None };
    let first = TransactionList { running: vec![running], ..list(WatermarkKind::Timestamp, 5_000_000) };
    let mut position = ReadPosition::new(COLUMN.to_owned(), WatermarkColumn::Timestamp, None);
    position.set(WatermarkTracker::begin(&first));
    assert!(!position.take_first_list_cleared());
    position.observe(&list(WatermarkKind::Timestamp, 6_000_000));
    assert!(position.take_first_list_cleared());
    assert!(!position.take_first_list_cleared());
}

#[test]
fn bounds_and_transactions_have_texts() {
    assert_eq!(text_of(WatermarkPoint::Beginning, WatermarkColumn::Counter), "-infinity");
    assert_eq!(text_of(WatermarkPoint::At(7), WatermarkColumn::Counter), "7");
    let held = |pid, prepared: Option<&str>, application: Option<&str>| HeldBackBy {
        pid,
        prepared: prepared.map(str::to_owned),
        application: application.map(str::to_owned),
        since: clock::now_utc(),
    };
    assert_eq!(held(Some(7), None, Some("psql")).to_string(), "the transaction of pid 7 (psql)");
    assert_eq!(held(Some(7), None, None).to_string(), "the transaction of pid 7 (unknown application)");
    assert_eq!(held(None, Some("g1"), None).to_string(), "the prepared transaction \"g1\"");
    assert_eq!(held(None, None, None).to_string(), "an open transaction");
}
