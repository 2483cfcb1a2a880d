//! One delivery: store the intent, send the changes, record the outcomes.
//!
//! Owns: the order of these three steps. Must not know: which deliveries are in flight, where pages come from.

use std::collections::HashSet;
use std::sync::Arc;

use super::build_record::{OutcomeCounts, RecordBuilder};
use super::delivery_context::DeliveryContext;
use super::error::PassError;
use super::page_diff::AccountDiff;
use super::progress::PassProgress;
use crate::crash;
use crate::model::Change;
use crate::push::ChangeOrigin;

/// The intents of deliveries in flight. Locked while an intent is stored and while left-over intents are resolved, so that
/// no intent is ever seen in the table before it is in this set.
pub(super) type LiveIntents = Arc<tokio::sync::Mutex<HashSet<i64>>>;

/// Delivers the diffs. An intent that an error leaves behind is resolved by the next pass.
pub(super) async fn deliver_and_record(
    context: &DeliveryContext,
    diffs: Vec<AccountDiff>,
    origin: ChangeOrigin,
    live_intents: &LiveIntents,
) -> Result<(), PassError> {
    let mut builder = RecordBuilder::new(context.names.clone());
    let changes: Vec<&Change> = diffs.iter().filter(|diff| diff.sends()).map(|diff| &diff.change).collect();
    let intent = if changes.is_empty() {
        for diff in &diffs {
            builder.add_refusals(diff);
        }
        None
    } else {
        // If the pass has been stopped meanwhile, nothing is sent, so nothing needs an intent.
        context.check()?;
        crash::point("delivery: begins");
        let mut live = live_intents.lock().await;
        let intent = context.writer.store_intent(&changes).await?;
        live.insert(intent);
        drop(live);
        crash::point("intent: stored");
        let changes = changes.into_iter().cloned().collect();
        send(context, &diffs, changes, origin, &mut builder).await;
        Some(intent)
    };
    crash::point("delivery: about to be recorded");
    let (record, counts) = builder.finish(intent);
    let result = if record.is_empty() { Ok(()) } else { context.writer.record(&record, context.retry_after).await };
    if let Some(intent) = intent {
        // Either its outcomes are recorded, or the next pass makes its attributes unknown.
        live_intents.lock().await.remove(&intent);
    }
    result?;
    crash::point("delivery: recorded");
    count(context, counts);
    Ok(())
}

async fn send(
    context: &DeliveryContext,
    diffs: &[AccountDiff],
    changes: Vec<Change>,
    origin: ChangeOrigin,
    builder: &mut RecordBuilder,
) {
    let mut outcomes = context.session.deliver(changes, origin).await.into_iter();
    for diff in diffs {
        if diff.sends() {
            let outcome = outcomes.next().filter(|outcome| outcome.account == *diff.account());
            let outcome = outcome.expect("the push stage returns an outcome for every change, in the order given");
            builder.add_outcome(diff, &outcome, context.in_doubt_delays(&outcome, origin));
        } else {
            builder.add_refusals(diff);
        }
    }
}

fn count(context: &DeliveryContext, counts: OutcomeCounts) {
    let progress = &context.progress;
    progress.note_recorded();
    PassProgress::add(&progress.pushed, counts.pushed);
    PassProgress::add(&progress.removed, counts.removed);
    PassProgress::add(&progress.rejected, counts.rejected);
    context.metrics.rejections.with_label_values(&["local"]).inc_by(counts.local_rejections as u64);
}
