//! Calls over real sockets, to a server that answers, sends wrong data, hangs or closes the connection.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::hosts::ApiHost;
use super::super::settings::ApiBase;
use super::super::transport::MAX_ANSWER_BYTES;
use super::*;
use crate::model::Service;

mod answers;
mod arbitrary;
mod failures;
mod requests;
mod secrets;
mod transport;

const KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
const OK: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"RequestId":"r-1"}"#;

/// What the server does with one request.
#[derive(Clone)]
enum ScriptedReply {
    Bytes(Vec<u8>),
    /// Reads the request and closes the connection.
    Cut,
    /// Sends these bytes and closes.
    Partial(Vec<u8>),
    /// Reads the request and never answers.
    Hang,
    /// Sends the first bytes once and the others repeatedly, with a delay, until the client closes the connection.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

fn http(head: &str, body: &str) -> ScriptedReply {
    ScriptedReply::Bytes(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn json(body: &str) -> ScriptedReply {
    http("200 OK\r\nContent-Type: application/json", body)
}

fn fail(code: i64, info: &str) -> ScriptedReply {
    json(&format!(r#"{{"ActionStatus":"FAIL","ErrorCode":{code},"ErrorInfo":"{info}","RequestId":"r-2"}}"#))
}

#[derive(Clone)]
struct ReceivedRequest {
    path: String,
    query: BTreeMap<String, String>,
    head: String,
    body: String,
    connection: usize,
}

/// Sends the replies in their order, and repeats the last one.
struct ScriptedServer {
    address: std::net::SocketAddr,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    /// The number of bytes that the server could send of each endless answer.
    bytes_sent: Arc<Mutex<Vec<usize>>>,
}

impl ScriptedServer {
    async fn start(replies: Vec<ScriptedReply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(replies);
        let bytes_sent = Arc::default();
        let (requests, counts) = (Arc::clone(&received), Arc::clone(&bytes_sent));
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(
                    stream,
                    connection,
                    Arc::clone(&requests),
                    Arc::clone(&replies),
                    Arc::clone(&counts),
                ));
            }
        });
        Self { address, received, bytes_sent }
    }

    fn host(&self) -> ApiHost {
        ApiHost { base: format!("http://{}", self.address), shown: self.address.to_string() }
    }

    fn client(&self) -> Client {
        client(Service::AllMemberPush, self.host(), None)
    }

    fn received(&self) -> Vec<ReceivedRequest> {
        self.received.lock().unwrap().clone()
    }
}

/// `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream, connection: usize) -> Option<ReceivedRequest> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let target = head.split(' ').nth(1).unwrap();
                let url = url::Url::parse(&format!("http://host{target}")).unwrap();
                return Some(ReceivedRequest {
                    path: url.path().to_owned(),
                    query: url.query_pairs().into_owned().collect(),
                    head: head.to_owned(),
                    body: body.to_owned(),
                    connection,
                });
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    replies: Arc<Vec<ScriptedReply>>,
    bytes_sent: Arc<Mutex<Vec<usize>>>,
) {
    while let Some(request) = read_request(&mut stream, connection).await {
        let number = {
            let mut received = received.lock().unwrap();
            received.push(request);
            received.len() - 1
        };
        match &replies[number.min(replies.len() - 1)] {
            // The client may close the connection during a long answer.
            ScriptedReply::Bytes(bytes) => drop(stream.write_all(bytes).await),
            ScriptedReply::Cut => return,
            ScriptedReply::Partial(bytes) => {
                drop(stream.write_all(bytes).await);
                return;
            }
            ScriptedReply::Hang => std::future::pending().await,
            ScriptedReply::Endless(head, piece, delay) => {
                let mut bytes = 0;
                let mut next = head;
                while stream.write_all(next).await.is_ok() {
                    bytes += next.len();
                    next = piece;
                    if !delay.is_zero() {
                        tokio::time::sleep(*delay).await;
                    }
                }
                bytes_sent.lock().unwrap().push(bytes);
                return;
            }
        }
    }
}

/// Advances by one second with each call, so that no two UserSigs are made in the same second.
fn ticking_clock() -> DateTime<Utc> {
    static SECONDS: AtomicI64 = AtomicI64::new(1_700_000_000);
    DateTime::from_timestamp(SECONDS.fetch_add(1, Ordering::SeqCst), 0).unwrap()
}

fn settings(service: Service) -> ClientSettings {
    ClientSettings {
        // Only its scheme matters: the tests give the hosts separately.
        api_base: ApiBase::BaseUrl("http://127.0.0.1".parse().unwrap()),
        service,
        sdk_app_id: 1_400_000_000,
        identifier: "admin istrator+1".to_owned(),
        secret_key: KEY.into(),
        secret_key_file: None,
        usersig_lifetime: Duration::from_hours(24),
        timeout: Duration::from_secs(20),
    }
}

fn client(service: Service, first: ApiHost, backup: Option<ApiHost>) -> Client {
    Client::with_hosts(settings(service), ApiHosts::new(first, backup), ticking_clock).unwrap()
}

/// A host with a port on which no server listens.
async fn dead_host() -> ApiHost {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    ApiHost { base: format!("http://{address}"), shown: address.to_string() }
}

fn user<'a>(account: &'a str, attrs: &[(&'a str, &'a str)]) -> SetUser<'a> {
    SetUser { account, attrs: attrs.to_vec() }
}

async fn set(client: &Client) -> Result<Accepted, CallError> {
    client.set_attr(&[user("alice", &[("city", "Wuhan-Hidden")])]).await
}
