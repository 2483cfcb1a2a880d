//! Opens what a sync needs: source, state, lease, client, engine.
//!
//! Owns: the order in which they are opened, and the pause of a new holder. Must not know: when passes run.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Shutdown};
use crate::config::{self, Config};
use crate::im;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::pass::{Engine, EngineParts, PassError, binding};
use crate::push::{PushLimits, Pusher};
use crate::source::{Source, SourceError};
use crate::state::lease::Holder;
use crate::state::sync::SyncRow;
use crate::state::{Access, Lease, State, StateError, StateWriter};

/// Two syncs that hold the lease one after the other must not call within one second of each other's budget.
const PACE_WINDOW: Duration = Duration::from_secs(1);

/// A source that has not been introspected by then is unreachable: its server may have vanished without a word.
const PATIENCE: Duration = Duration::from_mins(1);

/// What can keep a sync from being opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The IM client cannot be made from this configuration.
    #[error("cannot make a client for IM: {0}")]
    Client(String),
}

/// Source and state, before anybody holds the lease.
#[derive(Debug)]
pub struct Resources {
    pub config: Arc<Config>,
    pub mapping: Arc<Mapping>,
    pub source: Source,
    pub state: State,
    pub row: SyncRow,
}

/// Connects to both databases, readies the state tables and checks what the sync is bound to.
pub async fn ground(config: &Arc<Config>) -> Result<Resources, ConnectError> {
    let mapping = Arc::new(Mapping::new(config));
    let source = tokio::time::timeout(PATIENCE, Source::connect(config, mapping.columns())).await;
    let source =
        source.map_err(|_| SourceError::Unreachable(format!("no answer within {} s", PATIENCE.as_secs())))??;
    let state = State::open(config, Access::ReadWrite).await?;
    state.ensure_schema(config.state.migrate).await?;
    let row = state.bind(&binding(config, &source)).await?;
    Ok(Resources { config: config.clone(), mapping, source, state, row })
}

impl Resources {
    /// Takes the lease, if nobody holds it. The row is read again afterwards: a former holder may have moved on.
    pub async fn take_lease(&mut self) -> Result<Result<(Lease, StateWriter), Holder>, ConnectError> {
        let taken = self.state.take_lease(self.row.id, &me()).await?;
        if taken.is_ok() {
            self.row = self.state.bind(&binding(&self.config, &self.source)).await?;
        }
        Ok(taken)
    }

    /// The engine of the lease's holder.
    pub async fn engine(
        self,
        lease: &Lease,
        writer: StateWriter,
        metrics: &Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> Result<Engine, ConnectError> {
        let Self { config, mapping, source, state, row } = self;
        let pusher = pusher(&config, lease, metrics, shutdown)?;
        // Not known: the predecessor may have called until this very moment.
        let ago = lease.last_call_seconds_ago.and_then(|ago| Duration::try_from_secs_f64(ago).ok()).unwrap_or_default();
        pusher.hold_until(clock::monotonic() + PACE_WINDOW.saturating_sub(ago));
        let parts = EngineParts {
            config,
            mapping,
            source,
            state,
            writer,
            pusher,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            row,
        };
        Ok(Engine::assemble(parts).await?)
    }
}

/// A client for the configured app.
pub fn client(config: &Config) -> Result<Arc<im::Client>, ConnectError> {
    let secret_key =
        config.im.secret_key.clone().ok_or_else(|| ConnectError::Client("there is no secret key".to_owned()))?;
    let settings = im::Settings {
        endpoint: match &config.im.endpoint {
            config::Endpoint::Region(region) => im::Endpoint::Region(*region),
            config::Endpoint::BaseUrl(url) => im::Endpoint::BaseUrl(url.clone()),
        },
        service: config.im.service,
        sdk_app_id: config.im.sdk_app_id,
        identifier: config.im.identifier.clone(),
        secret_key,
        usersig_lifetime: config.im.usersig_lifetime,
        timeout: config.im.timeout,
    };
    Ok(Arc::new(im::Client::new(settings).map_err(ConnectError::Client)?))
}

fn pusher(
    config: &Config,
    lease: &Lease,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) -> Result<Arc<Pusher>, ConnectError> {
    let limits = PushLimits {
        users_per_call: config.im.users_per_call,
        calls_per_second: config.im.calls_per_second,
        max_in_flight: config.im.max_in_flight,
        retry_for: config.im.retry_for,
        late_write_window: config.im.timeout * 2,
        max_rejected_share: config.im.max_rejected_share,
    };
    Ok(Arc::new(Pusher::new(client(config)?, limits, metrics.clone(), lease.heartbeat(), shutdown.clone())))
}

/// How this process calls itself as the holder of a lease: command, process id and host.
pub fn me() -> String {
    let command = std::env::args().nth(1).unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "this host" } else { host.trim() };
    format!("imsync {command} (pid {} on {host})", std::process::id())
}
