//! Connections that the simulator can close in the middle of a call.
//!
//! Owns: accepting connections and closing them. Must not know: what is sent over them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Pause after an error of `accept`, such as too many open files, so that the loop does not spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Closes one connection. After [`ConnectionCloser::close`] every write fails, so the server drops the connection
/// without sending anything more.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionCloser(Arc<AtomicBool>);

impl ConnectionCloser {
    pub(super) fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check_open(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

/// A listener that pairs each connection with its [`ConnectionCloser`].
pub(super) struct ClosableListener(pub(super) TcpListener);

impl Listener for ClosableListener {
    type Io = ClosableStream;
    type Addr = ConnectionCloser;

    async fn accept(&mut self) -> (ClosableStream, ConnectionCloser) {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => {
                    // Without this option, small answers wait for acknowledgements. An error only delays them.
                    let _ = stream.set_nodelay(true);
                    let closer = ConnectionCloser::default();
                    return (ClosableStream { stream, closer: closer.clone() }, closer);
                }
                Err(_) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<ConnectionCloser> {
        Ok(ConnectionCloser::default())
    }
}

impl Connected<IncomingStream<'_, ClosableListener>> for ConnectionCloser {
    fn connect_info(stream: IncomingStream<'_, ClosableListener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A TCP connection whose writes fail once it has been closed.
pub(super) struct ClosableStream {
    stream: TcpStream,
    closer: ConnectionCloser,
}

impl AsyncRead for ClosableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClosableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.closer.check_open()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.closer.check_open()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
