//! The concurrent work of a delivery: sending a batch, finding what is at fault.
//!
//! Owns: what is done for a batch before its answer is handled. Must not know: what becomes of each account.

use super::batch::{AccountLookup, Batch, BatchEntry, ChangeOrigin, Operation};
use super::call::{Call, CallReply};
use super::refusal_stats::Suspect;
use super::retry::SendFailure;
use super::session::PushSession;
use super::unknown_accounts::Resolution;
use crate::im::{Accepted, Code};
use crate::model::Change;

/// What all tasks of a delivery read.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchContext<'a> {
    pub session: &'a PushSession,
    pub changes: &'a [Change],
    pub origin: ChangeOrigin,
}

/// A piece of work that runs beside others.
#[derive(Debug)]
pub(super) enum Task {
    SendBatch(Batch),
    AttributeFault(Suspect),
}

/// IM's answer to a batch, or why there is none.
pub(super) type BatchAnswer = Result<Accepted, SendFailure>;

/// The result of a task.
#[derive(Debug)]
pub(super) enum Completion {
    BatchSent(Box<(Batch, BatchAnswer)>),
    FaultAttributed,
}

impl BatchContext<'_> {
    pub(super) async fn run(self, task: Task) -> Completion {
        match task {
            Task::SendBatch(batch) => self.send_batch(batch).await,
            Task::AttributeFault(suspect) => {
                self.session.attribute_fault(suspect).await;
                Completion::FaultAttributed
            }
        }
    }

    async fn send_batch(self, mut batch: Batch) -> Completion {
        let Self { session, changes, origin } = self;
        if let Some(answer) = self.look_up_accounts(&mut batch).await {
            return Completion::BatchSent(Box::new((batch, answer)));
        }
        let call = Call::of(batch.op, &batch.entries, changes, &session.names);
        let _place = match origin {
            ChangeOrigin::Unresponsive => session.unless_stopped(session.pusher.unresponsive.acquire()).await,
            ChangeOrigin::New
            | ChangeOrigin::UnknownOutcome
            | ChangeOrigin::RejectionRetry
            | ChangeOrigin::UnknownAccountRetry => None,
        };
        let answer = match session.send_with_retry(&call, &mut batch.attempts).await {
            Ok(CallReply::Users(accepted)) => Ok(accepted),
            Ok(
                CallReply::Names(_)
                | CallReply::Read
                | CallReply::Attributes(_)
                | CallReply::Statuses(_)
                | CallReply::NotImported(_),
            ) => Ok(Accepted::default()),
            Err(failure) => Err(failure),
        };
        if let Err(SendFailure::RanOut(error)) = &answer
            && batch.checks_im
        {
            session.check_im_alive(error, &batch.attempts).await;
        }
        batch.passed_before = session.stats().passed();
        if let Err(SendFailure::Refused(error)) = &answer
            && error.code.comes_from_gateway()
        {
            session.check_gateway(batch.op, error.code).await;
        }
        if origin.counts()
            && let Some((code, entries)) = entries_not_valid(&answer, &batch, changes)
        {
            // A name that is removed need not be defined in the app.
            let set = entries.iter().filter(|_| batch.op == Operation::Set);
            let attributes = set.flat_map(|entry| entry.attributes(batch.op, &changes[entry.change]));
            session.check_attribute_names(code, attributes).await;
        }
        Completion::BatchSent(Box::new((batch, answer)))
    }
}

impl BatchContext<'_> {
    /// Has the service of accounts tell which accounts of the batch Chat does not know, where this is due. They leave the
    /// batch. Returns the answer to the batch, if nothing of it is to be sent.
    async fn look_up_accounts(self, batch: &mut Batch) -> Option<BatchAnswer> {
        let Self { session, changes, .. } = self;
        let imports = batch.op == Operation::Set && session.imports_accounts();
        let is_alone = batch.entries.len() == 1;
        // The answer that stands where the service tells nothing, and whether it stands for the known accounts too. IM
        // refuses these again, unless they were created, or were refused only because of others.
        let (refused, is_final) = match std::mem::replace(&mut batch.lookup, AccountLookup::Done) {
            AccountLookup::NotNeeded => {
                batch.lookup = AccountLookup::NotNeeded;
                return None;
            }
            AccountLookup::Done => return None,
            AccountLookup::First => (None, false),
            AccountLookup::AfterRefusal(error) => (Some(Err(SendFailure::Refused(*error))), is_alone && !imports),
            AccountLookup::AfterListing(listed) => (Some(Ok(*listed)), !imports),
        };
        let accounts: Vec<&str> = batch.entries.iter().map(|entry| changes[entry.change].account.as_str()).collect();
        let unknown = match session.resolve_unknown_accounts(&accounts, batch.op == Operation::Set).await {
            Resolution::Halted => return Some(Err(SendFailure::Halted)),
            Resolution::Unavailable => return refused,
            Resolution::Unknown(unknown) => unknown,
        };
        let mut unknown = unknown.into_iter().peekable();
        let mut known = Vec::with_capacity(batch.entries.len());
        for (position, entry) in batch.entries.drain(..).enumerate() {
            match unknown.next_if(|(unknown, _)| *unknown == position) {
                Some((_, refusal)) => batch.unknown.push((entry, refusal)),
                None => known.push(entry),
            }
        }
        batch.entries = known;
        if batch.entries.is_empty() { Some(Ok(Accepted::default())) } else { refused.filter(|_| is_final) }
    }
}

/// The entries of the batch in which an attribute is not valid according to IM, with the code that says so.
fn entries_not_valid(answer: &BatchAnswer, batch: &Batch, changes: &[Change]) -> Option<(Code, Vec<BatchEntry>)> {
    match answer {
        Err(SendFailure::Refused(error)) if error.code.means_attribute_not_valid() => {
            Some((error.code, batch.entries.clone()))
        }
        Ok(accepted) => {
            let listed = || accepted.failed.iter().filter(|failed| failed.code.means_attribute_not_valid());
            let code = listed().next()?.code;
            let accounts: Vec<&str> = listed().map(|failed| failed.account.as_str()).collect();
            let entries = batch.entries.iter();
            let entries: Vec<BatchEntry> =
                entries.filter(|entry| accounts.contains(&changes[entry.change].account.as_str())).copied().collect();
            (!entries.is_empty()).then_some((code, entries))
        }
        Err(_) => None,
    }
}
