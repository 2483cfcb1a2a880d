//! A proxy between imsync and PostgreSQL whose server can vanish: connections stay open, and nothing is answered.
//!
//! Owns: forwarding bytes, counting connections, and when forwarding stops. Must not know: what the bytes mean.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Database;

#[derive(Debug)]
struct ProxyState {
    silent: AtomicBool,
    /// Text of a client after which nothing is forwarded any more.
    until: Option<&'static str>,
    /// The local ports of the connections to the server.
    server_ports: Mutex<Vec<u16>>,
    connections: AtomicUsize,
    packets: AtomicUsize,
}

/// A running proxy. It ends with this value.
#[derive(Debug)]
pub(crate) struct TcpProxy {
    url: String,
    state: Arc<ProxyState>,
    task: JoinHandle<()>,
}

impl TcpProxy {
    /// Forwards to the server of this database. The server vanishes as soon as a client has sent the text `until`.
    pub(crate) async fn start(database: &Database, until: Option<&'static str>) -> Self {
        let mut url = url::Url::parse(database.url()).expect("the test database has a URL");
        let server = (url.host_str().expect("it has a host").to_owned(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("the listener has an address").port();
        url.set_host(Some("127.0.0.1")).expect("the URL can have a host");
        url.set_port(Some(port)).expect("the URL can have a port");
        let state = Arc::new(ProxyState {
            silent: AtomicBool::new(false),
            until,
            server_ports: Mutex::default(),
            connections: AtomicUsize::new(0),
            packets: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, server, state.clone()));
        Self { url: url.to_string(), state, task }
    }

    /// The URL of the database through the proxy.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on nothing is forwarded, on open connections and on new ones; `false` lets new connections through.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// The ports by which the server knows the connections that were accepted so far.
    pub(crate) fn server_ports(&self) -> Vec<u16> {
        self.state.server_ports.lock().expect("no panic while it is held").clone()
    }

    /// How many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many times clients have sent something so far.
    pub(crate) fn packets(&self) -> usize {
        self.state.packets.load(Ordering::SeqCst)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: (String, u16), state: Arc<ProxyState>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (server, state) = (server.clone(), state.clone());
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let port = server.local_addr().map_or(0, |address| address.port());
            state.server_ports.lock().expect("no panic while it is held").push(port);
            let (client_reads, client_writes) = client.into_split();
            let (server_reads, server_writes) = server.into_split();
            tokio::select! {
                () = forward(client_reads, server_writes, &state, true) => {}
                () = forward(server_reads, client_writes, &state, false) => {}
            }
        });
    }
}

/// Forwards until one side closes. Once the server has vanished, it never returns.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &ProxyState,
    from_client: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let bytes = &buffer[..length];
        if from_client {
            state.packets.fetch_add(1, Ordering::SeqCst);
            let vanishes = state.until.is_some_and(|text| String::from_utf8_lossy(bytes).contains(text));
            state.silent.fetch_or(vanishes, Ordering::SeqCst);
        }
        if state.silent.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
