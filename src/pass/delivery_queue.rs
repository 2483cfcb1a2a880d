//! The queue in which the changes of all passes are delivered.
//!
//! Owns: the deliveries in flight, and the rule that an account is compared only when its earlier change is recorded.
//! Must not know: where pages come from, what a delivery does.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::accounts_in_flight::{AccountsInFlight, LiveIntents};
use super::deliver_and_record::{QueuedDelivery, deliver_and_record};
use super::delivery_context::DeliveryContext;
use super::delivery_progress::DeliveryProgress;
use super::page_diff::{AccountDiff, PageDiff};
use crate::model::Account;
use crate::push::ChangeOrigin;

/// Changes that make a delivery. Sparse pages are collected up to this number, so that they still fill their calls.
const DELIVERY_SIZE: usize = 1_000;
/// Limits of the capacity. At least two deliveries, so that one is sent while the other is recorded; at most two full calls
/// for each of 64 calls in flight.
const CAPACITY: RangeInclusive<usize> = 2 * DELIVERY_SIZE..=12_800;

/// A delivery that has ended.
struct Completed {
    number: u64,
    /// Accounts whose outcome could not be recorded. Their intent, if there is one, is resolved by the next pass.
    unrecorded: Vec<Account>,
}

/// Changes that were compared and are not being sent yet. They belong to one pass and become one delivery.
struct PendingDelivery {
    context: Arc<DeliveryContext>,
    origin: ChangeOrigin,
    first_pass: u64,
    diffs: Vec<AccountDiff>,
}

/// A delivery in flight.
struct Outstanding {
    pass: u64,
    /// The first pass that has read one of its rows.
    first_pass: u64,
    origin: ChangeOrigin,
    /// What is committed before its pass counts as not in IM until its outcomes are recorded.
    holds_lag: bool,
    progress: Arc<DeliveryProgress>,
}

/// The queue. A process that holds the lease has one; it outlives the passes.
pub(super) struct DeliveryQueue {
    /// While more accounts than this are in flight, no further page is read.
    capacity: usize,
    deliveries: JoinSet<Completed>,
    /// Accounts that are pending or in flight.
    in_flight: AccountsInFlight,
    live_intents: LiveIntents,
    /// Notified when an intent is stored.
    changed: Arc<Notify>,
    /// The deliveries in flight, by number.
    outstanding: BTreeMap<u64, Outstanding>,
    pending: Option<PendingDelivery>,
    /// Accounts of deliveries that could not record their outcomes.
    unrecorded: Vec<Account>,
    /// Accounts that deliveries have stored as deferred.
    deferred: Arc<Mutex<Vec<Account>>>,
    next_delivery: u64,
    passes: u64,
}

impl std::fmt::Debug for DeliveryQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryQueue").field("outstanding", &self.outstanding.len()).finish_non_exhaustive()
    }
}

/// The result of [`DeliveryQueue::wait_for_completion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitResult {
    /// A delivery, of whichever pass, has completed.
    Completed,
    /// Deliveries of the pass are still in flight.
    TimedOut,
    /// No delivery of the pass is in flight.
    NothingInFlight,
}

impl DeliveryQueue {
    /// `accounts_per_second`: accounts that IM accepts in a second. A third more may be in flight: calls that take half a second
    /// and the record of their outcomes leave two thirds of a second to read the next page. No more than that, because a new
    /// change of an account waits for an earlier one that is in flight.
    pub(super) fn new(accounts_per_second: usize) -> Self {
        let capacity = accounts_per_second.saturating_add(accounts_per_second / 3);
        Self {
            capacity: capacity.clamp(*CAPACITY.start(), *CAPACITY.end()),
            deliveries: JoinSet::new(),
            in_flight: AccountsInFlight::default(),
            live_intents: LiveIntents::default(),
            changed: Arc::default(),
            outstanding: BTreeMap::new(),
            pending: None,
            unrecorded: Vec::new(),
            deferred: Arc::default(),
            next_delivery: 0,
            passes: 0,
        }
    }

    /// Whether nothing is pending and no delivery has outcomes to record.
    pub(super) fn is_empty(&mut self) -> bool {
        self.note_completed();
        self.outstanding.is_empty() && self.pending.is_none()
    }

    /// The number of a pass that is about to begin.
    pub(super) fn next_pass(&mut self) -> u64 {
        self.passes += 1;
        self.passes
    }

    /// The number of the newest pass.
    pub(super) fn current_pass(&self) -> u64 {
        self.passes
    }

    /// The accounts that are pending, in flight or reserved.
    pub(super) fn accounts_in_flight(&self) -> AccountsInFlight {
        self.in_flight.clone()
    }

    /// The intents whose outcomes are still going to be recorded by this process.
    pub(super) fn live_intents(&self) -> LiveIntents {
        self.live_intents.clone()
    }

    /// Adds the differences of a page. None of its accounts may be in flight. `first_pass`: the first pass that has read
    /// one of the rows.
    ///
    /// Accounts with an unknown outcome are delivered apart from the others, because IM may never answer for one of them.
    /// So are those that IM did not answer for when they were sent again.
    pub(super) fn enqueue(
        &mut self,
        context: &Arc<DeliveryContext>,
        page_diff: PageDiff,
        origin: ChangeOrigin,
        first_pass: u64,
    ) {
        let mut groups = [
            (origin, Vec::with_capacity(page_diff.diffs.len())),
            (ChangeOrigin::UnknownOutcome, Vec::new()),
            (ChangeOrigin::Unresponsive, Vec::new()),
        ];
        let backoff = context.lock_account_backoff();
        for diff in page_diff.diffs {
            let in_doubt =
                origin == ChangeOrigin::UnknownOutcome || (origin == ChangeOrigin::New && diff.retry_scheduled);
            let group = if in_doubt && backoff.is_unresponsive(diff.account()) { 2 } else { usize::from(in_doubt) };
            groups[group].1.push(diff);
        }
        drop(backoff);
        for (origin, diffs) in groups {
            if !diffs.is_empty() {
                let first_pass = first_pass.min(context.pass);
                self.add_to_pending(PendingDelivery { context: context.clone(), origin, first_pass, diffs });
            }
        }
    }

    fn add_to_pending(&mut self, more: PendingDelivery) {
        let PendingDelivery { context, origin, first_pass, diffs } = more;
        if self.pending.as_ref().is_some_and(|p| p.context.pass != context.pass || p.origin != origin) {
            self.send_pending();
        }
        let pending =
            self.pending.get_or_insert_with(|| PendingDelivery { context, origin, first_pass, diffs: Vec::new() });
        pending.first_pass = pending.first_pass.min(first_pass);
        pending.diffs.reserve(diffs.len());
        for diff in diffs.into_iter().filter(AccountDiff::needs_delivery) {
            self.in_flight.add(diff.account(), origin.is_in_doubt());
            pending.diffs.push(diff);
        }
        if pending.diffs.len() >= DELIVERY_SIZE {
            self.send_pending();
        }
    }

    /// Waits until another page may be read, at most this long. Returns whether it may.
    pub(super) async fn wait_for_capacity_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.wait_for_capacity()).await.is_ok()
    }

    /// Waits until another page may be read.
    pub(super) async fn wait_for_capacity(&mut self) {
        while self.in_flight.len() > self.capacity && !self.outstanding.is_empty() {
            self.wait_for_event().await;
        }
    }

    /// Starts the delivery of what is pending.
    pub(super) fn send_pending(&mut self) {
        let Some(PendingDelivery { context, origin, first_pass, diffs }) = self.pending.take() else { return };
        if diffs.is_empty() {
            return;
        }
        let number = self.next_delivery;
        self.next_delivery += 1;
        let progress = Arc::new(DeliveryProgress::new(self.changed.clone()));
        // A full pass is not the way of new changes where there are incremental passes, and it may take hours.
        let holds_lag = origin == ChangeOrigin::New && !context.is_beside_incremental_passes;
        let progress_of_queue = progress.clone();
        let outstanding =
            Outstanding { pass: context.pass, first_pass, origin, holds_lag, progress: progress_of_queue };
        self.outstanding.insert(number, outstanding);
        let delivery = QueuedDelivery {
            context,
            origin,
            progress,
            live_intents: self.live_intents.clone(),
            in_flight: self.in_flight.clone(),
            deferred: self.deferred.clone(),
        };
        self.deliveries.spawn(async move {
            let unrecorded = deliver_and_record(&delivery, diffs).await;
            Completed { number, unrecorded }
        });
    }

    /// Waits until every delivery, of whichever pass, has ended. New calls start, unless their passes have stopped.
    pub(super) async fn wait_for_all(&mut self) {
        self.send_pending();
        while !self.outstanding.is_empty() {
            self.wait_for_event().await;
        }
    }

    /// Whether nothing is pending or in flight, of whichever pass.
    pub(super) fn is_at_rest(&self) -> bool {
        self.outstanding.is_empty() && self.pending.is_none() && self.in_flight.len() == 0
    }

    /// Whether a delivery of the pass is in flight.
    pub(super) fn has_outstanding(&self, pass: u64) -> bool {
        self.outstanding.values().any(|delivery| delivery.pass == pass)
    }

    /// Whether the pass waits only for accounts that IM did not answer for before.
    pub(super) fn only_unresponsive_outstanding(&self, pass: u64) -> bool {
        self.of_pass(pass).all(|delivery| delivery.origin == ChangeOrigin::Unresponsive)
    }

    /// Whether an intent stands for everything of the pass that is not recorded.
    pub(super) fn all_intents_stored(&self, pass: u64) -> bool {
        self.of_pass(pass).all(|delivery| delivery.progress.has_stored_intent())
    }

    /// Whether the pass has stopped waiting for each of its deliveries.
    pub(super) fn all_detached(&self, pass: u64) -> bool {
        self.of_pass(pass).all(|delivery| delivery.progress.is_detached())
    }

    /// The pass stops waiting for its deliveries. Returns false if one of them is about to be recorded, or has no intent
    /// yet.
    pub(super) fn detach(&self, pass: u64) -> bool {
        self.of_pass(pass).all(|delivery| delivery.progress.detach())
    }

    /// The first pass that has read a row of which a change has no recorded outcome. Accounts that count as in doubt, and
    /// rejections that are tried again, are left out.
    pub(super) fn oldest_pass(&self) -> Option<u64> {
        let held = self.outstanding.values().filter(|delivery| delivery.holds_lag);
        held.map(|delivery| delivery.first_pass).min()
    }

    fn of_pass(&self, pass: u64) -> impl Iterator<Item = &Outstanding> {
        self.outstanding.values().filter(move |delivery| delivery.pass == pass)
    }

    /// Sends what is pending and waits until a delivery has completed, at most this long.
    pub(super) async fn wait_for_completion(&mut self, context: &DeliveryContext, limit: Duration) -> WaitResult {
        self.send_pending();
        if !self.has_outstanding(context.pass) {
            return WaitResult::NothingInFlight;
        }
        let before = self.outstanding.len();
        let completed = async {
            while self.outstanding.len() == before {
                self.wait_for_event().await;
            }
        };
        match tokio::time::timeout(limit, completed).await {
            Ok(()) => WaitResult::Completed,
            Err(_) => WaitResult::TimedOut,
        }
    }

    /// A number that stands for everything enqueued so far; see [`DeliveryQueue::completed_before`].
    pub(super) fn sequence(&self) -> u64 {
        self.next_delivery + u64::from(self.pending.as_ref().is_some_and(|pending| !pending.diffs.is_empty()))
    }

    /// Whether everything enqueued before this sequence has completed: it is recorded, or its pass has failed.
    pub(super) fn completed_before(&self, sequence: u64) -> bool {
        sequence <= self.next_delivery && self.outstanding.range(..sequence).next().is_none()
    }

    /// Takes note of deliveries that have completed, without waiting.
    pub(super) fn note_completed(&mut self) {
        while let Some(completed) = self.deliveries.try_join_next() {
            self.remove_completed(completed);
        }
    }

    /// Waits until a delivery has completed, or has stored its intent. Returns at once if none is in flight.
    pub(super) async fn wait_for_event(&mut self) {
        tokio::select! {
            completed = self.deliveries.join_next() => if let Some(completed) = completed {
                self.remove_completed(completed);
            },
            () = self.changed.notified() => {}
        }
    }

    fn remove_completed(&mut self, completed: Result<Completed, tokio::task::JoinError>) {
        match completed {
            Ok(Completed { number, unrecorded }) => {
                self.unrecorded.extend(unrecorded);
                self.outstanding.remove(&number);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // A delivery is cancelled only when the queue is dropped.
            Err(_) => {}
        }
    }

    /// The accounts whose outcomes could not be recorded, once. Until their intents are resolved they stay in flight, so
    /// that nobody compares them with values that may be wrong.
    pub(super) fn take_unrecorded(&mut self) -> Vec<Account> {
        self.note_completed();
        std::mem::take(&mut self.unrecorded)
    }

    /// The accounts that deliveries have stored as deferred, once.
    pub(super) fn take_deferred(&mut self) -> Vec<Account> {
        std::mem::take(&mut self.deferred.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The intents of these accounts could not be resolved. They stay in flight.
    pub(super) fn keep_unrecorded(&mut self, accounts: Vec<Account>) {
        self.unrecorded.extend(accounts);
    }
}
