//! One delivery: its batches are sent until the outcome of every attribute is known.
//!
//! Owns: when a batch of the delivery is sent. Must not know: what follows from its answer, rate limits, retries.

use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::MutexGuard;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::answer_handler::AnswerHandler;
use super::batch::{ChangeOrigin, Operation};
use super::session::PushSession;
use super::task::{BatchContext, Completion, Task};
use crate::clock::monotonic;
use crate::crash;
use crate::model::{AccountOutcome, Change};

/// A delivery that waits for calls hands out what is settled once in this time.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

impl PushSession {
    /// Sends the changes (all sets, then all removals) and returns the outcome of every attribute of every account, in
    /// the order given. When the pass stops, what was not sent is returned as such; calls in flight are awaited first.
    ///
    /// No account may occur in two changes, or in two deliveries at the same time.
    ///
    /// What refused accounts cost, not counting retries: IM refuses k of n accounts, which are sent in batches of up to
    /// u = `users_per_call`, with a code of the row or request class. Then a command makes at most
    ///
    /// - one call for each batch, n / u + 1;
    /// - for each of the k, 2 · ⌈log₂ u⌉ calls (14 of 100) until it is alone in a call; and one more for each of its
    ///   attributes, where it has several and the code is not about the account;
    /// - ⌈u / 5⌉ for each refused batch, as long as a quarter or more of the recently answered accounts were refused,
    ///   or fewer than 20 were answered: a sample of the batch is sent account by account. Batches of standing
    ///   rejections are always sampled.
    ///
    /// Where 6 of a sample of 20 are refused, the rest of the batch is sent account by account too. It then costs 1 + u
    /// calls however many of its accounts are refused, attributes aside: for each refused account 1.01 calls when all
    /// are refused, 1.12 at 90 %, 2.06 at half.
    ///
    /// While some calls of the delivery have no answer, the outcomes of the accounts that are settled go to `early`. They
    /// are not among those returned.
    pub async fn deliver(
        &self,
        changes: Vec<Change>,
        origin: ChangeOrigin,
        early: UnboundedSender<Vec<AccountOutcome>>,
    ) -> Vec<AccountOutcome> {
        let context = BatchContext { session: self, changes: &changes, origin };
        Delivery { context, handler: AnswerHandler::new(context), early, flushed_at: monotonic() }.run().await
    }
}

/// A delivery under way.
#[derive(Debug)]
struct Delivery<'a> {
    context: BatchContext<'a>,
    handler: AnswerHandler<'a>,
    early: UnboundedSender<Vec<AccountOutcome>>,
    /// When settled outcomes were handed out last.
    flushed_at: Instant,
}

/// The right to send during the slow start.
#[derive(Debug)]
struct Lead<'a> {
    _leader: MutexGuard<'a, ()>,
    /// When the first batch was sent with it.
    sent_at: Instant,
    /// A second batch was sent, because the first one had no answer.
    sent_again: bool,
}

impl<'a> Delivery<'a> {
    /// Removals begin when all sets have ended, so an account that has both is never in two calls at once, and its set
    /// arrives first.
    async fn run(mut self) -> Vec<AccountOutcome> {
        for op in Operation::ALL {
            self.handler.begin(op);
            self.send_all().await;
            if op == Operation::Set {
                crash::point("push: sets have ended");
            }
        }
        self.handler.into_outcomes()
    }

    /// Sends batches until none is left and no refusal waits for its cause.
    async fn send_all(&mut self) {
        let context @ BatchContext { session, .. } = self.context;
        let mut running = FuturesUnordered::new();
        let mut lead: Option<Lead<'_>> = None;
        loop {
            self.hand_out_settled();
            if session.has_stopped() {
                self.handler.abandon();
            }
            for suspect in self.handler.take_suspects() {
                running.push(context.run(Task::AttributeFault(suspect)));
            }
            for batch in self.handler.take_stalled_parts() {
                running.push(context.run(Task::SendBatch(batch)));
            }
            if session.slow_start.is_open() || context.origin == ChangeOrigin::Unresponsive {
                lead = None;
                for batch in self.handler.take_all() {
                    running.push(context.run(Task::SendBatch(batch)));
                }
            } else if self.takes_early_call() {
                running.extend(self.handler.take_first().map(|batch| context.run(Task::SendBatch(batch))));
                continue;
            } else if running.is_empty() && self.handler.has_queued() && lead.is_none() {
                let Some(leader) = self.wait_to_lead().await else { continue };
                lead = Some(Lead { _leader: leader, sent_at: monotonic(), sent_again: false });
                running.extend(self.handler.take_first().map(|batch| context.run(Task::SendBatch(batch))));
            } else if let Some(current) = &mut lead
                && (running.is_empty() || (!current.sent_again && session.may_lead_again(current.sent_at)))
            {
                match self.handler.take_first() {
                    Some(batch) => {
                        current.sent_again = !running.is_empty();
                        current.sent_at = monotonic();
                        running.push(context.run(Task::SendBatch(batch)));
                    }
                    // Another delivery of the pass may lead.
                    None => lead = None,
                }
            }
            let completion = tokio::select! {
                completion = running.next() => completion,
                // Another delivery of the pass may be the first to succeed.
                () = session.slow_start.wait_until_open(), if self.handler.has_queued() => continue,
                () = session.slow_start.wait_for_early_call(), if self.may_send_early() => continue,
                () = tokio::time::sleep(FLUSH_INTERVAL), if !running.is_empty() => continue,
            };
            if self.complete(completion).is_break() {
                return;
            }
        }
    }

    /// Whether a batch may be sent although IM has not answered yet.
    fn may_send_early(&self) -> bool {
        self.context.origin == ChangeOrigin::New && self.handler.has_queued()
    }

    fn takes_early_call(&self) -> bool {
        self.may_send_early() && self.context.session.slow_start.take_early_call()
    }

    /// Waits for the right to send during the slow start; `None` when the pass stops, the slow start ends, or another call
    /// may start without it.
    async fn wait_to_lead(&self) -> Option<MutexGuard<'a, ()>> {
        let session = self.context.session;
        let lead = async {
            tokio::select! {
                biased;
                () = session.slow_start.wait_for_early_call(), if self.may_send_early() => None,
                leader = session.slow_start.wait_to_lead() => leader,
            }
        };
        session.unless_stopped(lead).await.flatten()
    }

    /// Hands out settled outcomes, so that their accounts do not wait for calls without an answer.
    fn hand_out_settled(&mut self) {
        if self.flushed_at.elapsed() >= FLUSH_INTERVAL {
            self.flushed_at = monotonic();
            let settled = self.handler.take_settled();
            if !settled.is_empty() {
                // Nobody receives them only if the delivery is being dropped.
                let _ = self.early.send(settled);
            }
        }
    }

    /// Takes the result of a task, or `None` when no task is left. Breaks when the delivery of the operation is
    /// complete.
    fn complete(&mut self, completion: Option<Completion>) -> ControlFlow<()> {
        match completion {
            Some(Completion::BatchSent(sent)) => {
                let (batch, answer) = *sent;
                self.handler.handle(batch, answer);
            }
            Some(Completion::FaultAttributed) => {}
            None if self.handler.has_held() => self.handler.conclude_held(),
            None => return ControlFlow::Break(()),
        }
        self.handler.release_rows();
        ControlFlow::Continue(())
    }
}
