//! The permit to send a call: all that a call waits for before it starts.
//!
//! Owns: the order in which a call waits for the probe's lock, its turn, a place in flight and the rate limit, and the
//! check of the lease. Must not know: retries, answers.

use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::call::Call;
use super::probe::ProbeGuard;
use super::session::PushSession;
use super::stop::StopReason;
use crate::clock::LEASE_VALID_FOR;
use crate::im::ApiCommand;

/// Whether a call is a probe, which already holds the probe's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallPurpose {
    Deliver,
    Probe,
}

/// A started call. Its place in flight is free again when the permit is dropped.
#[derive(Debug)]
pub(super) struct SendPermit<'a> {
    pub started: Instant,
    _in_flight: SemaphorePermit<'a>,
    /// Held by a call that carries the probe's account, so that it is never in flight together with a probe.
    pub probe: Option<ProbeGuard<'a>>,
}

impl PushSession {
    /// Waits until the call may start; `None` when the pass stops first.
    ///
    /// The order matters. Only the first call in a command's queue takes a place in flight, so that the calls waiting
    /// for one command do not use up the places of another. The rate limit comes last, so that a call starts at the
    /// moment that the limiter counted.
    pub(super) async fn acquire_permit(&self, call: &Call<'_>, purpose: CallPurpose) -> Option<SendPermit<'_>> {
        let rate_limiter = self.pusher.rate_limiters.of(call.command());
        let permit = self
            .unless_stopped(async {
                let probe = match purpose {
                    CallPurpose::Deliver => self.pusher.probe_account.lock_for(call).await,
                    CallPurpose::Probe => None,
                };
                let position = rate_limiter.wait_for_turn(self.urgent).await;
                let in_flight = self.pusher.in_flight.acquire().await.expect("the semaphore is never closed");
                let start = position.wait_for_start().await;
                self.pusher.metrics.throttle_wait.inc_by(start.waited.as_secs_f64());
                SendPermit { started: start.at, _in_flight: in_flight, probe }
            })
            .await?;
        if call.command() == ApiCommand::SetAttr {
            self.pusher.publish_rate();
        }
        if !self.pusher.lease.beat_within(LEASE_VALID_FOR) {
            self.stop(StopReason::LeaseLost);
        }
        (!self.has_stopped()).then_some(permit)
    }
}
