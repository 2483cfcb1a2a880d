//! The server over real sockets: what is answered to whom, and that no client holds it.
#![expect(clippy::unwrap_used, reason = "a test ends where its ground is missing")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{CONNECTION_LIFE, CONNECTIONS, HEADER_WITHIN, HttpState, STATUS_WITHIN, Status, bind, serve};
use crate::clock::{Shutdown, monotonic};
use crate::metrics::Metrics;
use crate::service::readiness::Readiness;

struct Server {
    address: SocketAddr,
    readiness: Arc<Readiness>,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

async fn start(public: bool, status: Status) -> Server {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Arc::new(Readiness::new(Duration::from_secs(10)));
    let shutdown = Shutdown::default();
    let state =
        HttpState { readiness: Arc::clone(&readiness), metrics: Arc::new(Metrics::new("users")), status, public };
    let running = tokio::spawn(serve(listener, state, shutdown.clone()));
    Server { address, readiness, shutdown, running }
}

async fn start_plain() -> Server {
    start(false, says(Ok(json!({"name": "users"})))).await
}

fn says(answer: Result<Value, String>) -> Status {
    Arc::new(move || std::future::ready(answer.clone()).boxed())
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends this text and reads until the server closes.
    async fn send(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.ask_as("localhost", method, path).await
    }

    async fn ask_as(&self, host: &str, method: &str, path: &str) -> Answer {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Answer::parse(&self.send(&text).await)
    }
}

/// A connection that is reset has ended as well.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(bytes).unwrap(),
    }
}

#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an HTTP answer: {text:?}"));
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { code, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

#[tokio::test]
async fn health_is_answered_while_the_process_lives() {
    let server = start_plain().await;
    let answer = server.ask("GET", "/healthz").await;
    assert_eq!((answer.code, answer.body.as_str()), (200, "ok"));
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
}

#[tokio::test]
async fn readiness_and_its_gauge_tell_the_same() {
    let server = start_plain().await;
    let gauge = async || {
        let answer = server.ask("GET", "/metrics").await;
        assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
        answer.body.lines().find_map(|line| line.strip_prefix("imsync_ready ").map(str::to_owned)).unwrap()
    };

    server.readiness.trouble("the source database is unreachable".into());
    let answer = server.ask("GET", "/readyz").await;
    assert_eq!(answer.code, 503);
    assert_eq!(answer.json(), json!({"ready": false, "reason": "the source database is unreachable"}));
    assert_eq!(gauge().await, "0");

    server.readiness.leading();
    server.readiness.pass_finished(None);
    let answer = server.ask("GET", "/readyz").await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.json(), json!({"ready": true, "role": "leader"}));
    assert_eq!(gauge().await, "1");

    server.readiness.standing_by();
    assert_eq!(server.ask("GET", "/readyz").await.json(), json!({"ready": true, "role": "standby"}));
}

#[tokio::test]
async fn the_status_is_what_the_caller_makes_of_it() {
    let answer = start_plain().await.ask("GET", "/status").await;
    assert_eq!((answer.code, answer.json()), (200, json!({"name": "users"})));

    let server = start(false, says(Err("the state database is unreachable".into()))).await;
    let answer = server.ask("GET", "/status").await;
    assert_eq!((answer.code, answer.json()), (503, json!({"error": "the state database is unreachable"})));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_never_comes_is_given_up() {
    let server = start(false, Arc::new(|| std::future::pending().boxed())).await;
    let asked = monotonic();
    let answer = server.ask("GET", "/status").await;
    assert_eq!(answer.code, 503);
    assert!(answer.json()["error"].as_str().unwrap().contains("10 s"), "{answer:?}");
    assert!(asked.elapsed() < STATUS_WITHIN + Duration::from_secs(1));
}

#[tokio::test]
async fn anything_else_is_refused_as_json() {
    let server = start_plain().await;
    for path in ["/", "/nothing", "/healthz/x", "/metrics/", "//status"] {
        let answer = server.ask("GET", path).await;
        assert_eq!(answer.code, 404, "{path}");
        assert!(answer.json()["error"].as_str().unwrap().contains("/readyz"));
    }
    for (method, path) in [("POST", "/status"), ("DELETE", "/healthz"), ("PUT", "/nothing"), ("OPTIONS", "/metrics")] {
        let answer = server.ask(method, path).await;
        assert_eq!(answer.code, 405, "{method} {path}");
        assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
        assert!(answer.json()["error"].as_str().unwrap().contains("GET"));
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = start_plain().await;
    for path in ["/healthz", "/status", "/metrics"] {
        let answer = server.ask("HEAD", path).await;
        assert_eq!((answer.code, answer.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(server.ask("HEAD", "/readyz").await.code, 503);
}

#[tokio::test]
async fn only_names_of_this_machine_are_answered_on_loopback() {
    let server = start_plain().await;
    for host in ["localhost", "LocalHost:9474", "127.0.0.1", "127.0.0.1:1", "127.8.8.8:9474", "[::1]", "[::1]:9474"] {
        assert_eq!(server.ask_as(host, "GET", "/status").await.code, 200, "{host}");
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
            let answer = server.ask_as(host, "GET", path).await;
            assert_eq!(answer.code, 403, "{host} {path}");
            assert!(answer.json()["error"].as_str().unwrap().contains("http.public"));
        }
    }
    // A second name, in the request line or in a second header, is looked at as well.
    for request in [
        "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(Answer::parse(&server.send(request).await).code, 403);
    }
    // A probe of a load balancer names none.
    assert_eq!(Answer::parse(&server.send("GET /healthz HTTP/1.0\r\n\r\n").await).code, 200);
}

#[tokio::test]
async fn a_public_server_answers_to_every_name() {
    let server = start(true, says(Ok(json!({})))).await;
    assert_eq!(server.ask_as("sync.example:9474", "GET", "/status").await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_request_is_dropped() {
    let server = start_plain().await;
    for begun in ["", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let asked = monotonic();
        server.send(begun).await;
        assert!(asked.elapsed() <= HEADER_WITHIN + Duration::from_secs(1), "{:?}", asked.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_does_not_stay_for_ever() {
    let server = start_plain().await;
    let mut stream = server.connect().await;
    let asked = monotonic();
    // Each request in time, one after the other, without end.
    while stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_ok() {
        if stream.read(&mut [0; 4096]).await.unwrap_or(0) == 0 {
            break;
        }
        tokio::time::sleep(HEADER_WITHIN / 2).await;
    }
    assert!(asked.elapsed() <= CONNECTION_LIFE + HEADER_WITHIN, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = start_plain().await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(10_000));
    let answer = server.send(&request).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    assert_eq!(server.ask("GET", "/healthz").await.code, 200);
}

#[tokio::test]
async fn more_connections_than_places_are_turned_away_and_the_rest_served() {
    let server = start_plain().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        open.push(stream);
    }
    assert_eq!(read_to_end(&mut server.connect().await).await, "", "turned away");
    open.clear();
    // The places become free as soon as the server has seen the ends.
    let until_served = async {
        loop {
            let mut stream = server.connect().await;
            let asked = stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await;
            if asked.is_ok() && read_to_end(&mut stream).await.ends_with("ok") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), until_served).await.unwrap();
}

#[tokio::test]
async fn a_stop_lets_an_answer_under_way_finish() {
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let status: Status = {
        let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
        Arc::new(move || {
            let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
            async move {
                asked.notify_one();
                go_on.notified().await;
                Ok(json!({"late": true}))
            }
            .boxed()
        })
    };
    let server = start(false, status).await;
    let _idle = server.connect().await;
    let stop = async {
        asked.notified().await;
        server.shutdown.request();
        go_on.notify_one();
    };
    let (answer, ()) = tokio::join!(server.ask("GET", "/status"), stop);
    assert_eq!(answer.json(), json!({"late": true}));
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
