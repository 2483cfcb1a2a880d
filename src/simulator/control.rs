//! The control interface under `/_simulator`: a simulator's handle for other processes, over HTTP.
//!
//! Owns: its routes and their JSON. Must not know: the vendor's calls.
//!
//! | request | effect |
//! |---|---|
//! | `GET /_simulator/users` | all users that have attributes |
//! | `GET`, `PUT`, `DELETE /_simulator/users/{account}` | the attributes of one user; `PUT` takes `{"name":"value"}` |
//! | `GET /_simulator/names` | the app's attribute names by number |
//! | `GET /_simulator/calls?last=100` | the last calls, oldest first |
//! | `GET /_simulator/counters` | the counters |
//! | `GET /_simulator/violations` | the violations of the vendor's rules |
//! | `DELETE /_simulator/records` | deletes the log, the counters and the violations |
//! | `GET`, `POST`, `DELETE /_simulator/faults` | the fault rules; `POST` takes one as text and returns its `id` |
//! | `DELETE /_simulator/faults/{id}` | removes a rule |
//! | `POST /_simulator/faults/{id}/release` | releases the calls that a rule holds |

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::faults::{FaultRule, FaultRuleId};
use super::handle::SimulatorHandle;
use super::reply::json_response;
use super::shared_state::SharedState;

/// Number of calls that `calls` returns without `last`.
const DEFAULT_LAST_CALLS: usize = 100;

#[derive(Deserialize)]
struct CallsQuery {
    last: Option<usize>,
}

pub(super) fn routes() -> Router<Arc<SharedState>> {
    Router::new()
        .route("/_simulator/users", get(users))
        .route("/_simulator/users/{account}", get(user).put(put_user).delete(remove_user))
        .route("/_simulator/names", get(names))
        .route("/_simulator/calls", get(calls))
        .route("/_simulator/counters", get(counters))
        .route("/_simulator/violations", get(violations))
        .route("/_simulator/records", delete(clear_records))
        .route("/_simulator/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_simulator/faults/{id}", delete(remove_fault))
        .route("/_simulator/faults/{id}/release", post(release_held_calls))
}

fn handle(shared: Arc<SharedState>) -> SimulatorHandle {
    SimulatorHandle::new(shared)
}

fn success(value: impl Serialize) -> Response {
    match serde_json::to_vec(&value) {
        Ok(json) => json_response(StatusCode::OK, json),
        Err(error) => error_response(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn error_response(status: StatusCode, text: &str) -> Response {
    json_response(status, json!({ "error": text }).to_string().into_bytes())
}

async fn users(State(shared): State<Arc<SharedState>>) -> Response {
    success(handle(shared).users())
}

async fn user(State(shared): State<Arc<SharedState>>, Path(account): Path<String>) -> Response {
    success(handle(shared).user(&account))
}

async fn put_user(State(shared): State<Arc<SharedState>>, Path(account): Path<String>, body: Bytes) -> Response {
    let Ok(attributes) = serde_json::from_slice::<BTreeMap<String, String>>(&body) else {
        return error_response(
            StatusCode::BAD_REQUEST,
            "the body is not an object of strings such as {\"city\":\"Paris\"}",
        );
    };
    match handle(shared).set_user(&account, &attributes) {
        Ok(()) => success(attributes),
        Err(name) => error_response(StatusCode::BAD_REQUEST, &format!("the app has no attribute named \"{name}\"")),
    }
}

async fn remove_user(State(shared): State<Arc<SharedState>>, Path(account): Path<String>) -> Response {
    handle(shared).remove_user(&account);
    success(json!({}))
}

async fn names(State(shared): State<Arc<SharedState>>) -> Response {
    success(handle(shared).names())
}

async fn calls(State(shared): State<Arc<SharedState>>, Query(CallsQuery { last }): Query<CallsQuery>) -> Response {
    success(handle(shared).last_calls(last.unwrap_or(DEFAULT_LAST_CALLS)))
}

async fn counters(State(shared): State<Arc<SharedState>>) -> Response {
    success(handle(shared).counters())
}

async fn violations(State(shared): State<Arc<SharedState>>) -> Response {
    success(handle(shared).violations())
}

async fn clear_records(State(shared): State<Arc<SharedState>>) -> Response {
    handle(shared).clear_records();
    success(json!({}))
}

async fn faults(State(shared): State<Arc<SharedState>>) -> Response {
    let rules = handle(shared).faults();
    let rules = rules.iter().map(|(id, rule, fired)| json!({"id": id.0, "fault": rule.to_string(), "fired": fired}));
    success(rules.collect::<Vec<_>>())
}

async fn add_fault(State(shared): State<Arc<SharedState>>, text: String) -> Response {
    match text.trim().parse::<FaultRule>() {
        Ok(rule) => success(json!({ "id": handle(shared).add_fault(rule).0 })),
        Err(error) => error_response(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn clear_faults(State(shared): State<Arc<SharedState>>) -> Response {
    handle(shared).clear_faults();
    success(json!({}))
}

async fn remove_fault(State(shared): State<Arc<SharedState>>, Path(id): Path<u64>) -> Response {
    success_or_not_found(handle(shared).remove_fault(FaultRuleId(id)), id)
}

async fn release_held_calls(State(shared): State<Arc<SharedState>>, Path(id): Path<u64>) -> Response {
    success_or_not_found(handle(shared).release_held_calls(FaultRuleId(id)), id)
}

fn success_or_not_found(found: bool, id: u64) -> Response {
    if found {
        success(json!({}))
    } else {
        error_response(StatusCode::NOT_FOUND, &format!("there is no fault rule with id {id}"))
    }
}
