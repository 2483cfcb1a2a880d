//! `imsync run`: the daemon, or one incremental pass.
//!
//! Owns: how the daemon starts and what runs beside it. Must not know: the loop of the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::exit::{CommandResult, Exit};
use super::one_shot::{LeasedEngine, run_within_limits};
use super::options::{CommandKind, GlobalOptions};
use crate::clock::Shutdown;
use crate::metrics::Metrics;
use crate::pass::{FullOptions, PassKind, PassProgress};
use crate::service::daemon::Daemon;
use crate::service::http::{self, HttpState};
use crate::service::readiness::Readiness;
use crate::service::reload::Reloader;
use crate::service::signals::{self, OnHangup};
use crate::service::status_source::status_source;
use crate::service::systemd;

/// The interval between two attempts to listen on an HTTP address that is in use.
const LISTEN_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the daemon until a stop is requested.
pub async fn daemon(global: GlobalOptions) -> CommandResult {
    let config = global.load(true, CommandKind::Daemon)?;
    for warning in config.unimplemented_key_warnings() {
        tracing::warn!("{warning}");
    }
    let shutdown = Shutdown::default();
    let hangups = signals::hangup_signal()?;
    signals::listen(&shutdown, OnHangup::HandledByCaller)?;
    let metrics = Arc::new(Metrics::new(&config.name));
    let readiness = Arc::new(Readiness::new(config.schedule.interval));

    // The HTTP server has a shutdown of its own, so that `/healthz` answers until the last pass has ended.
    let server_shutdown = Shutdown::default();
    let server = config.http.listen.map(|listen| {
        let state = HttpState {
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            status: status_source(config.clone()),
            public: config.http.public,
        };
        tokio::spawn(serve_http(listen, state, server_shutdown.clone()))
    });

    systemd::ready();
    let reloader = Reloader::new(hangups, Box::new(move || global.reload()));
    let daemon = Daemon::new(config, metrics, readiness, shutdown, reloader);
    Box::pin(daemon.run()).await;
    server_shutdown.request();
    if let Some(server) = server {
        // The server stops within two seconds. If it panicked, the panic has been printed.
        let _ = server.await;
    }
    Ok(Exit::Done)
}

/// Serves HTTP as soon as the address is free. An address in use must not keep the daemon from syncing.
async fn serve_http(listen: SocketAddr, state: HttpState, shutdown: Shutdown) {
    let mut logged = false;
    let listener = loop {
        match http::bind(listen).await {
            Ok(listener) => break listener,
            Err(error) if logged => tracing::debug!("{error}"),
            Err(error) => {
                let seconds = LISTEN_RETRY_INTERVAL.as_secs();
                tracing::error!("{error}; imsync runs without HTTP and retries every {seconds} s");
                logged = true;
            }
        }
        shutdown.sleep(LISTEN_RETRY_INTERVAL).await;
        if shutdown.requested() {
            return;
        }
    };
    tracing::info!(address = %listen, "serving /healthz /readyz /status /metrics");
    http::serve(listener, state, shutdown).await;
}

/// Runs one incremental pass (`run --once`), or a full pass when one is due. The first pass of a sync is always full.
pub async fn once(global: GlobalOptions, json: bool) -> CommandResult {
    let config = global.load(true, CommandKind::OneShot)?;
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let mut leased = Box::pin(LeasedEngine::start(&config, &shutdown)).await?;
    let LeasedEngine { lease, engine, .. } = &mut leased;
    let full = engine.full_pass_due().is_some() || !engine.has_watermark();
    let progress = Arc::new(PassProgress::new(if full { PassKind::Full } else { PassKind::Incremental }));
    let _reads = engine.watch_long_reads(&progress);
    let pass = async {
        if full {
            engine.full(FullOptions::default(), progress).await
        } else {
            engine.incremental(progress, None).await
        }
    };
    let result = Box::pin(run_within_limits(lease, &shutdown, pass)).await?;
    leased.finish(result, json, "; the next pass resumes where this one stopped").await
}
