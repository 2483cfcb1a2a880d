//! Sending a probe, from the reservation of its account to the record of its outcome.
//!
//! Owns: the order of these steps. Must not know: which account is chosen, what the answer means for a pass.

use super::attempts::Attempts;
use super::call::{Call, CallReply};
use super::disposition::Disposition;
use super::probe::{Probe, ProbeAnswer, ProbeFailed};
use super::retry::SendFailure;
use super::session::PushSession;
use crate::crash;
use crate::im::{CallError, SetUser};
use crate::model::{Account, AttributeIndex};

/// What became of a probe.
#[derive(Debug)]
pub(super) enum ProbeResult {
    Accepted,
    /// IM, or a gateway before it, refused the value that IM had acknowledged for this account.
    Refused(Account, CallError),
    RanOut(CallError, Attempts),
    /// IM does not answer for this account, while it answers other calls.
    Stalled(Account, CallError, Attempts),
    /// The pass stopped first.
    Halted,
    /// There is no account to send a probe for.
    NoAccount,
}

impl PushSession {
    /// Sends an acknowledged value again. `tried`: accounts that are not taken.
    pub(super) async fn send_probe(&self, wanted: Option<AttributeIndex>, tried: &[Account]) -> ProbeResult {
        let taken = match self.probes.take(wanted, tried).await {
            Ok(Some(taken)) => taken,
            Ok(None) => return ProbeResult::NoAccount,
            Err(ProbeFailed) => {
                self.halt();
                return ProbeResult::Halted;
            }
        };
        let Probe { account, attribute, value } = taken.probe().clone();
        let name = &*self.names[attribute.index()];
        let call = Call::Set(vec![SetUser { account: account.as_str(), attrs: vec![(name, &*value)] }]);
        let mut attempts = Attempts::default();
        let answer = self.send_with_retry(&call, &mut attempts).await.and_then(|reply| listed_failure(&call, reply));
        crash::point("push: a probe has ended");
        attempts.may_be_applied |=
            matches!(&answer, Err(SendFailure::RanOut(error) | SendFailure::Stalled(error)) if error.maybe_applied);
        let said = match &answer {
            Ok(()) => ProbeAnswer::Accepted,
            Err(SendFailure::Refused(_)) => ProbeAnswer::Refused,
            Err(_) => ProbeAnswer::None,
        };
        let ended = taken.end(said, attempts.may_be_applied).await;
        if ended.is_err() {
            self.halt();
            return ProbeResult::Halted;
        }
        match answer {
            Ok(()) => ProbeResult::Accepted,
            Err(SendFailure::Refused(error)) => ProbeResult::Refused(account, error),
            Err(SendFailure::RanOut(error)) => ProbeResult::RanOut(error, attempts),
            Err(SendFailure::Stalled(error)) => ProbeResult::Stalled(account, error, attempts),
            Err(SendFailure::Halted) => ProbeResult::Halted,
        }
    }
}

/// `timpush` accepts the call and lists the account as failed.
fn listed_failure(call: &Call<'_>, reply: CallReply) -> Result<(), SendFailure> {
    let CallReply::Users(accepted) = reply else { return Ok(()) };
    let Some(failed) = accepted.failed.into_iter().next() else { return Ok(()) };
    let disposition = Disposition::of(failed.code);
    let error = CallError {
        command: call.command(),
        code: failed.code,
        info: failed.info,
        request_id: accepted.request_id,
        retry_after: None,
        maybe_applied: disposition == Disposition::Retry,
    };
    Err(match disposition {
        Disposition::Bisect | Disposition::Stop => SendFailure::Refused(error),
        Disposition::Retry | Disposition::RetryThrottled => SendFailure::RanOut(error),
    })
}
