//! Starting and stopping a simulator.
//!
//! Owns: the listener and the server task. Must not know: what a call does.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::app_state::MAX_ATTRIBUTES;
use super::call::handle_call;
use super::connection::{ClosableListener, ConnectionCloser};
use super::control;
use super::handle::SimulatorHandle;
use super::options::SimulatorOptions;
use super::shared_state::SharedState;

/// Time that a stopping simulator allows for sending the answers of calls in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Listens, and serves in the background of the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or `options` has more than ten attribute names.
    pub async fn start(options: SimulatorOptions) -> io::Result<RunningSimulator> {
        let name_count = options.attribute_names.len();
        if name_count > MAX_ATTRIBUTES {
            let problem = format!("{name_count} attribute names given; an app has at most {MAX_ATTRIBUTES}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(SharedState::new(options));
        let router = control::routes().fallback(handle_call).with_state(Arc::clone(&shared));
        let service = router.into_make_service_with_connect_info::<ConnectionCloser>();
        let stopping = Arc::clone(&shared);
        let server = axum::serve(ClosableListener(listener), service)
            .with_graceful_shutdown(async move { stopping.wait_for_stop().await });
        let server_task = tokio::spawn(async move {
            // `axum::serve` returns after a graceful shutdown only; it never returns an error.
            let _ = server.await;
        });
        let handle = SimulatorHandle::new(Arc::clone(&shared));
        Ok(RunningSimulator { address, handle, shared, server_task: Some(server_task) })
    }
}

/// A running simulator. Dropping it stops it without waiting for calls in flight.
pub struct RunningSimulator {
    address: SocketAddr,
    handle: SimulatorHandle,
    shared: Arc<SharedState>,
    server_task: Option<JoinHandle<()>>,
}

impl fmt::Debug for RunningSimulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningSimulator").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RunningSimulator {
    /// The address it listens on, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL that precedes `/v4/…` in a call, without a trailing slash.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The interface for reading and changing the simulator's state. It stays usable after the simulator has stopped.
    pub fn handle(&self) -> &SimulatorHandle {
        &self.handle
    }

    /// Stops the simulator: it accepts no new connections, releases held calls, and sends the answers of calls in
    /// flight. Calls that are not answered within two seconds are aborted.
    pub async fn stop(mut self) {
        self.shared.begin_stop();
        if let Some(mut server_task) = self.server_task.take()
            && tokio::time::timeout(STOP_TIMEOUT, &mut server_task).await.is_err()
        {
            server_task.abort();
        }
    }
}

impl Drop for RunningSimulator {
    fn drop(&mut self) {
        self.shared.begin_stop();
    }
}
