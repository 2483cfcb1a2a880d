//! The detection of an outage: whether IM is unreachable, or only some accounts get no answer.
//!
//! Owns: what follows when a batch runs out of attempts. Must not know: calls, reads, how a batch is split.

use tokio::time::Instant;

use super::attempts::Attempts;
use super::batch::ChangeOrigin;

/// How many batches in doubt are halved although IM has accepted nothing since they were first sent. Enough to isolate a few accounts that never get an answer (then a half is accepted),
/// few enough for an IM that accepts nothing.
const MAX_UNANSWERED_SPLITS: usize = 8;

/// What one delivery knows about IM.
#[derive(Debug)]
enum Reachability {
    /// No batch ran out of attempts since IM last answered this delivery.
    Normal,
    /// A batch ran out of attempts while IM had accepted nothing in the pass. The next batch has one attempt: if it
    /// fails too, IM is unreachable, and if it succeeds, the cause lies in the accounts of the first batch.
    OutageSuspected {
        /// The attempts of the first batch that ran out.
        since: Attempts,
    },
}

/// A batch that ran out of attempts, and what is known at that moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedBatch<'a> {
    pub origin: ChangeOrigin,
    pub attempts: &'a Attempts,
    /// No connection to IM could be made, or it broke. No account can cause that.
    pub network_failure: bool,
    pub has_several_accounts: bool,
    /// Other batches of the delivery wait to be sent.
    pub others_wait: bool,
    /// When IM last accepted something in the pass.
    pub last_success: Option<Instant>,
    /// IM has answered a read since the batch was first sent.
    pub im_answers_reads: bool,
    pub pass_has_stopped: bool,
}

/// What is done with a batch that ran out of attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OutageDecision {
    /// The batch is halved. The halves are sent after all other batches: if IM answers at all, those show it sooner.
    Split,
    /// The pass ends. It will read these accounts again.
    EndPass,
    /// The pass goes on without these accounts. Its watermark moves past them, so they must count as in doubt.
    MarkInDoubt,
}

/// Decides for one delivery what a batch without an answer means.
#[derive(Debug)]
pub(super) struct OutageDetector {
    reachability: Reachability,
    /// Batches in doubt that ran out of attempts without any answer from IM since they were first sent.
    unanswered_splits: usize,
}

impl OutageDetector {
    pub(super) fn new() -> Self {
        Self { reachability: Reachability::Normal, unanswered_splits: 0 }
    }

    /// The next batch has one attempt, which shows whether IM is unreachable.
    pub(super) fn outage_suspected(&self) -> bool {
        matches!(self.reachability, Reachability::OutageSuspected { .. })
    }

    /// The attempts since which IM has answered nothing, if a batch with these attempts runs out.
    pub(super) fn unanswered_since<'a>(&'a self, attempts: &'a Attempts) -> &'a Attempts {
        match &self.reachability {
            Reachability::Normal => attempts,
            Reachability::OutageSuspected { since } => since,
        }
    }

    /// IM accepted something of this delivery, or refused a single account for a reason that lies in the account.
    pub(super) fn answered(&mut self) {
        self.reachability = Reachability::Normal;
    }

    /// A batch ran out of attempts.
    pub(super) fn ran_out(&mut self, batch: FailedBatch<'_>) -> OutageDecision {
        let unreachable = match batch.origin {
            // Two batches without an answer are an outage even if IM answers reads: its set calls may hang. A last batch
            // may contain the only account for which IM does not answer.
            ChangeOrigin::New => {
                let last_try_failed = if batch.others_wait { self.outage_suspected() } else { !batch.im_answers_reads };
                batch.network_failure || last_try_failed
            }
            ChangeOrigin::UnknownOutcome | ChangeOrigin::Unresponsive => batch.network_failure,
            ChangeOrigin::RejectionRetry | ChangeOrigin::UnknownAccountRetry => false,
        };
        if batch.pass_has_stopped || (unreachable && batch.last_success.is_none()) {
            return OutageDecision::EndPass;
        }
        if batch.origin.is_in_doubt() && batch.has_several_accounts {
            let answered_since =
                batch.last_success.zip(batch.attempts.first_at).is_some_and(|(last, first)| last >= first);
            self.unanswered_splits += usize::from(!answered_since);
            if answered_since || self.unanswered_splits <= MAX_UNANSWERED_SPLITS {
                return OutageDecision::Split;
            }
        }
        if batch.last_success.is_none() && !self.outage_suspected() {
            self.reachability = Reachability::OutageSuspected { since: batch.attempts.clone() };
        }
        OutageDecision::MarkInDoubt
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::monotonic;

    fn failed(origin: ChangeOrigin, attempts: &Attempts) -> FailedBatch<'_> {
        FailedBatch {
            origin,
            attempts,
            network_failure: false,
            has_several_accounts: true,
            others_wait: true,
            last_success: None,
            im_answers_reads: false,
            pass_has_stopped: false,
        }
    }

    fn attempted() -> Attempts {
        let mut attempts = Attempts::default();
        attempts.record_start(monotonic());
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_new_batch_without_an_answer_is_an_outage() {
        let mut detector = OutageDetector::new();
        let first = attempted();
        assert_eq!(detector.ran_out(failed(ChangeOrigin::New, &first)), OutageDecision::MarkInDoubt);
        assert!(detector.outage_suspected());
        tokio::time::advance(Duration::from_mins(1)).await;
        let second = attempted();
        assert_eq!(detector.ran_out(failed(ChangeOrigin::New, &second)), OutageDecision::EndPass);
        assert_eq!(detector.unanswered_since(&second).first_at, first.first_at);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_the_suspicion() {
        let mut detector = OutageDetector::new();
        let attempts = attempted();
        detector.ran_out(failed(ChangeOrigin::New, &attempts));
        detector.answered();
        assert!(!detector.outage_suspected());
        let success = FailedBatch { last_success: Some(monotonic()), ..failed(ChangeOrigin::New, &attempts) };
        assert_eq!(detector.ran_out(success), OutageDecision::MarkInDoubt);
        assert!(!detector.outage_suspected(), "IM answers, so only this batch gets no answer");
    }

    #[tokio::test(start_paused = true)]
    async fn without_another_batch_or_a_network_it_is_an_outage() {
        let attempts = attempted();
        let last = FailedBatch { others_wait: false, ..failed(ChangeOrigin::New, &attempts) };
        let offline = |origin| FailedBatch { network_failure: true, ..failed(origin, &attempts) };
        for batch in [last, offline(ChangeOrigin::New), offline(ChangeOrigin::UnknownOutcome)] {
            assert_eq!(OutageDetector::new().ran_out(batch), OutageDecision::EndPass, "{batch:?}");
        }
        let answers_reads = FailedBatch { im_answers_reads: true, ..last };
        assert_eq!(OutageDetector::new().ran_out(answers_reads), OutageDecision::MarkInDoubt);
        for origin in [ChangeOrigin::New, ChangeOrigin::UnknownOutcome] {
            let batch = FailedBatch { last_success: Some(monotonic()), ..offline(origin) };
            assert_ne!(OutageDetector::new().ran_out(batch), OutageDecision::EndPass, "IM answered before: {origin:?}");
        }
        assert_eq!(OutageDetector::new().ran_out(offline(ChangeOrigin::RejectionRetry)), OutageDecision::MarkInDoubt);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_in_doubt_are_split_a_limited_number_of_times() {
        let mut detector = OutageDetector::new();
        let attempts = attempted();
        let doubt = failed(ChangeOrigin::UnknownOutcome, &attempts);
        for _ in 0..MAX_UNANSWERED_SPLITS {
            assert_eq!(detector.ran_out(doubt), OutageDecision::Split);
        }
        assert_eq!(detector.ran_out(doubt), OutageDecision::MarkInDoubt);
        let answered = FailedBatch { last_success: attempts.first_at, ..doubt };
        assert_eq!(detector.ran_out(answered), OutageDecision::Split, "IM answers other calls");
        let alone = FailedBatch { has_several_accounts: false, ..answered };
        assert_eq!(detector.ran_out(alone), OutageDecision::MarkInDoubt);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_stop_nothing_is_split() {
        let attempts = attempted();
        let stopped = FailedBatch { pass_has_stopped: true, ..failed(ChangeOrigin::UnknownOutcome, &attempts) };
        assert_eq!(OutageDetector::new().ran_out(stopped), OutageDecision::EndPass);
    }
}
