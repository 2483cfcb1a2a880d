//! One delivery: store the intent, send the changes, record the outcomes.
//!
//! Owns: the order of these three steps. Must not know: which deliveries are in flight, where pages come from.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::build_record::{OutcomeCounts, RecordBuilder};
use super::delivery_context::DeliveryContext;
use super::error::PassError;
use super::page_diff::AccountDiff;
use super::progress::PassProgress;
use super::shared_accounts::{ReadyDiffs, as_provisional, store_intent, wait_for_other_sync};
use crate::crash;
use crate::model::Change;
use crate::push::ChangeOrigin;

/// The intents of deliveries in flight. Locked while an intent is stored and while left-over intents are resolved, so that
/// no intent is ever seen in the table before it is in this set.
pub(super) type LiveIntents = Arc<tokio::sync::Mutex<HashSet<i64>>>;

/// Delivers the diffs. An intent that an error leaves behind is resolved by the next pass.
///
/// Where another sync of the app has a call for an account in flight, the account waits and the others go ahead.
pub(super) async fn deliver_and_record(
    context: &DeliveryContext,
    diffs: Vec<AccountDiff>,
    origin: ChangeOrigin,
    live_intents: &LiveIntents,
) -> Result<(), PassError> {
    let mut waiting = deliver_unblocked(context, diffs, origin, live_intents).await?;
    for attempt in 0.. {
        if waiting.is_empty() {
            break;
        }
        wait_for_other_sync(context, attempt).await?;
        waiting = deliver_unblocked(context, waiting, origin, live_intents).await?;
    }
    Ok(())
}

/// Delivers the diffs. Returns those that have to wait for another sync.
async fn deliver_unblocked(
    context: &DeliveryContext,
    diffs: Vec<AccountDiff>,
    origin: ChangeOrigin,
    live_intents: &LiveIntents,
) -> Result<Vec<AccountDiff>, PassError> {
    let mut builder = RecordBuilder::new(context.names.clone(), context.writer.digest_key().clone());
    let stored = if diffs.iter().any(|diff| diff.sends() || !diff.given_up.is_empty()) {
        // If the pass has been stopped meanwhile, nothing is sent, so nothing needs an intent.
        context.check()?;
        crash::point("delivery: begins");
        let mut live = live_intents.lock().await;
        let stored = store_intent(context, diffs).await?;
        live.extend(stored.intent);
        drop(live);
        crash::point("intent: stored");
        stored
    } else {
        ReadyDiffs { intent: None, ready: diffs, blocked: Vec::new() }
    };
    let ReadyDiffs { intent, ready, blocked } = stored;
    send(context, &ready, origin, &mut builder).await;
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
    Ok(blocked)
}

async fn send(context: &DeliveryContext, diffs: &[AccountDiff], origin: ChangeOrigin, builder: &mut RecordBuilder) {
    let changes: Vec<Change> = diffs.iter().filter(|diff| diff.sends()).map(|diff| diff.change.clone()).collect();
    let outcomes = if changes.is_empty() { Vec::new() } else { context.session.deliver(changes, origin).await };
    let mut outcomes = outcomes.into_iter();
    for diff in diffs {
        if diff.sends() {
            let outcome = outcomes.next().filter(|outcome| outcome.account == *diff.account());
            let outcome = outcome.expect("the push stage returns an outcome for every change, in the order given");
            let outcome = if diff.may_be_overwritten { as_provisional(outcome) } else { outcome };
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
    progress.known_delta.fetch_add(counts.known_delta, Ordering::Relaxed);
    context.metrics.rejections.with_label_values(&["local"]).inc_by(counts.local_rejections as u64);
}
