//! A network peer that refuses every login with a given error, as poolers do whose answers a real server cannot give.
//!
//! Owns: the start of PostgreSQL's protocol up to the error. Must not know: imsync.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The code of the request for TLS (manual, 55.7).
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// A running peer. It ends with this value.
#[derive(Debug)]
pub(crate) struct FakeServer {
    port: u16,
    answer: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("the listener has an address").port();
        let answer = Arc::new(Mutex::new(Vec::new()));
        let shared = answer.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let answer = shared.lock().expect("no test panics with the lock").clone();
                tokio::spawn(refuse(client, answer));
            }
        });
        Self { port, answer, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on each login is refused with this SQLSTATE and this text.
    pub(crate) fn refuse_with(&self, code: &str, text: &str) {
        let mut fields = Vec::new();
        for (kind, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', text)] {
            fields.push(kind);
            fields.extend_from_slice(value.as_bytes());
            fields.push(0);
        }
        fields.push(0);
        let length = u32::try_from(fields.len() + 4).expect("the text is short");
        let mut message = vec![b'E'];
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&fields);
        *self.answer.lock().expect("no test panics with the lock") = message;
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a message of the start, which has no type byte: its length, then its content.
async fn start_message(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = client.read_u32().await?.clamp(4, 10_000);
    let mut content = vec![0; length as usize - 4];
    client.read_exact(&mut content).await?;
    Ok(content)
}

async fn refuse(mut client: TcpStream, answer: Vec<u8>) -> std::io::Result<()> {
    if start_message(&mut client).await? == SSL_REQUEST {
        client.write_all(b"N").await?;
        start_message(&mut client).await?;
    }
    client.write_all(&answer).await?;
    client.shutdown().await
}
