//! The permit to send a call: all that a call waits for before it starts.
//!
//! Owns: the order in which a call waits for its turn, a place in flight and the rate limit, and the check of the lease.
//! Must not know: retries, answers.

use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::call::Call;
use super::session::PushSession;
use super::stop::StopReason;
use crate::clock::LEASE_VALID_FOR;
use crate::im::ApiCommand;

/// A started call. Its place in flight is free again when the permit is dropped.
#[derive(Debug)]
pub(super) struct SendPermit<'a> {
    pub started: Instant,
    _in_flight: SemaphorePermit<'a>,
}

impl PushSession {
    /// Waits until the call may start; `None` when the pass stops first.
    ///
    /// The order matters. Only the first call in a command's queue takes a place in flight, so that the calls waiting
    /// for one command do not use up the places of another. The rate limit comes last, so that a call starts at the
    /// moment that the limiter counted.
    pub(super) async fn acquire_permit(&self, call: &Call<'_>) -> Option<SendPermit<'_>> {
        let rate_limiter = self.pusher.rate_limiters.of(call.command());
        let permit = self
            .unless_stopped(async {
                let position = rate_limiter.wait_for_turn(self.urgent).await;
                let in_flight = self.pusher.in_flight.acquire().await.expect("the semaphore is never closed");
                let start = position.wait_for_start().await;
                self.pusher.metrics.throttle_wait.inc_by(start.waited.as_secs_f64());
                SendPermit { started: start.at, _in_flight: in_flight }
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
