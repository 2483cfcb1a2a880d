//! One delivery: store the intent, send the changes, record the outcomes.
//!
//! Owns: the order of these three steps, and that accounts with an outcome do not wait for one without. Must not know:
//! which deliveries are in flight, where pages come from.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::accounts_in_flight::{AccountsInFlight, LiveIntents};
use super::build_record::{OutcomeCounts, RecordBuilder};
use super::delivery_context::DeliveryContext;
use super::delivery_progress::DeliveryProgress;
use super::error::PassError;
use super::page_diff::AccountDiff;
use super::progress::PassProgress;
use super::shared_accounts::{as_provisional, store_intent, wait_for_other_sync};
use crate::crash;
use crate::model::{Account, AccountOutcome, Change};
use crate::push::ChangeOrigin;
use crate::state::outcome_record::IntentUpdate;

/// What a delivery shares with its pass and with the queue.
#[derive(Debug)]
pub(super) struct QueuedDelivery {
    pub(super) context: Arc<DeliveryContext>,
    pub(super) origin: ChangeOrigin,
    pub(super) progress: Arc<DeliveryProgress>,
    pub(super) live_intents: LiveIntents,
    pub(super) in_flight: AccountsInFlight,
    /// Accounts that deliveries have stored as deferred.
    pub(super) deferred: Arc<Mutex<Vec<Account>>>,
}

/// The changes of a delivery that have no recorded outcome yet, in the order of their rows.
type OpenDiffs = Vec<AccountDiff>;

/// Delivers the diffs. Returns the accounts whose outcome is not recorded, which is an error of the pass; they stay in
/// flight. An intent that is left behind is resolved by the next pass.
///
/// Where another sync of the app has a call for an account in flight, the account waits and the others go ahead. It is
/// stored as deferred, so that the pass need not wait for the other sync.
pub(super) async fn deliver_and_record(delivery: &QueuedDelivery, diffs: Vec<AccountDiff>) -> Vec<Account> {
    let mut open = diffs;
    let mut blocked = Vec::new();
    let mut result = delivery.deliver_unblocked(&mut open, &mut blocked, 0).await;
    for attempt in 0.. {
        if result.is_err() || blocked.is_empty() {
            break;
        }
        // What is recorded before may have set another stage.
        delivery.progress.note_intent_stored();
        result = wait_for_other_sync(&delivery.context, attempt).await;
        if result.is_ok() {
            open = std::mem::take(&mut blocked);
            result = delivery.deliver_unblocked(&mut open, &mut blocked, attempt + 1).await;
        }
    }
    if let Err(error) = result {
        delivery.context.record_first_error(error);
    }
    open.into_iter().chain(blocked).map(|diff| diff.change.account).collect()
}

impl QueuedDelivery {
    /// Delivers what no other sync blocks. The others become `blocked`.
    async fn deliver_unblocked(
        &self,
        open: &mut OpenDiffs,
        blocked: &mut OpenDiffs,
        attempt: u32,
    ) -> Result<(), PassError> {
        if !open.iter().any(|diff| diff.sends() || !diff.given_up.is_empty()) {
            return self.record(open, HashMap::new(), None, false).await;
        }
        // If the pass has been stopped meanwhile, nothing is sent, so nothing needs an intent.
        self.context.check()?;
        crash::point("delivery: begins");
        let mut live = self.live_intents.lock().await;
        let stored = store_intent(&self.context, open).await?;
        live.extend(stored.intent);
        drop(live);
        crash::point("intent: stored");
        *blocked = stored.blocked;
        // No intent stands for what is not sent. So it is recorded before the pass may stop waiting for the calls.
        *open = stored.ready;
        let mut unsent: OpenDiffs = open.extract_if(.., |diff| !diff.sends()).collect();
        let mut result =
            if unsent.is_empty() { Ok(()) } else { self.record(&mut unsent, HashMap::new(), None, false).await };
        // Those that are left here could not be recorded.
        open.extend(unsent);
        if result.is_ok() && attempt == 0 && !blocked.is_empty() {
            let accounts: Vec<Account> = blocked.iter().map(|diff| diff.account().clone()).collect();
            result = self.context.writer.defer_accounts(&accounts).await.map_err(PassError::from);
            // Handed over before the pass may end: it must not end an earlier deferral of these accounts.
            self.deferred.lock().unwrap_or_else(PoisonError::into_inner).extend(accounts);
        }
        if result.is_ok() {
            self.progress.note_intent_stored();
        }
        let Some(intent) = stored.intent else { return result };
        if result.is_ok() {
            result = self.send_and_record(open, intent).await;
        }
        // Either its outcomes are recorded, or the next pass makes its attributes unknown.
        self.live_intents.lock().await.remove(&intent);
        result
    }

    async fn send_and_record(&self, open: &mut OpenDiffs, intent: i64) -> Result<(), PassError> {
        let changes: Vec<Change> = open.iter().filter(|diff| diff.sends()).map(|diff| diff.change.clone()).collect();
        let (early, mut settled) = mpsc::unbounded_channel();
        let mut calls = std::pin::pin!(self.context.session.deliver(changes, self.origin, early));
        let mut partly = Ok(());
        let rest = loop {
            let outcomes: Vec<AccountOutcome> = tokio::select! {
                biased;
                Some(outcomes) = settled.recv(), if partly.is_ok() => outcomes,
                rest = &mut calls => break rest,
            };
            // The calls go on while this is recorded: a slow transaction must not look like a slow IM.
            let record = self.record_settled(open, outcomes, intent);
            let mut record = std::pin::pin!(record);
            let mut rest = None;
            partly = loop {
                tokio::select! {
                    recorded = &mut record => break recorded,
                    outcomes = &mut calls, if rest.is_none() => rest = Some(outcomes),
                }
            };
            if let Some(rest) = rest {
                break rest;
            }
        };
        partly?;
        let detached = self.progress.begin_recording();
        let mut outcomes: HashMap<Account, AccountOutcome> = by_account(rest);
        while let Ok(settled) = settled.try_recv() {
            outcomes.extend(by_account(settled));
        }
        crash::point("delivery: about to be recorded");
        self.record(open, outcomes, Some(IntentUpdate::delete(intent)), detached).await
    }

    /// Records accounts whose calls have all been answered, while others of the delivery still wait.
    async fn record_settled(
        &self,
        open: &mut OpenDiffs,
        outcomes: Vec<AccountOutcome>,
        intent: i64,
    ) -> Result<(), PassError> {
        let outcomes = by_account(outcomes);
        let mut settled: OpenDiffs = open.extract_if(.., |diff| outcomes.contains_key(diff.account())).collect();
        let left = open.iter().filter(|diff| diff.sends()).map(|diff| &diff.change);
        let update = IntentUpdate::shrink_to(intent, left);
        let result = self.record(&mut settled, outcomes, Some(update), false).await;
        // Those that are left here could not be recorded.
        open.extend(settled);
        crash::point("delivery: partly recorded");
        self.progress.note_partly_recorded();
        result
    }

    /// Records what is open. `detached`: the pass has ended, so a change that was not sent must be looked up again.
    async fn record(
        &self,
        open: &mut OpenDiffs,
        mut outcomes: HashMap<Account, AccountOutcome>,
        intent: Option<IntentUpdate>,
        detached: bool,
    ) -> Result<(), PassError> {
        let context = &self.context;
        let builder = RecordBuilder::new(context.names.clone(), context.writer.digest_key().clone(), detached);
        let mut builder = builder.with_history(context.history);
        builder.reserve(outcomes.len());
        for diff in open.iter() {
            if diff.sends() {
                let outcome = outcomes.remove(diff.account());
                let outcome = outcome.expect("the push stage returns an outcome for every change");
                let outcome = if diff.may_be_overwritten { as_provisional(outcome) } else { outcome };
                builder.add_outcome(diff, &outcome, context.in_doubt_delays(&outcome, self.origin));
            } else {
                builder.add_refusals(diff);
            }
        }
        let (record, counts) = builder.finish(intent);
        if !record.rejected.is_empty() {
            // Before it is stored: a comparison that begins from now on asks for rejections.
            context.may_be_rejected.store(true, Ordering::SeqCst);
        }
        if !record.is_empty() {
            context.writer.record(&record, context.retry_after).await?;
            context.met.note_recorded(context.pass, &record.accounts);
        }
        crash::point("delivery: recorded");
        self.in_flight.remove(open.iter().map(AccountDiff::account));
        open.clear();
        count(context, counts);
        Ok(())
    }
}

fn by_account(outcomes: Vec<AccountOutcome>) -> HashMap<Account, AccountOutcome> {
    outcomes.into_iter().map(|outcome| (outcome.account.clone(), outcome)).collect()
}

fn count(context: &DeliveryContext, counts: OutcomeCounts) {
    let progress = &context.progress;
    progress.note_recorded();
    PassProgress::add(&progress.pushed, counts.pushed);
    PassProgress::add(&progress.removed, counts.removed);
    PassProgress::add(&progress.rejected, counts.rejected);
    context.metrics.rejections.with_label_values(&["local"]).inc_by(counts.local_rejections as u64);
}
