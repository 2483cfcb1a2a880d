//! Opens what a sync needs, in order: source, state, lease, IM client, engine.
//!
//! Owns: the order, and the wait of a new holder of the lease before its first call. Must not know: when passes run.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Shutdown};
use crate::config::{self, Config};
use crate::finding::Finding;
use crate::im;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::pass::{Engine, EngineParts, PassError, SlowCalls, binding, repairs_finding};
use crate::push::{PushLimits, Pusher};
use crate::source::{Source, SourceError};
use crate::state::lease::{LeaseHolder, LeaseSession, LeaseTry};
use crate::state::sync_row::SyncRow;
use crate::state::{Access, Lease, State, StateError, StateWriter};

/// The vendor counts calls per second. So long after the last call of the previous holder, its calls count against the
/// limit of the new one.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// Why a sync cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The source database.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The state database.
    #[error(transparent)]
    State(#[from] StateError),
    /// The engine could not be started.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The IM client cannot be built from this configuration.
    #[error("cannot build the IM client: {0}")]
    Client(String),
}

/// Open connections to source and state.
#[derive(Debug)]
pub struct Connections {
    /// The configuration with which they were opened.
    pub config: Arc<Config>,
    /// The mapping of the configuration.
    pub mapping: Arc<Mapping>,
    /// The connection to the source.
    pub source: Source,
    /// The state database.
    pub state: State,
}

/// Source and state, without the lease.
#[derive(Debug)]
pub struct Resources {
    /// The configuration with which they were opened.
    pub config: Arc<Config>,
    /// The mapping of the configuration.
    pub mapping: Arc<Mapping>,
    /// The connection to the source.
    pub source: Source,
    /// The state database.
    pub state: State,
    /// The row of the sync, as it was when the binding was checked last.
    pub row: SyncRow,
    /// Other syncs that write the same attributes of the same app.
    pub overlap_warnings: Vec<Finding>,
    /// Whether passes wait for their slowest call.
    pub slow_calls: SlowCalls,
    /// The session of the last try to take the lease, for the next one.
    lease_session: Option<LeaseSession>,
}

impl Connections {
    /// Connects to both databases. Writes nothing.
    ///
    /// # Errors
    ///
    /// When a database is unreachable, or table or privileges do not fit.
    pub async fn open(config: &Arc<Config>) -> Result<Self, ConnectError> {
        let mapping = Arc::new(Mapping::new(config));
        let source = Source::connect(config, mapping.columns()).await?;
        let state = State::open(config, Access::ReadWrite).await?;
        Ok(Self { config: config.clone(), mapping, source, state })
    }

    /// Upgrades the state tables if the configuration allows it, and checks the binding.
    ///
    /// # Errors
    ///
    /// When the state is unreachable, or schema or binding do not fit.
    pub async fn bind(self) -> Result<Resources, ConnectError> {
        let Self { config, mapping, source, state } = self;
        state.ensure_schema(config.state.migrate).await?;
        let row = state.bind(&binding(&config, &source)).await?;
        let names: Vec<&str> = mapping.names().iter().map(|name| &**name).collect();
        let overlap_warnings = state.overlap_warnings(Some(&row), &row.binding, &names).await?;
        let slow_calls = SlowCalls::Await;
        Ok(Resources { config, mapping, source, state, row, overlap_warnings, slow_calls, lease_session: None })
    }
}

impl Resources {
    /// Opens the connections and binds the sync.
    ///
    /// # Errors
    ///
    /// When a database is unreachable, or table, privileges, schema or binding do not fit.
    pub async fn connect(config: &Arc<Config>) -> Result<Self, ConnectError> {
        Connections::open(config).await?.bind().await
    }

    /// What works, but not as well as it could, for the log.
    pub fn warnings(&self) -> Vec<Finding> {
        let repairs = repairs_finding(&self.config, &self.source, &self.row);
        self.source.warnings().iter().chain(&self.overlap_warnings).cloned().chain(repairs).collect()
    }

    /// Takes the lease, or returns its holder. Afterwards the row is read again, because a previous holder may have
    /// changed it. All tries use one session, until an error closes it.
    pub async fn take_lease(&mut self) -> Result<Result<(Lease, StateWriter), LeaseHolder>, ConnectError> {
        let tried = match self.lease_session.take() {
            // The server may have ended it, for example because this process was suspended.
            Some(session) => self.state.try_lease(session, self.row.id, &holder_id()).await.ok(),
            None => None,
        };
        let tried = match tried {
            Some(tried) => tried,
            None => self.state.try_lease(self.state.lease_session().await?, self.row.id, &holder_id()).await?,
        };
        match tried {
            LeaseTry::Taken(lease, writer) => {
                self.row = self.state.bind(&binding(&self.config, &self.source)).await?;
                Ok(Ok((lease, *writer)))
            }
            LeaseTry::HeldBy(holder, session) => {
                self.lease_session = Some(session);
                Ok(Err(holder))
            }
        }
    }

    /// Builds the engine for the holder of the lease. Its first call waits for the end of the previous holder's second.
    pub async fn engine(
        self,
        lease: &Lease,
        writer: StateWriter,
        metrics: &Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> Result<Engine, ConnectError> {
        let Self { config, mapping, source, state, row, slow_calls, overlap_warnings: _, lease_session: _ } = self;
        let pusher = pusher(&config, lease, metrics, shutdown)?;
        // When the time is not known, the previous holder may have called just now.
        let ago = lease.last_call_seconds_ago.and_then(|ago| Duration::try_from_secs_f64(ago).ok()).unwrap_or_default();
        pusher.hold_until(clock::monotonic() + RATE_WINDOW.saturating_sub(ago));
        let parts = EngineParts {
            config,
            mapping,
            source,
            state,
            writer,
            pusher,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            slow_calls,
            row,
        };
        Ok(Box::pin(Engine::prepare(parts)).await?)
    }
}

/// The IM client of the configured app.
///
/// # Errors
///
/// [`ConnectError::Client`] when there is no secret key or it is not usable.
pub fn client(config: &Config) -> Result<Arc<im::Client>, ConnectError> {
    let secret_key =
        config.im.secret_key.clone().ok_or_else(|| ConnectError::Client("no secret key is configured".to_owned()))?;
    let settings = im::ClientSettings {
        api_base: match &config.im.address {
            config::ImAddress::Region(region) => im::ApiBase::Region(*region),
            config::ImAddress::BaseUrl(url) => im::ApiBase::BaseUrl(url.clone()),
        },
        service: config.im.service,
        sdk_app_id: config.im.sdk_app_id,
        identifier: config.im.identifier.clone(),
        secret_key,
        secret_key_file: config.im.secret_key_file.clone(),
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
        call_share: lease.share_calls(config.im.sdk_app_id, config.im.calls_per_second),
        max_in_flight: config.im.max_in_flight,
        retry_for: config.im.retry_for,
        max_rejected_share: config.im.max_rejected_share,
        unknown_accounts: config.im.unknown_accounts,
        account_type: config.im.account_type,
    };
    Ok(Arc::new(Pusher::new(client(config)?, limits, metrics.clone(), lease.heartbeat(), shutdown.clone())))
}

/// How this process appears as the holder of a lease: command, process id and host.
pub fn holder_id() -> String {
    let command = std::env::args().nth(1).unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "this host" } else { host.trim() };
    format!("imsync {command} (pid {} on {host})", std::process::id())
}
