//! The one queue in which changes of all passes are delivered: intent, calls, record.
//!
//! Owns: deliveries in flight, and the rule that an account is looked at only when its earlier change is recorded.
//! Must not know: where pages come from.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::PassError;
use super::backoff::Backoff;
use super::compare::{AccountDiff, PageComparer, PageDiff};
use super::record_outcome::{self, OutcomeCounts, RetryDelays};
use super::report::PassProgress;
use crate::crash;
use crate::metrics::Metrics;
use crate::model::{Account, AccountOutcome, AttributeOutcome, Change};
use crate::push::{ChangeOrigin, PushSession};
use crate::state::StateWriter;
use crate::state::record::OutcomeRecord;

/// What a pass and its deliveries share.
#[derive(Debug)]
pub struct PassContext {
    /// The pass's number in the queue.
    pub pass: u64,
    pub session: PushSession,
    pub progress: Arc<PassProgress>,
    pub comparer: PageComparer,
    pub writer: StateWriter,
    pub metrics: Arc<Metrics>,
    pub retry_after: Duration,
    /// When an unknown outcome is looked into: a call may record_outcome until twice its time-out after it was sent (assumed).
    pub doubt: Duration,
    pub(super) patience: Arc<Mutex<Backoff>>,
    pub(super) failure: Mutex<Option<PassError>>,
}

impl PassContext {
    /// Why this pass cannot go on, once something has come up.
    pub fn trouble(&self) -> Option<PassError> {
        let failed = self.failure.lock().ok().and_then(|failure| failure.clone());
        failed.or_else(|| self.session.stopped().map(PassError::Stop))
    }

    /// When doubts of an account are looked into that have no answer: later each time, where IM answers others.
    fn pauses(&self, outcome: &AccountOutcome, origin: ChangeOrigin) -> RetryDelays {
        let doubt = self.doubt;
        // Counts are only counted up, so those that a panic left half-way are still some.
        let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        if !outcome.attributes.iter().any(|(_, outcome)| *outcome == AttributeOutcome::Unknown) {
            patience.answered(&outcome.account);
            return RetryDelays { doubt, unknown: doubt };
        }
        let doubt_again = matches!(origin, ChangeOrigin::UnknownOutcome | ChangeOrigin::Unresponsive);
        let again = doubt_again && self.session.accepted_something();
        RetryDelays { doubt, unknown: if again { patience.ended(&outcome.account, doubt) } else { doubt } }
    }

    fn fail(&self, error: PassError) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
        self.session.halt();
    }

    /// Somebody got an answer, or there was nothing to ask.
    pub(super) fn answered(&self) -> Result<(), PassError> {
        self.session.nobody_answered().map_or(Ok(()), |stop| Err(PassError::Stop(stop)))
    }

    /// Nothing may be read or sent any more.
    pub fn check(&self) -> Result<(), PassError> {
        self.trouble().map_or(Ok(()), Err)
    }
}

/// A delivery that has ended, one way or the other.
struct Completed {
    accounts: Vec<Account>,
    number: u64,
}

/// Changes looked at and not yet on their way. They belong to one pass and go as one delivery.
struct PendingDelivery {
    context: Arc<PassContext>,
    origin: ChangeOrigin,
    diffs: Vec<AccountDiff>,
    accounts: HashSet<Account>,
}

/// Intents of deliveries in flight. Held while one is stored or left-over ones are settled, so that no intent is ever
/// seen in the table before it is known here.
pub(super) type LiveIntents = Arc<tokio::sync::Mutex<HashSet<i64>>>;

/// The queue. One for a process that holds the lease; it outlives the passes.
pub struct DeliveryQueue {
    /// Changes in flight beyond which no further page is taken.
    most: usize,
    deliveries: JoinSet<Completed>,
    /// Accounts of deliveries in flight.
    busy: HashSet<Account>,
    live: LiveIntents,
    /// Numbers of the deliveries in flight, each with its pass.
    outstanding: BTreeMap<u64, u64>,
    pending: Option<PendingDelivery>,
    /// The number of the next delivery.
    next: u64,
    passes: u64,
}

impl std::fmt::Debug for DeliveryQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryQueue").field("outstanding", &self.outstanding.len()).finish_non_exhaustive()
    }
}

/// Changes that are gathered before they go, so that sparse pages still fill their calls.
const GATHER: usize = 1_000;
/// Changes in flight beyond which no further page is taken: at least two deliveries, so that one is on its way while the
/// other is recorded; at most two full calls for each of 64 in flight.
const IN_FLIGHT: RangeInclusive<usize> = 2 * GATHER..=12_800;

/// What [`DeliveryQueue::wait_for_completion`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitResult {
    Completed,
    /// Something is in flight still.
    NotYet,
    NothingInFlight,
}

impl DeliveryQueue {
    /// `a_second`: accounts that IM takes in a second. So much may be in flight and no more: a fresh change of an account
    /// that an earlier page has put in the line waits for it.
    pub fn new(a_second: usize) -> Self {
        Self {
            most: a_second.clamp(*IN_FLIGHT.start(), *IN_FLIGHT.end()),
            deliveries: JoinSet::new(),
            busy: HashSet::new(),
            live: LiveIntents::default(),
            outstanding: BTreeMap::new(),
            pending: None,
            next: 0,
            passes: 0,
        }
    }

    /// A number for a pass that is about to begin.
    pub fn next_pass(&mut self) -> u64 {
        self.passes += 1;
        self.passes
    }

    /// Intents that still have somebody to answer them.
    pub(super) fn live_intents(&self) -> LiveIntents {
        self.live.clone()
    }

    /// Waits until none of these accounts is in flight or pending, so that they can be looked at.
    pub async fn wait_until_idle<'a>(&mut self, accounts: impl Iterator<Item = &'a Account> + Clone) {
        let waits = |pending: &PendingDelivery| accounts.clone().any(|account| pending.accounts.contains(account));
        if self.pending.as_ref().is_some_and(waits) {
            self.send();
        }
        while accounts.clone().any(|account| self.busy.contains(account)) {
            if !self.wait_for_one().await {
                break;
            }
        }
    }

    /// Takes what differs on a page. The accounts must be clear (see [`DeliveryQueue::wait_until_idle`]). Those of which a call had no
    /// known outcome go by themselves, as doubts: IM may never answer for one of them.
    pub fn take(&mut self, context: &Arc<PassContext>, page_diff: PageDiff, origin: ChangeOrigin) {
        let mut groups = [
            (origin, Vec::new()),
            (ChangeOrigin::UnknownOutcome, Vec::new()),
            (ChangeOrigin::Unresponsive, Vec::new()),
        ];
        let patience = context.patience.lock().unwrap_or_else(PoisonError::into_inner);
        for diff in page_diff.diffs {
            let doubt = origin == ChangeOrigin::UnknownOutcome || (origin == ChangeOrigin::New && diff.unsettled);
            let group = if doubt && patience.knows(diff.account()) { 2 } else { usize::from(doubt) };
            groups[group].1.push(diff);
        }
        drop(patience);
        for (origin, diffs) in groups {
            if !diffs.is_empty() {
                self.gather(context, diffs, origin);
            }
        }
    }

    fn gather(&mut self, context: &Arc<PassContext>, diffs: Vec<AccountDiff>, origin: ChangeOrigin) {
        if self.pending.as_ref().is_some_and(|p| p.context.pass != context.pass || p.origin != origin) {
            self.send();
        }
        let pending = self.pending.get_or_insert_with(|| PendingDelivery {
            context: context.clone(),
            origin,
            diffs: Vec::new(),
            accounts: HashSet::new(),
        });
        for diff in diffs {
            if diff.sends() || !diff.refused.is_empty() || !diff.resolved.is_empty() {
                pending.accounts.insert(diff.account().clone());
                pending.diffs.push(diff);
            }
        }
        if pending.diffs.len() >= GATHER {
            self.send();
        }
    }

    /// Waits until there is wait_for_capacity for another page, no longer than that. True: there is.
    pub async fn wait_for_capacity_within(&mut self, patience: Duration) -> bool {
        let wait_for_capacity = async { while self.busy.len() > self.most && self.wait_for_one().await {} };
        tokio::time::timeout(patience, wait_for_capacity).await.is_ok()
    }

    /// Waits until there is wait_for_capacity for another page.
    pub async fn wait_for_capacity(&mut self) {
        while self.busy.len() > self.most && self.wait_for_one().await {}
    }

    /// Sends what is pending.
    fn send(&mut self) {
        let Some(PendingDelivery { context, origin, diffs, accounts }) = self.pending.take() else { return };
        if diffs.is_empty() {
            return;
        }
        self.busy.extend(accounts);
        let number = self.next;
        self.next += 1;
        self.outstanding.insert(number, context.pass);
        let live = self.live.clone();
        self.deliveries.spawn(async move {
            let accounts = diffs.iter().map(|diff| diff.account().clone()).collect();
            if let Err(error) = deliver(&context, diffs, origin, &live).await {
                context.fail(error);
            }
            Completed { accounts, number }
        });
    }

    /// Sends what is pending and waits until every delivery of this pass is recorded.
    pub async fn drain(&mut self, context: &PassContext) -> Result<(), PassError> {
        crash::point("drain: begins");
        self.send();
        while self.outstanding.values().any(|pass| *pass == context.pass) {
            if !self.wait_for_one().await {
                break;
            }
        }
        crash::point("drain: ended");
        context.check()
    }

    /// Sends what is pending and waits until a delivery has completed, no longer than that.
    pub async fn wait_for_completion(&mut self, context: &PassContext, patience: Duration) -> WaitResult {
        self.send();
        if !self.outstanding.values().any(|pass| *pass == context.pass) {
            return WaitResult::NothingInFlight;
        }
        match tokio::time::timeout(patience, self.wait_for_one()).await {
            Ok(true) => WaitResult::Completed,
            Ok(false) => WaitResult::NothingInFlight,
            Err(_) => WaitResult::NotYet,
        }
    }

    /// Stands for everything taken so far; see [`DeliveryQueue::completed_before`].
    pub fn sequence(&self) -> u64 {
        self.next + u64::from(self.pending.as_ref().is_some_and(|pending| !pending.diffs.is_empty()))
    }

    /// Everything taken before this sequence has completed: recorded, or its pass is in trouble.
    pub fn completed_before(&self, sequence: u64) -> bool {
        sequence <= self.next && self.outstanding.range(..sequence).next().is_none()
    }

    /// Takes note of deliveries that have completed meanwhile, without waiting.
    pub fn note_completed(&mut self) {
        while let Some(completed) = self.deliveries.try_join_next() {
            self.completed(completed);
        }
    }

    async fn wait_for_one(&mut self) -> bool {
        match self.deliveries.join_next().await {
            Some(completed) => {
                self.completed(completed);
                true
            }
            None => false,
        }
    }

    fn completed(&mut self, completed: Result<Completed, tokio::task::JoinError>) {
        match completed {
            Ok(Completed { accounts, number }) => {
                for account in &accounts {
                    self.busy.remove(account);
                }
                self.outstanding.remove(&number);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only a dropped DeliveryQueue cancels its deliveries.
            Err(_) => {}
        }
    }
}

/// One delivery: intent, calls, record.
async fn deliver(
    context: &PassContext,
    diffs: Vec<AccountDiff>,
    origin: ChangeOrigin,
    live: &LiveIntents,
) -> Result<(), PassError> {
    let changes: Vec<&Change> = diffs.iter().filter(|diff| diff.sends()).map(|diff| &diff.change).collect();
    let mut record = OutcomeRecord::default();
    let mut counts = OutcomeCounts::default();
    if changes.is_empty() {
        for diff in &diffs {
            record_outcome::record_refusals(diff, &context.comparer, &mut record, &mut counts);
        }
    } else {
        // A stop that came up meanwhile: nothing is sent, so nothing needs an intent.
        context.check()?;
        crash::point("delivery: begins");
        let mut known = live.lock().await;
        let intent = context.writer.store_intent(&changes).await?;
        known.insert(intent);
        drop(known);
        crash::point("intent: stored");
        record.intent = Some(intent);
        let owned: Vec<Change> = changes.into_iter().cloned().collect();
        let mut outcomes = context.session.deliver(owned, origin).await.into_iter();
        for diff in &diffs {
            if diff.sends() {
                let outcome = outcomes.next().filter(|outcome| outcome.account == *diff.account());
                let outcome = outcome.expect("the push stage answers every change, in the order given");
                let pauses = context.pauses(&outcome, origin);
                record_outcome::record_outcome(diff, &outcome, pauses, &context.comparer, &mut record, &mut counts);
            } else {
                record_outcome::record_refusals(diff, &context.comparer, &mut record, &mut counts);
            }
        }
    }
    crash::point("delivery: about to be recorded");
    let result = if record.is_empty() { Ok(()) } else { context.writer.record(&record, context.retry_after).await };
    if let Some(intent) = record.intent {
        // Recorded, or (after an error) left over: the next pass makes its attributes unknown.
        live.lock().await.remove(&intent);
    }
    result?;
    crash::point("delivery: recorded");
    let progress = &context.progress;
    progress.note_recorded();
    PassProgress::add(&progress.pushed, counts.pushed);
    PassProgress::add(&progress.removed, counts.removed);
    PassProgress::add(&progress.rejected, counts.rejected);
    progress.known_delta.fetch_add(counts.known_delta, std::sync::atomic::Ordering::Relaxed);
    context.metrics.rejections.with_label_values(&["local"]).inc_by(counts.local_rejections as u64);
    Ok(())
}
