//! What follows from the answer to each batch of a delivery.
//!
//! Owns: the queue of batches to send, and what an answer adds to it. Must not know: when a batch is sent, when a call
//! starts, how the outcomes are recorded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::attempts::Attempts;
use super::batch::{AccountLookup, Batch, BatchEntry, ChangeOrigin, Operation};
use super::call::Call;
use super::disposition::Disposition;
use super::outage::{FailedBatch, OutageDecision, OutageDetector};
use super::refusal_stats::Suspect;
use super::retry::SendFailure;
use super::settlement::{LoneRefusal, RefusalEffect, Settlement};
use super::split_refused_batch::{self, RefusedBatchSplitter};
use super::stop::StopReason;
use super::task::{BatchAnswer, BatchContext};
use crate::crash;
use crate::im::{Accepted, CallError, Code, FailedAccount, vendor_refusal};
use crate::model::{AccountOutcome, VendorRefusal};

/// The state of one delivery between two answers.
#[derive(Debug)]
pub(super) struct AnswerHandler<'a> {
    context: BatchContext<'a>,
    op: Operation,
    /// Batches to send, in order.
    queue: VecDeque<Batch>,
    splitter: RefusedBatchSplitter,
    outage: OutageDetector,
    settlement: Settlement<'a>,
}

impl<'a> AnswerHandler<'a> {
    pub(super) fn new(context: BatchContext<'a>) -> Self {
        Self {
            context,
            op: Operation::Set,
            queue: VecDeque::new(),
            splitter: RefusedBatchSplitter::default(),
            outage: OutageDetector::new(),
            settlement: Settlement::new(context),
        }
    }

    /// Queues all that the changes hold of this operation. Nothing of the one before is left.
    pub(super) fn begin(&mut self, op: Operation) {
        self.op = op;
        let BatchContext { session, changes, origin } = self.context;
        let accounts = if origin == ChangeOrigin::Unresponsive { 1 } else { session.pusher.limits.users_per_call };
        self.queue = Batch::cut(op, changes, accounts);
        if origin == ChangeOrigin::UnknownAccountRetry && session.resolves_unknown_accounts() {
            for batch in &mut self.queue {
                batch.lookup = AccountLookup::First;
            }
        }
    }

    /// The outcomes in the order of the changes.
    pub(super) fn into_outcomes(self) -> Vec<AccountOutcome> {
        self.settlement.into_outcomes()
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Refusals wait for their cause.
    pub(super) fn has_held(&self) -> bool {
        self.settlement.has_held()
    }

    /// Takes the outcomes of accounts of which every attribute has one.
    pub(super) fn take_settled(&mut self) -> Vec<AccountOutcome> {
        self.settlement.take_settled()
    }

    /// What a probe must check now.
    pub(super) fn take_suspects(&mut self) -> Vec<Suspect> {
        self.settlement.take_suspects()
    }

    /// All queued batches, to be sent side by side.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Batch> {
        let in_doubt = self.context.origin.is_in_doubt();
        self.queue.drain(..).map(move |mut batch| {
            batch.attempts.single_attempt = in_doubt;
            batch.checks_im = in_doubt;
            batch
        })
    }

    /// The parts of stalled batches, to be sent side by side: only the answers to some of them show which is at fault.
    pub(super) fn take_stalled_parts(&mut self) -> Vec<Batch> {
        let (parts, others) = self.queue.drain(..).partition::<Vec<_>, _>(|batch| batch.attempts.split_at.is_some());
        self.queue = others.into();
        parts
    }

    /// The first queued batch, to be sent alone.
    pub(super) fn take_first(&mut self) -> Option<Batch> {
        let mut batch = self.queue.pop_front()?;
        let origin = self.context.origin;
        batch.attempts.single_attempt = self.has_single_attempts();
        batch.checks_im = origin.is_in_doubt() || (origin.counts() && self.queue.is_empty());
        Some(batch)
    }

    fn has_single_attempts(&self) -> bool {
        self.outage.outage_suspected() || self.context.origin.is_in_doubt()
    }

    /// Takes the answer to a batch.
    pub(super) fn handle(&mut self, mut batch: Batch, answer: BatchAnswer) {
        for entry in &mut batch.entries {
            entry.may_be_applied |= batch.attempts.may_be_applied;
        }
        let sample = batch.sample;
        let unknown = std::mem::take(&mut batch.unknown);
        let refused = matches!(answer, Err(SendFailure::Refused(_)));
        match answer {
            Ok(accepted) => self.call_accepted(batch, &accepted),
            Err(SendFailure::Refused(error)) => self.call_refused(batch, &error),
            Err(SendFailure::RanOut(error)) => self.attempts_ran_out(batch, &error),
            Err(SendFailure::Stalled(error)) => self.stalled(batch, &error),
            Err(SendFailure::Halted) => self.settlement.unanswered(self.op, batch.into_unanswered()),
        }
        // After the accepted entries, which show that the app knows accounts of this form.
        for (entry, refusal) in unknown {
            self.unknown_account(entry, refusal);
        }
        if let Some(sample) = sample {
            let others = self.splitter.sample_answered(sample, refused);
            self.send_first(others);
        }
    }

    /// IM accepted the call, except for the accounts that it lists as failed.
    fn call_accepted(&mut self, mut batch: Batch, accepted: &Accepted) {
        if accepted.failed.is_empty() {
            self.entries_accepted(&batch.entries);
        } else {
            self.partly_accepted(&mut batch, accepted);
        }
        self.send_next_attribute(batch);
    }

    fn partly_accepted(&mut self, batch: &mut Batch, accepted: &Accepted) {
        let BatchContext { session, changes, .. } = self.context;
        let failed: HashMap<&str, &FailedAccount> =
            accepted.failed.iter().map(|failed| (failed.account.as_str(), failed)).collect();
        let failure_of = |entry: &BatchEntry| failed.get(changes[entry.change].account.as_str()).copied();
        let call = Call::of(self.op, &batch.entries, changes, &session.names);
        let (refused, done): (Vec<BatchEntry>, Vec<BatchEntry>) =
            std::mem::take(&mut batch.entries).into_iter().partition(|entry| failure_of(entry).is_some());
        // The accepted entries come first, because they can show the cause of a refusal.
        self.entries_accepted(&done);
        let (mut to_retry, mut to_look_up) = (Vec::new(), Vec::new());
        let looks_up = self.op == Operation::Set && self.looks_up(batch) && self.needs_lookup();
        for mut entry in refused {
            let Some(failed) = failure_of(&entry) else { continue };
            let refusal = || vendor_refusal(failed.code, &failed.info, accepted.request_id.as_deref(), call.values());
            if looks_up && failed.code.means_unknown_account() {
                to_look_up.push((entry, failed));
                continue;
            }
            match Disposition::of(failed.code) {
                Disposition::Bisect => self.refused_alone(entry, failed.code, batch.passed_before, refusal()),
                Disposition::Retry => {
                    entry.may_be_applied = true;
                    to_retry.push((entry, failed.code));
                }
                Disposition::RetryThrottled => to_retry.push((entry, failed.code)),
                Disposition::Stop => {
                    session.stop(StopReason::credentials(failed.code, &refusal()));
                    self.settlement.unanswered(self.op, std::iter::once(entry));
                }
            }
        }
        self.retry_listed(batch, to_retry);
        self.look_up_listed(batch, accepted, to_look_up);
    }

    /// Accounts that `timpush` lists with a code for which the call is retried. They go together into one new call,
    /// which continues the attempts of the first.
    fn retry_listed(&mut self, batch: &mut Batch, entries: Vec<(BatchEntry, Code)>) {
        let session = self.context.session;
        let Some(&(_, code)) = entries.first() else { return };
        let throttled = entries.iter().find(|(_, code)| Disposition::of(*code) == Disposition::RetryThrottled);
        if let Some((_, code)) = throttled {
            session.pusher.slow_down(self.op.command(), *code, batch.attempts.last_at);
        }
        batch.attempts.single_attempt = self.has_single_attempts();
        let pause = batch.attempts.next_pause(session.pusher.limits.retry_for, throttled.is_some(), None);
        let entries = entries.into_iter().map(|(entry, _)| entry);
        if let Some(pause) = pause {
            let attempts = Attempts { pause, ..batch.attempts.clone() };
            let next_attributes = std::mem::take(&mut batch.next_attributes);
            self.queue.push_back(Batch { next_attributes, attempts, ..Batch::new(self.op, entries.collect()) });
        } else {
            tracing::warn!("IM answered with {code} for {} accounts until im.retry_for was over", entries.len());
            // The pass goes on and its watermark moves past these accounts, so they must count as in doubt.
            let in_doubt = entries.map(|entry| BatchEntry { may_be_applied: true, ..entry });
            self.settlement.unanswered(self.op, in_doubt);
        }
    }

    /// Accounts that `timpush` lists as not known to Chat are looked up together, and sent in one new call where the
    /// look-up creates them.
    fn look_up_listed(&mut self, batch: &mut Batch, accepted: &Accepted, entries: Vec<(BatchEntry, &FailedAccount)>) {
        if entries.is_empty() {
            return;
        }
        let failed = entries.iter().map(|(_, failed)| (*failed).clone()).collect();
        let listed = Accepted { request_id: accepted.request_id.clone(), failed };
        let next_attributes = std::mem::take(&mut batch.next_attributes);
        let lookup = AccountLookup::AfterListing(Box::new(listed));
        let entries = entries.into_iter().map(|(entry, _)| entry).collect();
        self.queue.push_front(Batch { next_attributes, lookup, ..Batch::new(self.op, entries) });
    }

    /// The service of accounts may be asked about this batch.
    fn looks_up(&self, batch: &Batch) -> bool {
        matches!(batch.lookup, AccountLookup::NotNeeded) && self.context.session.resolves_unknown_accounts()
    }

    /// An account of which IM alone says that Chat does not know it is created, or its refusal needs a proof to be left out
    /// of the refused share. The refusals of retries do not count.
    fn needs_lookup(&self) -> bool {
        self.context.session.imports_accounts() || self.context.origin.counts()
    }

    /// Chat does not know the account.
    fn unknown_account(&mut self, entry: BatchEntry, refusal: VendorRefusal) {
        let refusal = Arc::new(refusal);
        let refused = LoneRefusal { code: Code::UNKNOWN_ACCOUNT, passed_before: 0, refusal, is_proven: true };
        self.outage.answered();
        // The code is about the account, so no attribute of it is sent alone.
        let _ = self.settlement.refused_alone(self.op, entry, refused);
    }

    /// IM refused the call as a whole.
    fn call_refused(&mut self, batch: Batch, error: &CallError) {
        let BatchContext { session, changes, origin } = self.context;
        let helps = batch.entries.len() > 1 || (self.op == Operation::Set && self.needs_lookup());
        if error.code.means_unknown_account() && helps && self.looks_up(&batch) {
            let Batch { op, entries, next_attributes, is_split, .. } = batch;
            let lookup = AccountLookup::AfterRefusal(Box::new(error.clone()));
            self.queue.push_front(Batch { next_attributes, is_split, lookup, ..Batch::new(op, entries) });
            return;
        }
        if let [entry] = batch.entries[..] {
            let call = Call::of(self.op, &batch.entries, changes, &session.names);
            let refusal = vendor_refusal(error.code, &error.info, error.request_id.as_deref(), call.values());
            self.refused_alone(entry, error.code, batch.passed_before, refusal);
            self.send_next_attribute(batch);
        } else {
            crash::point("push: a batch was halved");
            // Accounts with standing rejections were all refused before.
            let many_refused_likely = !origin.counts() || !session.stats().refusals_are_rare();
            let batches = self.splitter.split(batch, many_refused_likely);
            self.send_first(batches);
        }
    }

    /// IM does not answer this batch while it answers others, so one of its accounts is the reason. It is split until that
    /// account is alone, which then counts as in doubt.
    fn stalled(&mut self, batch: Batch, error: &CallError) {
        crash::point("push: a batch was split without an answer");
        let session = self.context.session;
        if let [entry] = batch.entries[..] {
            let account = &self.context.changes[entry.change].account;
            tracing::warn!(%account, code = %error.code, "IM does not answer for one account, while it answers for others");
            self.settlement.unanswered_alone(self.op, entry);
            self.send_next_attribute(batch);
        } else {
            // While IM has answered nothing but reads, its calls that set attributes may all hang.
            let since = batch.attempts.last_at;
            let single_attempt = !since.is_some_and(|since| session.change_answered_since(since));
            self.queue.extend(split_refused_batch::stalled_parts(&batch, single_attempt));
        }
    }

    /// The attempts of a batch ran out. The first time, its accounts come to be in doubt. When they are sent again as
    /// such and have no answer either, there may be one account for which IM never answers, so the batch is halved.
    fn attempts_ran_out(&mut self, batch: Batch, error: &CallError) {
        let BatchContext { session, origin, .. } = self.context;
        tracing::warn!(
            "a {} call of {} accounts ran out of attempts after {} ({})",
            self.op.command().label(),
            batch.entries.len(),
            batch.attempts.count,
            error.code
        );
        let last_success = session.slow_start.last_success();
        let decision = self.outage.ran_out(FailedBatch {
            origin,
            attempts: &batch.attempts,
            network_failure: error.code.is_network_failure(),
            has_several_accounts: batch.entries.len() > 1,
            others_wait: self.has_queued(),
            last_success,
            im_answers_reads: session
                .last_read()
                .zip(batch.attempts.first_at)
                .is_some_and(|(read, first)| read >= first),
            pass_has_stopped: session.stop_reason().is_some(),
        });
        if decision == OutageDecision::Split {
            self.queue.extend(split_refused_batch::halves(batch));
            return;
        }
        let in_doubt = decision == OutageDecision::MarkInDoubt;
        let entries = batch.entries.iter();
        let entries = entries.map(|entry| BatchEntry { may_be_applied: entry.may_be_applied || in_doubt, ..*entry });
        self.settlement.unanswered(self.op, entries);
        let unreachable = StopReason::unreachable(error, self.outage.unanswered_since(&batch.attempts));
        if decision == OutageDecision::EndPass && last_success.is_none() {
            session.stop(unreachable.clone());
        }
        if origin.counts() {
            session.note_unanswered(unreachable);
        }
        if last_success.zip(batch.attempts.first_at).is_some_and(|(last, first)| last < first) {
            session.slow_start.close();
        }
        self.send_next_attribute(batch);
    }

    /// IM accepted these entries.
    fn entries_accepted(&mut self, entries: &[BatchEntry]) {
        if !entries.is_empty() {
            self.outage.answered();
            self.settlement.accepted(self.op, entries);
        }
    }

    /// IM refused an account or an attribute that was alone in its call, or that `timpush` listed.
    fn refused_alone(&mut self, entry: BatchEntry, code: Code, passed_before: u64, refusal: VendorRefusal) {
        let refused = LoneRefusal { code, passed_before, refusal: Arc::new(refusal), is_proven: false };
        match self.settlement.refused_alone(self.op, entry, refused) {
            RefusalEffect::Done | RefusalEffect::Held => {}
            RefusalEffect::Row(attributes) => {
                self.outage.answered();
                self.queue_each_first(attributes);
            }
        }
    }

    /// Rejects the held refusals of which rows are the cause by now.
    pub(super) fn release_rows(&mut self) {
        let attributes = self.settlement.release_rows(self.op);
        self.queue_each_first(attributes);
    }

    /// Nothing is left to send: has a probe check the held refusals, or rejects them all.
    pub(super) fn conclude_held(&mut self) {
        let attributes = self.settlement.conclude_held(self.op);
        self.queue_each_first(attributes);
    }

    /// Queues the next attribute of an account whose attributes are sent one by one.
    fn send_next_attribute(&mut self, batch: Batch) {
        if let Some(next) = split_refused_batch::next_attribute(batch.op, batch.next_attributes) {
            self.queue.push_front(next);
        }
    }

    /// Queues each of these batches before all others, so that the last one is sent first.
    fn queue_each_first(&mut self, batches: impl IntoIterator<Item = Batch>) {
        for batch in batches {
            self.queue.push_front(batch);
        }
    }

    /// Queues these batches before all others, in this order.
    fn send_first(&mut self, batches: Vec<Batch>) {
        for batch in batches.into_iter().rev() {
            self.queue.push_front(batch);
        }
    }

    /// The pass has stopped: nothing that waits is sent.
    pub(super) fn abandon(&mut self) {
        let queued: Vec<BatchEntry> = self.queue.drain(..).flat_map(Batch::into_unanswered).collect();
        let unsampled = self.splitter.abandon();
        self.settlement.unanswered(self.op, queued.into_iter().chain(unsampled));
        self.settlement.abandon(self.op);
    }
}
