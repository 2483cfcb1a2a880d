//! `imsync run`: the daemon, or one incremental pass.
//!
//! Owns: the daemon's start-up. Must not know: its loop.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{CommandResult, Exit, Failure, Global, Voice, exit_of, printed, say, say_json, sentence};
use crate::clock::Shutdown;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::pass::{Engine, FullOptions, PassError, PassKind, PassProgress, PassReport, guard};
use crate::service::connect;
use crate::service::daemon::{Daemon, GRACE};
use crate::service::http::{self, HttpState};
use crate::service::readiness::Readiness;
use crate::service::signals::{self, OnHangup};
use crate::service::systemd;
use crate::state::{Access, Lease, State};
use crate::status;

/// An address in use is asked for again this often.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// The daemon: up until it is told to stop.
pub async fn daemon(global: Global) -> CommandResult {
    let config = global.load(true, Voice::Daemon)?;
    for sentence in config.not_yet_in_force() {
        tracing::warn!("{sentence}");
    }
    let shutdown = Shutdown::default();
    let hangups = signals::hangups()?;
    signals::listen(&shutdown, OnHangup::LeaveToCaller)?;
    let metrics = Arc::new(Metrics::new(&config.name));
    let readiness = Arc::new(Readiness::new(config.schedule.interval));

    // The server outlives the passes: `/healthz` answers until the process ends.
    let server_shutdown = Shutdown::default();
    let server = match config.http.listen {
        Some(listen) => {
            let state = HttpState {
                readiness: readiness.clone(),
                metrics: metrics.clone(),
                status: status_source(config.clone()),
                public: config.http.public,
            };
            Some(tokio::spawn(serve(listen, state, server_shutdown.clone())))
        }
        None => None,
    };

    systemd::ready();
    let daemon = Daemon {
        config,
        metrics,
        readiness,
        shutdown,
        hangups,
        read_config: Box::new(move || global.reload()),
        warned: BTreeSet::new(),
        reloaded: false,
    };
    Box::pin(daemon.run()).await;
    server_shutdown.request();
    if let Some(server) = server {
        // It stops by itself within two seconds; a panic in it has been reported.
        let _ = server.await;
    }
    Ok(Exit::Done)
}

/// Serves as soon as the address is free: somebody else's port must not keep changes from going.
async fn serve(listen: SocketAddr, state: HttpState, shutdown: Shutdown) {
    let mut told = false;
    let listener = loop {
        match http::bind(listen).await {
            Ok(listener) => break listener,
            Err(error) if told => tracing::debug!("{error}"),
            Err(error) => {
                tracing::error!("{error}; syncing without it, and trying again by itself");
                told = true;
            }
        }
        shutdown.sleep(BIND_AGAIN).await;
        if shutdown.requested() {
            return;
        }
    };
    tracing::info!(address = %listen, "serving /healthz /readyz /status /metrics");
    http::serve(listener, state, shutdown).await;
}

/// Reads the status with a connection of its own, opened at the first question.
fn status_source(config: Arc<Config>) -> http::Status {
    let opened = Arc::new(tokio::sync::OnceCell::<State>::new());
    Arc::new(move || {
        let (config, opened) = (config.clone(), opened.clone());
        Box::pin(async move {
            let state = opened.get_or_try_init(|| State::open(&config, Access::ReadOnly)).await;
            let state = state.map_err(|error| error.to_string())?;
            status::document(state).await.map_err(|error| error.to_string())
        })
    })
}

/// A one-shot command's hold on the sync: lease and engine.
pub(super) async fn lead(config: &Arc<Config>, shutdown: &Shutdown) -> Result<(Lease, Engine), Failure> {
    let metrics = Arc::new(Metrics::new(&config.name));
    let mut ground = connect::ground(config).await?;
    for warning in ground.source.warnings() {
        tracing::warn!("{warning}");
    }
    let (lease, writer) = match ground.take_lease().await? {
        Ok(taken) => taken,
        Err(holder) => {
            return Err(Failure::failed(format!(
                "{holder} holds the lease of sync \"{}\"; only one imsync writes at a time. Stop it first, or let it do the work",
                config.name
            )));
        }
    };
    let engine = ground.engine(&lease, writer, &metrics, shutdown).await?;
    Ok((lease, engine))
}

/// A one-shot pass, unless its lease is lost or a stop that was asked for takes too long.
pub(super) async fn within_bounds<T>(
    lease: &Lease,
    shutdown: &Shutdown,
    pass: impl Future<Output = T>,
) -> Result<T, Failure> {
    let late = async {
        shutdown.wait().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        done = lease.while_held(pass) => done.ok_or_else(|| Failure::failed(
            "the lease on this sync was lost: the state database does not answer, or another imsync took over; nothing is lost, run it again",
        )),
        () = late => Err(Failure::failed(format!(
            "stopped after {} s with calls still in flight; the next pass settles what they did", GRACE.as_secs(),
        ))),
    }
}

/// The end of a one-shot pass: the lease is given back, the result printed.
pub(super) async fn conclude(
    engine: Engine,
    lease: Lease,
    report: PassReport,
    error: Option<PassError>,
    json: bool,
    how_to_go_on: &str,
) -> CommandResult {
    // The next holder waits a whole second where the time of the last call is not known.
    let _ = engine.store_last_call().await;
    let tripped = engine.guard().map(guard::sentence);
    let doubts = engine.in_doubt_pending();
    lease.release().await;
    if json {
        printed(say_json(&report.row))?;
    } else if error.is_none() {
        printed(say(sentence(&report)))?;
    }
    if let Some(error) = error {
        let go_on = if matches!(report.ending, crate::pass::PassOutcome::Interrupted) { how_to_go_on } else { "" };
        return Err(Failure { exit: exit_of(report.ending), message: format!("{error}{go_on}") });
    }
    if let Some(tripped) = tripped {
        return Err(Failure::failed(tripped));
    }
    if doubts {
        return Err(Failure::failed(
            "IM did not answer for some accounts, so what it holds for them is not known (`imsync status` counts them as in doubt); \
             the next pass sends them again",
        ));
    }
    Ok(exit_of(report.ending))
}

/// `run --once`: one incremental pass; a full one where that is due (the first one of a sync always is).
pub async fn once(global: Global, json: bool) -> CommandResult {
    let config = global.load(true, Voice::OneShot)?;
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let (lease, mut engine) = lead(&config, &shutdown).await?;
    let full = engine.full_pass_due().is_some() || !engine.has_watermark();
    let pass = async {
        if full {
            engine.full(FullOptions::default(), Arc::new(PassProgress::new(PassKind::Full))).await
        } else {
            engine.incremental(Arc::new(PassProgress::new(PassKind::Incremental))).await
        }
    };
    let (report, error) = Box::pin(within_bounds(&lease, &shutdown, pass)).await?;
    conclude(engine, lease, report, error, json, "; the next pass goes on where this one stopped").await
}

/// Binds a sync to the configured app. False when it is bound to it already or has never run.
pub(super) async fn lead_for_rebind(config: &Arc<Config>, state: &State) -> Result<bool, Failure> {
    let mapping = crate::mapping::Mapping::new(config);
    let source = crate::source::Source::connect(config, mapping.columns()).await?;
    let binding = crate::pass::binding(config, &source);
    let Some(row) = state.sync_row().await? else { return Ok(false) };
    if row.binding == binding {
        return Ok(false);
    }
    row.check_only_app_differs(&config.name, &binding)?;
    let (lease, mut writer) = state.take_lease(row.id, &connect::me()).await?.map_err(|holder| {
        Failure::failed(format!("{holder} holds the lease of sync \"{}\"; stop it before you rebind", config.name))
    })?;
    writer.rebind(&binding).await?;
    lease.release().await;
    Ok(true)
}
