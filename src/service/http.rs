//! The HTTP server: `/healthz`, `/readyz`, `/status`, `/metrics`.
//!
//! Owns: the routes, limits on clients, and which Host headers are accepted. Must not know: databases, the fields of
//! the status.

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
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::http_connections::{ConnectionActivity, OpenConnections};
use super::readiness::Readiness;
use crate::clock::{self, Shutdown};
use crate::metrics::Metrics;

/// How long a client may take to send a request head, and how long a connection may be idle. A Prometheus server with a
/// longer scrape interval connects again.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request head. Usual ones have a few hundred bytes; hyper needs a buffer of at least 8 KiB.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// The longest life of a connection, whatever it does, so that a client that does not read its response cannot keep
/// it open.
const MAX_CONNECTION_LIFE: Duration = Duration::from_mins(2);
/// How long reading the status from the state database may take.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests for `/status` at the same time. Without a limit, they could occupy every connection while the state database
/// does not answer.
const MAX_STATUS_REQUESTS: usize = 8;
/// How long open connections may finish their responses when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// The delay before the next accept after a failed one, such as when the process has no file descriptors left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Reads what `/status` shows. An error is a sentence without secrets.
pub type StatusSource = Arc<dyn Fn() -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

/// What the routes read.
#[derive(Clone)]
pub struct HttpState {
    /// For `/readyz` and the gauge `imsync_ready`.
    pub readiness: Arc<Readiness>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/status`.
    pub status: StatusSource,
    /// `http.public`. If false, the Host header must name this machine. Otherwise a web page whose own host name is
    /// pointed to 127.0.0.1 (DNS rebinding) could read the responses.
    pub public: bool,
}

impl std::fmt::Debug for HttpState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpState").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Binds `http.listen`.
///
/// # Errors
///
/// As the operating system reports them, with a sentence that names the key and how to fix it.
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

/// Serves until the shutdown is requested. Open connections then have two seconds to finish their responses.
pub async fn serve(listener: TcpListener, state: HttpState, shutdown: Shutdown) {
    let router = router(state);
    let mut connections = OpenConnections::default();
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => break,
            Some(()) = connections.closed() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The client has disconnected, or the process has no file descriptors left. Both are temporary.
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                shutdown.sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        tokio::select! {
            () = shutdown.wait() => break,
            () = connections.make_place() => {}
        }
        connections.add(|activity| serve_connection(stream, router.clone(), activity, shutdown.clone()));
    }
    drop(listener);
    // Dropping the set closes the connections that are still open.
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, async { while connections.closed().await.is_some() {} }).await;
}

async fn serve_connection(stream: TcpStream, router: Router, activity: Arc<ConnectionActivity>, shutdown: Shutdown) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let busy = activity.begin_request();
        let response = router.call(request);
        async move {
            let response = response.await;
            drop(busy);
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let life = tokio::time::sleep(MAX_CONNECTION_LIFE);
    tokio::pin!(life);
    let mut stopping = false;
    loop {
        tokio::select! {
            // An error of a connection concerns its client only.
            _ = &mut connection => return,
            () = &mut life => return,
            () = shutdown.wait(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The routes, with the check of the Host header and the response headers.
pub fn router(state: HttpState) -> Router {
    let public = state.public;
    let permits = Arc::new(Semaphore::new(MAX_STATUS_REQUESTS));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status).layer(from_fn(move |request, next| limit_status(permits.clone(), request, next))))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
        .layer(from_fn(move |request, next| check_host(public, request, next)))
        .layer(map_response(set_headers))
}

async fn healthz() -> &'static str {
    "ok"
}

async fn readyz(State(state): State<HttpState>) -> Response {
    let readiness = state.readiness.status(clock::monotonic());
    let code = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_response(code, &readiness.to_json())
}

async fn status(State(state): State<HttpState>) -> Response {
    match tokio::time::timeout(STATUS_TIMEOUT, (state.status)()).await {
        Ok(Ok(status)) => json_response(StatusCode::OK, &status),
        Ok(Err(error)) => error_response(StatusCode::SERVICE_UNAVAILABLE, &error),
        Err(_) => {
            let seconds = STATUS_TIMEOUT.as_secs();
            error_response(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("the state database did not answer within {seconds} s; try again"),
            )
        }
    }
}

async fn limit_status(permits: Arc<Semaphore>, request: Request, next: Next) -> Response {
    match permits.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => {
            error_response(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait for the state database; try again")
        }
    }
}

async fn metrics(State(state): State<HttpState>) -> Response {
    // Set on each request, because readiness also changes as time passes.
    state.metrics.ready.set(i64::from(state.readiness.status(clock::monotonic()).is_ready()));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render()).into_response()
}

async fn not_found(method: Method) -> Response {
    if method == Method::GET || method == Method::HEAD {
        error_response(StatusCode::NOT_FOUND, "not found; the paths are /healthz, /readyz, /status and /metrics")
    } else {
        method_not_allowed().await
    }
}

async fn method_not_allowed() -> Response {
    let mut response = error_response(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; use GET or HEAD");
    response.headers_mut().insert(axum::http::header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

fn json_response(code: StatusCode, body: &Value) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], Body::from(format!("{body}\n"))).into_response()
}

fn error_response(code: StatusCode, error: &str) -> Response {
    json_response(code, &json!({ "error": error }))
}

/// Responses must not be cached, and browsers must not guess their type.
async fn set_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Refuses a request for a foreign host name unless the server is public.
async fn check_host(public: bool, request: Request, next: Next) -> Response {
    // Browsers always send a Host header. Probes of load balancers in HTTP/1.0 may send none, and are accepted.
    let hosts = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    if public || hosts.chain(authority).all(is_this_machine) {
        next.run(request).await
    } else {
        error_response(
            StatusCode::FORBIDDEN,
            "use localhost, 127.0.0.1 or [::1] as the host name; http.public = true allows others",
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
