//! Up to where the table has been read: the watermark tracker of a sync, and how it is stored and shown.
//!
//! Owns: the tracker, the fingerprint of the watermark column, the log line about a transaction that holds the watermark
//! back. Must not know: the arithmetic of the tracker, statements, passes.

use std::time::Duration;

use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::source::WatermarkPoint;
use crate::source::watermark::{HeldBackBy, SavedWatermark, TransactionList, WatermarkTracker};
use crate::state::sync_row::SyncRow;
use crate::state::sync_update::SyncUpdate;

#[cfg(test)]
mod tests;

/// A transaction that holds the watermark back for this long is logged.
const LONG_HOLD: Duration = Duration::from_mins(1);

/// What the watermark column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatermarkColumn {
    /// None is configured: only full passes run.
    None,
    /// Times.
    Timestamp,
    /// Values of a bigint that counts up.
    Counter,
}

/// What a transaction list means for an incremental pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadStart {
    /// The pass reads from here.
    pub(super) from: WatermarkPoint,
    /// The database clock went back by this much.
    pub(super) stepped_back: Option<Duration>,
    /// A counter rose further than rows can have been written: its value before and after.
    pub(super) jumped: Option<(i64, i64)>,
    /// A counter was set back to this value, and no full pass has been requested since.
    pub(super) fell_to: Option<String>,
}

/// Up to where the table has been read.
#[derive(Debug)]
pub(super) struct ReadPosition {
    column: WatermarkColumn,
    fingerprint: String,
    /// `None` until the first full pass has begun, and without a watermark column.
    tracker: Option<WatermarkTracker>,
    /// The transaction that holds the watermark back and was logged last.
    logged: Option<HeldBackBy>,
}

/// Identifies the watermark column in the configuration. A position of another column is not used.
fn fingerprint(config: &Config) -> String {
    match &config.source.watermark_column {
        Some(column) => json!([column, config.source.watermark_timezone]).to_string(),
        None => "none".to_owned(),
    }
}

impl ReadPosition {
    /// The stored position, if it is one of the configured column.
    pub(super) fn from_row(config: &Config, column: WatermarkColumn, row: Option<&SyncRow>) -> Self {
        let stored = row.and_then(|row| Some((row.watermark_fingerprint.as_deref()?, row.watermark_state.clone()?)));
        Self::new(fingerprint(config), column, stored)
    }

    /// `stored`: fingerprint and saved tracker.
    fn new(fingerprint: String, column: WatermarkColumn, stored: Option<(&str, Value)>) -> Self {
        let saved: Option<SavedWatermark> = stored
            .filter(|(stored, _)| column != WatermarkColumn::None && *stored == fingerprint)
            .and_then(|(_, state)| serde_json::from_value(state).ok());
        Self { column, fingerprint, tracker: saved.map(WatermarkTracker::restore), logged: None }
    }

    /// The source was opened again: the type of the column may have changed.
    pub(super) fn set_column(&mut self, column: WatermarkColumn) {
        self.column = column;
    }

    /// The position has no meaning in the source as it is now. The next full pass takes a new first position.
    pub(super) fn forget(&mut self) {
        self.tracker = None;
    }

    /// Identifies the watermark column in the configuration.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether there is a position to read from.
    pub(super) fn is_known(&self) -> bool {
        self.tracker.is_some()
    }

    /// Whether the first full pass of the sync has to take the first position.
    pub(super) fn is_missing(&self) -> bool {
        self.tracker.is_none() && self.column != WatermarkColumn::None
    }

    /// Takes the first position of the sync. It must have been stored.
    pub(super) fn set(&mut self, tracker: WatermarkTracker) {
        self.tracker = Some(tracker);
    }

    /// Takes the transaction list of a pass that begins; `None` without a position.
    pub(super) fn observe(&mut self, transactions: &TransactionList) -> Option<ReadStart> {
        let tracker = self.tracker.as_mut()?;
        tracker.observe(transactions);
        let fell = tracker.counter_decreased();
        Some(ReadStart {
            from: tracker.read_from(),
            stepped_back: tracker.clock_set_back_by().map(|micros| Duration::from_micros(micros.unsigned_abs())),
            jumped: tracker.counter_jump(),
            fell_to: fell.then(|| text_of(transactions.taken_at, self.column)),
        })
    }

    /// The full pass that is due after a counter fell is recorded as due.
    pub(super) fn acknowledge_fall(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            tracker.acknowledge_decrease();
        }
    }

    /// Everything that the pass read is recorded.
    pub(super) fn complete(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            tracker.complete();
        }
    }

    /// Returns true once, when the last transaction has ended that was open when the sync began. A full pass is due then.
    pub(super) fn take_first_list_cleared(&mut self) -> bool {
        let Some(tracker) = &mut self.tracker else { return false };
        let cleared = tracker.initial_transactions_ended();
        if cleared {
            tracker.acknowledge_initial_ended();
        }
        cleared
    }

    /// A bound as `status` shows it.
    pub(super) fn text_of(&self, bound: WatermarkPoint) -> String {
        text_of(bound, self.column)
    }

    /// The lowest value that an incremental pass is still to read, as far as it is known; `None` without a position.
    pub(super) fn next_read(&self) -> Option<WatermarkPoint> {
        self.tracker.as_ref().map(WatermarkTracker::next_read)
    }

    /// Fills in what the sync row stores of the position.
    pub(super) fn write_to(&self, update: &mut SyncUpdate) {
        // A column without a position yet keeps its old fingerprint, so that the first full pass is still due.
        let is_settled = self.tracker.is_some() || self.column == WatermarkColumn::None;
        update.watermark_fingerprint = is_settled.then(|| self.fingerprint.clone());
        if let Some(tracker) = &self.tracker {
            update.watermark = Some(self.text_of(tracker.watermark()));
            update.watermark_state = serde_json::to_value(tracker.save()).ok();
            update.held_back_by = tracker.held_back_by().and_then(|held| serde_json::to_value(held).ok());
        }
    }

    /// Updates the metrics, and logs a transaction that holds the watermark back for long, each transaction once.
    pub(super) fn show(&mut self, metrics: &Metrics) {
        let Some(tracker) = &self.tracker else { return };
        let watermark = tracker.watermark();
        let held = tracker.held_back_by();
        if let Some(held) = &held {
            self.log_long_hold(held);
        }
        if let WatermarkPoint::At(value) = watermark {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
            let value = value as f64;
            metrics.watermark_timestamp.set(if self.column == WatermarkColumn::Counter { value } else { value / 1e6 });
        }
        let held = held.map_or(0.0, |held| {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
            let millis = (clock::now_utc() - held.since).num_milliseconds().max(0) as f64;
            millis / 1000.0
        });
        metrics.watermark_held_back.set(held);
    }

    fn log_long_hold(&mut self, held: &HeldBackBy) {
        let held_for = (clock::now_utc() - held.since).to_std().unwrap_or_default();
        if held_for < LONG_HOLD || self.logged.as_ref() == Some(held) {
            return;
        }
        tracing::warn!(
            "{held} has been open since {} or longer and holds the watermark back; other changes are sent all the same, and what \
             was written since then is read once more when it ends",
            held.since.to_rfc3339_opts(SecondsFormat::Secs, true)
        );
        self.logged = Some(held.clone());
    }
}

fn text_of(bound: WatermarkPoint, column: WatermarkColumn) -> String {
    match bound {
        WatermarkPoint::Beginning => "-infinity".to_owned(),
        WatermarkPoint::At(value) if column == WatermarkColumn::Counter => value.to_string(),
        WatermarkPoint::At(micros) => chrono::DateTime::from_timestamp_micros(micros)
            .map_or_else(|| micros.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Micros, true)),
    }
}
