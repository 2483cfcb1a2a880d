//! One pass: whether it goes on, whether IM takes anything yet, and what its deliveries have in common.
//!
//! Owns: the reason to stop, the slow start, the calls counted. Must not know: what one delivery carries.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{MutexGuard, OnceCell, watch};
use tokio::time::Instant;

use super::call::Call;
use super::delivery::Delivery;
use super::refusal_stats::RefusalStats;
use super::{ChangeOrigin, Probe, Pusher, StopReason};
use crate::clock::monotonic;
use crate::model::{Account, AccountOutcome, AttributeNames, Change};

/// One pass's deliveries. Several may be under way at once; the caller sees to it that no account is in two of them.
#[derive(Debug)]
pub struct PushSession {
    pub(super) pusher: Arc<Pusher>,
    pub(super) names: AttributeNames,
    /// Its calls go before those of other passes.
    pub(super) urgent: bool,
    pub(super) slow_start: SlowStart,
    /// The names that the app knows, read at the first 90033; `None` where they could not be read.
    pub(super) app_names: OnceCell<Option<Vec<String>>>,
    /// HeldRefusal while it is decided if rows or the app are at fault.
    pub(super) deciding: tokio::sync::Mutex<()>,
    stats: Mutex<RefusalStats>,
    stop: watch::Sender<Option<StopReason>>,
    silence: Mutex<Option<StopReason>>,
    calls: AtomicU64,
}

impl PushSession {
    pub(super) fn new(pusher: Arc<Pusher>, names: AttributeNames, urgent: bool) -> Self {
        Self {
            stats: Mutex::new(RefusalStats::new(pusher.limits.max_rejected_share, names.len())),
            pusher,
            names,
            urgent,
            slow_start: SlowStart::default(),
            app_names: OnceCell::new(),
            deciding: tokio::sync::Mutex::new(()),
            stop: watch::Sender::new(None),
            silence: Mutex::default(),
            calls: AtomicU64::new(0),
        }
    }

    /// Sends the changes (sets first, then removals) and tells the outcome of every attribute of every account, in the
    /// order given. After a stop the rest comes back as not sent; a call in flight is awaited, and its outcome is told.
    ///
    /// No account may stand in two changes, or in two deliveries at a time.
    ///
    /// What bad rows cost, repetitions aside. Of n accounts, sent in batches of up to u = `users_per_call`, IM refuses k
    /// for a code of the row or request class. Then a command makes at most
    ///
    /// - one call for each batch, n / u + 1;
    /// - for each of the k, 2 · ⌈log₂ u⌉ (14 of 100) until it stands alone; and one more for each attribute it has, where
    ///   the code is not of the account and it has several;
    /// - ⌈u / 5⌉ for each refused batch, as long as a quarter or more of the last accounts answered for were refused, or
    ///   fewer than 20 were answered for: a sample of it goes account by account. AcknowledgedValue rejections are sampled always.
    ///
    /// And where 6 of a sample of 20 are refused, the rest of the batch goes account by account too, so that it costs
    /// 1 + u calls however many of it are bad, attributes aside: 1.01 a refused account when all are, 1.13 at 90 %, 2.1 at
    /// half.
    pub async fn deliver(&self, changes: Vec<Change>, origin: ChangeOrigin) -> Vec<AccountOutcome> {
        Delivery::new(self, &changes, origin).run().await
    }

    /// Why the pass must stop, once that is known.
    pub fn stopped(&self) -> Option<StopReason> {
        self.stop.borrow().clone()
    }

    /// A batch of changes ran out of attempts and nobody else got an answer in the whole pass: IM is unreachable.
    pub fn nobody_answered(&self) -> Option<StopReason> {
        let silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner).clone();
        silence.filter(|_| self.slow_start.last_success().is_none())
    }

    /// What it means that a batch ran out, should nothing be accepted in this pass.
    pub(super) fn note_silence(&self, unreachable: StopReason) {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(unreachable);
    }

    /// IM took something in this pass.
    pub fn accepted_something(&self) -> bool {
        self.slow_start.last_success().is_some()
    }

    /// Calls started in this pass, retries and probes included.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Stops the pass for a reason of the caller's: as a shutdown does, but for this pass alone.
    pub fn halt(&self) {
        self.stop(StopReason::Shutdown);
    }

    /// The first reason stays.
    pub(super) fn stop(&self, why: StopReason) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            if first {
                *stop = Some(why);
            }
            first
        });
    }

    /// Whether no call may start any more.
    pub(super) fn halted_now(&self) -> bool {
        if self.stop.borrow().is_some() {
            return true;
        }
        let shutdown = self.pusher.shutdown.requested();
        if shutdown {
            self.stop(StopReason::Shutdown);
        }
        shutdown
    }

    /// The future's outcome, unless the pass stops first.
    pub(super) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            // The sender lives in `self`, so the channel cannot close while we wait.
            _ = stop.wait_for(Option::is_some) => None,
            () = self.pusher.shutdown.wait() => {
                self.stop(StopReason::Shutdown);
                None
            }
            outcome = future => Some(outcome),
        }
    }

    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> std::sync::MutexGuard<'_, RefusalStats> {
        // A stats is only counted up, so one that a panic left half-way is still one.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slow start: until IM has answered for an account of the pass, one delivery leads with one call in flight.
///
/// So wrong credentials, an unknown name or an absent IM cost the calls of one batch, not of `max_in_flight`.
#[derive(Debug, Default)]
pub(super) struct SlowStart {
    open: watch::Sender<bool>,
    lead: tokio::sync::Mutex<()>,
    last_success: Mutex<Option<Instant>>,
}

impl SlowStart {
    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    pub(super) async fn opened(&self) {
        let mut open = self.open.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = open.wait_for(|open| *open).await;
    }

    /// The right to send although the slow_start is closed; `None` when it opened first.
    pub(super) async fn lead(&self) -> Option<MutexGuard<'_, ()>> {
        tokio::select! {
            biased;
            () = self.opened() => None,
            lead = self.lead.lock() => Some(lead),
        }
    }

    /// IM accepted something, or refused an account that stood alone for a reason that is the account's.
    pub(super) fn success(&self) {
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner) = Some(monotonic());
        self.open.send_if_modified(|open| !std::mem::replace(open, true));
    }

    /// When that was last so in this pass.
    pub(super) fn last_success(&self) -> Option<Instant> {
        *self.last_success.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// IM seems to have become unreachable in the middle of the pass: what has not begun waits for one batch to succeed.
    pub(super) fn close(&self) {
        self.open.send_if_modified(|open| std::mem::replace(open, false));
    }
}

/// Somebody whose value IM has acknowledged, and who can be sent it again.
#[derive(Debug, Default)]
pub(super) struct ProbeAccount {
    account: Mutex<Option<Account>>,
    probe: tokio::sync::Mutex<Option<Probe>>,
    /// The account of a probe without a known outcome, and until when that may still land.
    late_write: Mutex<Option<(Account, Instant)>>,
}

impl ProbeAccount {
    /// There is a probe, or one is in use at this moment.
    pub(super) fn known(&self) -> bool {
        self.probe.try_lock().map_or(true, |probe| probe.is_some())
    }

    /// The lock that a call must hold while it is in flight, where it carries the probe's account.
    pub(super) async fn guard(&self, call: &Call<'_>) -> Option<MutexGuard<'_, Option<Probe>>> {
        let carried = {
            let account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
            account.as_ref().is_some_and(|account| call.carries(account))
        };
        if carried { Some(self.probe.lock().await) } else { None }
    }

    /// A probe of this account has no known outcome.
    pub(super) fn note_late_write(&self, account: &Account, until: Instant) {
        *self.late_write.lock().unwrap_or_else(PoisonError::into_inner) = Some((account.clone(), until));
    }

    /// A probe may still land over what this call carries.
    pub(super) fn haunts(&self, call: &Call<'_>) -> bool {
        let late_write = self.late_write.lock().unwrap_or_else(PoisonError::into_inner);
        late_write.as_ref().is_some_and(|(account, until)| monotonic() < *until && call.carries(account))
    }

    pub(super) async fn take_hold(&self) -> MutexGuard<'_, Option<Probe>> {
        self.probe.lock().await
    }

    /// Takes an account that IM accepted just now, where nobody else is known. Called before the next call with that
    /// account can start, so that this call finds the account here.
    pub(super) fn adopt(&self, find: impl FnOnce() -> Option<Probe>) {
        let Ok(mut probe) = self.probe.try_lock() else { return };
        if probe.is_none() {
            *probe = find();
            let account = probe.as_ref().map(|probe| probe.account.clone());
            *self.account.lock().unwrap_or_else(PoisonError::into_inner) = account;
        }
    }
}
