//! The end of a pass: what it came to, what the sync row and the metrics are told.
//!
//! Owns: the report's way into state and metrics, and how the watermark is shown. Must not know: what the pass did.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::queue::PassContext;
use super::report::{PassOutcome, PassReport};
use super::{Engine, PassError, watermark_fingerprint};
use crate::clock;
use crate::crash;
use crate::model::Account;
use crate::source::WatermarkBound;
use crate::state::sync::SyncUpdate;

/// A transaction that holds the watermark back for so long is told of in the log.
const HELD_LONG: Duration = Duration::from_mins(1);

impl Engine {
    /// The ending of a pass that went through.
    pub(super) async fn ending(&self, only: Option<&[Account]>) -> Result<PassOutcome, PassError> {
        if self.guard.is_some() {
            return Ok(PassOutcome::Guard);
        }
        let sync_id = self.writer.sync_id();
        let rejected = match only {
            None => self.state.rejections_exist(sync_id).await?,
            Some(_) => self.state.count_rejected(sync_id, only).await? > 0,
        };
        Ok(if rejected { PassOutcome::Rejected } else { PassOutcome::Ok })
    }

    /// Writes the end of a pass down, wherever it is worth it. The caller tells of it.
    pub(super) async fn finish(
        &mut self,
        context: &PassContext,
        result: Result<PassOutcome, PassError>,
        mut update: SyncUpdate,
        save: bool,
    ) -> (PassReport, Option<PassError>) {
        let progress = &context.progress;
        progress.calls.store(context.session.calls(), Ordering::Relaxed);
        let (ending, mut error) = match result {
            Ok(ending) => (ending, None),
            Err(error) => (error.ending(), Some(error)),
        };
        self.known_accounts += progress.known_delta.swap(0, Ordering::Relaxed);
        self.metrics.accounts.set(self.known_accounts);
        let mut report = progress.report(ending, error.as_ref().map(ToString::to_string));
        crash::point("pass: all is recorded");
        let written = async {
            self.in_doubt_pending = self.state.in_doubt_pending(self.writer.sync_id()).await?;
            report.fresh = error.is_none() && progress.sees_everything() && !self.in_doubt_pending;
            // A guard that trips (or is lifted) is told of at once, also when nothing was sent.
            let guard_moved = self.guard != self.stored_guard;
            if !save && !guard_moved && !report.noteworthy() {
                return Ok(());
            }
            update.current_seconds_ago = report.fresh.then(|| progress.started.elapsed().as_secs_f64());
            self.writer.update_sync(&update).await?;
            crash::point("pass: the watermark is stored");
            self.saved_at = Some(clock::monotonic());
            self.stored_guard.clone_from(&self.guard);
            if guard_moved || report.noteworthy() {
                self.writer.add_pass(&report.row).await?;
                crash::point("pass: stands in the history");
            }
            self.update_gauges().await
        };
        if let Err(trouble) = written.await {
            report.fresh = false;
            // The first trouble is the one to tell of.
            if error.is_none() {
                report = progress.report(trouble.ending(), Some(trouble.to_string()));
                error = Some(trouble);
            }
        }
        report.count(&self.metrics);
        (report, error)
    }

    pub(super) async fn update_gauges(&self) -> Result<(), PassError> {
        let counts = self.state.count_accounts_in_doubt(self.writer.sync_id()).await?;
        self.metrics.in_doubt_accounts.set(i64::try_from(counts).unwrap_or(i64::MAX));
        let rejected = self.state.count_rejected(self.writer.sync_id(), None).await?;
        self.metrics.rejected_accounts.set(i64::try_from(rejected).unwrap_or(i64::MAX));
        Ok(())
    }

    /// What the tracker has to say for the sync row.
    pub(super) fn watermark_update(&self) -> SyncUpdate {
        let mut update = SyncUpdate {
            guard: self.guard.clone(),
            full_pass_due: self.full_due.clone(),
            watermark_fingerprint: (self.tracker.is_some() || !self.source.has_watermark())
                .then(|| watermark_fingerprint(&self.config)),
            ..SyncUpdate::default()
        };
        if let Some(tracker) = &self.tracker {
            update.watermark = Some(self.show(tracker.durable()));
            update.watermark_state = serde_json::to_value(tracker.save()).ok();
            update.held_back_by = tracker.held_back_by().and_then(|held| serde_json::to_value(held).ok());
        }
        update
    }

    pub(super) fn show(&self, bound: WatermarkBound) -> String {
        match bound {
            WatermarkBound::Beginning => "-infinity".to_owned(),
            WatermarkBound::At(value) if self.source.watermark_is_counter() => value.to_string(),
            WatermarkBound::At(micros) => chrono::DateTime::from_timestamp_micros(micros)
                .map_or_else(|| micros.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
        }
    }

    /// Into the metrics; and once for each transaction that holds the watermark back for long, into the log.
    pub(super) fn show_watermark(&mut self) {
        let Some(tracker) = &self.tracker else { return };
        let held = tracker.held_back_by();
        let lasts =
            held.as_ref().filter(|held| (clock::now_utc() - held.since).to_std().unwrap_or_default() >= HELD_LONG);
        if let Some(held) = lasts
            && self.told_of_holder.as_ref() != Some(held)
        {
            let who = match (held.pid, &held.prepared) {
                (Some(pid), _) => {
                    format!(
                        "the transaction of pid {pid} ({})",
                        held.application.as_deref().unwrap_or("unknown application")
                    )
                }
                (None, Some(gid)) => format!("the prepared transaction \"{gid}\""),
                (None, None) => "an open transaction".to_owned(),
            };
            tracing::warn!(
                "{who} has been open since {} or longer and holds the watermark back; other changes arrive all the same, and what \
                 was written since then is read once more when it ends",
                held.since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            );
            self.told_of_holder = Some(held.clone());
        }
        if let WatermarkBound::At(value) = tracker.durable() {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
            let value = value as f64;
            self.metrics.watermark_timestamp.set(if self.source.watermark_is_counter() { value } else { value / 1e6 });
        }
        let held = held.map_or(0.0, |held| {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
            let millis = (clock::now_utc() - held.since).num_milliseconds().max(0) as f64;
            millis / 1000.0
        });
        self.metrics.watermark_held_back.set(held);
    }
}
