//! `imsync backfill`: a full pass, or a pass over some accounts, and what it would do (`--dry-run`).
//!
//! Owns: which pass runs, and the output of the dry run. Must not know: how a pass works.

use std::sync::Arc;

use serde_json::json;

use super::exit::{CommandFailure, CommandResult, Exit};
use super::one_shot::{LeasedEngine, run_within_limits};
use super::open_dry_run::{OpenDryRun, open_dry_run};
use super::options::{CommandKind, GlobalOptions, parse_accounts};
use super::output::{accounts, calls, duration, ignore_broken_pipe, print_json, print_line, thousands};
use super::progress::ProgressDisplay;
use crate::clock::Shutdown;
use crate::config::Config;
use crate::pass::dry_run::{DryRunScope, DryRunSummary};
use crate::pass::{FullOptions, PassKind, PassProgress, PassReport, guard};
use crate::service::signals::{self, OnHangup};

/// The arguments of `imsync backfill`.
#[derive(Clone, Debug, Default)]
pub struct BackfillArgs {
    /// Send every attribute again, whatever the state tables say.
    pub force: bool,
    /// Lift the removal guard for this pass.
    pub allow_removals: bool,
    /// Print what the pass would do, and send and change nothing.
    pub dry_run: bool,
    /// The accounts to push; empty means the whole table.
    pub accounts: Vec<String>,
    /// Print the report as JSON.
    pub json: bool,
}

/// Runs the pass, or the dry run.
pub async fn run(global: GlobalOptions, args: BackfillArgs) -> CommandResult {
    let options = FullOptions { force: args.force, allow_removals: args.allow_removals };
    if args.dry_run {
        let config = global.load(false, CommandKind::OneShot)?;
        return dry_run(config, &args, options).await;
    }
    let config = global.load(true, CommandKind::OneShot)?;
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let mut leased = Box::pin(LeasedEngine::start(&config, &shutdown)).await?;
    let LeasedEngine { lease, engine, .. } = &mut leased;
    let accounts = parse_accounts(&config, &args.accounts);
    let kind = if accounts.is_empty() { PassKind::Full } else { PassKind::Selected };
    let progress = Arc::new(PassProgress::new(kind));
    let display = ProgressDisplay::start(progress.clone());
    let _reads = engine.watch_long_reads(&progress);
    let pass = async {
        if accounts.is_empty() {
            engine.full(options, progress).await
        } else {
            engine.selected(&accounts, options, progress).await
        }
    };
    let result = Box::pin(run_within_limits(lease, &shutdown, pass)).await;
    display.stop().await;
    if let Ok((PassReport { row, .. }, None)) = &result
        && kind == PassKind::Selected
        && row.rows_read + row.pushed + row.removed + row.rejected == 0
    {
        eprintln!(
            "the table has no row for the named accounts, and imsync has set nothing for them; `imsync explain ID` shows what is known of one"
        );
    }
    leased.finish(result?, args.json, "; `imsync backfill` with the same flags resumes where it stopped").await
}

async fn dry_run(config: Arc<Config>, args: &BackfillArgs, options: FullOptions) -> CommandResult {
    let OpenDryRun { mut dry_run, reads: _reads, .. } = open_dry_run(&config, true).await?;
    let accounts = parse_accounts(&config, &args.accounts);
    let scope = if accounts.is_empty() { DryRunScope::Full } else { DryRunScope::Accounts(accounts) };
    let summary = dry_run.run(scope, options, |_, _| true).await?;
    print_summary(&config, &summary, args.json)?;
    if let Some(tripped) = &summary.guard {
        return Err(CommandFailure::failed(guard::message(tripped)));
    }
    Ok(if summary.rejected > 0 { Exit::Rejected } else { Exit::Done })
}

fn print_summary(config: &Config, summary: &DryRunSummary, json: bool) -> Result<(), CommandFailure> {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = summary.calls as f64 / f64::from(config.im.calls_per_second);
    if json {
        ignore_broken_pipe(print_json(&json!({
            "dry_run": true,
            "rows_read": summary.rows_read,
            "changed": summary.changed,
            "set": summary.set,
            "removed": summary.removed,
            "rejected": summary.rejected,
            "without_account": summary.without_account,
            "calls": summary.calls,
            "seconds_at_rate": seconds,
            "guard": summary.guard,
        })))?;
        return Ok(());
    }
    ignore_broken_pipe(print_line(format!(
        "{} rows read, {} would change: {} set, {} removed; {} rejected",
        thousands(summary.rows_read),
        accounts(summary.changed),
        thousands(summary.set),
        thousands(summary.removed),
        thousands(summary.rejected),
    )))?;
    ignore_broken_pipe(print_line(format!(
        "the pass needs {}, about {} at {} calls a second; nothing was sent or changed",
        calls(summary.calls),
        duration(seconds),
        config.im.calls_per_second
    )))?;
    Ok(())
}
