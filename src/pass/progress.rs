//! What a pass has done so far.
//!
//! Owns: the counters of a running pass and its current phase. Must not know: how either is shown.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::report::{PassKind, PassOutcome, PassReport};
use crate::clock;
use crate::state::passes::PassRow;

/// What a running pass is doing, as progress displays show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassPhase {
    /// Rows of the table are read and compared.
    ReadingTable,
    /// A full pass looks up stored accounts that may no longer be in the table.
    FindingGoneAccounts,
    /// Accounts in doubt are looked up and sent again.
    ResendingInDoubt,
    /// Removals that the removal guard allowed are sent.
    Removing,
    /// Rejections whose retry is due are sent again.
    RetryingRejections,
}

impl PassPhase {
    /// The phase in words, for progress displays and the `running` document of `status`.
    pub fn label(self) -> &'static str {
        match self {
            Self::ReadingTable => "reading the table",
            Self::FindingGoneAccounts => "looking for accounts that are gone",
            Self::ResendingInDoubt => "resending accounts in doubt",
            Self::Removing => "removing",
            Self::RetryingRejections => "retrying rejections",
        }
    }
}

/// What one pass has done so far. Its deliveries and the code that shows the progress share it.
#[derive(Debug)]
pub struct PassProgress {
    /// The kind of pass.
    pub kind: PassKind,
    /// Wall clock at the start of the pass.
    pub started_at: DateTime<Utc>,
    /// Monotonic clock at the start of the pass.
    pub started: Instant,
    /// Rows read from the source, repeated reads of one row included.
    pub rows_read: AtomicU64,
    /// Rows of the table that were compared, those before a resumed pass was interrupted included. The position of a
    /// progress bar.
    pub done: AtomicU64,
    /// Estimated rows of the table; 0 if unknown.
    pub total: AtomicU64,
    /// Accounts with a difference to send.
    pub changed: AtomicU64,
    /// Accounts of which IM accepted at least one set.
    pub pushed: AtomicU64,
    /// Accounts of which IM accepted at least one removal.
    pub removed: AtomicU64,
    /// Accounts refused here or by IM.
    pub rejected: AtomicU64,
    /// Calls to IM; set when the pass ends.
    pub calls: AtomicU64,
    /// Differences that a full pass found although earlier passes should have sent them.
    pub repaired: AtomicU64,
    /// Rows with a NULL or empty account, or one too long to be recorded. Nothing is sent for them.
    pub without_account: AtomicU64,
    recorded: AtomicU64,
    source_confirmations: AtomicU64,
    /// For how many seconds the source has been running one statement; 0 for a short one.
    waiting_seconds: AtomicU64,
    /// Closed at the end of the pass: what is stored while a statement runs must not follow what the end stores.
    open: tokio::sync::Mutex<bool>,
    phase: Mutex<PassPhase>,
    is_poll: AtomicBool,
    resumed: AtomicBool,
}

impl PassProgress {
    /// The progress of a pass that begins now.
    pub fn new(kind: PassKind) -> Self {
        Self::since(kind, clock::monotonic())
    }

    /// The progress of a pass that began at this moment.
    pub fn since(kind: PassKind, started: Instant) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            kind,
            started_at: clock::now_utc(),
            started,
            rows_read: zero(),
            done: zero(),
            total: zero(),
            changed: zero(),
            pushed: zero(),
            removed: zero(),
            rejected: zero(),
            calls: zero(),
            repaired: zero(),
            without_account: zero(),
            recorded: zero(),
            source_confirmations: zero(),
            waiting_seconds: zero(),
            open: tokio::sync::Mutex::new(true),
            phase: Mutex::new(PassPhase::ReadingTable),
            is_poll: AtomicBool::new(kind == PassKind::Incremental),
            resumed: AtomicBool::new(false),
        }
    }

    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Moves what was pushed, removed and rejected so far to another pass, whose report has it then.
    pub(super) fn move_outcomes_to(&self, other: &Self) {
        let pairs = [(&self.pushed, &other.pushed), (&self.removed, &other.removed), (&self.rejected, &other.rejected)];
        for (from, to) in pairs {
            to.fetch_add(from.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        other.recorded.fetch_add(self.recorded.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes away what a report has shown, so that a later report shows the rest.
    pub(super) fn subtract(&self, report: &PassReport) {
        let row = &report.row;
        for (counter, shown) in
            [(&self.pushed, row.pushed), (&self.removed, row.removed), (&self.rejected, row.rejected)]
        {
            counter.fetch_sub(shown, Ordering::Relaxed);
        }
    }

    /// Reads one of the counters.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Counts one transaction that recorded something in the state.
    pub(super) fn note_recorded(&self) {
        self.recorded.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of transactions that recorded something in the state.
    pub fn recorded(&self) -> u64 {
        Self::get(&self.recorded)
    }

    /// The source has confirmed that it still runs a statement of this pass, for so long now. `None`: none takes long.
    pub(super) fn note_source_statement(&self, running: Option<Duration>) {
        if running.is_some() {
            self.source_confirmations.fetch_add(1, Ordering::Relaxed);
        }
        self.waiting_seconds.store(running.map_or(0, |running| running.as_secs()), Ordering::Relaxed);
    }

    /// How often the source has been found to run a long statement of this pass.
    pub fn source_confirmations(&self) -> u64 {
        Self::get(&self.source_confirmations)
    }

    /// For how many seconds the source has been running one statement; `None` for a short one.
    pub fn waiting_seconds(&self) -> Option<u64> {
        Some(Self::get(&self.waiting_seconds)).filter(|seconds| *seconds > 0)
    }

    /// Held while something about this pass is stored beside it. False once the pass has ended.
    pub(super) async fn open(&self) -> tokio::sync::MutexGuard<'_, bool> {
        self.open.lock().await
    }

    /// Whether this pass is one of the regular polls, which are logged and added to the pass history only when they do
    /// something. Incremental passes are polls, and full passes of a sync without a watermark column.
    pub fn set_poll(&self, is_poll: bool) {
        self.is_poll.store(is_poll, Ordering::Relaxed);
    }

    /// The pass continues an interrupted one. Rows before the stored position may have changed since.
    pub(super) fn set_resumed(&self) {
        self.resumed.store(true, Ordering::Relaxed);
    }

    /// Whether a complete pass of this kind has read everything that was committed before it began.
    pub(super) fn covers_all_changes(&self) -> bool {
        self.kind != PassKind::Selected && !self.resumed.load(Ordering::Relaxed)
    }

    /// Sets the phase that progress displays show.
    pub(super) fn set_phase(&self, phase: PassPhase) {
        if let Ok(mut current) = self.phase.lock() {
            *current = phase;
        }
    }

    /// What the pass is doing.
    pub fn phase(&self) -> PassPhase {
        self.phase.lock().map_or(PassPhase::ReadingTable, |phase| *phase)
    }

    /// The `running` document of `status`.
    pub fn running(&self) -> serde_json::Value {
        let done = Self::get(&self.done);
        let total = Self::get(&self.total);
        let elapsed = self.started.elapsed().as_secs_f64();
        let eta = (total > done && done > 0 && elapsed > 1.0).then(|| {
            #[expect(clippy::cast_precision_loss, reason = "the remaining time is an estimate")]
            let rate = done as f64 / elapsed;
            #[expect(clippy::cast_precision_loss, reason = "the remaining time is an estimate")]
            let left = (total - done) as f64 / rate;
            left.round()
        });
        serde_json::json!({
            "kind": self.kind.label(),
            "started_at": self.started_at,
            "phase": self.phase().label(),
            "done": done,
            "total": (total > 0).then_some(total.max(done)),
            "eta_seconds": eta,
            "waiting_for_source_seconds": self.waiting_seconds(),
        })
    }

    /// The report of a pass that ends now.
    pub(super) fn report(&self, outcome: PassOutcome, error: Option<String>) -> PassReport {
        PassReport {
            outcome,
            started: self.started,
            current_since: None,
            is_poll: self.is_poll.load(Ordering::Relaxed),
            without_account: Self::get(&self.without_account),
            seconds: self.started.elapsed().as_secs_f64(),
            kind: self.kind,
            row: PassRow {
                kind: self.kind.label().to_owned(),
                outcome: outcome.label().to_owned(),
                started_at: self.started_at,
                finished_at: clock::now_utc(),
                rows_read: Self::get(&self.rows_read),
                changed: Self::get(&self.changed),
                pushed: Self::get(&self.pushed),
                removed: Self::get(&self.removed),
                rejected: Self::get(&self.rejected),
                calls: Self::get(&self.calls),
                repaired: Self::get(&self.repaired),
                error,
            },
        }
    }
}
