//! One call through its attempts: the way out (order, ceiling, rate_limiter, lease), pauses, and the end of patience.
//!
//! Owns: when a call starts, when it is repeated, when that ends. Must not know: what becomes of the accounts it carries.

use std::time::Duration;

use tokio::sync::{MutexGuard, SemaphorePermit};
use tokio::time::Instant;

use super::call::{Call, CallEffect, CallReply};
use super::decide;
use super::disposition::{self, Disposition};
use super::rate_limit::RateCut;
use super::session::PushSession;
use super::{Probe, StopReason};
use crate::clock::monotonic;
use crate::crash;
use crate::im::{CallError, Code, Command};
use crate::model::AttributeNames;

/// The longest pause before the first repetition; it doubles with each.
const BACKOFF_BASE: Duration = Duration::from_millis(200);
const BACKOFF_CAP: Duration = Duration::from_secs(10);
/// Added after a "slow down": the vendor counts calls by the second.
const SLOW_DOWN_PAUSE: Duration = Duration::from_secs(1);
/// No call starts unless the lease's last ping was answered within this.
const LEASE_LIMIT: Duration = Duration::from_secs(3);

/// What has been tried of a call so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    /// When the first attempt started; patience counts from here.
    pub first: Option<Instant>,
    /// When the last attempt started.
    pub last: Option<Instant>,
    pub count: u32,
    /// Waited before the next attempt.
    pub pause: Duration,
    /// One attempt and no more, unless IM answers "slow down".
    pub once: bool,
    /// Some attempt may have been applied.
    pub maybe: bool,
}

/// Why a call ended without being accepted.
#[derive(Debug)]
pub(super) enum SendFailure {
    /// IM refuses what it carries.
    Refused(CallError),
    /// Its attempts ran out.
    RanOut(CallError),
    /// The pass stopped before it was settled.
    Halted,
}

impl Attempts {
    /// The pause before the next attempt, where there may be one: exponential with full jitter (so that batches that
    /// failed together do not come back together), cut at the end of patience so that the last attempt uses it fully.
    pub(super) fn next_pause(
        &self,
        patience: Duration,
        slower: bool,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let spent = self.first.map_or(Duration::ZERO, |first| first.elapsed());
        let left = patience.checked_sub(spent).filter(|left| !left.is_zero() && (slower || !self.once))?;
        let asked = retry_after.unwrap_or_default();
        if asked > left {
            return None;
        }
        let doublings = self.count.saturating_sub(1).min(16);
        let ceiling = (BACKOFF_BASE * 2_u32.pow(doublings)).min(BACKOFF_CAP);
        let jitter = ceiling.mul_f64(rand::random_range(0.0..=1.0));
        let pause = if slower { jitter + SLOW_DOWN_PAUSE } else { jitter };
        Some(pause.min(left).max(asked))
    }
}

/// A call on its way: holds its place under the ceiling until it is answered.
struct SendPermit<'a> {
    started: Instant,
    _permit: SemaphorePermit<'a>,
    /// HeldRefusal by a call that carries the probe's account: the two are never in flight together.
    probe: Option<MutexGuard<'a, Option<Probe>>>,
}

/// The probe, after a call that carried its account: what it would send must be what IM acknowledged last.
fn refresh_probe(
    probe: &mut Option<Probe>,
    call: &Call<'_>,
    answer: &Result<CallReply, CallError>,
    names: &AttributeNames,
) {
    let Some(held) = probe else { return };
    let Some(effect) = call.effect(&held.account, &names[held.attribute.index()]) else { return };
    let accepted = match answer {
        Ok(CallReply::Users(accepted)) => accepted.failed.iter().all(|failed| failed.account != held.account.as_str()),
        Ok(CallReply::Names(_)) => return,
        Err(error) if !error.maybe_applied => return,
        Err(_) => false,
    };
    match effect {
        CallEffect::Sets(value) if accepted => held.value = value.into(),
        CallEffect::Sets(_) | CallEffect::Removes => *probe = None,
    }
}

/// Whether a call is the probe itself, which holds the probe's lock already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallPurpose {
    Deliver,
    Probe,
}

impl PushSession {
    /// Sends the call until it is settled. Credentials that IM does not take stop the pass here.
    pub(super) async fn send_with_retry(
        &self,
        call: &Call<'_>,
        attempts: &mut Attempts,
        purpose: CallPurpose,
    ) -> Result<CallReply, SendFailure> {
        let patience = self.pusher.limits.retry_for;
        loop {
            if !attempts.pause.is_zero() && self.unless_stopped(tokio::time::sleep(attempts.pause)).await.is_none() {
                return Err(SendFailure::Halted);
            }
            let Some(mut leave) = self.leave(call, purpose).await else { return Err(SendFailure::Halted) };
            if attempts.count > 0 {
                self.pusher.metrics.im_retries.inc();
                crash::point("call: about to be repeated");
            }
            attempts.first.get_or_insert(leave.started);
            attempts.last = Some(leave.started);
            attempts.count += 1;
            self.count_call();
            self.pusher.rate_limiter(call.command()).called(leave.started);
            crash::point("call: about to go");
            attempts.maybe |= self.pusher.probe_account.haunts(call);
            let answer = self.pusher.exchange.send(call).await;
            crash::point("call: answered");
            if let Some(probe) = &mut leave.probe {
                // Before its lock is given back, or an older value could be sent after this newer one.
                refresh_probe(probe, call, &answer, &self.names);
            }
            drop(leave);
            let error = match answer {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            attempts.maybe |= error.maybe_applied;
            tracing::debug!(
                command = call.command().label(),
                code = %error.code,
                request_id = error.request_id.as_deref().unwrap_or_default(),
                attempt = attempts.count,
                "call not accepted"
            );
            let slower = match disposition::of(error.code) {
                Disposition::Bisect => return Err(SendFailure::Refused(error)),
                Disposition::Stop => {
                    let refusal =
                        disposition::refusal(error.code, &error.info, error.request_id.as_deref(), call.values());
                    self.stop(decide::credentials(error.code, &refusal));
                    return Err(SendFailure::Halted);
                }
                Disposition::Retry => false,
                Disposition::RetryThrottled => true,
            };
            if slower {
                self.slow_down(call.command(), error.code, attempts.last);
            }
            if let Some(asked) = error.retry_after {
                // It is said of the service, not of this call. A longer pause than the patience ends the batch;
                // the next pass shall not wait for it any longer than that.
                self.pusher.rate_limiter(call.command()).hold_until(monotonic() + asked.min(patience));
            }
            match attempts.next_pause(patience, slower, error.retry_after) {
                Some(pause) => attempts.pause = pause,
                None => return Err(SendFailure::RanOut(error)),
            }
        }
    }

    /// IM asked for fewer calls: of this command, or of all where the code says so.
    pub(super) fn slow_down(&self, command: Command, code: Code, started: Option<Instant>) {
        /// "The app's call rate", over all commands.
        const WHOLE_APP: Code = Code::Vendor(60011);
        let started = started.unwrap_or_else(monotonic);
        let rate_limiters = if code == WHOLE_APP {
            &self.pusher.rate_limiters[..]
        } else {
            std::slice::from_ref(self.pusher.rate_limiter(command))
        };
        for rate_limiter in rate_limiters {
            let Some(RateCut { rate, news }) = rate_limiter.slow_down(started) else { continue };
            let command = command.label();
            if news {
                tracing::warn!(
                    "IM asks for fewer calls ({code}): {command} is slowed down to {rate:.1} calls per second"
                );
            } else {
                tracing::debug!(%code, command, rate, "slowed down around the limit found");
            }
        }
        self.pusher.show_rate();
    }

    /// Waits for everything that a call must wait for. The order matters: only the first in the command's line takes a
    /// place under the ceiling, so that one command's line does not use up the places of another's, and the limit
    /// decides last, so that a call starts at the moment that was counted.
    async fn leave(&self, call: &Call<'_>, purpose: CallPurpose) -> Option<SendPermit<'_>> {
        let rate_limiter = self.pusher.rate_limiter(call.command());
        let leave = self
            .unless_stopped(async {
                let probe = match purpose {
                    CallPurpose::Deliver => self.pusher.probe_account.guard(call).await,
                    CallPurpose::Probe => None,
                };
                let turn = rate_limiter.turn(self.urgent).await;
                let permit = self.pusher.in_flight.acquire().await.expect("the semaphore is never closed");
                let start = turn.start().await;
                self.pusher.metrics.throttle_wait.inc_by(start.waited.as_secs_f64());
                SendPermit { started: start.at, _permit: permit, probe }
            })
            .await?;
        if call.command() == Command::SetAttr {
            self.pusher.show_rate();
        }
        if !self.pusher.lease.fresh(LEASE_LIMIT) {
            self.stop(StopReason::LeaseLost);
        }
        (!self.halted_now()).then_some(leave)
    }
}
