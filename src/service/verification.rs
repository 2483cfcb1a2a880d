//! The verification that the daemon runs by itself, beside its passes.
//!
//! Owns: when it is due, its task, and what its result says in the log. Must not know: how accounts are compared, passes.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock;
use crate::config::Config;
use crate::mapping::Mapping;
use crate::pass::dry_run::DryRun;
use crate::pass::verify::{PassesRun, StoredVerification, Verifier, VerifyReport, VerifyScope};
use crate::pass::{Engine, PassError};
use crate::push::Pusher;
use crate::source::Source;
use crate::state::State;
use crate::state::sync_row::SyncRow;

/// Calls under way at once. A sample needs ten calls, and passes go first.
const CALLS_AT_ONCE: usize = 2;
/// The pause after one that could not be completed.
const RETRY_DELAY: Duration = Duration::from_mins(5);

/// The verifications of a leader; ends with it.
#[derive(Debug)]
pub(super) struct ScheduledVerification {
    config: Arc<Config>,
    /// `None` if the daemon does not verify.
    due: Option<Instant>,
    task: Option<JoinHandle<Result<Option<VerifyReport>, PassError>>>,
}

impl ScheduledVerification {
    /// The time of the last one counts over restarts.
    pub(super) fn from_row(config: &Arc<Config>, row: &SyncRow) -> Self {
        let due = config.schedule.verify_every.map(|every| {
            let ended = StoredVerification::read(row.verification.as_ref()).and_then(|last| last.ended_at);
            let ago = ended.map_or(every, |ended| (row.read_at - ended).to_std().unwrap_or_default());
            clock::monotonic() + every.saturating_sub(ago)
        });
        Self { config: config.clone(), due, task: None }
    }

    /// Begins one that is due, and records one that has ended. To be called between passes. Before the first full pass there is
    /// nothing to verify. Returns what was recorded.
    pub(super) async fn advance(&mut self, engine: &Engine) -> Result<Option<StoredVerification>, PassError> {
        let Some(due) = self.due else { return Ok(None) };
        if self.task.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(task) = self.task.take()
        {
            let every = self.config.schedule.verify_every.unwrap_or(RETRY_DELAY);
            // A panic has been printed.
            let ended = task
                .await
                .unwrap_or_else(|error| Err(PassError::NotRead(format!("the verification has failed: {error}"))));
            let is_complete = matches!(ended, Ok(Some(_)));
            self.due = Some(clock::monotonic() + if is_complete { every } else { RETRY_DELAY.min(every) });
            return record(engine, ended).await;
        }
        if self.task.is_none() && due <= clock::monotonic() && engine.full_pass_due().is_none() {
            let (config, pusher, state) = (self.config.clone(), engine.pusher(), engine.state());
            self.task = Some(tokio::spawn(verify(config, pusher, state)));
        }
        Ok(None)
    }
}

impl Drop for ScheduledVerification {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Compares a sample. `None` if another process verifies the app.
async fn verify(config: Arc<Config>, pusher: Arc<Pusher>, state: State) -> Result<Option<VerifyReport>, PassError> {
    let Some(_lock) = state.lock_verification(config.im.sdk_app_id).await? else { return Ok(None) };
    let mapping = Arc::new(Mapping::new(&config));
    let source = Source::reconnect(&config, mapping.columns()).await?;
    let sample = usize::try_from(config.schedule.verify_sample).unwrap_or(usize::MAX);
    let mut verifier =
        Verifier::new(DryRun::new(config, mapping, source, state).await?, pusher, PassesRun::Here, CALLS_AT_ONCE);
    verifier.run(VerifyScope::Sample(sample)).await?;
    Ok(Some(verifier.report().clone()))
}

async fn record(
    engine: &Engine,
    ended: Result<Option<VerifyReport>, PassError>,
) -> Result<Option<StoredVerification>, PassError> {
    match ended {
        Ok(Some(report)) => {
            let stored = engine.save_verification(&report, true, None).await?;
            if let Some(message) = stored.message() {
                tracing::warn!(drifted = stored.drifted, checked = stored.checked, "{message}");
            } else {
                tracing::info!(checked = stored.checked, "a random sample was compared with IM: no difference");
            }
            return Ok(Some(stored));
        }
        Ok(None) => tracing::debug!("another process verifies the app"),
        Err(error) => tracing::warn!("the verification has stopped, and is tried again later: {error}"),
    }
    Ok(None)
}
