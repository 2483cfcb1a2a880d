//! Connections that the simulator can close in the middle of a call.
//!
//! Owns: accepting, and the door of each connection. Must not know: what is said over it.

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

/// After an error of `accept` (such as too many open files) wait before the next try, so as not to spin.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Closes its connection: once shut, nothing more is written, and the server gives the connection up.
#[derive(Clone, Debug, Default)]
pub(super) struct Door(Arc<AtomicBool>);

impl Door {
    pub(super) fn shut(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

/// Listens, and gives each connection its door.
pub(super) struct Doorway(pub(super) TcpListener);

impl Listener for Doorway {
    type Io = DoorStream;
    type Addr = Door;

    async fn accept(&mut self) -> (DoorStream, Door) {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => {
                    // Without it small answers wait for acknowledgements; should it fail, they only come later.
                    let _ = stream.set_nodelay(true);
                    let door = Door::default();
                    return (DoorStream { stream, door: door.clone() }, door);
                }
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Door> {
        Ok(Door::default())
    }
}

impl Connected<IncomingStream<'_, Doorway>> for Door {
    fn connect_info(stream: IncomingStream<'_, Doorway>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A connection that fails to write once its door is shut.
pub(super) struct DoorStream {
    stream: TcpStream,
    door: Door,
}

impl AsyncRead for DoorStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.door.check()?;
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
        self.door.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
