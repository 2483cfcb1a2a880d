//! One call from its arrival to its answer.
//!
//! Owns: the order of checks, records, faults and the state's change. Must not know: how a fault is written down, what
//! the state looks like.
//!
//! A call that nothing holds is recorded, applied and answered under one lock, without waiting. Any other call goes on
//! in a task of its own, so that it is carried out even when its caller has gone away, as a vendor would.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::response::Response;
use tokio::sync::oneshot;

use super::clock::monotonic;
use super::code;
use super::connection::Door;
use super::endpoint::Endpoint;
use super::faults::{Gate, Plan, Wrong};
use super::query::Query;
use super::reply::{Reply, failure};
use super::shared::{Shared, World};
use super::wire;

/// A hundred users with ten attributes are far below this, however much of them is escaped.
const MAX_BODY_BYTES: usize = 8 << 20;

/// What a call came to when it arrived.
enum Begun {
    Answered(Reply),
    Goes(Box<Plan>),
}

/// The route of everything that is not the control interface.
pub(super) async fn call(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(door): ConnectInfo<Door>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    // Assumed: another method than POST is answered as a wrong URL.
    let endpoint = Endpoint::from_path(parts.uri.path()).filter(|_| parts.method == Method::POST);
    let Some(endpoint) = endpoint else {
        shared.world().recorder.wrong_url();
        shared.progress();
        return failure(code::WRONG_URL, 0).into_response(&door, 0);
    };
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return failure(code::BAD_HTTP, 0).into_response(&door, 0);
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let allowed = query.check(&shared.keys, shared.clock.unix_seconds());
    let (id, begun) = begin(&shared, endpoint, allowed, query.random(), &body);
    let reply = match begun {
        Begun::Answered(reply) => reply,
        Begun::Goes(plan) => {
            let (gone_sender, gone) = oneshot::channel();
            let mut caller = Caller { shared: Arc::clone(&shared), id, answered: false, _gone: gone_sender };
            let going = tokio::spawn(go_on(shared, id, endpoint, body, *plan, gone));
            let reply = going.await.unwrap_or_else(|_| Reply::close());
            caller.answered = true;
            reply
        }
    };
    reply.into_response(&door, id)
}

/// Record the call and, when nothing holds it, carry it out.
fn begin(
    shared: &Shared,
    endpoint: Endpoint,
    allowed: Result<(), i64>,
    random: Option<u32>,
    body: &Bytes,
) -> (u64, Begun) {
    let request = allowed.and_then(|()| wire::parse(endpoint, body, shared.limits.users_per_call));
    let mut world = shared.world();
    // Read under the lock, so that recorded moments never go backwards.
    let now = monotonic();
    let id = world.recorder.arrive(endpoint, now, random, body.clone());
    let begun = match request {
        Err(code) => Begun::Answered(failure(code, id)),
        Ok(request) => {
            world.recorder.carry(id, endpoint, &request, now);
            if world.recorder.admit(id, endpoint, now, shared.calls_per_second()) {
                let plan = world.faults.plan(endpoint, &request, now);
                if plan.is_immediate() && shared.latency.is_zero() {
                    Begun::Answered(carry_out(shared, &mut world, id, endpoint, &request, &plan))
                } else {
                    Begun::Goes(Box::new(plan))
                }
            } else {
                Begun::Answered(failure(code::TOO_OFTEN, id))
            }
        }
    };
    if let Begun::Answered(reply) = &begun {
        let (code, broken) = reply.summary();
        world.recorder.answered(id, endpoint, code, broken);
        world.recorder.land(id, false, now);
    }
    drop(world);
    shared.progress();
    (id, begun)
}

/// Carry out what the plan says, apart from its waiting.
fn carry_out(
    shared: &Shared,
    world: &mut World,
    id: u64,
    endpoint: Endpoint,
    request: &wire::Request<'_>,
    plan: &Plan,
) -> Reply {
    if let Some(code) = plan.refuse {
        return failure(code, id);
    }
    if let Some(wrong) = &plan.wrong
        && !plan.apply_before_wrong
    {
        let json = wire::Answer::new(code::OK, id).into_json();
        return Reply::Wrong { wrong: wrong.clone(), json };
    }
    let outcome =
        shared.publishing(world, |model| model.perform(endpoint.service, request, &plan.refused_accounts, id));
    if outcome.applied {
        world.recorder.applied(id, endpoint, &outcome.errors);
    }
    match &plan.wrong {
        Some(wrong) => Reply::Wrong { wrong: wrong.clone(), json: outcome.json },
        None => Reply::Json { code: outcome.code, json: outcome.json },
    }
}

/// Wait as the plan says, carry it out, and give the reply, whether or not the caller is still there.
async fn go_on(
    shared: Arc<Shared>,
    id: u64,
    endpoint: Endpoint,
    body: Bytes,
    mut plan: Plan,
    gone: oneshot::Receiver<()>,
) -> Reply {
    let delay = plan.delay + shared.latency;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if let Some(gate) = plan.hold.take() {
        hold(&shared, gate).await;
    }
    if let Some(after) = plan.ghost {
        wait_for_ghost(&shared, gone, after).await;
        plan.wrong = Some(Wrong::Close);
        plan.apply_before_wrong = true;
    }
    let reply = {
        let mut world = shared.world();
        // The body was read once before; it is read again because what is read borrows from it.
        match wire::parse(endpoint, &body, shared.limits.users_per_call) {
            Ok(request) => carry_out(&shared, &mut world, id, endpoint, &request, &plan),
            Err(code) => failure(code, id),
        }
    };
    shared.progress();
    if let Some(gate) = plan.hold_after.take() {
        hold(&shared, gate).await;
    }
    let (code, broken) = reply.summary();
    shared.world().recorder.answered(id, endpoint, code, broken);
    shared.progress();
    reply
}

/// Wait at the gate; a simulator that stops lets everybody go on.
async fn hold(shared: &Shared, gate: Gate) {
    let _held = Held::new(shared);
    tokio::select! {
        () = gate.wait() => {}
        () = shared.stopping() => {}
    }
}

/// Wait until the caller has gone away and for `after` more.
async fn wait_for_ghost(shared: &Shared, gone: oneshot::Receiver<()>, after: Duration) {
    let _held = Held::new(shared);
    let gone_for_long = async {
        // Nothing is ever sent: the channel ends with the caller.
        let _ = gone.await;
        tokio::time::sleep(after).await;
    };
    tokio::select! {
        () = gone_for_long => {}
        () = shared.stopping() => {}
    }
}

/// Counts a held call while it lives.
struct Held<'a>(&'a Shared);

impl<'a> Held<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.world().recorder.hold();
        shared.progress();
        Self(shared)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.world().recorder.release();
        self.0.progress();
    }
}

/// The caller's side of a call: dropped with its connection, or after the answer.
struct Caller {
    shared: Arc<Shared>,
    id: u64,
    answered: bool,
    /// Ends when the caller is gone, which a ghost waits for.
    _gone: oneshot::Sender<()>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shared.world().recorder.land(self.id, !self.answered, monotonic());
        self.shared.progress();
    }
}
