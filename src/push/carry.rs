//! One batch to IM and back, with what must be found out before its answer is judged.
//!
//! Owns: what runs side by side within a delivery. Must not know: what becomes of each account.

use super::attempt::{Failure, Purpose};
use super::batch::{Batch, Op, Part};
use super::exchange::{Call, Reply};
use super::session::Session;
use super::tally::Suspect;
use crate::im::{Accepted, Code};
use crate::model::Change;

/// What the calls of a delivery read while it keeps its books.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    pub session: &'a Session,
    pub changes: &'a [Change],
    pub fresh: bool,
}

/// Something under way.
#[derive(Debug)]
pub(super) enum Job {
    Carry(Batch),
    Decide(Suspect),
}

/// Something that has ended.
#[derive(Debug)]
pub(super) enum Event {
    Carried(Box<(Batch, Result<Accepted, Failure>)>),
    Decided,
}

impl Load<'_> {
    pub(super) async fn step(self, job: Job) -> Event {
        match job {
            Job::Carry(batch) => self.carry(batch).await,
            Job::Decide(suspect) => {
                self.session.decide(suspect).await;
                Event::Decided
            }
        }
    }

    async fn carry(self, mut batch: Batch) -> Event {
        let Self { session, changes, fresh } = self;
        let call = Call::of(batch.op, &batch.parts, changes, &session.names);
        let answer = match session.persist(&call, &mut batch.tries, Purpose::Deliver).await {
            Ok(Reply::Users(accepted)) => Ok(accepted),
            Ok(Reply::Names(_)) => Ok(Accepted::default()),
            Err(failure) => Err(failure),
        };
        if let Err(Failure::RanOut(error)) = &answer
            && batch.asks
        {
            session.ask_for_anybody(error, &batch.tries, &call).await;
        }
        if fresh {
            if let Some((code, suspects)) = attribute_not_valid(&answer, &batch, changes) {
                // Names that a removal takes away need not be known to the app.
                let set = suspects.iter().filter(|_| batch.op == Op::Set);
                session.examine_names(code, set.flat_map(|part| part.slots(batch.op, &changes[part.change]))).await;
            }
        }
        Event::Carried(Box::new((batch, answer)))
    }
}

/// The parts of the batch in which an attribute is not valid according to IM, with the code that says so.
fn attribute_not_valid(
    answer: &Result<Accepted, Failure>,
    batch: &Batch,
    changes: &[Change],
) -> Option<(Code, Vec<Part>)> {
    match answer {
        Err(Failure::Refused(error)) if error.code.means_attribute_not_valid() => {
            Some((error.code, batch.parts.clone()))
        }
        Ok(accepted) => {
            let listed = || accepted.failed.iter().filter(|failed| failed.code.means_attribute_not_valid());
            let code = listed().next()?.code;
            let accounts: Vec<&str> = listed().map(|failed| failed.account.as_str()).collect();
            let parts = batch.parts.iter();
            let suspects: Vec<Part> =
                parts.filter(|part| accounts.contains(&changes[part.change].account.as_str())).copied().collect();
            (!suspects.is_empty()).then_some((code, suspects))
        }
        Err(_) => None,
    }
}
