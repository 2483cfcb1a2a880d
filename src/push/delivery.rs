//! One delivery: batches set out, come back, come apart, until the outcome of every attribute is known.
//!
//! Owns: what becomes of each account after each answer. Must not know: rate_limiter, pauses, what decides between rows and app.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::MutexGuard;

use super::attempt::{Attempts, SendFailure};
use super::batch::{Batch, BatchEntry, Operation};
use super::call::Call;
use super::carry::{BatchContext, Completion, Task};
use super::decide;
use super::disposition::{self, Disposition};
use super::outcomes::DeliveryOutcomes;
use super::refusal_stats::{RefusalCause, Suspect};
use super::sample::Samples;
use super::session::PushSession;
use super::{ChangeOrigin, Probe};
use crate::crash;
use crate::im::{Accepted, CallError, Code, FailedAccount};
use crate::model::{AccountOutcome, AttributeOutcome, Change, VendorRefusal};

/// Stood alone and was refused; whether it is the row is not known yet.
#[derive(Debug)]
struct HeldRefusal {
    part: BatchEntry,
    suspect: Suspect,
    refusal: Arc<VendorRefusal>,
}

#[derive(Debug)]
pub(super) struct Delivery<'a> {
    origin: ChangeOrigin,
    load: BatchContext<'a>,
    op: Operation,
    /// What has not set out, in order.
    ready: VecDeque<Batch>,
    held: Vec<HeldRefusal>,
    /// Refused batches of which some are tried alone first.
    samples: Samples,
    /// Enough have failed: to be decided next.
    suspects: Vec<Suspect>,
    outcomes: DeliveryOutcomes<'a>,
    /// A batch ran out and nothing was accepted yet: one call of another batch tells IM's absence from a bad batch.
    last_chance: bool,
    /// Since when, and how often, IM was asked in vain before that.
    first_to_run_out: Option<Attempts>,
    /// Batches in doubt that ran out again while nothing was accepted.
    futile: usize,
}

/// So many batches in doubt are halved although nobody is known who could be asked whether IM answers at all: enough to
/// part a few bad accounts of a first batch (then a half is accepted), few enough for an IM that answers nobody.
const MOST_FUTILE: usize = 8;

impl<'a> Delivery<'a> {
    pub(super) fn new(session: &'a PushSession, changes: &'a [Change], origin: ChangeOrigin) -> Self {
        Self {
            origin,
            load: BatchContext { session, changes, fresh: origin != ChangeOrigin::RejectionRetry },
            op: Operation::Set,
            ready: VecDeque::new(),
            held: Vec::new(),
            samples: Samples::default(),
            suspects: Vec::new(),
            outcomes: DeliveryOutcomes::new(session, changes, origin),
            last_chance: false,
            first_to_run_out: None,
            futile: 0,
        }
    }

    /// Sets, then removals. The second begin when the first have ended, so an account that has both is never in two
    /// calls at once, and its set is the first to arrive.
    pub(super) async fn run(mut self) -> Vec<AccountOutcome> {
        for op in [Operation::Set, Operation::Remove] {
            self.op = op;
            let together = self.load.session.pusher.limits.users_per_call;
            let together = if self.origin == ChangeOrigin::Unresponsive { 1 } else { together };
            self.ready = Batch::cut(op, self.load.changes, together);
            self.deliver().await;
            if op == Operation::Set {
                crash::point("push: sets have ended");
            }
        }
        self.outcomes.close()
    }

    async fn deliver(&mut self) {
        let load @ BatchContext { session, .. } = self.load;
        let mut running = FuturesUnordered::new();
        let mut leading: Option<MutexGuard<'_, ()>> = None;
        loop {
            if session.halted_now() {
                self.abandon();
            }
            for suspect in std::mem::take(&mut self.suspects) {
                running.push(load.step(Task::Decide(suspect)));
            }
            if session.slow_start.is_open() {
                leading = None;
                let doubt = self.origin.is_doubt();
                for mut batch in self.ready.drain(..) {
                    (batch.attempts.once, batch.asks) = (doubt, doubt);
                    running.push(load.step(Task::Carry(batch)));
                }
            } else if running.is_empty() && !self.ready.is_empty() {
                if leading.is_none() {
                    leading = session.unless_stopped(session.slow_start.lead()).await.flatten();
                    if leading.is_none() {
                        continue;
                    }
                }
                if let Some(mut batch) = self.ready.pop_front() {
                    let doubt = self.origin.is_doubt();
                    batch.attempts.once = self.last_chance || doubt;
                    batch.asks = doubt || (self.load.fresh && self.ready.is_empty());
                    running.push(load.step(Task::Carry(batch)));
                }
            }
            let event = if self.ready.is_empty() {
                running.next().await
            } else {
                tokio::select! {
                    event = running.next() => event,
                    // Another delivery may have been the first to succeed.
                    () = session.slow_start.opened() => continue,
                }
            };
            match event {
                Some(Completion::Carried(ended)) => {
                    let (batch, answer) = *ended;
                    let sample = batch.sample;
                    let refused = matches!(answer, Err(SendFailure::Refused(_)));
                    match answer {
                        Ok(accepted) => self.accepted(batch, &accepted),
                        Err(failure) => self.failed(batch, failure),
                    }
                    if let Some(sample) = sample {
                        let rest = self.samples.answered(sample, refused);
                        self.send_first(rest);
                    }
                }
                Some(Completion::Decided) => {}
                None if self.held.is_empty() => return,
                None => self.release_rest(),
            }
            self.release_rows();
        }
    }

    /// IM took the call, but for the accounts in `failed`.
    fn accepted(&mut self, mut batch: Batch, accepted: &Accepted) {
        let BatchContext { session, changes, .. } = self.load;
        let op = self.op;
        for part in &mut batch.parts {
            part.maybe |= batch.attempts.maybe;
        }
        if accepted.failed.is_empty() {
            self.done(&std::mem::take(&mut batch.parts));
        } else {
            let failed: HashMap<&str, &FailedAccount> =
                accepted.failed.iter().map(|failed| (failed.account.as_str(), failed)).collect();
            let call = Call::of(op, &batch.parts, changes, &session.names);
            // First those that went through: what was accepted bears on what a refusal means.
            let listed = |part: &BatchEntry| failed.get(changes[part.change].account.as_str()).copied();
            let (refused, done): (Vec<BatchEntry>, Vec<BatchEntry>) =
                std::mem::take(&mut batch.parts).into_iter().partition(|part| listed(part).is_some());
            self.done(&done);
            let mut again = Vec::new();
            for mut part in refused {
                let Some(failed) = listed(&part) else { continue };
                let refusal =
                    || disposition::refusal(failed.code, &failed.info, accepted.request_id.as_deref(), call.values());
                match disposition::of(failed.code) {
                    Disposition::Bisect => self.alone(part, failed.code, Arc::new(refusal())),
                    Disposition::Retry => {
                        part.maybe = true;
                        again.push((part, failed.code));
                    }
                    Disposition::RetryThrottled => again.push((part, failed.code)),
                    Disposition::Stop => {
                        session.stop(decide::credentials(failed.code, &refusal()));
                        self.outcomes.unsettled(self.op, part);
                    }
                }
            }
            self.again(&mut batch, again);
        }
        self.proceed(batch);
    }

    /// Accounts that `timpush` lists with a code that passes go together in a call of their own, with the patience
    /// that is left of the first.
    fn again(&mut self, batch: &mut Batch, parts: Vec<(BatchEntry, Code)>) {
        let session = self.load.session;
        let Some(&(_, code)) = parts.first() else { return };
        let slower = parts.iter().find(|(_, code)| disposition::of(*code) == Disposition::RetryThrottled);
        if let Some((_, code)) = slower {
            session.slow_down(self.op.command(), *code, batch.attempts.last);
        }
        batch.attempts.once = self.last_chance || self.origin.is_doubt();
        let pause = batch.attempts.next_pause(session.pusher.limits.retry_for, slower.is_some(), None);
        let parts = parts.into_iter().map(|(part, _)| part);
        if let Some(pause) = pause {
            let attempts = Attempts { pause, ..batch.attempts.clone() };
            let rest = std::mem::take(&mut batch.rest);
            self.ready.push_back(Batch { rest, attempts, ..Batch::new(self.op, parts.collect()) });
        } else {
            tracing::warn!("IM kept answering with {code} for {} accounts until im.retry_for ended", parts.len());
            // The pass goes on and its watermark moves past them, so they must be due again.
            for part in parts {
                self.outcomes.unsettled(self.op, BatchEntry { maybe: true, ..part });
            }
        }
    }

    /// IM did not take the call, or never saw it.
    fn failed(&mut self, mut batch: Batch, failure: SendFailure) {
        let BatchContext { session, changes, .. } = self.load;
        for part in &mut batch.parts {
            part.maybe |= batch.attempts.maybe;
        }
        match failure {
            SendFailure::Refused(error) if batch.parts.len() == 1 => {
                let call = Call::of(self.op, &batch.parts, changes, &session.names);
                let refusal = disposition::refusal(error.code, &error.info, error.request_id.as_deref(), call.values());
                let refusal = Arc::new(refusal);
                for part in std::mem::take(&mut batch.parts) {
                    self.alone(part, error.code, Arc::clone(&refusal));
                }
                self.proceed(batch);
            }
            SendFailure::Refused(_) => {
                crash::point("push: a batch was halved");
                // What stands rejected was refused before.
                let suspicious = !self.load.fresh || !session.stats().seldom_refused();
                let pieces = self.samples.apart(batch, suspicious);
                self.send_first(pieces);
            }
            SendFailure::RanOut(error) => self.ran_out(batch, &error),
            SendFailure::Halted => {
                for part in batch.parts.into_iter().chain(batch.rest) {
                    self.outcomes.unsettled(self.op, part);
                }
            }
        }
    }

    /// The attempts of a batch have run out. The first time its accounts come to be in doubt. When they run out again
    /// (then they are sent as doubts) it may be one account on which IM always times out: the batch is halved.
    fn ran_out(&mut self, mut batch: Batch, error: &CallError) {
        let session = self.load.session;
        tracing::warn!(
            "a {} call of {} accounts ran out of attempts after {} ({})",
            self.op.command().label(),
            batch.parts.len(),
            batch.attempts.count,
            error.code
        );
        // Accounts cannot break a connection, so another batch would fare no better.
        let hopeless = match self.origin {
            ChangeOrigin::New => error.code == Code::Connect || self.last_chance || self.ready.is_empty(),
            ChangeOrigin::UnknownOutcome | ChangeOrigin::Unresponsive => error.code == Code::Connect,
            ChangeOrigin::RejectionRetry => false,
        };
        let success = session.slow_start.last_success();
        let stops = session.stopped().is_some() || (hopeless && success.is_none());
        if self.origin.is_doubt() && !stops && batch.parts.len() > 1 {
            let answers = success.zip(batch.attempts.first).is_some_and(|(success, first)| success >= first);
            self.futile += usize::from(!answers);
            if answers || self.futile <= MOST_FUTILE {
                // Behind the others: where IM answers anything at all, that shows sooner.
                self.ready.extend(batch.halves());
                return;
            }
        }
        for part in std::mem::take(&mut batch.parts) {
            // Where the pass goes on, its watermark moves past them, so they must be due again even if no call of theirs
            // can have been applied.
            self.outcomes.unsettled(self.op, BatchEntry { maybe: part.maybe || !stops, ..part });
        }
        let attempts = self.first_to_run_out.as_ref().unwrap_or(&batch.attempts);
        if self.load.fresh {
            session.note_silence(decide::unreachable(error, attempts));
        }
        match success {
            None if stops => session.stop(decide::unreachable(error, attempts)),
            None => {
                self.last_chance = true;
                self.first_to_run_out.get_or_insert_with(|| batch.attempts.clone());
            }
            Some(success) => {
                if batch.attempts.first.is_some_and(|first| success < first) {
                    session.slow_start.close();
                }
            }
        }
        self.proceed(batch);
    }

    /// Something stood alone and was refused.
    fn alone(&mut self, part: BatchEntry, code: Code, refusal: Arc<VendorRefusal>) {
        let BatchContext { session, changes, fresh } = self.load;
        if disposition::counts_as_done(self.op, code) {
            self.outcomes.settled(self.op, part, &AttributeOutcome::Done, None);
            return;
        }
        let attribute = part.only_attribute(self.op, &changes[part.change]);
        let suspect = Suspect { op: self.op, code, attribute };
        let standing = if fresh {
            let mut stats = session.stats();
            if part.only.is_none() && attribute.is_some() {
                stats.count(Suspect { attribute: None, ..suspect });
            }
            stats.count(suspect);
            stats.standing(suspect)
        } else {
            RefusalCause::Row
        };
        match standing {
            RefusalCause::Row => {
                // IM is there and looks at accounts: nothing more that the slow start could find out.
                self.last_chance = false;
                session.slow_start.success();
                return self.row(part, code, &refusal);
            }
            RefusalCause::Open => {}
            RefusalCause::Decide(suspect) => {
                if !self.suspects.contains(&suspect) {
                    self.suspects.push(suspect);
                }
            }
        }
        self.held.push(HeldRefusal { part, suspect, refusal });
    }

    /// The row is at fault: which of its attributes is found out by trying each alone.
    fn row(&mut self, part: BatchEntry, code: Code, refusal: &Arc<VendorRefusal>) {
        let change = &self.load.changes[part.change];
        let several = part.only_attribute(self.op, change).is_none();
        if several && !refusal.of_account {
            if let Some(batch) = Batch::one_by_one(self.op, part, change) {
                crash::point("push: attributes go one by one");
                self.ready.push_front(batch);
            }
            return;
        }
        self.outcomes.settled(self.op, part, &AttributeOutcome::Refused(Arc::clone(refusal)), Some(code));
        let recorded = if refusal.of_account { 1 } else { part.range(self.op, change).len() };
        let metric = self.load.session.pusher.metrics.rejections.with_label_values(&[code.label()]);
        metric.inc_by(u64::try_from(recorded).unwrap_or(1));
    }

    /// What was held is rows after all, where something was accepted or decided meanwhile.
    fn release_rows(&mut self) {
        if self.held.is_empty() || self.load.session.halted_now() {
            return;
        }
        let held = std::mem::take(&mut self.held);
        for held in held {
            let standing = self.load.session.stats().standing(held.suspect);
            if standing == RefusalCause::Row {
                self.row(held.part, held.suspect.code, &held.refusal);
            } else {
                self.held.push(held);
            }
        }
    }

    /// Nothing is left to send and the app is still not cleared: too few have failed to suspect it, so it is the rows.
    fn release_rest(&mut self) {
        let standings = self.held.iter().map(|held| self.load.session.stats().standing(held.suspect));
        self.suspects = standings
            .filter_map(|standing| if let RefusalCause::Decide(suspect) = standing { Some(suspect) } else { None })
            .take(1)
            .collect();
        if self.suspects.is_empty() {
            for held in std::mem::take(&mut self.held) {
                self.row(held.part, held.suspect.code, &held.refusal);
            }
        }
    }

    /// The next attribute of an account whose attributes are tried one by one.
    fn proceed(&mut self, batch: Batch) {
        if let Some(next) = Batch::next(batch.op, batch.rest) {
            self.ready.push_front(next);
        }
    }

    /// Before everything else, in this order.
    fn send_first(&mut self, batches: Vec<Batch>) {
        for batch in batches.into_iter().rev() {
            self.ready.push_front(batch);
        }
    }

    /// The pass has stopped: what has not set out stays where it is.
    fn abandon(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        let held = std::mem::take(&mut self.held);
        self.suspects.clear();
        let parts = ready.into_iter().flat_map(|batch| batch.parts.into_iter().chain(batch.rest));
        let held = held.into_iter().map(|held| held.part);
        for part in parts.chain(held).chain(self.samples.abandon()) {
            self.outcomes.unsettled(self.op, part);
        }
    }

    /// IM accepted these.
    fn done(&mut self, parts: &[BatchEntry]) {
        let BatchContext { session, changes, fresh } = self.load;
        let Some(first) = parts.first() else { return };
        self.last_chance = false;
        session.slow_start.success();
        if self.op == Operation::Set {
            session.pusher.probe_account.adopt(|| {
                let change = &changes[first.change];
                let (attribute, value) = change.set[first.range(Operation::Set, change)].first()?;
                Some(Probe { account: change.account.clone(), attribute: *attribute, value: value.clone() })
            });
        }
        if fresh {
            let mut stats = session.stats();
            for part in parts {
                for attribute in part.attributes(self.op, &changes[part.change]) {
                    stats.accept(self.op, attribute);
                }
            }
        }
        for part in parts {
            self.outcomes.settled(self.op, *part, &AttributeOutcome::Done, None);
        }
    }
}
