//! What a pass tells of itself. Log line, metrics, the `pass` table and the JSON documents are all made from it.
//!
//! Owns: the progress while a pass runs and the report at its end. Must not know: how either is shown.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::clock;
use crate::metrics::Metrics;
use crate::state::history::PassRow;

/// The kinds of passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassKind {
    Incremental,
    Full,
    /// Named accounts.
    Selected,
}

impl PassKind {
    pub fn label(self) -> &'static str {
        match self {
            Self::Incremental => "incremental",
            Self::Full => "full",
            Self::Selected => "selected",
        }
    }
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassOutcome {
    Ok,
    /// Finished; rejections of this sync stand.
    Rejected,
    Failed,
    /// Finished, but removals are held back.
    Guard,
    Interrupted,
}

impl PassOutcome {
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Guard => "guard",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What one pass has done so far; shared with its deliveries and with whoever shows its progress.
#[derive(Debug)]
pub struct PassProgress {
    pub kind: PassKind,
    pub started_at: DateTime<Utc>,
    pub started: Instant,
    pub rows_read: AtomicU64,
    /// Rows compared in the walk over the table, those of an interrupted pass included: the progress bar's position.
    pub done: AtomicU64,
    /// Estimated rows of the table; 0 when not known.
    pub total: AtomicU64,
    pub changed: AtomicU64,
    pub pushed: AtomicU64,
    pub removed: AtomicU64,
    pub rejected: AtomicU64,
    pub calls: AtomicU64,
    pub repaired: AtomicU64,
    /// Rows with a NULL or empty account, or one too long to be recorded: nothing is sent for them.
    pub without_account: AtomicU64,
    /// Accounts that came to hold something, less those that ceased to.
    pub known_delta: AtomicI64,
    /// Something was recorded in the state.
    recorded: AtomicU64,
    phase: Mutex<&'static str>,
    /// What every poll is, where there is no watermark: worth telling of only when it does something.
    routine: AtomicBool,
    /// It went on where another attempt stopped: what changed behind that place since is not in it.
    resumed: AtomicBool,
}

impl PassProgress {
    pub fn new(kind: PassKind) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            kind,
            started_at: clock::now_utc(),
            started: clock::monotonic(),
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
            known_delta: AtomicI64::new(0),
            recorded: zero(),
            phase: Mutex::new("reading the table"),
            routine: AtomicBool::new(kind == PassKind::Incremental),
            resumed: AtomicBool::new(false),
        }
    }

    pub fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub fn note_recorded(&self) {
        self.recorded.fetch_add(1, Ordering::Relaxed);
    }

    /// How many transactions of outcomes were recorded.
    pub fn recorded(&self) -> u64 {
        Self::get(&self.recorded)
    }

    pub fn set_routine(&self, routine: bool) {
        self.routine.store(routine, Ordering::Relaxed);
    }

    pub fn set_resumed(&self) {
        self.resumed.store(true, Ordering::Relaxed);
    }

    /// A complete pass of this kind has seen everything that was committed before it began.
    pub fn sees_everything(&self) -> bool {
        self.kind != PassKind::Selected && !self.resumed.load(Ordering::Relaxed)
    }

    pub fn set_phase(&self, phase: &'static str) {
        if let Ok(mut current) = self.phase.lock() {
            *current = phase;
        }
    }

    pub fn phase(&self) -> &'static str {
        self.phase.lock().map_or("", |phase| *phase)
    }

    /// The `running` document of `status`.
    pub fn running(&self) -> serde_json::Value {
        let done = Self::get(&self.done);
        let total = Self::get(&self.total);
        let elapsed = self.started.elapsed().as_secs_f64();
        let eta = (total > done && done > 0 && elapsed > 1.0).then(|| {
            #[expect(clippy::cast_precision_loss, reason = "a time left is an estimate")]
            let rate = done as f64 / elapsed;
            #[expect(clippy::cast_precision_loss, reason = "a time left is an estimate")]
            let left = (total - done) as f64 / rate;
            left.round()
        });
        serde_json::json!({
            "kind": self.kind.label(),
            "started_at": self.started_at,
            "phase": self.phase(),
            "done": done,
            "total": (total > 0).then_some(total.max(done)),
            "eta_seconds": eta,
        })
    }

    /// Closes the progress.
    pub fn report(&self, ending: PassOutcome, error: Option<String>) -> PassReport {
        PassReport {
            ending,
            began: self.started,
            fresh: false,
            routine: self.routine.load(Ordering::Relaxed),
            without_account: Self::get(&self.without_account),
            seconds: self.started.elapsed().as_secs_f64(),
            kind: self.kind,
            row: PassRow {
                kind: self.kind.label().to_owned(),
                outcome: ending.label().to_owned(),
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

/// The end of a pass.
#[derive(Clone, Debug)]
pub struct PassReport {
    pub kind: PassKind,
    pub ending: PassOutcome,
    pub began: Instant,
    /// Everything committed before it began is in IM, rejected accounts aside.
    pub fresh: bool,
    pub seconds: f64,
    routine: bool,
    /// Rows with a NULL or empty account, or one too long to be recorded: nothing is sent for them.
    without_account: u64,
    pub row: PassRow,
}

impl PassReport {
    /// The pass did something, or it did not end well: worth a row and a line.
    pub fn noteworthy(&self) -> bool {
        !self.routine
            || self.row.calls > 0
            || self.row.rejected > 0
            || matches!(self.ending, PassOutcome::Failed | PassOutcome::Interrupted)
    }

    /// One line for the log.
    pub fn log(&self) {
        let row = &self.row;
        let without_account = (self.without_account > 0).then_some(self.without_account);
        let seconds = (self.seconds * 1000.0).round() / 1000.0;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    kind = %row.kind, outcome = %row.outcome, seconds, rows_read = row.rows_read, changed = row.changed,
                    pushed = row.pushed, removed = row.removed, rejected = row.rejected, calls = row.calls, without_account,
                    error = row.error.as_deref(), "pass ended"
                )
            };
        }
        match self.ending {
            PassOutcome::Failed => line!(error),
            // That it tripped was said when it did; a pass that only finds it tripped is no news.
            PassOutcome::Guard if self.noteworthy() => line!(warn),
            _ if self.noteworthy() => line!(info),
            _ => line!(debug),
        }
    }

    /// Into the metrics.
    pub fn count(&self, metrics: &Metrics) {
        let kind = self.kind.label();
        metrics.passes.with_label_values(&[kind, self.ending.label()]).inc();
        metrics.pass_duration.with_label_values(&[kind]).observe(self.seconds);
        metrics.rows_read.with_label_values(&[kind]).inc_by(self.row.rows_read);
        metrics.accounts_pushed.with_label_values(&["set"]).inc_by(self.row.pushed);
        metrics.accounts_pushed.with_label_values(&["remove"]).inc_by(self.row.removed);
        metrics.repaired.inc_by(self.row.repaired);
        if !matches!(self.ending, PassOutcome::Failed | PassOutcome::Interrupted) {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a double for 285,000 years")]
            metrics.last_success_timestamp.set(self.row.finished_at.timestamp_millis() as f64 / 1000.0);
        }
    }
}
