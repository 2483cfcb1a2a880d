//! The HTTP server over real sockets: its responses, and that no client can block it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::{
    HEADER_TIMEOUT, HttpState, MAX_CONNECTION_LIFE, MAX_STATUS_REQUESTS, STATUS_TIMEOUT, StatusSource, bind, serve,
};
use crate::clock::{Shutdown, monotonic};
use crate::metrics::Metrics;
use crate::service::http_connections::MAX_CONNECTIONS;
use crate::service::readiness::Readiness;

struct TestServer {
    address: SocketAddr,
    readiness: Arc<Readiness>,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

async fn start(public: bool, status: StatusSource) -> TestServer {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Arc::new(Readiness::new(Duration::from_secs(10)));
    let shutdown = Shutdown::default();
    let state =
        HttpState { readiness: Arc::clone(&readiness), metrics: Arc::new(Metrics::new("users")), status, public };
    let running = tokio::spawn(serve(listener, state, shutdown.clone()));
    TestServer { address, readiness, shutdown, running }
}

async fn start_plain() -> TestServer {
    start(false, returning(Ok(json!({"name": "users"})))).await
}

fn returning(response: Result<Value, String>) -> StatusSource {
    Arc::new(move || std::future::ready(response.clone()).boxed())
}

impl TestServer {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends this text and reads until the server closes the connection.
    async fn send(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }

    async fn request(&self, method: &str, path: &str) -> TestResponse {
        self.request_as("localhost", method, path).await
    }

    async fn request_as(&self, host: &str, method: &str, path: &str) -> TestResponse {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        TestResponse::parse(&self.send(&text).await)
    }
}

/// A connection reset counts as the end.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(bytes).unwrap(),
    }
}

#[derive(Debug)]
struct TestResponse {
    code: u16,
    head: String,
    body: String,
}

impl TestResponse {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an HTTP response: {text:?}"));
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { code, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

#[tokio::test]
async fn healthz_answers_while_the_process_lives() {
    let server = start_plain().await;
    let response = server.request("GET", "/healthz").await;
    assert_eq!((response.code, response.body.as_str()), (200, "ok"));
    assert!(response.head.contains("cache-control: no-store"), "{}", response.head);
}

#[tokio::test]
async fn readyz_and_the_gauge_agree() {
    let server = start_plain().await;
    let gauge = async || {
        let response = server.request("GET", "/metrics").await;
        assert!(response.head.contains("content-type: text/plain; version=0.0.4"), "{}", response.head);
        response.body.lines().find_map(|line| line.strip_prefix("imsync_ready ").map(str::to_owned)).unwrap()
    };

    server.readiness.set_problem("the source database is unreachable".into());
    let response = server.request("GET", "/readyz").await;
    assert_eq!(response.code, 503);
    assert_eq!(response.json(), json!({"ready": false, "reason": "the source database is unreachable"}));
    assert_eq!(gauge().await, "0");

    server.readiness.set_leader();
    server.readiness.pass_finished(None);
    let response = server.request("GET", "/readyz").await;
    assert_eq!(response.code, 200);
    assert_eq!(response.json(), json!({"ready": true, "role": "leader"}));
    assert_eq!(gauge().await, "1");

    server.readiness.set_standby();
    assert_eq!(server.request("GET", "/readyz").await.json(), json!({"ready": true, "role": "standby"}));
}

#[tokio::test]
async fn status_shows_what_its_source_returns() {
    let response = start_plain().await.request("GET", "/status").await;
    assert_eq!((response.code, response.json()), (200, json!({"name": "users"})));

    let server = start(false, returning(Err("the state database is unreachable".into()))).await;
    let response = server.request("GET", "/status").await;
    assert_eq!((response.code, response.json()), (503, json!({"error": "the state database is unreachable"})));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_takes_too_long_is_an_error() {
    let server = start(false, Arc::new(|| std::future::pending().boxed())).await;
    let started = monotonic();
    let response = server.request("GET", "/status").await;
    assert_eq!(response.code, 503);
    assert!(response.json()["error"].as_str().unwrap().contains("10 s"), "{response:?}");
    assert!(started.elapsed() < STATUS_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_as_json() {
    let server = start_plain().await;
    for path in ["/", "/nothing", "/healthz/x", "/metrics/", "//status"] {
        let response = server.request("GET", path).await;
        assert_eq!(response.code, 404, "{path}");
        assert!(response.json()["error"].as_str().unwrap().contains("/readyz"));
    }
    for (method, path) in [("POST", "/status"), ("DELETE", "/healthz"), ("PUT", "/nothing"), ("OPTIONS", "/metrics")] {
        let response = server.request(method, path).await;
        assert_eq!(response.code, 405, "{method} {path}");
        assert!(response.head.contains("allow: get,head"), "{}", response.head);
        assert!(response.json()["error"].as_str().unwrap().contains("GET"));
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = start_plain().await;
    for path in ["/healthz", "/status", "/metrics"] {
        let response = server.request("HEAD", path).await;
        assert_eq!((response.code, response.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(server.request("HEAD", "/readyz").await.code, 503);
}

#[tokio::test]
async fn only_host_names_of_this_machine_are_accepted() {
    let server = start_plain().await;
    for host in ["localhost", "LocalHost:9474", "127.0.0.1", "127.0.0.1:1", "127.8.8.8:9474", "[::1]", "[::1]:9474"] {
        assert_eq!(server.request_as(host, "GET", "/status").await.code, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:9474",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1:9474",
        "[::2]",
        "localhost@evil.example",
        "evil.example@localhost",
        "127.1",
        "",
    ] {
        for path in ["/status", "/metrics", "/readyz", "/healthz", "/nothing"] {
            let response = server.request_as(host, "GET", path).await;
            assert_eq!(response.code, 403, "{host} {path}");
            assert!(response.json()["error"].as_str().unwrap().contains("http.public"));
        }
    }
    // A second host name, in the request line or in a second header, is checked too.
    for request in [
        "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(TestResponse::parse(&server.send(request).await).code, 403);
    }
    // A probe of a load balancer sends no Host header.
    assert_eq!(TestResponse::parse(&server.send("GET /healthz HTTP/1.0\r\n\r\n").await).code, 200);
}

#[tokio::test]
async fn a_public_server_accepts_every_host_name() {
    let server = start(true, returning(Ok(json!({})))).await;
    assert_eq!(server.request_as("sync.example:9474", "GET", "/status").await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_finished_is_dropped() {
    let server = start_plain().await;
    for part in ["", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let started = monotonic();
        server.send(part).await;
        assert!(started.elapsed() <= HEADER_TIMEOUT + Duration::from_secs(1), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_disconnected() {
    let server = start_plain().await;
    let mut stream = server.connect().await;
    let started = monotonic();
    // Each request is in time, but they never end.
    while stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_ok() {
        if stream.read(&mut [0; 4096]).await.unwrap_or(0) == 0 {
            break;
        }
        tokio::time::sleep(HEADER_TIMEOUT / 2).await;
    }
    assert!(started.elapsed() <= MAX_CONNECTION_LIFE + HEADER_TIMEOUT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_request_head_that_is_too_long_is_refused() {
    let server = start_plain().await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(10_000));
    let response = server.send(&request).await;
    assert!(response.starts_with("HTTP/1.1 431") || response.is_empty(), "{response}");
    assert_eq!(server.request("GET", "/healthz").await.code, 200);
}

/// Whatever a client leaves open (nothing sent, half a request, a response that was read), others are served.
#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    for part in
        ["", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    {
        for count in [MAX_CONNECTIONS, 200] {
            let server = start_plain().await;
            let mut open = Vec::new();
            for _ in 0..count {
                let mut stream = server.connect().await;
                stream.write_all(part.as_bytes()).await.unwrap();
                open.push(stream);
            }
            for _ in 0..20 {
                let response = server.request("GET", "/healthz").await;
                assert_eq!((response.code, response.body.as_str()), (200, "ok"), "{count} of {part:?}");
            }
            // The longest idle ones were closed, the newest one was not.
            read_to_end(&mut open.remove(0)).await;
            let mut newest = open.pop().unwrap();
            let rest = if part.ends_with("Slow: ") {
                "x\r\nConnection: close\r\n\r\n"
            } else {
                "GET /healthz HTTP/1.0\r\n\r\n"
            };
            newest.write_all(rest.as_bytes()).await.unwrap();
            assert!(read_to_end(&mut newest).await.ends_with("ok"), "{count} of {part:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_for_its_response_is_not_closed_for_others() {
    let (started, proceed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let status: StatusSource = {
        let (started, proceed) = (Arc::clone(&started), Arc::clone(&proceed));
        Arc::new(move || {
            let (started, proceed) = (Arc::clone(&started), Arc::clone(&proceed));
            async move {
                started.add_permits(1);
                let _ = proceed.acquire().await;
                Ok(json!({"late": true}))
            }
            .boxed()
        })
    };
    let server = start(false, status).await;
    let mut waiting = Vec::new();
    for _ in 0..MAX_STATUS_REQUESTS {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        waiting.push(stream);
    }
    let all = u32::try_from(MAX_STATUS_REQUESTS).unwrap();
    let _all = tokio::time::timeout(Duration::from_mins(1), started.acquire_many(all)).await.unwrap().unwrap();
    assert_eq!(server.request("GET", "/status").await.code, 503, "the next one is told at once");
    let mut idle = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        idle.push(server.connect().await);
    }
    assert_eq!(server.request("GET", "/healthz").await.code, 200);
    proceed.add_permits(1);
    for stream in &mut waiting {
        assert!(read_to_end(stream).await.contains("late"));
    }
}

#[tokio::test]
async fn a_shutdown_lets_a_running_response_finish() {
    let (started, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let status: StatusSource = {
        let (started, proceed) = (Arc::clone(&started), Arc::clone(&proceed));
        Arc::new(move || {
            let (started, proceed) = (Arc::clone(&started), Arc::clone(&proceed));
            async move {
                started.notify_one();
                proceed.notified().await;
                Ok(json!({"late": true}))
            }
            .boxed()
        })
    };
    let server = start(false, status).await;
    let _idle = server.connect().await;
    let stop = async {
        started.notified().await;
        server.shutdown.request();
        proceed.notify_one();
    };
    let (response, ()) = tokio::join!(server.request("GET", "/status"), stop);
    assert_eq!(response.json(), json!({"late": true}));
    tokio::time::timeout(Duration::from_mins(1), server.running).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn an_address_in_use_names_the_key() {
    let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on {address}: another process listens there; stop it or choose another port in http.listen"
        )
    );
}
