//! The open connections of the HTTP server, and which one is closed when there are too many.
//!
//! Owns: the limit, and since when each connection is idle. Must not know: HTTP, the routes.
//!
//! Anybody who can reach the port can leave connections open. A new connection is therefore never refused: the one that
//! has been idle for the longest time is closed instead. A client that has sent a request is not closed before its
//! response.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

use crate::clock;

/// The most open connections. A monitoring system needs two or three.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// What one connection does.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    requests: AtomicUsize,
    idle_since: Mutex<Instant>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct BusyConnection(Arc<ConnectionActivity>);

impl ConnectionActivity {
    fn new() -> Self {
        Self { requests: AtomicUsize::new(0), idle_since: Mutex::new(clock::monotonic()) }
    }

    /// A request has arrived. It is answered when the result is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> BusyConnection {
        self.requests.fetch_add(1, Ordering::SeqCst);
        BusyConnection(self.clone())
    }

    /// Since when no request has been answered; `None` while one is.
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.requests.load(Ordering::SeqCst) == 0;
        idle.then(|| *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for BusyConnection {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = clock::monotonic();
        self.0.requests.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The tasks that serve the open connections. Dropping them closes the connections.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    tasks: JoinSet<()>,
    open: HashMap<Id, (Arc<ConnectionActivity>, AbortHandle)>,
}

impl OpenConnections {
    /// Serves one more connection.
    pub(super) fn add<F>(&mut self, serve: impl FnOnce(Arc<ConnectionActivity>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let activity = Arc::new(ConnectionActivity::new());
        let task = self.tasks.spawn(serve(activity.clone()));
        self.open.insert(task.id(), (activity, task));
    }

    /// Waits until a connection is closed; `None` when none is open. Cancel safe.
    pub(super) async fn closed(&mut self) -> Option<()> {
        let id = match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.open.remove(&id);
        Some(())
    }

    /// Makes place for one more connection: closes the one that has been idle for the longest time. While all of them
    /// are being answered, waits for the first response.
    pub(super) async fn make_place(&mut self) {
        while self.open.len() >= MAX_CONNECTIONS && !self.close_longest_idle() {
            self.closed().await;
        }
    }

    fn close_longest_idle(&mut self) -> bool {
        let idle = self.open.iter().filter_map(|(id, (activity, _))| Some((activity.idle_since()?, *id)));
        let Some((_, id)) = idle.min_by_key(|(since, _)| *since) else { return false };
        if let Some((_, task)) = self.open.remove(&id) {
            task.abort();
        }
        true
    }
}
