//! What the commands share that write once and exit: `run --once`, `backfill`, `verify --repair`, `forget`,
//! `migrate --rebind`.
//!
//! Owns: taking and releasing the lease, the limits on a single pass, the exit code of its result. Must not know: which
//! pass runs.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::exit::{CommandFailure, CommandResult, exit_of};
use super::output::{describe_pass, ignore_broken_pipe, print_json, print_line};
use crate::clock::Shutdown;
use crate::config::Config;
use crate::finding::Finding;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::pass::{self, Engine, PassError, PassOutcome, PassReport, guard};
use crate::service::connect::{self, Resources};
use crate::service::daemon::GRACEFUL_STOP_LIMIT;
use crate::source::Source;
use crate::state::{Lease, State};

/// The engine of a sync whose lease this process holds.
pub(super) struct LeasedEngine {
    pub(super) lease: Lease,
    pub(super) engine: Engine,
    advice: Option<LaterAdvice>,
}

/// Asks the source what only serves warnings beside the pass, once its first call has started, and logs the answers. The first
/// call does not wait for them, and no transaction list of the pass shows their session.
struct LaterAdvice {
    task: JoinHandle<()>,
    pass_ended: oneshot::Sender<()>,
}

impl LaterAdvice {
    fn start(engine: &Engine, advice: impl Future<Output = Vec<Finding>> + Send + 'static) -> Self {
        let first_call = engine.first_call();
        let (pass_ended, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = first_call => {}
                _ = ended => {}
            }
            for warning in advice.await {
                tracing::warn!("{warning}");
            }
        });
        Self { task, pass_ended }
    }

    async fn finish(self) {
        // The task may have asked already.
        let _ = self.pass_ended.send(());
        // A panic of it has been printed.
        let _ = self.task.await;
    }
}

impl LeasedEngine {
    /// Connects to the databases and takes the lease. Fails at once when another process holds it.
    pub(super) async fn start(config: &Arc<Config>, shutdown: &Shutdown) -> Result<Self, CommandFailure> {
        let metrics = Arc::new(Metrics::new(&config.name));
        let mut resources = Box::pin(Resources::connect(config)).await?;
        for warning in resources.warnings() {
            tracing::warn!("{warning}");
        }
        let (lease, writer) = resources.take_lease().await?.map_err(|holder| {
            CommandFailure::failed(format!(
                "another process holds the lease of sync \"{}\", and only the holder may write: {holder}; stop \
                 it, or let it run the sync",
                config.name
            ))
        })?;
        let advice = resources.take_advice();
        let engine = Box::pin(resources.engine(&lease, writer, &metrics, shutdown)).await?;
        let advice = advice.map(|advice| LaterAdvice::start(&engine, advice));
        Ok(Self { lease, engine, advice })
    }

    /// Releases the lease. Returns the message of the removal guard while it is tripped.
    pub(super) async fn close(self) -> Option<String> {
        let Self { lease, engine, advice } = self;
        // A failure only costs time: the next holder waits one second when it does not know the time of the last call.
        let _ = engine.store_last_call().await;
        let tripped = engine.guard().map(guard::message);
        lease.release().await;
        if let Some(advice) = advice {
            advice.finish().await;
        }
        tripped
    }

    /// Releases the lease, prints the report of the pass and returns the exit code.
    ///
    /// `resume_hint` completes the error message of an interrupted pass: it says how the work is resumed.
    pub(super) async fn finish(
        self,
        (report, error): (PassReport, Option<PassError>),
        json: bool,
        resume_hint: &str,
    ) -> CommandResult {
        let in_doubt = self.engine.in_doubt_pending();
        let tripped = Box::pin(self.close()).await;
        if json {
            ignore_broken_pipe(print_json(&report.row))?;
        } else if error.is_none() {
            ignore_broken_pipe(print_line(describe_pass(&report)))?;
        }
        if let Some(error) = error {
            let hint = if report.outcome == PassOutcome::Interrupted { resume_hint } else { "" };
            return Err(CommandFailure { exit: exit_of(report.outcome), message: format!("{error}{hint}") });
        }
        if let Some(tripped) = tripped {
            return Err(CommandFailure::failed(tripped));
        }
        if in_doubt {
            return Err(CommandFailure::failed(
                "IM did not answer for some accounts, so it is not known which values it holds for them; the next pass \
                 sends them again, and `imsync status` counts them as in doubt until then",
            ));
        }
        Ok(exit_of(report.outcome))
    }
}

/// Runs a pass. Fails when the lease is lost, or when the pass has not ended `GRACEFUL_STOP_LIMIT` after a stop was requested.
pub(super) async fn run_within_limits<T>(
    lease: &Lease,
    shutdown: &Shutdown,
    pass: impl Future<Output = T>,
) -> Result<T, CommandFailure> {
    let deadline = async {
        shutdown.wait().await;
        tokio::time::sleep(GRACEFUL_STOP_LIMIT).await;
    };
    tokio::select! {
        biased;
        result = lease.while_held(pass) => result.ok_or_else(|| CommandFailure::failed(
            "the lease of this sync was lost, because the state database does not answer or another imsync took the \
             lease; no data is lost, run the command again",
        )),
        () = deadline => Err(CommandFailure::failed(format!(
            "stopped after {} s with calls still in flight; their outcome is unknown, and the next pass sends \
             them again",
            GRACEFUL_STOP_LIMIT.as_secs(),
        ))),
    }
}

/// Binds a sync to the configured app. Returns false when it is bound to that app already, or has never run.
pub(super) async fn rebind(config: &Arc<Config>, state: &State) -> Result<bool, CommandFailure> {
    let mapping = Mapping::new(config);
    let source = Source::connect(config, mapping.columns()).await?;
    let binding = pass::binding(config, &source);
    let Some(row) = state.sync_row().await? else { return Ok(false) };
    if row.binding == binding {
        return Ok(false);
    }
    row.binding.check_except_app(&config.name, &binding)?;
    let (lease, mut writer) = state.take_lease(row.id, &connect::holder_id()).await?.map_err(|holder| {
        CommandFailure::failed(format!(
            "{holder} holds the lease of sync \"{}\"; stop it, then run `imsync migrate --rebind` again",
            config.name
        ))
    })?;
    writer.rebind(&binding).await?;
    lease.release().await;
    Ok(true)
}
