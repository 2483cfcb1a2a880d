//! A receiver of alerts: an HTTP server that keeps what is posted to it and answers as the test wants.
//!
//! Owns: one HTTP request a connection. Must not know: what an alert contains.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the receiver does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reception {
    /// Answers with this status code.
    Answer(u16),
    /// Answers nothing and keeps the connection open.
    Hang,
}

#[derive(Debug)]
struct Inbox {
    reception: Reception,
    accepted: Vec<Value>,
    attempts: usize,
    paths: Vec<String>,
}

/// A running receiver. It ends with this value.
#[derive(Debug)]
pub(crate) struct AlertReceiver {
    port: u16,
    inbox: Arc<Mutex<Inbox>>,
    task: JoinHandle<()>,
}

impl AlertReceiver {
    pub(crate) async fn start(reception: Reception) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("the listener has an address").port();
        let inbox = Inbox { reception, accepted: Vec::new(), attempts: 0, paths: Vec::new() };
        let inbox = Arc::new(Mutex::new(inbox));
        let shared = inbox.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(receive(client, shared.clone()));
            }
        });
        Self { port, inbox, task }
    }

    /// A URL of the receiver.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("no test panics with the lock")
    }

    /// What happens to further requests.
    pub(crate) fn set(&self, reception: Reception) {
        self.inbox().reception = reception;
    }

    /// The documents that were answered with 200, in their order.
    pub(crate) fn accepted(&self) -> Vec<Value> {
        self.inbox().accepted.clone()
    }

    /// `kind status` of these documents.
    pub(crate) fn changes(&self) -> Vec<String> {
        let field = |document: &Value, key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let change = |document| format!("{} {}", field(document, "kind"), field(document, "status"));
        self.inbox().accepted.iter().map(change).collect()
    }

    /// The number of requests, whatever was answered.
    pub(crate) fn attempts(&self) -> usize {
        self.inbox().attempts
    }

    /// The paths of all requests.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.inbox().paths.clone()
    }
}

impl Drop for AlertReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(mut client: TcpStream, inbox: Arc<Mutex<Inbox>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let body = loop {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        if let Some(body) = complete_body(&request) {
            break body;
        }
    };
    let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned();
    let reception = {
        let mut inbox = inbox.lock().expect("no test panics with the lock");
        inbox.attempts += 1;
        inbox.paths.push(path);
        if let Reception::Answer(200) = inbox.reception {
            inbox.accepted.push(body);
        }
        inbox.reception
    };
    match reception {
        Reception::Answer(code) => {
            let answer = format!("HTTP/1.1 {code} x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            client.write_all(answer.as_bytes()).await
        }
        Reception::Hang => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            Ok(())
        }
    }
}

/// The body as JSON, when all of it has arrived.
fn complete_body(request: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(request).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    assert!(head.contains("content-type: application/json"), "{head}");
    let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.trim().parse().ok()?;
    (body.len() >= length).then(|| serde_json::from_str(body).expect("an alert is a JSON document"))
}
