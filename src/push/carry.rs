//! One batch to IM and back, with what must be found out before its answer is judged.
//!
//! Owns: what runs side by side within a delivery. Must not know: what becomes of each account.

use super::attempt::{CallPurpose, SendFailure};
use super::batch::{Batch, BatchEntry, Operation};
use super::call::{Call, CallReply};
use super::disposition::ATTRIBUTE_NOT_VALID;
use super::refusal_stats::Suspect;
use super::session::PushSession;
use crate::im::Accepted;
use crate::model::Change;

/// What the calls of a delivery read while it keeps its books.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchContext<'a> {
    pub session: &'a PushSession,
    pub changes: &'a [Change],
    pub fresh: bool,
}

/// Something under way.
#[derive(Debug)]
pub(super) enum Task {
    Carry(Batch),
    Decide(Suspect),
}

/// Something that has ended.
#[derive(Debug)]
pub(super) enum Completion {
    Carried(Box<(Batch, Result<Accepted, SendFailure>)>),
    Decided,
}

impl BatchContext<'_> {
    pub(super) async fn step(self, job: Task) -> Completion {
        match job {
            Task::Carry(batch) => self.carry(batch).await,
            Task::Decide(suspect) => {
                self.session.decide(suspect).await;
                Completion::Decided
            }
        }
    }

    async fn carry(self, mut batch: Batch) -> Completion {
        let Self { session, changes, fresh } = self;
        let call = Call::of(batch.op, &batch.parts, changes, &session.names);
        let answer = match session.send_with_retry(&call, &mut batch.attempts, CallPurpose::Deliver).await {
            Ok(CallReply::Users(accepted)) => Ok(accepted),
            Ok(CallReply::Names(_)) => Ok(Accepted::default()),
            Err(failure) => Err(failure),
        };
        if let Err(SendFailure::RanOut(error)) = &answer
            && batch.asks
        {
            session.check_im_alive(error, &batch.attempts, &call).await;
        }
        if fresh {
            let suspects: Vec<BatchEntry> = match &answer {
                Err(SendFailure::Refused(error)) if error.code == ATTRIBUTE_NOT_VALID => batch.parts.clone(),
                Ok(accepted) => {
                    let listed = accepted.failed.iter().filter(|failed| failed.code == ATTRIBUTE_NOT_VALID);
                    let accounts: Vec<&str> = listed.map(|failed| failed.account.as_str()).collect();
                    let parts = batch.parts.iter();
                    parts.filter(|part| accounts.contains(&changes[part.change].account.as_str())).copied().collect()
                }
                Err(_) => Vec::new(),
            };
            if !suspects.is_empty() {
                // Names that a removal takes away need not be known to the app.
                let set = suspects.iter().filter(|_| batch.op == Operation::Set);
                session.examine_names(set.flat_map(|part| part.attributes(batch.op, &changes[part.change]))).await;
            }
        }
        Completion::Carried(Box::new((batch, answer)))
    }
}
