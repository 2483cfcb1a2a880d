//! How the entries of a delivery are settled: accepted, refused, or without an answer.
//!
//! Owns: the outcomes, the refusals that wait for their cause, the counts of the pass.
//! Must not know: the queue of batches, retries, outages.

use std::sync::Arc;

use super::batch::{Batch, BatchEntry, Operation};
use super::held_refusals::{HeldRefusal, HeldRefusals};
use super::outcomes::{DeliveryOutcomes, NewlyAnswered};
use super::refusal_stats::{RefusalCause, Suspect};
use super::split_refused_batch;
use super::stop::StopReason;
use super::task::BatchContext;
use crate::crash;
use crate::im::Code;
use crate::model::{AccountOutcome, AttributeOutcome, VendorRefusal};

/// Settles the entries of one delivery.
#[derive(Debug)]
pub(super) struct Settlement<'a> {
    context: BatchContext<'a>,
    held: HeldRefusals,
    outcomes: DeliveryOutcomes<'a>,
}

/// The refusal of an account or attribute that was alone in its call.
#[derive(Debug)]
pub(super) struct LoneRefusal {
    pub code: Code,
    /// How many calls had reached IM in this pass at the time of the refusal.
    pub passed_before: u64,
    pub refusal: Arc<VendorRefusal>,
    /// The service of accounts has confirmed that the account itself is the cause.
    pub is_proven: bool,
}

/// What follows from a refusal of an account or attribute that was alone in its call.
#[derive(Debug)]
pub(super) enum RefusalEffect {
    /// The entry counts as done: there was nothing to remove.
    Done,
    /// The cause is unclear, so the refusal waits.
    Held,
    /// The row is at fault. Its attributes are sent one by one, where that can show which of them IM refuses.
    Row(Option<Batch>),
}

impl<'a> Settlement<'a> {
    pub(super) fn new(context: BatchContext<'a>) -> Self {
        let outcomes = DeliveryOutcomes::new(context.changes);
        Self { context, held: HeldRefusals::default(), outcomes }
    }

    /// The outcomes in the order of the changes.
    pub(super) fn into_outcomes(self) -> Vec<AccountOutcome> {
        self.outcomes.into_outcomes()
    }

    /// Takes the outcomes of accounts of which every attribute has one.
    pub(super) fn take_settled(&mut self) -> Vec<AccountOutcome> {
        self.outcomes.take_settled()
    }

    /// IM gives no answer for an account that is alone in its call, although it answers other calls.
    pub(super) fn unanswered_alone(&mut self, op: Operation, entry: BatchEntry) {
        self.outcomes.note_unanswered_alone(entry);
        self.outcomes.record_unanswered(op, BatchEntry { may_be_applied: true, ..entry });
    }

    /// Refusals wait for their cause.
    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// What a probe must check now.
    pub(super) fn take_suspects(&mut self) -> Vec<Suspect> {
        self.held.take_suspects()
    }

    /// IM accepted these entries, at least one.
    pub(super) fn accepted(&mut self, op: Operation, entries: &[BatchEntry]) {
        let BatchContext { session, changes, origin } = self.context;
        session.slow_start.record_success();
        session.stats().record_passed();
        if origin.counts() {
            let mut stats = session.stats();
            for entry in entries {
                for attribute in entry.attributes(op, &changes[entry.change]) {
                    stats.record_accepted(op, attribute);
                }
            }
        }
        for entry in entries {
            let newly = self.outcomes.record_done(op, *entry);
            if origin.counts() && newly.account {
                session.stats().record_account_accepted();
            }
            self.count(newly, false);
        }
    }

    /// IM refused an account or an attribute that was alone in its call, or that `timpush` listed.
    pub(super) fn refused_alone(&mut self, op: Operation, entry: BatchEntry, refused: LoneRefusal) -> RefusalEffect {
        let LoneRefusal { code, passed_before, refusal, is_proven } = refused;
        let BatchContext { session, changes, origin } = self.context;
        if op == Operation::Remove && code.counts_as_removed() {
            let newly = self.outcomes.record_done(op, entry);
            self.count(newly, false);
            return RefusalEffect::Done;
        }
        let attribute = entry.single_attribute(op, &changes[entry.change]);
        let suspect = Suspect { op, code, attribute };
        let cause = if origin.counts() || code.comes_from_gateway() {
            let mut stats = session.stats();
            if code.comes_from_gateway() {
                stats.record_refused_by_gateway();
            }
            if entry.position.is_none() && attribute.is_some() {
                stats.record_refused_alone(Suspect { attribute: None, ..suspect });
            }
            stats.record_refused_alone(suspect);
            stats.cause(suspect, passed_before)
        } else {
            RefusalCause::Row
        };
        match cause {
            RefusalCause::Row => {
                // IM answers and checks accounts, so the slow start has nothing more to find out.
                session.slow_start.record_success();
                return RefusalEffect::Row(self.reject_row(
                    op,
                    entry,
                    &LoneRefusal { code, passed_before, refusal, is_proven },
                ));
            }
            RefusalCause::Unclear => {}
            RefusalCause::NeedsProbe(suspect) => self.held.add_suspect(suspect),
        }
        self.held.hold(HeldRefusal { entry, suspect, passed_before, refusal });
        RefusalEffect::Held
    }

    /// The row is at fault. If the code is not about the whole account and the entry has several attributes, returns
    /// the batch that tries the first of them alone.
    fn reject_row(&mut self, op: Operation, entry: BatchEntry, refused: &LoneRefusal) -> Option<Batch> {
        let LoneRefusal { code, refusal, is_proven, .. } = refused;
        let change = &self.context.changes[entry.change];
        if !refusal.of_account && entry.single_attribute(op, change).is_none() {
            let batch = split_refused_batch::one_by_one(op, entry, change)?;
            crash::point("push: attributes are sent one by one");
            return Some(batch);
        }
        let outcome = AttributeOutcome::Refused(Arc::clone(refusal));
        let newly = self.outcomes.record_refused(op, entry, *code, &outcome);
        self.count(newly, *is_proven);
        let recorded = if refusal.of_account { 1 } else { entry.range(op, change).len() };
        let metric = self.context.session.pusher.metrics.rejections.with_label_values(&[code.label()]);
        metric.inc_by(u64::try_from(recorded).unwrap_or(1));
        None
    }

    /// Adds an answer to the counts of the pass, which stops when too many accounts were refused. An account of which is
    /// proven that Chat does not know it (`is_proven`) does not count as refused while IM accepts enough others: then
    /// the app and the form of the accounts are right.
    fn count(&self, newly: NewlyAnswered, is_proven: bool) {
        let BatchContext { session, origin, .. } = self.context;
        if !origin.counts() {
            return;
        }
        let mut stats = session.stats();
        if newly.account {
            stats.record_answered();
        }
        let Some(code) = newly.refused_with else { return };
        if is_proven {
            stats.record_proven_unknown();
        } else {
            stats.record_refused(code);
        }
        let over_limit = stats.share_over_limit(code);
        drop(stats);
        if let Some(share) = over_limit {
            let allowed = session.pusher.limits.max_rejected_share;
            session.stop(StopReason::too_many_rejected(code, share, allowed));
        }
    }

    /// Rejects the held refusals of which rows are the cause by now. Returns the batches to send for them.
    pub(super) fn release_rows(&mut self, op: Operation) -> Vec<Batch> {
        let session = self.context.session;
        if self.held.is_empty() || session.has_stopped() {
            return Vec::new();
        }
        let rows = self.held.take_rows(&session.stats());
        self.reject_held(op, rows)
    }

    /// Nothing is left to send: has a probe check the held refusals, or rejects them all and returns the batches to
    /// send for them.
    pub(super) fn conclude_held(&mut self, op: Operation) -> Vec<Batch> {
        let rows = self.held.conclude(&self.context.session.stats());
        self.reject_held(op, rows)
    }

    fn reject_held(&mut self, op: Operation, refusals: Vec<HeldRefusal>) -> Vec<Batch> {
        let reject = |held: HeldRefusal| {
            let HeldRefusal { entry, suspect, passed_before, refusal } = held;
            self.reject_row(op, entry, &LoneRefusal { code: suspect.code, passed_before, refusal, is_proven: false })
        };
        refusals.into_iter().filter_map(reject).collect()
    }

    /// IM gave no answer for these entries that settles them.
    pub(super) fn unanswered(&mut self, op: Operation, entries: impl Iterator<Item = BatchEntry>) {
        for entry in entries {
            self.outcomes.record_unanswered(op, entry);
        }
    }

    /// The pass has stopped: no held refusal is examined any more.
    pub(super) fn abandon(&mut self, op: Operation) {
        let held = self.held.abandon();
        self.unanswered(op, held);
    }
}
