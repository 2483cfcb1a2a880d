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
use super::outcome::{self, Counts, Pauses};
use super::patience::Patience;
use super::report::Tally;
use super::view::{Item, Seen, View};
use crate::crash;
use crate::metrics::Metrics;
use crate::model::{Account, AccountOutcome, AttributeOutcome, Change};
use crate::push::{ChangeOrigin, PushSession};
use crate::state::StateWriter;
use crate::state::record::OutcomeRecord;

/// What a pass and its deliveries share.
#[derive(Debug)]
pub struct Course {
    /// The pass's number in the flow.
    pub pass: u64,
    pub session: PushSession,
    pub tally: Arc<Tally>,
    pub view: View,
    pub writer: StateWriter,
    pub metrics: Arc<Metrics>,
    pub retry_after: Duration,
    /// When an unknown outcome is looked into: a call may land until twice its time-out after it was sent (assumed).
    pub doubt: Duration,
    pub(super) patience: Arc<Mutex<Patience>>,
    pub(super) failure: Mutex<Option<PassError>>,
}

impl Course {
    /// Why this pass cannot go on, once something has come up.
    pub fn trouble(&self) -> Option<PassError> {
        let failed = self.failure.lock().ok().and_then(|failure| failure.clone());
        failed.or_else(|| self.session.stopped().map(PassError::Stop))
    }

    /// When doubts of an account are looked into that have no answer: later each time, where IM answers others.
    fn pauses(&self, outcome: &AccountOutcome, origin: ChangeOrigin) -> Pauses {
        let doubt = self.doubt;
        // Counts are only counted up, so those that a panic left half-way are still some.
        let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        if !outcome.attributes.iter().any(|(_, outcome)| *outcome == AttributeOutcome::Unknown) {
            patience.answered(&outcome.account);
            return Pauses { doubt, unknown: doubt };
        }
        let doubt_again = matches!(origin, ChangeOrigin::UnknownOutcome | ChangeOrigin::Unresponsive);
        let again = doubt_again && self.session.accepted_something();
        Pauses { doubt, unknown: if again { patience.ended(&outcome.account, doubt) } else { doubt } }
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
struct Landed {
    accounts: Vec<Account>,
    number: u64,
}

/// Changes looked at and not yet on their way. They belong to one pass and go as one delivery.
struct Pending {
    course: Arc<Course>,
    origin: ChangeOrigin,
    items: Vec<Item>,
    accounts: HashSet<Account>,
}

/// Intents of deliveries in flight. Held while one is stored or left-over ones are settled, so that no intent is ever
/// seen in the table before it is known here.
pub(super) type LiveIntents = Arc<tokio::sync::Mutex<HashSet<i64>>>;

/// The queue. One for a process that holds the lease; it outlives the passes.
pub struct Flow {
    /// Changes in flight beyond which no further page is taken.
    most: usize,
    deliveries: JoinSet<Landed>,
    /// Accounts of deliveries in flight.
    busy: HashSet<Account>,
    live: LiveIntents,
    /// Numbers of the deliveries in flight, each with its pass.
    outstanding: BTreeMap<u64, u64>,
    pending: Option<Pending>,
    /// The number of the next delivery.
    next: u64,
    passes: u64,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("outstanding", &self.outstanding.len()).finish_non_exhaustive()
    }
}

/// Changes that are gathered before they go, so that sparse pages still fill their calls.
const GATHER: usize = 1_000;
/// Changes in flight beyond which no further page is taken: at least two deliveries, so that one is on its way while the
/// other is recorded; at most two full calls for each of 64 in flight.
const IN_FLIGHT: RangeInclusive<usize> = 2 * GATHER..=12_800;

/// What [`Flow::land_within`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    Landed,
    /// Something is in flight still.
    NotYet,
    NothingInFlight,
}

impl Flow {
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
    pub async fn clear_of<'a>(&mut self, accounts: impl Iterator<Item = &'a Account> + Clone) {
        let waits = |pending: &Pending| accounts.clone().any(|account| pending.accounts.contains(account));
        if self.pending.as_ref().is_some_and(waits) {
            self.send();
        }
        while accounts.clone().any(|account| self.busy.contains(account)) {
            if !self.land_one().await {
                break;
            }
        }
    }

    /// Takes what was seen of a page. The accounts must be clear (see [`Flow::clear_of`]). Those of which a call had no
    /// known outcome go by themselves, as doubts: IM may never answer for one of them.
    pub fn take(&mut self, course: &Arc<Course>, seen: Seen, origin: ChangeOrigin) {
        let mut groups = [
            (origin, Vec::new()),
            (ChangeOrigin::UnknownOutcome, Vec::new()),
            (ChangeOrigin::Unresponsive, Vec::new()),
        ];
        let patience = course.patience.lock().unwrap_or_else(PoisonError::into_inner);
        for item in seen.items {
            let doubt = origin == ChangeOrigin::UnknownOutcome || (origin == ChangeOrigin::New && item.unsettled);
            let group = if doubt && patience.knows(item.account()) { 2 } else { usize::from(doubt) };
            groups[group].1.push(item);
        }
        drop(patience);
        for (origin, items) in groups {
            if !items.is_empty() {
                self.gather(course, items, origin);
            }
        }
    }

    fn gather(&mut self, course: &Arc<Course>, items: Vec<Item>, origin: ChangeOrigin) {
        if self.pending.as_ref().is_some_and(|p| p.course.pass != course.pass || p.origin != origin) {
            self.send();
        }
        let pending = self.pending.get_or_insert_with(|| Pending {
            course: course.clone(),
            origin,
            items: Vec::new(),
            accounts: HashSet::new(),
        });
        for item in items {
            if item.sends() || !item.refused.is_empty() || !item.resolved.is_empty() {
                pending.accounts.insert(item.account().clone());
                pending.items.push(item);
            }
        }
        if pending.items.len() >= GATHER {
            self.send();
        }
    }

    /// Waits until there is room for another page, no longer than that. True: there is.
    pub async fn room_within(&mut self, patience: Duration) -> bool {
        let room = async { while self.busy.len() > self.most && self.land_one().await {} };
        tokio::time::timeout(patience, room).await.is_ok()
    }

    /// Waits until there is room for another page.
    pub async fn room(&mut self) {
        while self.busy.len() > self.most && self.land_one().await {}
    }

    /// Sends what is pending.
    fn send(&mut self) {
        let Some(Pending { course, origin, items, accounts }) = self.pending.take() else { return };
        if items.is_empty() {
            return;
        }
        self.busy.extend(accounts);
        let number = self.next;
        self.next += 1;
        self.outstanding.insert(number, course.pass);
        let live = self.live.clone();
        self.deliveries.spawn(async move {
            let accounts = items.iter().map(|item| item.account().clone()).collect();
            if let Err(error) = deliver(&course, items, origin, &live).await {
                course.fail(error);
            }
            Landed { accounts, number }
        });
    }

    /// Sends what is pending and waits until every delivery of this pass is recorded.
    pub async fn drain(&mut self, course: &Course) -> Result<(), PassError> {
        crash::point("drain: begins");
        self.send();
        while self.outstanding.values().any(|pass| *pass == course.pass) {
            if !self.land_one().await {
                break;
            }
        }
        crash::point("drain: ended");
        course.check()
    }

    /// Sends what is pending and waits until a delivery has landed, no longer than that.
    pub async fn land_within(&mut self, course: &Course, patience: Duration) -> Landing {
        self.send();
        if !self.outstanding.values().any(|pass| *pass == course.pass) {
            return Landing::NothingInFlight;
        }
        match tokio::time::timeout(patience, self.land_one()).await {
            Ok(true) => Landing::Landed,
            Ok(false) => Landing::NothingInFlight,
            Err(_) => Landing::NotYet,
        }
    }

    /// Stands for everything taken so far; see [`Flow::landed_before`].
    pub fn mark(&self) -> u64 {
        self.next + u64::from(self.pending.as_ref().is_some_and(|pending| !pending.items.is_empty()))
    }

    /// Everything taken before this mark has landed: recorded, or its pass is in trouble.
    pub fn landed_before(&self, mark: u64) -> bool {
        mark <= self.next && self.outstanding.range(..mark).next().is_none()
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
            Ok(Landed { accounts, number }) => {
                for account in &accounts {
                    self.busy.remove(account);
                }
                self.outstanding.remove(&number);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only a dropped Flow cancels its deliveries.
            Err(_) => {}
        }
    }
}

/// One delivery: intent, calls, record.
async fn deliver(course: &Course, items: Vec<Item>, origin: ChangeOrigin, live: &LiveIntents) -> Result<(), PassError> {
    let changes: Vec<&Change> = items.iter().filter(|item| item.sends()).map(|item| &item.change).collect();
    let mut record = OutcomeRecord::default();
    let mut counts = Counts::default();
    if changes.is_empty() {
        for item in &items {
            outcome::settle(item, &course.view, &mut record, &mut counts);
        }
    } else {
        // A stop that came up meanwhile: nothing is sent, so nothing needs an intent.
        course.check()?;
        crash::point("delivery: begins");
        let mut known = live.lock().await;
        let intent = course.writer.store_intent(&changes).await?;
        known.insert(intent);
        drop(known);
        crash::point("intent: stored");
        record.intent = Some(intent);
        let owned: Vec<Change> = changes.into_iter().cloned().collect();
        let mut outcomes = course.session.deliver(owned, origin).await.into_iter();
        for item in &items {
            if item.sends() {
                let outcome = outcomes.next().filter(|outcome| outcome.account == *item.account());
                let outcome = outcome.expect("the push stage answers every change, in the order given");
                let pauses = course.pauses(&outcome, origin);
                outcome::land(item, &outcome, pauses, &course.view, &mut record, &mut counts);
            } else {
                outcome::settle(item, &course.view, &mut record, &mut counts);
            }
        }
    }
    crash::point("delivery: about to be recorded");
    let result = if record.is_empty() { Ok(()) } else { course.writer.record(&record, course.retry_after).await };
    if let Some(intent) = record.intent {
        // Recorded, or (after an error) left over: the next pass makes its attributes unknown.
        live.lock().await.remove(&intent);
    }
    result?;
    crash::point("delivery: recorded");
    let tally = &course.tally;
    tally.note_recorded();
    Tally::add(&tally.pushed, counts.pushed);
    Tally::add(&tally.removed, counts.removed);
    Tally::add(&tally.rejected, counts.rejected);
    tally.known_delta.fetch_add(counts.known_delta, std::sync::atomic::Ordering::Relaxed);
    course.metrics.rejections.with_label_values(&["local"]).inc_by(counts.local_rejections as u64);
    Ok(())
}
