//! Signals: the first SIGTERM or SIGINT asks for a graceful stop, the second ends the process at once.
//!
//! Owns: signal handlers and the exit code of a hard stop. Must not know: what stopping means.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock::Shutdown;

/// What a SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHangup {
    /// One-shot commands treat it as SIGTERM.
    Stop,
    /// The daemon reads its configuration again; it has a handler of its own.
    LeaveToCaller,
}

/// Starts to listen. The first stopping signal requests the shutdown; a second one exits with 128 and its number.
pub fn listen(shutdown: &Shutdown, on_hangup: OnHangup) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = match on_hangup {
        OnHangup::Stop => Some(signal(SignalKind::hangup())?),
        OnHangup::LeaveToCaller => None,
    };
    let shutdown = shutdown.clone();
    let received = Arc::new(AtomicI32::new(0));
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
                _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                () = next(&mut hangup) => SignalKind::hangup().as_raw_value(),
            };
            if received.swap(number, Ordering::SeqCst) != 0 {
                // The user has asked twice: nothing is worth waiting for; what is in flight becomes unknown.
                std::process::exit(128 + number);
            }
            tracing::info!("stopping: calls in flight finish and are recorded (again to stop at once)");
            shutdown.request();
        }
    });
    Ok(())
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// SIGHUP for the daemon.
pub fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}
