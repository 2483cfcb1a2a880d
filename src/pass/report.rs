//! The report of a pass. Log line, metrics, the `pass` table and the JSON documents are all made from it.
//!
//! Owns: what is known of a pass at its end. Must not know: how the report is displayed.

use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::state::passes::PassRow;

/// The kinds of passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassKind {
    /// Reads the rows that changed since the read position.
    Incremental,
    /// Reads the whole table, and stored accounts that are no longer in it.
    Full,
    /// Reads the accounts named on the command line.
    Selected,
}

impl PassKind {
    /// The value of the label `kind` in metrics, logs and JSON.
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
    /// Complete.
    Ok,
    /// Complete, with standing rejections.
    Rejected,
    /// Stopped by an error.
    Failed,
    /// Complete, but the removal guard holds removals back.
    Guard,
    /// Stopped by a shutdown.
    Interrupted,
}

impl PassOutcome {
    /// The value of the label `outcome` in metrics, logs and JSON.
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

/// What a pass did, and how it ended.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// The kind of pass.
    pub kind: PassKind,
    /// How the pass ended.
    pub outcome: PassOutcome,
    /// Monotonic clock at the start of the pass.
    pub started: Instant,
    /// IM holds everything that was committed before this moment, rejected accounts and those in doubt aside. `None` if
    /// that is not later than at the end of the pass before.
    pub current_since: Option<Instant>,
    /// Duration in seconds.
    pub seconds: f64,
    /// See `PassProgress::set_poll`.
    pub(super) is_poll: bool,
    /// Rows with a NULL or empty account, or one too long to be recorded. Nothing is sent for them.
    pub(super) without_account: u64,
    /// The pass as the table `pass` stores it.
    pub row: PassRow,
}

impl PassReport {
    /// Whether the pass is added to the history and logged above debug level: it is no regular poll, or it did something,
    /// or it did not complete.
    pub fn is_notable(&self) -> bool {
        !self.is_poll
            || self.row.calls > 0
            || self.row.rejected > 0
            || matches!(self.outcome, PassOutcome::Failed | PassOutcome::Interrupted)
    }

    /// The end of the pass could not be stored.
    pub(super) fn fail(&mut self, outcome: PassOutcome, error: String) {
        self.outcome = outcome;
        outcome.label().clone_into(&mut self.row.outcome);
        self.row.error = Some(error);
    }

    /// Logs the pass in one line.
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
        match self.outcome {
            PassOutcome::Failed => line!(error),
            // The guard is logged when it trips. A poll that finds it still tripped is not a new event.
            PassOutcome::Guard if self.is_notable() => line!(warn),
            _ if self.is_notable() => line!(info),
            _ => line!(debug),
        }
    }

    /// Adds the pass to the metrics.
    pub(super) fn count(&self, metrics: &Metrics) {
        let kind = self.kind.label();
        metrics.passes.with_label_values(&[kind, self.outcome.label()]).inc();
        metrics.pass_duration.with_label_values(&[kind]).observe(self.seconds);
        metrics.rows_read.with_label_values(&[kind]).inc_by(self.row.rows_read);
        metrics.accounts_pushed.with_label_values(&["set"]).inc_by(self.row.pushed);
        metrics.accounts_pushed.with_label_values(&["remove"]).inc_by(self.row.removed);
        metrics.repaired.inc_by(self.row.repaired);
        if !matches!(self.outcome, PassOutcome::Failed | PassOutcome::Interrupted) {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a double for 285,000 years")]
            metrics.last_success_timestamp.set(self.row.finished_at.timestamp_millis() as f64 / 1000.0);
        }
    }
}
