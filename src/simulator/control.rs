//! The simulator seen from another process: the control interface under `/_simulator`.
//!
//! Owns: its addresses and their JSON. Must not know: the vendor's calls.
//!
//! | address | |
//! |---|---|
//! | `GET /_simulator/users` | all users that have attributes |
//! | `GET`, `PUT`, `DELETE /_simulator/users/{account}` | one user's attributes; `PUT` takes `{"name":"value"}` |
//! | `GET /_simulator/names` | the app's attribute names by number |
//! | `GET /_simulator/calls?last=100` | the last calls, oldest first |
//! | `GET /_simulator/counters` | counts |
//! | `GET /_simulator/violations` | what callers did that the vendor asks them not to do |
//! | `DELETE /_simulator/records` | forget calls, counts and violations |
//! | `GET`, `POST`, `DELETE /_simulator/faults` | rules; `POST` takes one as text and gives its `id` |
//! | `DELETE /_simulator/faults/{id}` | remove a rule |
//! | `POST /_simulator/faults/{id}/release` | let the calls that a rule holds go on |

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

use super::faults::{Rule, RuleId};
use super::handle::Handle;
use super::reply::json_response;
use super::shared::Shared;

const LAST_CALLS: usize = 100;

#[derive(Deserialize)]
struct Last {
    last: Option<usize>,
}

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_simulator/users", get(users))
        .route("/_simulator/users/{account}", get(user).put(put_user).delete(drop_user))
        .route("/_simulator/names", get(names))
        .route("/_simulator/calls", get(calls))
        .route("/_simulator/counters", get(counters))
        .route("/_simulator/violations", get(violations))
        .route("/_simulator/records", delete(clear_records))
        .route("/_simulator/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_simulator/faults/{id}", delete(remove_fault))
        .route("/_simulator/faults/{id}/release", post(release))
}

fn handle(shared: Arc<Shared>) -> Handle {
    Handle::new(shared)
}

fn ok(value: impl Serialize) -> Response {
    match serde_json::to_vec(&value) {
        Ok(json) => json_response(StatusCode::OK, json),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(status: StatusCode, text: &str) -> Response {
    json_response(status, json!({ "error": text }).to_string().into_bytes())
}

async fn users(State(shared): State<Arc<Shared>>) -> Response {
    ok(handle(shared).users())
}

async fn user(State(shared): State<Arc<Shared>>, Path(account): Path<String>) -> Response {
    ok(handle(shared).user(&account))
}

async fn put_user(State(shared): State<Arc<Shared>>, Path(account): Path<String>, body: Bytes) -> Response {
    let Ok(attributes) = serde_json::from_slice::<BTreeMap<String, String>>(&body) else {
        return problem(StatusCode::BAD_REQUEST, "the body is not an object of strings such as {\"city\":\"Paris\"}");
    };
    match handle(shared).set_user(&account, &attributes) {
        Ok(()) => ok(attributes),
        Err(name) => problem(StatusCode::BAD_REQUEST, &format!("the app has no attribute named \"{name}\"")),
    }
}

async fn drop_user(State(shared): State<Arc<Shared>>, Path(account): Path<String>) -> Response {
    handle(shared).drop_user(&account);
    ok(json!({}))
}

async fn names(State(shared): State<Arc<Shared>>) -> Response {
    ok(handle(shared).names())
}

async fn calls(State(shared): State<Arc<Shared>>, Query(Last { last }): Query<Last>) -> Response {
    ok(handle(shared).last_calls(last.unwrap_or(LAST_CALLS)))
}

async fn counters(State(shared): State<Arc<Shared>>) -> Response {
    ok(handle(shared).counters())
}

async fn violations(State(shared): State<Arc<Shared>>) -> Response {
    ok(handle(shared).violations())
}

async fn clear_records(State(shared): State<Arc<Shared>>) -> Response {
    handle(shared).clear_records();
    ok(json!({}))
}

async fn faults(State(shared): State<Arc<Shared>>) -> Response {
    let rules = handle(shared).faults();
    let rules = rules.iter().map(|(id, rule, fired)| json!({"id": id.0, "fault": rule.to_string(), "fired": fired}));
    ok(rules.collect::<Vec<_>>())
}

async fn add_fault(State(shared): State<Arc<Shared>>, text: String) -> Response {
    match text.trim().parse::<Rule>() {
        Ok(rule) => ok(json!({ "id": handle(shared).add_fault(rule).0 })),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> Response {
    handle(shared).clear_faults();
    ok(json!({}))
}

async fn remove_fault(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    found(handle(shared).remove_fault(RuleId(id)), id)
}

async fn release(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Response {
    found(handle(shared).release(RuleId(id)), id)
}

fn found(found: bool, id: u64) -> Response {
    if found { ok(json!({})) } else { problem(StatusCode::NOT_FOUND, &format!("there is no fault with id {id}")) }
}
