//! One call through all of its attempts.
//!
//! Owns: when a call is sent again and when its attempts end, lowering the rate when IM asks for it.
//! Must not know: what becomes of the accounts that the call carries.

use super::attempts::Attempts;
use super::call::{Call, CallReply};
use super::disposition::Disposition;
use super::session::PushSession;
use super::stop::StopReason;
use crate::clock::monotonic;
use crate::crash;
use crate::im::{CallError, Code, vendor_refusal};

/// From so many attempts on, an answer in IM's place is not temporary if IM answers a read.
const MIN_FOREIGN_ANSWERS: u32 = 5;

/// Why a call ended without being accepted.
#[derive(Debug)]
pub(super) enum SendFailure {
    /// IM refuses what the call carries.
    Refused(CallError),
    /// The attempts ran out; the last one ended with this error.
    RanOut(CallError),
    /// IM gives no answer to this call, while it answers others. The last attempt ended with this error.
    Stalled(CallError),
    /// The pass stopped before the call had an answer that settles it.
    Halted,
}

impl PushSession {
    /// Sends the call until IM accepts or refuses it, its attempts run out, or the pass stops. A code of the
    /// credentials class stops the pass.
    pub(super) async fn send_with_retry(
        &self,
        call: &Call<'_>,
        attempts: &mut Attempts,
    ) -> Result<CallReply, SendFailure> {
        loop {
            if !attempts.pause.is_zero() && self.unless_stopped(tokio::time::sleep(attempts.pause)).await.is_none() {
                return Err(SendFailure::Halted);
            }
            let error = match self.attempt(call, attempts).await {
                None => return Err(SendFailure::Halted),
                Some(Ok(reply)) => return Ok(reply),
                Some(Err(error)) => error,
            };
            attempts.may_be_applied |= error.maybe_applied;
            tracing::debug!(
                command = call.command().label(),
                code = %error.code,
                request_id = error.request_id.as_deref().unwrap_or_default(),
                attempt = attempts.count,
                "IM did not accept the call"
            );
            if self.is_stalled(call, attempts, &error).await {
                return Err(SendFailure::Stalled(error));
            }
            let throttled = match Disposition::of(error.code) {
                Disposition::Bisect => return Err(SendFailure::Refused(error)),
                Disposition::Stop => {
                    let refusal = vendor_refusal(error.code, &error.info, error.request_id.as_deref(), call.values());
                    self.stop(StopReason::credentials(error.code, &refusal));
                    return Err(SendFailure::Halted);
                }
                Disposition::Retry if self.refuses_content(error.code, attempts).await => {
                    return Err(SendFailure::Refused(error));
                }
                Disposition::Retry => false,
                Disposition::RetryThrottled => true,
            };
            if throttled {
                self.pusher.slow_down(call.command(), error.code, attempts.last_at);
            }
            let retry_for = self.pusher.limits.retry_for;
            if let Some(retry_after) = error.retry_after {
                // `Retry-After` is about the service, not about this call. One that is longer than `retry_for` ends the
                // batch; the next pass then waits for no longer than `retry_for`.
                let limiter = self.pusher.rate_limiters.of(call.command());
                limiter.hold_until(monotonic() + retry_after.min(retry_for));
            }
            match attempts.next_pause(retry_for, throttled, error.retry_after) {
                Some(pause) => attempts.pause = pause,
                None => return Err(SendFailure::RanOut(error)),
            }
        }
    }

    /// Whether the accounts of the call are the reason that IM does not answer it: it answers other calls meanwhile.
    ///
    /// A single account has a second attempt. Where nothing but a read shows that IM answers, several accounts are split
    /// once; whether IM answers for one of the parts then shows more. If the read has no answer, it is not repeated.
    async fn is_stalled(&self, call: &Call<'_>, attempts: &Attempts, error: &CallError) -> bool {
        let several = call.accounts() > 1;
        let enough = if several { 1 } else { 2 };
        let carries_no_account = call.accounts() == 0;
        let in_doubt_before = attempts.single_attempt && attempts.split_at.is_none();
        if carries_no_account || in_doubt_before || error.code != Code::Timeout || attempts.count < enough {
            return false;
        }
        let since = attempts.split_at.or(attempts.last_at).unwrap_or_else(monotonic);
        let reads = attempts.count == enough && attempts.split_at.is_none();
        self.pusher.last_answers.change_since(since) || (reads && self.im_is_alive().await)
    }

    /// A gateway answers this call again and again in IM's place, while IM answers a read. So the content is at fault.
    async fn refuses_content(&self, code: Code, attempts: &Attempts) -> bool {
        code.comes_from_gateway() && attempts.count >= MIN_FOREIGN_ANSWERS && self.im_is_alive().await
    }

    /// Waits for the permit and sends the call once; `None` when the pass stops before the call starts.
    pub(super) async fn attempt(
        &self,
        call: &Call<'_>,
        attempts: &mut Attempts,
    ) -> Option<Result<CallReply, CallError>> {
        let permit = self.acquire_permit(call).await?;
        if attempts.count > 0 {
            self.pusher.metrics.im_retries.inc();
            crash::point("call: about to be retried");
        }
        attempts.record_start(permit.started);
        self.count_call();
        let is_change = call.accounts() > 0;
        if is_change {
            self.slow_start.note_started(permit.started, self.early_calls());
        }
        self.pusher.rate_limiters.of(call.command()).record_call(permit.started);
        self.pusher.has_called.send_if_modified(|has_called| !std::mem::replace(has_called, true));
        crash::point("call: about to be sent");
        let answer = self.pusher.sender.send_once(call).await;
        crash::point("call: answered");
        if is_change {
            self.slow_start.note_first_answer();
        }
        let answered =
            answer.as_ref().map_or_else(|error| Disposition::of(error.code) == Disposition::Bisect, |_| true);
        if answered {
            self.pusher.last_answers.note(is_change);
        } else if is_change {
            self.pusher.last_answers.note_failed_change();
        }
        Some(answer)
    }
}
