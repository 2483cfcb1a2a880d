//! Exchanges over real sockets: a server that answers, lies, hangs and breaks off, and clients of it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

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
enum Reply {
    Bytes(Vec<u8>),
    /// Reads the request and closes the connection.
    Cut,
    /// Sends these bytes and closes.
    Partial(Vec<u8>),
    /// Reads the request and never answers.
    Hang,
    /// Sends the first bytes once and the others again and again, with a pause, until the client turns away.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

fn http(head: &str, body: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn json(body: &str) -> Reply {
    http("200 OK\r\nContent-Type: application/json", body)
}

fn fail(code: i64, info: &str) -> Reply {
    json(&format!(r#"{{"ActionStatus":"FAIL","ErrorCode":{code},"ErrorInfo":"{info}","RequestId":"r-2"}}"#))
}

#[derive(Clone)]
struct Seen {
    path: String,
    query: BTreeMap<String, String>,
    head: String,
    body: String,
    connection: usize,
}

/// Gives the replies in their order, the last of them for ever.
struct Server {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Bytes that endless answers could get rid of, one number an answer.
    poured: Arc<Mutex<Vec<usize>>>,
}

impl Server {
    async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(replies);
        let poured = Arc::default();
        let (shared, pouring) = (Arc::clone(&seen), Arc::clone(&poured));
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(
                    stream,
                    connection,
                    Arc::clone(&shared),
                    Arc::clone(&replies),
                    Arc::clone(&pouring),
                ));
            }
        });
        Self { address, seen, poured }
    }

    fn host(&self) -> Host {
        Host { base: format!("http://{}", self.address), shown: self.address.to_string() }
    }

    fn client(&self) -> Client {
        client(Service::AllMemberPush, self.host(), None)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream, connection: usize) -> Option<Seen> {
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
                return Some(Seen {
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
    seen: Arc<Mutex<Vec<Seen>>>,
    replies: Arc<Vec<Reply>>,
    poured: Arc<Mutex<Vec<usize>>>,
) {
    while let Some(request) = read_request(&mut stream, connection).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len() - 1
        };
        match &replies[number.min(replies.len() - 1)] {
            // The client may have turned away from a long answer.
            Reply::Bytes(bytes) => drop(stream.write_all(bytes).await),
            Reply::Cut => return,
            Reply::Partial(bytes) => {
                drop(stream.write_all(bytes).await);
                return;
            }
            Reply::Hang => std::future::pending().await,
            Reply::Endless(head, piece, pause) => {
                let mut bytes = 0;
                let mut next = head;
                while stream.write_all(next).await.is_ok() {
                    bytes += next.len();
                    next = piece;
                    if !pause.is_zero() {
                        tokio::time::sleep(*pause).await;
                    }
                }
                poured.lock().unwrap().push(bytes);
                return;
            }
        }
    }
}

/// Goes on by one second with each look, so that two signatures are never of the same second.
fn ticking() -> DateTime<Utc> {
    static SECONDS: AtomicI64 = AtomicI64::new(1_700_000_000);
    DateTime::from_timestamp(SECONDS.fetch_add(1, Ordering::SeqCst), 0).unwrap()
}

fn settings(service: Service) -> ClientSettings {
    ClientSettings {
        // Only its scheme matters here: the hosts are given beside it.
        endpoint: ApiBase::BaseUrl("http://127.0.0.1".parse().unwrap()),
        service,
        sdk_app_id: 1_400_000_000,
        identifier: "admin istrator+1".to_owned(),
        secret_key: KEY.into(),
        usersig_lifetime: Duration::from_hours(24),
        timeout: Duration::from_secs(20),
    }
}

fn client(service: Service, first: Host, backup: Option<Host>) -> Client {
    Client::with_hosts(settings(service), Hosts::new(first, backup), ticking).unwrap()
}

/// An address at which nothing listens.
async fn dead_host() -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Host { base: format!("http://{address}"), shown: address.to_string() }
}

fn user<'a>(account: &'a str, attrs: &[(&'a str, &'a str)]) -> SetUser<'a> {
    SetUser { account, attrs: attrs.to_vec() }
}

async fn set(client: &Client) -> Result<Accepted, CallError> {
    client.set_attr(&[user("alice", &[("city", "Wuhan-Hidden")])]).await
}
