//! A connection pooler in transaction mode, like `PgBouncer` with `pool_mode = transaction`.
//!
//! Owns: which server session runs a transaction of a client. Must not know: SQL.
//!
//! A client logs in on a server session, which then belongs to all clients. Each transaction of a client runs in the
//! session that became free last.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;

use super::Database;

/// A running pooler. It ends with this value.
#[derive(Debug)]
pub(crate) struct TransactionPooler {
    url: String,
    task: JoinHandle<()>,
}

/// The server sessions that no transaction uses.
#[derive(Debug)]
struct FreeSessions {
    free: Mutex<Vec<TcpStream>>,
    count: Semaphore,
}

impl TransactionPooler {
    /// Pools sessions to this database.
    pub(crate) async fn start(database: &Database) -> Self {
        let mut url = url::Url::parse(database.url()).expect("the test database has a URL");
        let server = (url.host_str().expect("it has a host").to_owned(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        url.set_host(Some("127.0.0.1")).expect("the URL can have a host");
        url.set_port(Some(listener.local_addr().expect("it has an address").port())).expect("the URL can have a port");
        let task = tokio::spawn(async move {
            let sessions = Arc::new(FreeSessions { free: Mutex::default(), count: Semaphore::new(0) });
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (server, sessions) = (server.clone(), sessions.clone());
                clients.spawn(async move { serve(client, server, sessions).await });
            }
        });
        Self { url: url.to_string(), task }
    }

    /// The URL of the database through the pooler.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TransactionPooler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One message with its length, and with its type unless it is the first one of a client.
async fn message(from: &mut (impl AsyncRead + Unpin), typed: bool) -> Option<Vec<u8>> {
    let mut head = vec![0; if typed { 5 } else { 4 }];
    from.read_exact(&mut head).await.ok()?;
    let length = &head[head.len() - 4..];
    let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    let start = head.len();
    head.resize(start + length - 4, 0);
    from.read_exact(&mut head[start..]).await.ok()?;
    Some(head)
}

/// Forwards answers until the server is ready for the next query. Returns whether a transaction is open.
async fn until_ready(server: &mut TcpStream, client: &mut TcpStream) -> Option<bool> {
    loop {
        let answer = message(server, true).await?;
        client.write_all(&answer).await.ok()?;
        match answer[0] {
            b'Z' => return Some(answer[5] != b'I'),
            // Authentication: the client answers with a password or the next step of SCRAM.
            b'R' if matches!(answer[8], 3 | 5 | 10 | 11) => {
                let password = message(client, true).await?;
                server.write_all(&password).await.ok()?;
            }
            _ => {}
        }
    }
}

async fn serve(mut client: TcpStream, server: (String, u16), sessions: Arc<FreeSessions>) -> Option<()> {
    let mut session = TcpStream::connect(server).await.ok()?;
    session.write_all(&message(&mut client, false).await?).await.ok()?;
    until_ready(&mut session, &mut client).await?;
    sessions.free.lock().await.push(session);
    sessions.count.add_permits(1);
    loop {
        let mut request = message(&mut client, true).await?;
        if request[0] == b'X' {
            return None;
        }
        sessions.count.acquire().await.ok()?.forget();
        let mut session = sessions.free.lock().await.pop()?;
        loop {
            session.write_all(&request).await.ok()?;
            // A simple query, or the end of an extended one. The server answers other messages after that.
            if matches!(request[0], b'Q' | b'S') && !until_ready(&mut session, &mut client).await? {
                break;
            }
            request = message(&mut client, true).await?;
        }
        sessions.free.lock().await.push(session);
        sessions.count.add_permits(1);
    }
}
