//! Stores the intent of a delivery, and adapts its changes where another sync of the app uses the same attributes.
//!
//! Owns: which changes of a delivery are sent now, and the wait for the others. Must not know: how it is decided, what is
//! sent.

use std::time::Duration;

use super::delivery_context::DeliveryContext;
use super::error::PassError;
use super::page_diff::AccountDiff;
use crate::model::{AccountOutcome, AttributeOutcome};
use crate::state::IntendedChange;
use crate::state::shared_account::{claims_after, has_row};
use crate::state::shared_intent::Restriction;

/// How often an account is tried again for which another sync has a call in flight.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// After so many attempts the other sync may have stopped without recording its calls.
const ATTEMPTS_UNTIL_STOPPED: u32 = 25;

/// The part of a delivery that is sent now.
pub(super) struct ReadyDiffs {
    /// The intent; `None` when nothing is sent.
    pub(super) intent: Option<i64>,
    /// What is sent or recorded now.
    pub(super) ready: Vec<AccountDiff>,
    /// Accounts for which another sync has a call in flight.
    pub(super) blocked: Vec<AccountDiff>,
}

/// Stores the intent. What another sync holds is not removed, and what it has in flight is not sent. Takes the diffs, unless
/// it fails.
pub(super) async fn store_intent(
    context: &DeliveryContext,
    diffs: &mut Vec<AccountDiff>,
) -> Result<ReadyDiffs, PassError> {
    let needs_intent = |diff: &AccountDiff| diff.sends() || !diff.given_up.is_empty();
    let intended: Vec<IntendedChange<'_>> = diffs
        .iter()
        .filter(|diff| needs_intent(diff))
        .map(|diff| IntendedChange {
            change: &diff.change,
            given_up: &diff.given_up,
            acknowledged: &diff.acknowledged,
            is_stored: diff.is_stored,
            late_write: diff.late_write,
        })
        .collect();
    let stored = context.writer.store_intent(&intended).await?;
    let (mut ready, mut blocked) = (Vec::new(), Vec::new());
    let mut dropped_by = 0;
    let mut restrictions = stored.restrictions.into_iter().peekable();
    let mut position = 0;
    for mut diff in diffs.drain(..) {
        if !needs_intent(&diff) {
            ready.push(diff);
            continue;
        }
        match restrictions.next_if(|(restricted, _)| *restricted == position) {
            Some((_, Restriction::Blocked)) => blocked.push(diff),
            Some((_, Restriction::Shared { dropped, unknown, late_write })) => {
                dropped_by += usize::from(!dropped.is_empty());
                diff.acknowledged = claims_after(&diff.acknowledged, &dropped, &unknown);
                diff.is_stored = has_row(&diff.acknowledged);
                diff.change.remove.retain(|attribute| !dropped.contains(attribute));
                diff.may_be_overwritten = late_write.is_some();
                diff.late_write = diff.late_write.max(late_write);
                diff.given_up.clear();
                ready.push(diff);
            }
            None => ready.push(diff),
        }
        position += 1;
    }
    if dropped_by > 0 {
        tracing::debug!(
            accounts = dropped_by,
            "another sync of the app holds attributes of these accounts: they are not removed, and this sync forgets them"
        );
    }
    Ok(ReadyDiffs { intent: stored.id, ready, blocked })
}

/// Waits before blocked accounts are tried again. `attempt` counts from 0.
pub(super) async fn wait_for_other_sync(context: &DeliveryContext, attempt: u32) -> Result<(), PassError> {
    // Nothing else of this delivery may notice that the pass has stopped.
    let _ = context.session.unless_stopped(tokio::time::sleep(RETRY_INTERVAL)).await;
    context.check()?;
    if attempt % ATTEMPTS_UNTIL_STOPPED == ATTEMPTS_UNTIL_STOPPED - 1 {
        let accounts = context.writer.resolve_intents_of_stopped_syncs(context.late_write_window).await?;
        if accounts > 0 {
            tracing::warn!(
                accounts,
                "another sync of the app has stopped with calls whose outcome was never recorded: their attributes count \
                 as unknown for that sync"
            );
        }
    }
    Ok(())
}

/// The outcome, if a call of another sync may still be applied after the calls of this one.
pub(super) fn as_provisional(mut outcome: AccountOutcome) -> AccountOutcome {
    for (_, outcome) in &mut outcome.attributes {
        if *outcome == AttributeOutcome::Done {
            *outcome = AttributeOutcome::Provisional;
        }
    }
    outcome
}
