//! Signals: the first SIGTERM or SIGINT requests a graceful shutdown, the second ends the process at once.
//!
//! Owns: the signal handlers and the exit code of an immediate end. Must not know: what a shutdown does.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock::Shutdown;

/// What SIGHUP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHangup {
    /// The same as SIGTERM, for one-shot commands.
    Stop,
    /// Nothing here: the daemon has a handler of its own, see [`hangup_signal`].
    HandledByCaller,
}

/// Installs the handlers. The second signal exits with 128 plus its number.
///
/// # Errors
///
/// When the operating system refuses a handler.
pub fn listen(shutdown: &Shutdown, on_hangup: OnHangup) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = match on_hangup {
        OnHangup::Stop => Some(signal(SignalKind::hangup())?),
        OnHangup::HandledByCaller => None,
    };
    let shutdown = shutdown.clone();
    let received = Arc::new(AtomicI32::new(0));
    tokio::spawn(async move {
        loop {
            let number = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
                _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                () = received_or_never(&mut hangup) => SignalKind::hangup().as_raw_value(),
            };
            if received.swap(number, Ordering::SeqCst) != 0 {
                // The user insists. The outcomes of calls in flight become unknown.
                std::process::exit(128 + number);
            }
            tracing::info!("stopping: calls in flight finish and are recorded (again to stop at once)");
            shutdown.request();
        }
    });
    Ok(())
}

async fn received_or_never(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// SIGHUP as the daemon receives it.
///
/// # Errors
///
/// When the operating system refuses the handler.
pub fn hangup_signal() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}
