//! The HTTP server: `/healthz`, `/readyz`, `/status`, `/metrics`.
//!
//! Owns: routes, limits on clients, who may ask by which host name. Must not know: databases, what a status consists of.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::readiness::Readiness;
use crate::clock::{self, Shutdown};
use crate::metrics::Metrics;

/// For a whole request head, and for which a connection may idle. A scraper connects anew when it comes less often.
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// Request heads are a few hundred bytes; hyper wants a buffer of at least 8 KiB.
const HEADER_BYTES: usize = 8 * 1024;
/// After that a connection is closed, whatever it is doing: a client that never reads its answer holds it no longer.
const CONNECTION_LIFE: Duration = Duration::from_mins(2);
/// More at once are turned away; a monitoring system needs two or three.
const CONNECTIONS: usize = 64;
/// For the status, which has to be asked for elsewhere.
const STATUS_WITHIN: Duration = Duration::from_secs(10);
/// For answers under way when the server stops.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// Between two attempts to accept when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Produces what `/status` shows; an error is a sentence without secrets.
pub type Status = Arc<dyn Fn() -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

/// What the routes answer from.
#[derive(Clone)]
pub struct HttpState {
    pub readiness: Arc<Readiness>,
    pub metrics: Arc<Metrics>,
    pub status: Status,
    /// `http.public`. If false, only names of this machine are taken as the host that is asked for: a page in somebody's
    /// browser whose own name is made to point to 127.0.0.1 (DNS rebinding) shall not read this.
    pub public: bool,
}

impl std::fmt::Debug for HttpState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpState").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Binds `http.listen`. Errors name the key and what to do.
pub async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there; stop it or choose another port in http.listen".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "this user may not listen there; choose a port above 1023 in http.listen".to_owned()
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address; correct http.listen".to_owned()
            }
            _ => format!("{error}; correct http.listen"),
        };
        io::Error::new(error.kind(), format!("cannot listen on {listen}: {reason}"))
    })
}

/// Answers until the shutdown is requested, then lets answers under way finish for two seconds.
pub async fn serve(listener: TcpListener, state: HttpState, shutdown: Shutdown) {
    let router = router(state);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The client is gone again, or there are no descriptors left, which passes.
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                shutdown.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!("a connection is turned away, {CONNECTIONS} are open");
            continue;
        };
        let answered = answer(stream, router.clone(), shutdown.clone());
        connections.spawn(async move {
            answered.await;
            drop(place);
        });
    }
    drop(listener);
    // The time is all they get; those that are left are cut off by dropping the set.
    let _ = tokio::time::timeout(FINISH_WITHIN, async { while connections.join_next().await.is_some() {} }).await;
}

/// One connection, to its end.
async fn answer(stream: TcpStream, router: Router, shutdown: Shutdown) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let life = tokio::time::sleep(CONNECTION_LIFE);
    tokio::pin!(life);
    let mut stopping = false;
    loop {
        tokio::select! {
            // How a connection ends, in good order or not, is the client's affair.
            _ = &mut connection => return,
            () = &mut life => return,
            () = shutdown.wait(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The routes with everything around them.
pub fn router(state: HttpState) -> Router {
    let public = state.public;
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .with_state(state)
        .layer(from_fn(move |request, next| only_for_this_host(public, request, next)))
        .layer(map_response(sequence))
}

async fn healthz() -> &'static str {
    "ok"
}

async fn readyz(State(state): State<HttpState>) -> Response {
    let verdict = state.readiness.verdict(clock::monotonic());
    let code = if verdict.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer_json(code, &verdict.to_json())
}

async fn status(State(state): State<HttpState>) -> Response {
    match tokio::time::timeout(STATUS_WITHIN, (state.status)()).await {
        Ok(Ok(status)) => answer_json(StatusCode::OK, &status),
        Ok(Err(error)) => complain(StatusCode::SERVICE_UNAVAILABLE, &error),
        Err(_) => {
            let seconds = STATUS_WITHIN.as_secs();
            complain(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("the status was not found out within {seconds} s; try again"),
            )
        }
    }
}

async fn metrics(State(state): State<HttpState>) -> Response {
    // As of now: readiness also changes by time passing.
    state.metrics.ready.set(i64::from(state.readiness.verdict(clock::monotonic()).is_ready()));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render()).into_response()
}

async fn unknown(method: Method) -> Response {
    if method == Method::GET || method == Method::HEAD {
        complain(StatusCode::NOT_FOUND, "there are /healthz, /readyz, /status and /metrics")
    } else {
        not_allowed().await
    }
}

async fn not_allowed() -> Response {
    let mut response = complain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
    response.headers_mut().insert(axum::http::header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

fn answer_json(code: StatusCode, body: &Value) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], Body::from(format!("{body}\n"))).into_response()
}

fn complain(code: StatusCode, error: &str) -> Response {
    answer_json(code, &json!({ "error": error }))
}

/// What is answered is of this moment and is nothing else than its content type says.
async fn sequence(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn only_for_this_host(public: bool, request: Request, next: Next) -> Response {
    // A request without a Host comes from no browser (a load balancer's probe in HTTP/1.0).
    let hosts = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    if public || hosts.chain(authority).all(is_this_machine) {
        next.run(request).await
    } else {
        complain(
            StatusCode::FORBIDDEN,
            "ask for localhost, 127.0.0.1 or [::1]; other names are answered with http.public = true",
        )
    }
}

/// `localhost` or a loopback address, with or without a port.
fn is_this_machine(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<axum::http::uri::Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests;
