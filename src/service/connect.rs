//! Opens what a sync needs, in order: source, state, lease, IM client, engine.
//!
//! Owns: the order, and the wait of a new holder of the lease before its first call. Must not know: when passes run.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::call_share::CallShare;
use crate::clock::{Heartbeat, Shutdown};
use crate::config::{self, Config};
use crate::finding::Finding;
use crate::im;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::pass::{Engine, EngineParts, PassError, SlowCalls, binding, repairs_finding};
use crate::push::{PushLimits, Pusher};
use crate::source::{Source, SourceAdvice, SourceConnection, SourceError};
use crate::state::lease::{EarlierCalls, LeaseHolder, LeaseSession, LeaseTry};
use crate::state::sync_row::SyncRow;
use crate::state::{Access, Lease, PoolerProbe, State, StateError, StateWriter};

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
    /// What only serves warnings, and was not asked yet.
    advice: Option<SourceAdvice>,
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
    /// What only serves warnings, and was not asked yet.
    advice: Option<SourceAdvice>,
    /// What has been found of it.
    advised: Vec<Finding>,
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
        let (connections, ()) = Self::open_with(config, async |_| Ok(())).await?;
        Ok(connections)
    }

    /// As [`Connections::open`]. `prepare` works on the state while the source is examined. It must leave no settings in a
    /// session and commit nothing, because the source may still show that there is a pooler. An error of the source is reported
    /// first, and then nothing waits for the state.
    async fn open_with<T>(
        config: &Arc<Config>,
        prepare: impl AsyncFnOnce(&State) -> Result<T, StateError>,
    ) -> Result<(Self, T), ConnectError> {
        let mapping = Arc::new(Mapping::new(config));
        let columns = mapping.columns().to_vec();
        let (no_pooler, shown) = oneshot::channel();
        // Boxed, because both together are large.
        let mut examined = Box::pin(async {
            let connection = SourceConnection::open(config).await?;
            // Nobody receives it if the state has failed.
            let _ = no_pooler.send(());
            Source::of_connection(connection, config, &columns).await
        });
        let mut opened = Box::pin(async {
            let state = State::open_probed(config, Access::ReadWrite, pooler_probe(config)).await?;
            let open_pool = async {
                if shown.await.is_ok() {
                    state.open_pool().await;
                }
            };
            let (prepared, ()) = tokio::join!(prepare(&state), open_pool);
            let prepared = prepared?;
            Ok::<_, StateError>((state, prepared))
        });
        let mut early = None;
        let (source, advice) = loop {
            tokio::select! {
                biased;
                examined = &mut examined => break examined?,
                opened = &mut opened, if early.is_none() => early = Some(opened),
            }
        };
        let opened = match early {
            Some(opened) => opened,
            None => opened.await,
        };
        let (state, prepared) = opened?;
        Ok((Self { config: config.clone(), mapping, source, state, advice }, prepared))
    }

    /// Upgrades the state tables if the configuration allows it, and checks the binding.
    ///
    /// # Errors
    ///
    /// When the state is unreachable, or schema or binding do not fit.
    pub async fn bind(self) -> Result<Resources, ConnectError> {
        let Self { config, mapping, source, state, advice } = self;
        state.ensure_schema(config.state.migrate).await?;
        let row = state.bind(&binding(&config, &source)).await?;
        let names: Vec<&str> = mapping.names().iter().map(|name| &**name).collect();
        let overlap_warnings = state.overlap_warnings(Some(&row), &row.binding, &names).await?;
        let slow_calls = SlowCalls::Await;
        let (advised, lease_session) = (Vec::new(), None);
        Ok(Resources {
            config,
            mapping,
            source,
            state,
            row,
            overlap_warnings,
            slow_calls,
            advice,
            advised,
            lease_session,
        })
    }
}

/// A pooler shows at the first of several connections by one URL.
fn pooler_probe(config: &Config) -> PoolerProbe {
    let (source, state) = (&config.source, &config.state);
    let are_constant = source.url_file.is_none() && state.url_file.is_none();
    if are_constant && source.url.same_as(&state.url) { PoolerProbe::Done } else { PoolerProbe::Needed }
}

impl Resources {
    /// Opens the connections and binds the sync.
    ///
    /// # Errors
    ///
    /// When a database is unreachable, or table, privileges, schema or binding do not fit.
    pub async fn connect(config: &Arc<Config>) -> Result<Self, ConnectError> {
        let may_migrate = config.state.migrate;
        // Creating the tables takes longer than all other steps. They are committed when the source has been examined.
        let create = async |state: &State| state.begin_creation(may_migrate).await;
        let (connections, created) = Connections::open_with(config, create).await?;
        if let Some(created) = created {
            connections.state.commit_creation(created).await?;
        }
        connections.bind().await
    }

    /// What works, but not as well as it could, for the log. What only [`Resources::take_advice`] or
    /// [`Resources::ask_for_advice`] finds is missing before that.
    pub fn warnings(&self) -> Vec<Finding> {
        let repairs = repairs_finding(&self.config, &self.source, &self.row);
        let source = self.source.warnings().iter().chain(&self.advised);
        source.chain(&self.overlap_warnings).cloned().chain(repairs).collect()
    }

    /// Asks the source what only serves warnings, which may take seconds.
    pub async fn ask_for_advice(&mut self) {
        if let Some(advice) = self.take_advice() {
            self.advised = advice.await;
        }
    }

    /// The questions that only serve warnings, for somebody who asks them later; `None` when they have been asked. Their answers
    /// are the warnings.
    pub fn take_advice(&mut self) -> Option<impl Future<Output = Vec<Finding>> + Send + use<>> {
        let (config, mapping) = (self.config.clone(), self.mapping.clone());
        let advice = self.advice.take()?;
        Some(async move { advice.collect(&config, mapping.columns()).await })
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
                self.row = self.state.bound_row(&binding(&self.config, &self.source)).await?;
                Ok(Ok((lease, *writer)))
            }
            LeaseTry::HeldBy(holder, session) => {
                self.lease_session = Some(session);
                Ok(Err(holder))
            }
        }
    }

    /// Builds the engine for the holder of the lease. Its first call waits until the calls of earlier holders are a second old.
    pub async fn engine(
        self,
        lease: &Lease,
        writer: StateWriter,
        metrics: &Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> Result<Engine, ConnectError> {
        let Self { config, mapping, source, state, row, slow_calls, .. } = self;
        let pusher = pusher(&config, lease, metrics, shutdown)?;
        pusher.hold_until(lease.taken_at + wait_after(lease.earlier_calls));
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

/// How long a new holder of the lease makes no call.
fn wait_after(earlier_calls: EarlierCalls) -> Duration {
    let ago = match earlier_calls {
        EarlierCalls::None => RATE_WINDOW,
        // A negative time comes from a clock that was set back.
        EarlierCalls::SecondsAgo(ago) => Duration::try_from_secs_f64(ago).unwrap_or_default(),
        EarlierCalls::Unknown => Duration::ZERO,
    };
    RATE_WINDOW.saturating_sub(ago)
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
    let limits = push_limits(config, lease.share_calls(config.im.sdk_app_id, config.im.calls_per_second));
    Ok(Arc::new(Pusher::new(client(config)?, limits, metrics.clone(), lease.heartbeat(), shutdown.clone())))
}

/// A push stage that only reads, for a process without the lease. The limit is that of each vendor command, and a daemon
/// reads at most once a second, to see whether IM answers. So one call a second is left to it.
///
/// # Errors
///
/// [`ConnectError::Client`] when there is no secret key or it is not usable.
pub fn reading_pusher(config: &Config, shutdown: &Shutdown) -> Result<Arc<Pusher>, ConnectError> {
    let calls_per_second = config.im.calls_per_second.saturating_sub(1).max(1);
    let limits = PushLimits { calls_per_second, ..push_limits(config, CallShare::new(calls_per_second)) };
    let metrics = Arc::new(Metrics::new(&config.name));
    Ok(Arc::new(Pusher::new(client(config)?, limits, metrics, Heartbeat::default(), shutdown.clone())))
}

fn push_limits(config: &Config, call_share: CallShare) -> PushLimits {
    PushLimits {
        users_per_call: config.im.users_per_call,
        calls_per_second: config.im.calls_per_second,
        call_share,
        max_in_flight: config.im.max_in_flight,
        retry_for: config.im.retry_for,
        max_rejected_share: config.im.max_rejected_share,
        unknown_accounts: config.im.unknown_accounts,
        account_type: config.im.account_type,
    }
}

/// How this process appears as the holder of a lease: command, process id and host.
pub fn holder_id() -> String {
    let command = std::env::args().nth(1).unwrap_or_default();
    format!("imsync {command} (pid {} on {})", std::process::id(), host_name())
}

/// The name of this machine.
pub(super) fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if host.trim().is_empty() { "this host".to_owned() } else { host.trim().to_owned() }
}
