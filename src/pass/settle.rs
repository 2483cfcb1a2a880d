//! What a pass waits for at its end, and what becomes of the deliveries that it does not wait for.
//!
//! Owns: how long a pass waits for calls that IM does not answer, and the passes that ended before their slowest call. Must not know:
//! what a delivery sends, the steps of a pass.
//!
//! A pass may end before its slowest call: then the intent of each of its deliveries is stored. A crash turns an intent into
//! unknown outcomes, which are looked up and sent again, so the read position may move past these rows.

use std::sync::Arc;
use std::time::Duration;

use super::delivery_context::DeliveryContext;
use super::engine::Engine;
use super::error::PassError;
use super::report::{PassOutcome, PassReport};
use super::slow_calls::{DetachedPass, SlowCalls};
use crate::clock;
use crate::crash;
use crate::push::StopReason;

/// A pass of a daemon waits for calls as long as IM has answered one of its calls within this time. After it, the pass ends
/// if IM answers other calls.
const MAX_UNANSWERED: Duration = Duration::from_secs(1);
/// How often a waiting pass looks whether IM answers other calls.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Engine {
    /// Sends what is pending, and waits until the outcome of everything is recorded. With [`SlowCalls::LeaveBehind`], it
    /// is enough that an intent stands for what is not recorded, while IM answers other calls.
    pub(super) async fn settle(&mut self, context: &Arc<DeliveryContext>) -> Result<(), PassError> {
        crash::point("drain: begins");
        self.queue.send_pending();
        let began = clock::monotonic();
        loop {
            self.queue.note_completed();
            if !self.queue.has_outstanding(context.pass) {
                break;
            }
            let may_leave = self.slow_calls == SlowCalls::LeaveBehind && context.check().is_ok();
            // An earlier step of the pass has waited for them.
            if may_leave && self.queue.all_detached(context.pass) {
                break;
            }
            if !may_leave || !self.queue.all_intents_stored(context.pass) {
                self.queue.wait_for_event().await;
                continue;
            }
            let waits_for_unresponsive_only = self.queue.only_unresponsive_outstanding(context.pass);
            let unanswered_too_long =
                began.elapsed() >= MAX_UNANSWERED && !context.session.answered_within(MAX_UNANSWERED);
            if (waits_for_unresponsive_only || (unanswered_too_long && self.im_answers_others(context).await))
                && self.queue.detach(context.pass)
            {
                break;
            }
            let _ = tokio::time::timeout(LOOK_INTERVAL, self.queue.wait_for_event()).await;
        }
        crash::point("drain: ended");
        context.check()
    }

    /// Whether IM answers other calls than those that the pass waits for.
    async fn im_answers_others(&mut self, context: &Arc<DeliveryContext>) -> bool {
        let recently = clock::monotonic().checked_sub(MAX_UNANSWERED);
        if recently.is_some_and(|moment| context.session.answered_since(moment)) {
            return true;
        }
        tokio::select! {
            is_alive = context.session.im_is_alive() => is_alive,
            // What the pass waits for may have ended.
            () = self.queue.wait_for_event() => false,
        }
    }

    /// Waits until nothing is in flight, before this engine ends. Calls in flight are awaited, and no new one starts.
    pub async fn wait_for_deliveries(&mut self) {
        for pass in &self.detached {
            pass.context.session.halt();
        }
        self.queue.wait_for_all().await;
    }

    /// Adds to a pass that ends what passes before it have done since they ended. Their errors become its own. Returns the
    /// calls of the pass itself too.
    pub(super) fn add_detached(
        &mut self,
        context: &DeliveryContext,
        result: Result<PassOutcome, PassError>,
    ) -> (Result<PassOutcome, PassError>, u64) {
        let mut result = result;
        let own_calls = context.session.calls();
        let mut calls = own_calls;
        for pass in &mut self.detached {
            if pass.context.pass == context.pass {
                continue;
            }
            pass.context.progress.move_outcomes_to(&context.progress);
            let made = pass.context.session.calls();
            calls += made - pass.reported_calls;
            pass.reported_calls = made;
            match pass.context.check() {
                Ok(()) | Err(PassError::Stop(StopReason::Shutdown)) => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        let queue = &self.queue;
        self.detached.retain(|pass| queue.has_outstanding(pass.context.pass) && pass.context.check().is_ok());
        context.progress.calls.store(calls, std::sync::atomic::Ordering::Relaxed);
        (result, own_calls)
    }

    /// The report of a pass is made. What its deliveries do from now on belongs to the reports of later passes.
    pub(super) fn note_reported(&mut self, context: &Arc<DeliveryContext>, report: &PassReport, reported_calls: u64) {
        if self.queue.has_outstanding(context.pass) {
            context.progress.subtract(report);
            self.detached.push(DetachedPass { context: context.clone(), reported_calls });
        }
    }
}
