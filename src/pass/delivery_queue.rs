//! The queue in which the changes of all passes are delivered.
//!
//! Owns: the deliveries in flight, and the rule that an account is compared only when its earlier change is recorded.
//! Must not know: where pages come from, what a delivery does.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::accounts_in_flight::AccountsInFlight;
use super::deliver_and_record::{LiveIntents, deliver_and_record};
use super::delivery_context::DeliveryContext;
use super::error::PassError;
use super::page_diff::{AccountDiff, PageDiff};
use crate::crash;
use crate::model::Account;
use crate::push::ChangeOrigin;

/// Changes that make a delivery. Sparse pages are collected up to this number, so that they still fill their calls.
const DELIVERY_SIZE: usize = 1_000;
/// Limits of the capacity. At least two deliveries, so that one is sent while the other is recorded; at most two full calls
/// for each of 64 calls in flight.
const CAPACITY: RangeInclusive<usize> = 2 * DELIVERY_SIZE..=12_800;

/// A delivery that has ended, whether it succeeded or not.
struct Completed {
    accounts: Vec<Account>,
    number: u64,
}

/// Changes that were compared and are not being sent yet. They belong to one pass and become one delivery.
struct PendingDelivery {
    context: Arc<DeliveryContext>,
    origin: ChangeOrigin,
    diffs: Vec<AccountDiff>,
    accounts: HashSet<Account>,
}

/// The queue. A process that holds the lease has one; it outlives the passes.
pub(super) struct DeliveryQueue {
    /// While more accounts than this are in flight, no further page is read.
    capacity: usize,
    deliveries: JoinSet<Completed>,
    /// Accounts that are pending or in flight.
    in_flight: AccountsInFlight,
    live_intents: LiveIntents,
    /// Numbers of the deliveries in flight, each with its pass.
    outstanding: BTreeMap<u64, u64>,
    pending: Option<PendingDelivery>,
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
    /// `accounts_per_second`: accounts that IM accepts in a second. That many may be in flight, because a new change of an
    /// account waits for an earlier one that is in flight.
    pub(super) fn new(accounts_per_second: usize) -> Self {
        Self {
            capacity: accounts_per_second.clamp(*CAPACITY.start(), *CAPACITY.end()),
            deliveries: JoinSet::new(),
            in_flight: AccountsInFlight::default(),
            live_intents: LiveIntents::default(),
            outstanding: BTreeMap::new(),
            pending: None,
            next_delivery: 0,
            passes: 0,
        }
    }

    /// The number of a pass that is about to begin.
    pub(super) fn next_pass(&mut self) -> u64 {
        self.passes += 1;
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

    /// Waits until none of these accounts is in flight or pending, so that they can be compared.
    pub(super) async fn wait_until_recorded<'a>(&mut self, accounts: impl Iterator<Item = &'a Account> + Clone) {
        let contains_one =
            |pending: &PendingDelivery| accounts.clone().any(|account| pending.accounts.contains(account));
        if self.pending.as_ref().is_some_and(contains_one) {
            self.send();
        }
        while accounts.clone().any(|account| self.in_flight.contains(account)) {
            if !self.wait_for_one().await {
                break;
            }
        }
    }

    /// Adds the differences of a page. Its accounts must be idle, see [`DeliveryQueue::wait_until_recorded`].
    ///
    /// Accounts with an unknown outcome are delivered apart from the others, because IM may never answer for one of them.
    /// So are those that IM did not answer for when they were sent again.
    pub(super) fn enqueue(&mut self, context: &Arc<DeliveryContext>, page_diff: PageDiff, origin: ChangeOrigin) {
        let mut groups = [
            (origin, Vec::new()),
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
                self.add_to_pending(context, diffs, origin);
            }
        }
    }

    fn add_to_pending(&mut self, context: &Arc<DeliveryContext>, diffs: Vec<AccountDiff>, origin: ChangeOrigin) {
        if self.pending.as_ref().is_some_and(|p| p.context.pass != context.pass || p.origin != origin) {
            self.send();
        }
        let pending = self.pending.get_or_insert_with(|| PendingDelivery {
            context: context.clone(),
            origin,
            diffs: Vec::new(),
            accounts: HashSet::new(),
        });
        for diff in diffs.into_iter().filter(AccountDiff::needs_delivery) {
            self.in_flight.add(std::iter::once(diff.account()));
            pending.accounts.insert(diff.account().clone());
            pending.diffs.push(diff);
        }
        if pending.diffs.len() >= DELIVERY_SIZE {
            self.send();
        }
    }

    /// Waits until another page may be read, at most this long. Returns whether it may.
    pub(super) async fn wait_for_capacity_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.wait_for_capacity()).await.is_ok()
    }

    /// Waits until another page may be read.
    pub(super) async fn wait_for_capacity(&mut self) {
        while self.in_flight.len() > self.capacity && self.wait_for_one().await {}
    }

    /// Starts the delivery of what is pending.
    fn send(&mut self) {
        let Some(PendingDelivery { context, origin, diffs, .. }) = self.pending.take() else { return };
        if diffs.is_empty() {
            return;
        }
        let number = self.next_delivery;
        self.next_delivery += 1;
        self.outstanding.insert(number, context.pass);
        let live_intents = self.live_intents.clone();
        self.deliveries.spawn(async move {
            let accounts = diffs.iter().map(|diff| diff.account().clone()).collect();
            if let Err(error) = deliver_and_record(&context, diffs, origin, &live_intents).await {
                context.record_first_error(error);
            }
            Completed { accounts, number }
        });
    }

    /// Sends what is pending and waits until every delivery of this pass is recorded.
    pub(super) async fn drain(&mut self, context: &DeliveryContext) -> Result<(), PassError> {
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

    /// Sends what is pending and waits until a delivery has completed, at most this long.
    pub(super) async fn wait_for_completion(&mut self, context: &DeliveryContext, limit: Duration) -> WaitResult {
        self.send();
        if !self.outstanding.values().any(|pass| *pass == context.pass) {
            return WaitResult::NothingInFlight;
        }
        match tokio::time::timeout(limit, self.wait_for_one()).await {
            Ok(true) => WaitResult::Completed,
            Ok(false) => WaitResult::NothingInFlight,
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

    /// Returns false if no delivery is in flight.
    async fn wait_for_one(&mut self) -> bool {
        match self.deliveries.join_next().await {
            Some(completed) => {
                self.remove_completed(completed);
                true
            }
            None => false,
        }
    }

    fn remove_completed(&mut self, completed: Result<Completed, tokio::task::JoinError>) {
        match completed {
            Ok(Completed { accounts, number }) => {
                self.in_flight.remove(accounts.iter());
                self.outstanding.remove(&number);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // A delivery is cancelled only when the queue is dropped.
            Err(_) => {}
        }
    }
}
