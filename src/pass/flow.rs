//! The one queue in which changes of all passes are delivered: intent, calls, record.
//!
//! Owns: deliveries in flight, and the rule that an account is looked at only when its earlier change is recorded.
//! Must not know: where pages come from.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use super::PassError;
use super::outcome::{self, Counts};
use super::report::Tally;
use super::view::{Item, Seen, View};
use crate::metrics::Metrics;
use crate::model::{Account, Change};
use crate::push::{Freshness, Session};
use crate::state::Writer;
use crate::state::record::Record;

/// What a pass and its deliveries share.
#[derive(Debug)]
pub struct Course {
    pub session: Session,
    pub tally: Arc<Tally>,
    pub view: View,
    pub writer: Writer,
    pub metrics: Arc<Metrics>,
    pub retry_after: Duration,
    /// When an unknown outcome is looked into: a call may land until twice its time-out after it was sent (assumed).
    pub doubt: Duration,
    failure: Mutex<Option<PassError>>,
}

impl Course {
    pub fn new(
        session: Session,
        tally: Arc<Tally>,
        view: View,
        writer: Writer,
        metrics: Arc<Metrics>,
        retry_after: Duration,
        doubt: Duration,
    ) -> Self {
        Self { session, tally, view, writer, metrics, retry_after, doubt, failure: Mutex::new(None) }
    }

    /// Why this pass cannot go on, once something has come up.
    pub fn trouble(&self) -> Option<PassError> {
        let failed = self.failure.lock().ok().and_then(|failure| failure.clone());
        failed.or_else(|| self.session.stopped().map(PassError::Stop))
    }

    fn fail(&self, error: PassError) {
        self.session.halt();
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
    }

    /// Nothing may be read or sent any more.
    pub fn check(&self) -> Result<(), PassError> {
        self.trouble().map_or(Ok(()), Err)
    }
}

/// A delivery that has ended, one way or the other.
struct Landed {
    accounts: Vec<Account>,
    pass: u64,
}

/// The queue. One for a process that holds the lease; it outlives the passes.
#[derive(Default)]
pub struct Flow {
    deliveries: JoinSet<Landed>,
    /// Accounts of deliveries in flight.
    busy: HashSet<Account>,
    /// Intents of deliveries in flight.
    live: Arc<Mutex<HashSet<i64>>>,
    /// Deliveries in flight, by pass.
    outstanding: Vec<u64>,
    /// Changes looked at and not yet on their way, and the pass they belong to.
    pending: Vec<Item>,
    pending_accounts: HashSet<Account>,
    passes: u64,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("outstanding", &self.outstanding.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

/// Changes that are gathered before they go, so that sparse pages still fill their calls.
const GATHER: usize = 1_000;
/// Changes in flight beyond which no further page is taken: two full calls for each of 64 in flight.
const MOST_IN_FLIGHT: usize = 12_800;

impl Flow {
    /// A number for a pass that is about to begin.
    pub fn next_pass(&mut self) -> u64 {
        self.passes += 1;
        self.passes
    }

    /// Intents that still have somebody to answer them.
    pub fn live_intents(&self) -> Vec<i64> {
        self.live.lock().map(|live| live.iter().copied().collect()).unwrap_or_default()
    }

    /// Waits until none of these accounts is in flight or pending, so that they can be looked at.
    pub async fn clear_of<'a>(
        &mut self,
        course: &Arc<Course>,
        pass: u64,
        accounts: impl Iterator<Item = &'a Account> + Clone,
    ) {
        if accounts.clone().any(|account| self.pending_accounts.contains(account)) {
            self.send(course, pass, Freshness::Fresh);
        }
        while accounts.clone().any(|account| self.busy.contains(account)) {
            if !self.land_one().await {
                break;
            }
        }
    }

    /// Takes what was seen of a page. The accounts must be clear (see [`Flow::clear_of`]).
    pub async fn take(&mut self, course: &Arc<Course>, pass: u64, seen: Seen, freshness: Freshness) {
        for item in seen.items {
            if item.sends() || !item.refused.is_empty() || !item.resolved.is_empty() {
                self.pending_accounts.insert(item.account().clone());
                self.pending.push(item);
            }
        }
        if self.pending.len() >= GATHER {
            self.send(course, pass, freshness);
        }
        while self.busy.len() > MOST_IN_FLIGHT {
            if !self.land_one().await {
                break;
            }
        }
    }

    /// Sends what is pending.
    pub fn send(&mut self, course: &Arc<Course>, pass: u64, freshness: Freshness) {
        if self.pending.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.pending);
        self.busy.extend(self.pending_accounts.drain());
        self.outstanding.push(pass);
        let course = course.clone();
        let live = self.live.clone();
        self.deliveries.spawn(async move {
            let accounts = items.iter().map(|item| item.account().clone()).collect();
            if let Err(error) = deliver(&course, items, freshness, &live).await {
                course.fail(error);
            }
            Landed { accounts, pass }
        });
    }

    /// Sends what is pending and waits until every delivery of this pass is recorded.
    pub async fn drain(&mut self, course: &Arc<Course>, pass: u64, freshness: Freshness) -> Result<(), PassError> {
        self.send(course, pass, freshness);
        while self.outstanding.contains(&pass) {
            if !self.land_one().await {
                break;
            }
        }
        course.check()
    }

    /// Nothing of this pass is in flight or pending: everything it was given so far is recorded (or has failed).
    pub fn idle(&self, pass: u64) -> bool {
        self.pending.is_empty() && !self.outstanding.contains(&pass)
    }

    /// Takes note of deliveries that have landed meanwhile, without waiting.
    pub fn note_landed(&mut self) {
        while let Some(landed) = self.deliveries.try_join_next() {
            self.landed(landed);
        }
    }

    async fn land_one(&mut self) -> bool {
        match self.deliveries.join_next().await {
            Some(landed) => {
                self.landed(landed);
                true
            }
            None => false,
        }
    }

    fn landed(&mut self, landed: Result<Landed, tokio::task::JoinError>) {
        match landed {
            Ok(Landed { accounts, pass }) => {
                for account in &accounts {
                    self.busy.remove(account);
                }
                if let Some(index) = self.outstanding.iter().position(|number| *number == pass) {
                    self.outstanding.swap_remove(index);
                }
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only a dropped Flow cancels its deliveries.
            Err(_) => {}
        }
    }
}

/// One delivery: intent, calls, record.
async fn deliver(
    course: &Course,
    items: Vec<Item>,
    freshness: Freshness,
    live: &Mutex<HashSet<i64>>,
) -> Result<(), PassError> {
    let changes: Vec<&Change> = items.iter().filter(|item| item.sends()).map(|item| &item.change).collect();
    let mut record = Record::default();
    let mut counts = Counts::default();
    if changes.is_empty() {
        for item in &items {
            outcome::settle(item, &course.view, &mut record, &mut counts);
        }
    } else {
        // A stop that came up meanwhile: nothing is sent, so nothing needs an intent.
        course.check()?;
        let intent = course.writer.store_intent(&changes).await?;
        set_live(live, |live| live.insert(intent));
        record.intent = Some(intent);
        let owned: Vec<Change> = changes.into_iter().cloned().collect();
        let mut outcomes = course.session.deliver(owned, freshness).await.into_iter();
        for item in &items {
            if item.sends() {
                let outcome = outcomes.next().filter(|outcome| outcome.account == *item.account());
                let outcome = outcome.expect("the push stage answers every change, in the order given");
                outcome::land(item, &outcome, course.doubt, &course.view, &mut record, &mut counts);
            } else {
                outcome::settle(item, &course.view, &mut record, &mut counts);
            }
        }
    }
    let result = if record.is_empty() { Ok(()) } else { course.writer.record(&record, course.retry_after).await };
    if let Some(intent) = record.intent {
        // Recorded, or (after an error) left over: the next pass makes its attributes unknown.
        set_live(live, |live| live.remove(&intent));
    }
    result?;
    let tally = &course.tally;
    tally.note_recorded();
    Tally::add(&tally.pushed, counts.pushed);
    Tally::add(&tally.removed, counts.removed);
    Tally::add(&tally.rejected, counts.rejected);
    tally.known_delta.fetch_add(counts.known_delta, std::sync::atomic::Ordering::Relaxed);
    course.metrics.rejections.with_label_values(&["local"]).inc_by(counts.local_rejections as u64);
    Ok(())
}

fn set_live(live: &Mutex<HashSet<i64>>, change: impl FnOnce(&mut HashSet<i64>) -> bool) {
    if let Ok(mut live) = live.lock() {
        change(&mut live);
    }
}
