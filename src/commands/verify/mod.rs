//! `imsync verify`: reads attributes back from IM, compares them with the table, and sends what differs if asked to.
//!
//! Owns: the order of verification, repair and second verification, and the exit code. Must not know: how accounts are
//! compared, how the result is laid out.

mod layout;

use std::sync::Arc;

use super::exit::{CommandFailure, CommandResult, Exit};
use super::one_shot::{LeasedEngine, run_within_limits};
use super::open_dry_run::{OpenDryRun, open_dry_run};
use super::options::{CommandKind, GlobalOptions};
use super::progress::ProgressDisplay;
use crate::clock::Shutdown;
use crate::config::Config;
use crate::model::Account;
use crate::pass::verify::{PassesRun, Verifier, VerifyReport, VerifyScope};
use crate::pass::{Engine, PassError, PassKind, PassProgress};
use crate::service::connect;
use crate::service::signals::{self, OnHangup};
use crate::state::State;
use crate::state::verification::VerificationLock;
use layout::VerifyLayout;

/// The arguments of `imsync verify`.
#[derive(Clone, Debug)]
pub struct VerifyArgs {
    /// Rows to draw at random; `None` means all.
    pub sample: Option<usize>,
    /// Send what the table says to accounts that differ.
    pub repair: bool,
    /// Print one JSON document.
    pub json: bool,
}

impl VerifyArgs {
    fn scope(&self) -> VerifyScope {
        self.sample.map_or(VerifyScope::All, VerifyScope::Sample)
    }
}

/// What was found, and what a repair has left.
struct Verified {
    found: VerifyReport,
    /// The accounts that differed, compared again after they were repaired.
    after: Option<VerifyReport>,
    /// Why it is not complete.
    error: Option<String>,
}

/// Compares IM with the table. The exit code is 3 when something differs that was not repaired.
pub async fn run(global: GlobalOptions, args: VerifyArgs) -> CommandResult {
    let config = global.load(true, CommandKind::OneShot)?;
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let verified = if args.repair {
        Box::pin(verify_and_repair(&config, &args, &shutdown)).await?
    } else {
        Box::pin(verify(&config, &args, &shutdown)).await?
    };
    let Verified { found, after, error } = verified;
    let repaired = after.as_ref().map_or(0, |after| after.matching);
    let layout = VerifyLayout { json: args.json, is_sample: args.sample.is_some() };
    layout::print(&found, after.as_ref(), layout)?;
    if let Some(error) = error {
        return Err(CommandFailure::failed(error));
    }
    if let Some(reason) = &found.unreadable_reason {
        return Err(CommandFailure::failed(format!(
            "IM refuses to read {} of the accounts ({reason}), so nothing is known of them",
            found.unreadable
        )));
    }
    Ok(if found.drifted_accounts > repaired { Exit::Rejected } else { Exit::Done })
}

async fn verify(config: &Arc<Config>, args: &VerifyArgs, shutdown: &Shutdown) -> Result<Verified, CommandFailure> {
    let OpenDryRun { dry_run, state, reads: _reads } = open_dry_run(config, false).await?;
    let _lock = lock(&state, config).await?;
    let pusher = connect::reading_pusher(config, shutdown)?;
    let mut verifier = Verifier::new(dry_run, pusher, PassesRun::ByLeaseHolder, config.im.max_in_flight);
    let result = with_progress(&mut verifier, args.scope()).await;
    let error = result.err().map(|error| incomplete(&error, &args.scope()));
    Ok(Verified { found: verifier.report().clone(), after: None, error })
}

async fn verify_and_repair(
    config: &Arc<Config>,
    args: &VerifyArgs,
    shutdown: &Shutdown,
) -> Result<Verified, CommandFailure> {
    let mut leased = Box::pin(LeasedEngine::start(config, shutdown)).await?;
    let LeasedEngine { lease, engine, .. } = &mut leased;
    let steps = async {
        let OpenDryRun { dry_run, state, reads: _reads } = open_dry_run(config, false).await?;
        let _lock = lock(&state, config).await?;
        let mut verifier = Verifier::new(dry_run, engine.pusher(), PassesRun::Nowhere, config.im.max_in_flight);
        let result = with_progress(&mut verifier, args.scope()).await;
        let found = verifier.report().clone();
        if let Err(error) = result {
            return Ok(Verified { found, after: None, error: Some(incomplete(&error, &args.scope())) });
        }
        repair(engine, &mut verifier, found, args.sample.is_some()).await
    };
    let verified: Result<Result<Verified, CommandFailure>, CommandFailure> =
        Box::pin(run_within_limits(lease, shutdown, steps)).await;
    let tripped = leased.close().await;
    let mut verified = verified??;
    verified.error = verified.error.or(tripped);
    Ok(verified)
}

/// Sends what the table says, compares the accounts again, and stores the result.
async fn repair(
    engine: &mut Engine,
    verifier: &mut Verifier,
    found: VerifyReport,
    is_sample: bool,
) -> Result<Verified, CommandFailure> {
    if found.drifted_accounts == 0 {
        engine.save_verification(&found, is_sample, None).await?;
        return Ok(Verified { found, after: None, error: None });
    }
    let progress = Arc::new(PassProgress::new(PassKind::Selected));
    let display = ProgressDisplay::start(progress.clone());
    let repaired = engine.repair(&found, progress).await;
    display.stop().await;
    let (report, error) = repaired?;
    report.log();
    let mut error = error.map(|error| format!("the repair has stopped: {error}; run the command again"));
    let accounts: Vec<Account> = found.accounts().cloned().collect();
    if let Err(failure) = verifier.run(VerifyScope::Accounts(accounts)).await {
        error.get_or_insert(format!("it is not known what was repaired: {failure}; run the command again"));
    }
    let after = verifier.report().clone();
    engine.save_verification(&found, is_sample, Some(&after)).await?;
    Ok(Verified { found, after: Some(after), error })
}

/// Makes sure that no other verification reads from the app meanwhile.
async fn lock(state: &State, config: &Config) -> Result<VerificationLock, CommandFailure> {
    state.lock_verification(config.im.sdk_app_id).await?.ok_or_else(|| {
        CommandFailure::failed(format!(
            "another verification of app {} is running, and both together would exceed im.calls_per_second; wait until it \
             has ended",
            config.im.sdk_app_id
        ))
    })
}

async fn with_progress(verifier: &mut Verifier, scope: VerifyScope) -> Result<(), PassError> {
    let display = ProgressDisplay::start(verifier.progress());
    let result = verifier.run(scope).await;
    display.stop().await;
    result
}

fn incomplete(error: &PassError, scope: &VerifyScope) -> String {
    let rest = match scope {
        VerifyScope::All => "; the accounts after these were not compared, run the command again",
        VerifyScope::Sample(_) | VerifyScope::Accounts(_) => "; the sample is not complete, run the command again",
    };
    format!("{error}{rest}")
}
