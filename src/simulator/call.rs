//! One call, from its arrival to its answer.
//!
//! Owns: the order of checks, records, faults and execution. Must not know: how a fault rule is written, how the app's
//! state is stored.
//!
//! A call without a delay is recorded, executed and answered under one lock. Every other call continues in a task of
//! its own, so that it is executed even if its caller disconnects, as it would be at the vendor.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use tokio::sync::oneshot;

use super::answer::VendorAnswer;
use super::clock;
use super::connection::ConnectionCloser;
use super::endpoint::SimulatedEndpoint;
use super::error_code;
use super::execute::execute;
use super::faults::{FaultPlan, FaultyAnswer, ReleaseSignal};
use super::query::CallQuery;
use super::reply::{SimulatedReply, failure};
use super::request::{self, ParsedRequest};
use super::shared_state::{LockedState, SharedState};

/// A body with a hundred users and ten attributes each is far smaller, even if every character is escaped.
const MAX_BODY_BYTES: usize = 8 << 20;

/// A recorded call.
struct RecordedArrival {
    shared: Arc<SharedState>,
    id: u64,
    endpoint: SimulatedEndpoint,
    body: Bytes,
}

/// What remains to be done for a call after its arrival.
enum NextStep {
    Answer(SimulatedReply),
    FollowPlan(Box<FaultPlan>),
}

/// The route of every request outside the control interface.
pub(super) async fn handle_call(
    State(shared): State<Arc<SharedState>>,
    ConnectInfo(connection): ConnectInfo<ConnectionCloser>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    // Assumed: a method other than POST is answered like a wrong URL.
    let endpoint = SimulatedEndpoint::from_path(parts.uri.path()).filter(|_| parts.method == Method::POST);
    let Some(endpoint) = endpoint else {
        shared.lock().recorder.count_wrong_url();
        shared.notify_waiters();
        return failure(error_code::WRONG_URL, 0).into_response(&connection, 0);
    };
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return failure(error_code::BAD_HTTP, 0).into_response(&connection, 0);
    };
    let query = CallQuery::parse(parts.uri.query().unwrap_or_default());
    let allowed = query.check(&shared.credentials, shared.clock.unix_seconds());
    let (call, next_step) = record_arrival(Arc::clone(&shared), endpoint, allowed, query.random(), body);
    let id = call.id;
    let reply = match next_step {
        NextStep::Answer(reply) => reply,
        NextStep::FollowPlan(plan) => {
            let (disconnect_sender, disconnected) = oneshot::channel();
            let mut caller = WaitingCaller {
                shared: Arc::clone(&call.shared),
                id,
                answered: false,
                _disconnect_sender: disconnect_sender,
            };
            let task = tokio::spawn(call.follow_plan(*plan, disconnected));
            let reply = task.await.unwrap_or_else(|_| SimulatedReply::close());
            caller.answered = true;
            reply
        }
    };
    let mut response = reply.into_response(&connection, id);
    if let Ok(date) = HeaderValue::try_from(shared.clock.http_date()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// Records the call and, unless a fault or the latency delays it, executes it. `allowed` is the result of the URL
/// check.
fn record_arrival(
    shared: Arc<SharedState>,
    endpoint: SimulatedEndpoint,
    allowed: Result<(), i64>,
    random: Option<u32>,
    body: Bytes,
) -> (RecordedArrival, NextStep) {
    // `request` borrows from this copy, which shares the bytes.
    let text = body.clone();
    let request = allowed.and_then(|()| request::parse(endpoint, &text, shared.limits.users_per_call));
    let shared_state = Arc::clone(&shared);
    let mut state = shared_state.lock();
    // The clock is read under the lock, so that recorded times never go backwards.
    let now = clock::monotonic();
    let id = state.recorder.record_arrival(endpoint, now, random, body.clone());
    let call = RecordedArrival { shared, id, endpoint, body };
    let next_step = match request {
        Err(code) => NextStep::Answer(failure(code, id)),
        Ok(request) => {
            state.recorder.record_accounts(id, endpoint, &request, now);
            if state.recorder.check_rate_limit(id, endpoint, now, shared_state.calls_per_second()) {
                let plan = state.faults.plan(endpoint, &request, &text, now);
                if plan.is_immediate() && shared_state.latency.is_zero() {
                    NextStep::Answer(call.execute(&mut state, &request, &plan))
                } else {
                    NextStep::FollowPlan(Box::new(plan))
                }
            } else {
                NextStep::Answer(failure(error_code::TOO_OFTEN, id))
            }
        }
    };
    if let NextStep::Answer(reply) = &next_step {
        let (code, broken) = reply.summary();
        state.recorder.record_answer(id, endpoint, code, broken);
        state.recorder.record_end(id, false, now);
    }
    drop(state);
    shared_state.notify_waiters();
    (call, next_step)
}

impl RecordedArrival {
    /// Executes the call as the plan requires, without the delays.
    fn execute(&self, state: &mut LockedState, request: &ParsedRequest<'_>, plan: &FaultPlan) -> SimulatedReply {
        if let Some(code) = plan.refuse {
            return failure(code, self.id);
        }
        if let Some(answer) = &plan.faulty_answer
            && !plan.apply_before_fault
        {
            let json = VendorAnswer::new(error_code::OK, self.id).into_json();
            return SimulatedReply::Faulty { answer: answer.clone(), json };
        }
        let service = self.endpoint.service;
        let result =
            self.shared.change_app(state, |app| execute(app, service, request, &plan.refused_accounts, self.id));
        if result.applied {
            state.recorder.record_applied(self.id, self.endpoint, &result.refused);
        }
        match &plan.faulty_answer {
            Some(answer) => SimulatedReply::Faulty { answer: answer.clone(), json: result.json },
            None => SimulatedReply::Json { code: result.code, json: result.json },
        }
    }

    /// Waits as the plan requires, executes the call, and returns the reply, even if the caller has disconnected.
    async fn follow_plan(self, mut plan: FaultPlan, disconnected: oneshot::Receiver<()>) -> SimulatedReply {
        let shared = &self.shared;
        let delay = plan.delay + shared.latency;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Some(signal) = plan.hold.take() {
            hold(shared, signal).await;
        }
        if let Some(delay) = plan.apply_after_disconnect {
            wait_for_disconnect(shared, disconnected, delay).await;
            plan.faulty_answer = Some(FaultyAnswer::Close);
            plan.apply_before_fault = true;
        }
        let reply = {
            let mut state = shared.lock();
            // Parsed a second time, because the first result borrows from the body and cannot be kept.
            match request::parse(self.endpoint, &self.body, shared.limits.users_per_call) {
                Ok(request) => self.execute(&mut state, &request, &plan),
                Err(code) => failure(code, self.id),
            }
        };
        shared.notify_waiters();
        if let Some(signal) = plan.hold_answer.take() {
            hold(shared, signal).await;
        }
        let (code, broken) = reply.summary();
        shared.lock().recorder.record_answer(self.id, self.endpoint, code, broken);
        shared.notify_waiters();
        reply
    }
}

/// Waits for the release. A simulator that stops releases all calls.
async fn hold(shared: &SharedState, signal: ReleaseSignal) {
    let _counted = HeldCallCount::new(shared);
    tokio::select! {
        () = signal.wait() => {}
        () = shared.wait_for_stop() => {}
    }
}

/// Waits until the caller has disconnected, and then for `delay`.
async fn wait_for_disconnect(shared: &SharedState, disconnected: oneshot::Receiver<()>, delay: Duration) {
    let _counted = HeldCallCount::new(shared);
    let wait = async {
        // Nothing is sent: dropping the sender ends the channel.
        let _ = disconnected.await;
        tokio::time::sleep(delay).await;
    };
    tokio::select! {
        () = wait => {}
        () = shared.wait_for_stop() => {}
    }
}

/// Counts a call as held until it is dropped.
struct HeldCallCount<'a>(&'a SharedState);

impl<'a> HeldCallCount<'a> {
    fn new(shared: &'a SharedState) -> Self {
        shared.lock().recorder.record_hold();
        shared.notify_waiters();
        Self(shared)
    }
}

impl Drop for HeldCallCount<'_> {
    fn drop(&mut self) {
        self.0.lock().recorder.record_release();
        self.0.notify_waiters();
    }
}

/// The caller of a call that is not answered at once. The server drops it with the connection, or after the answer.
struct WaitingCaller {
    shared: Arc<SharedState>,
    id: u64,
    answered: bool,
    /// Dropped with the caller, which ends [`wait_for_disconnect`].
    _disconnect_sender: oneshot::Sender<()>,
}

impl Drop for WaitingCaller {
    fn drop(&mut self) {
        self.shared.lock().recorder.record_end(self.id, !self.answered, clock::monotonic());
        self.shared.notify_waiters();
    }
}
