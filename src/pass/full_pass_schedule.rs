//! When a full pass is due, and where an interrupted one resumes.
//!
//! Owns: the requests for full passes, their reasons, and the stored position. Must not know: the steps of a full pass.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::clock;
use crate::state::sync_row::SyncRow;
use crate::state::sync_update::FullPassRequest;

#[cfg(test)]
mod tests;

/// Falls of a counter request one full pass in this time. A table of which many of the newest rows are deleted again and
/// again would be compared without a pause otherwise.
const FALL_PAUSE: Duration = Duration::from_mins(10);

/// How the reason of such a request begins.
pub(super) const COUNTER_FELL: &str = "the largest value of the watermark column fell";

const FIRST_PASS: &str = "the first pass of this sync";

/// The options of a full pass, from the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullOptions {
    /// Send every attribute again, whatever is acknowledged.
    pub force: bool,
    /// Send removals without asking the removal guard.
    pub allow_removals: bool,
}

/// What must be the same for an interrupted full pass to be resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FullPassKey {
    pub(super) options: FullOptions,
    /// Fingerprint of the mapping.
    pub(super) mapping: String,
    /// Fingerprint of the watermark column.
    pub(super) watermark: String,
    /// Generation of the acknowledged values.
    pub(super) generation: i32,
    /// Always true: removals found before the position are rows of `owed_removal`. The previous release, which kept them in
    /// memory, stored positions without this key, and they are not resumed.
    pub(super) removals_are_stored: bool,
}

/// Where an interrupted full pass resumes. What it found before is recorded, in flight with an intent, or owed as a row of
/// `owed_removal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FullPassPosition {
    #[serde(flatten)]
    pub(super) key: FullPassKey,
    /// The number of the newest request when the first attempt of the pass began.
    pub(super) request: i64,
    /// When the first attempt of the pass began.
    pub(super) began_at: DateTime<Utc>,
    /// The account column's text of the last row that is recorded.
    pub(super) after: String,
    /// Rows compared up to there.
    pub(super) done: u64,
}

/// The requests that had been made when a full pass began. The pass fulfils these, and no later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FulfilledRequests {
    /// The number of the newest of them.
    pub(super) newest: i64,
}

/// When a full pass is due.
#[derive(Debug)]
pub(super) struct FullPassSchedule {
    /// `schedule.full_every`.
    every: Option<Duration>,
    /// The reason of the last request that is not fulfilled yet.
    due: Option<String>,
    /// The number of the newest request. It is stored, so that no two requests of a sync have the same.
    newest: i64,
    /// When a full pass was requested because a counter fell.
    fell: Option<Instant>,
    last_ended: Option<Instant>,
    position: Option<Value>,
}

impl FullPassSchedule {
    /// The schedule at the start of a process, from the sync row. `mapping` and `watermark` are the fingerprints of the
    /// configuration.
    pub(super) fn from_row(every: Option<Duration>, row: &SyncRow, mapping: &str, watermark: &str) -> Self {
        let due = due_at_start(
            row.full_pass_due.as_deref(),
            (row.mapping_fingerprint.as_deref(), mapping),
            (row.watermark_fingerprint.as_deref(), watermark),
        );
        let last_ended = row.full_pass_ended_at.map(|ended| {
            let ago = (row.read_at - ended).to_std().unwrap_or_default();
            clock::monotonic().checked_sub(ago).unwrap_or_else(clock::monotonic)
        });
        // A reason that is not stored yet is a new request.
        let newest = row.full_pass_request + i64::from(due.is_some() && row.full_pass_due.is_none());
        Self::new(every, due, newest, last_ended).with_position(row.full_pass_position.clone())
    }

    /// The schedule of a sync that has no row yet.
    pub(super) fn of_new_sync() -> Self {
        Self::new(None, Some(FIRST_PASS.to_owned()), 1, None)
    }

    fn new(every: Option<Duration>, due: Option<String>, newest: i64, last_ended: Option<Instant>) -> Self {
        Self { every, due, newest, fell: None, last_ended, position: None }
    }

    fn with_position(self, position: Option<Value>) -> Self {
        Self { position, ..self }
    }

    /// Why a full pass should run now, if one should.
    pub(super) fn due_now(&self) -> Option<String> {
        self.due.clone().or_else(|| {
            let every = self.every?;
            let is_over = self.last_ended.is_none_or(|ended| ended.elapsed() >= every);
            is_over.then(|| "schedule.full_every is over".to_owned())
        })
    }

    /// The reason of the last request that is not fulfilled yet, as the sync row stores it.
    pub(super) fn requested(&self) -> Option<&str> {
        self.due.as_deref()
    }

    /// The number of the newest request.
    pub(super) fn newest_request(&self) -> i64 {
        self.newest
    }

    /// The newest request, if it is not fulfilled yet, as the sync row stores it.
    pub(super) fn pending_request(&self) -> Option<FullPassRequest> {
        Some(FullPassRequest { number: self.newest, why: self.due.clone()? })
    }

    /// Requests a full pass that begins after now. The newest reason replaces an earlier one, and a position that was
    /// stored for the earlier one is dropped.
    pub(super) fn request(&mut self, why: &str) {
        self.newest += 1;
        self.due = Some(why.to_owned());
        self.position = None;
    }

    /// Requests a full pass because a counter fell, unless one was requested for that a moment ago. Returns whether it did;
    /// if not, the request is to be made again.
    pub(super) fn request_after_fall(&mut self, why: &str) -> bool {
        if self.fell.is_some_and(|fell| fell.elapsed() < FALL_PAUSE) {
            return false;
        }
        self.fell = Some(clock::monotonic());
        self.request(why);
        true
    }

    /// The full pass that is about to begin takes the first read position of the sync, so it starts from the first row.
    /// Returns the request to store.
    pub(super) fn start_from_first_row(&mut self) -> FullPassRequest {
        if self.due.is_none() {
            self.request(FIRST_PASS);
        }
        self.position = None;
        FullPassRequest { number: self.newest, why: self.due.clone().unwrap_or_default() }
    }

    /// The requests that a full pass which begins now fulfils.
    pub(super) fn fulfilled_by_pass_from_now(&self) -> FulfilledRequests {
        FulfilledRequests { newest: self.newest }
    }

    /// The position at which a full pass with this key resumes. A position is valid for the same key, while no
    /// other request is made, and for `schedule.full_every`.
    pub(super) fn resume_position(&self, key: &FullPassKey) -> Option<FullPassPosition> {
        let position: FullPassPosition = serde_json::from_value(self.position.clone()?).ok()?;
        let age = (clock::now_utc() - position.began_at).to_std().unwrap_or_default();
        let is_valid =
            position.key == *key && position.request == self.newest && self.every.is_none_or(|every| age < every);
        is_valid.then_some(position)
    }

    /// Whether a request was made after the pass began, so that its position must not be resumed.
    pub(super) fn requested_since(&self, fulfilled: FulfilledRequests) -> bool {
        self.newest != fulfilled.newest
    }

    /// Keeps the position of an interrupted full pass.
    pub(super) fn keep_position(&mut self, position: Value) {
        self.position = Some(position);
    }

    /// Whether differences that a full pass finds which begins now are repairs. They are not if the pass was requested,
    /// because the request is the reason for them; a counter that fell is no reason for rows that kept their value.
    pub(super) fn finds_repairs(&self) -> bool {
        self.due.as_ref().is_none_or(|why| why.starts_with(COUNTER_FELL))
    }

    /// A full pass has completed.
    pub(super) fn note_completed(&mut self, fulfilled: FulfilledRequests) {
        if !self.requested_since(fulfilled) {
            self.due = None;
        }
        self.last_ended = Some(clock::monotonic());
        self.position = None;
    }
}

/// Why a full pass is due at the start of a process. `mapping` and `watermark` are the stored and the configured fingerprint.
fn due_at_start(
    requested: Option<&str>,
    mapping: (Option<&str>, &str),
    watermark: (Option<&str>, &str),
) -> Option<String> {
    if let Some(why) = requested {
        return Some(why.to_owned());
    }
    let why = match mapping {
        (None, _) => FIRST_PASS,
        (Some(stored), configured) if stored != configured => "the mapping, the filter or the deleted column changed",
        _ if watermark.0 != Some(watermark.1) => "the watermark column changed",
        _ => return None,
    };
    Some(why.to_owned())
}
