//! The beginning of a pass, and of one that cannot begin.
//!
//! Owns: what every pass does before its first page. Must not know: what a pass reads.

use std::sync::{Arc, Mutex};

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::progress::PassProgress;
use super::report::{PassKind, PassReport};
use crate::crash;
use crate::model::{AcknowledgedValue, AttributeIndex};
use crate::push::Probe;

impl Engine {
    /// Opens a push session, and makes the attributes of left-over intents unknown.
    pub(super) async fn begin_pass(&mut self, progress: Arc<PassProgress>) -> Result<Arc<DeliveryContext>, PassError> {
        crash::point("pass: begins");
        self.probe_offered = false;
        // Calls of an incremental pass go before those of a full pass that is under way.
        let urgent = progress.kind == PassKind::Incremental;
        let context = DeliveryContext {
            pass: self.queue.next_pass(),
            session: self.pusher.begin_pass(self.comparer.names.clone(), urgent),
            progress,
            names: self.comparer.names.clone(),
            writer: self.writer.clone(),
            metrics: self.metrics.clone(),
            retry_after: self.config.schedule.rejected_retry,
            late_write_window: self.config.im.timeout * 2,
            backoff: self.backoff.clone(),
            failure: Mutex::default(),
        };
        self.owed_at_most = self.state.account_counts(self.writer.sync_id()).await?.owed_removals;
        let live_intents = self.queue.live_intents();
        let live_intents = live_intents.lock().await;
        let live: Vec<i64> = live_intents.iter().copied().collect();
        let accounts = self.writer.mark_abandoned_intents_unknown(&live, context.late_write_window).await?;
        drop(live_intents);
        if accounts > 0 {
            tracing::warn!(
                accounts,
                "found calls whose outcome was never recorded: their attributes count as unknown and are sent again"
            );
        }
        Ok(Arc::new(context))
    }

    /// The report of a pass that could not begin.
    pub(super) async fn fail_to_start(&mut self, progress: &PassProgress, error: PassError) -> (PassReport, PassError) {
        let report = progress.report(error.outcome(), Some(error.to_string()));
        if !error.lease_lost() {
            // The state may be what cannot be reached. Then the log line is the only record.
            let _ = self.writer.add_pass(&report.row).await;
        }
        report.count(&self.metrics);
        (report, error)
    }

    /// Offers the push stage an acknowledged value as its probe, once in a pass, if it has none.
    pub(super) async fn offer_probe(&mut self) -> Result<(), PassError> {
        if !self.probe_offered {
            self.probe_offered = true;
            if !self.pusher.has_probe()
                && let Some(probe) = self.find_probe().await?
            {
                self.pusher.offer_probe(probe);
            }
        }
        Ok(())
    }

    /// An acknowledged value, which can be sent again without changing anything in IM.
    async fn find_probe(&self) -> Result<Option<Probe>, PassError> {
        let found = self.state.find_acknowledged_account(self.writer.sync_id(), self.writer.generation()).await?;
        Ok(found.and_then(|(account, acknowledged)| {
            acknowledged.into_iter().zip(0..).find_map(|(known, attribute)| match known {
                AcknowledgedValue::Value(value) => {
                    Some(Probe { account: account.clone(), attribute: AttributeIndex(attribute), value })
                }
                AcknowledgedValue::Absent | AcknowledgedValue::Unknown | AcknowledgedValue::Provisional(_) => None,
            })
        }))
    }
}
