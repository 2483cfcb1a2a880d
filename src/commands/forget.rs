//! `imsync forget`: removes from IM what imsync has set for an account without a row, then every trace of it.
//!
//! Owns: when it is refused, and its messages. Must not know: how values are removed, which tables name an account.

use std::sync::Arc;

use super::exit::{CommandFailure, CommandResult, Exit};
use super::one_shot::{LeasedEngine, run_within_limits};
use super::open_dry_run::{OpenDryRun, open_dry_run};
use super::options::{CommandKind, GlobalOptions, parse_account};
use super::output::{duration, escape_for_terminal, ignore_broken_pipe, print_line};
use crate::clock::Shutdown;
use crate::config::Config;
use crate::model::Account;
use crate::pass::explain::Presence;
use crate::pass::{Forgotten, PassKind, PassOutcome, PassProgress};
use crate::service::signals::{self, OnHangup};

/// Forgets the account. The exit code is 1 while the table has a row for it, and when IM may still hold a value.
pub async fn run(global: GlobalOptions, id: String) -> CommandResult {
    let config = global.load(true, CommandKind::OneShot)?;
    let account = parse_account(&config, &id)?;
    let shown = escape_for_terminal(account.as_str());
    if !Box::pin(is_used(&config, &account)).await? {
        print_line(format!("nothing is stored for {shown}: this sync has not run yet"))?;
        return Ok(Exit::Done);
    }
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let mut leased = Box::pin(LeasedEngine::start(&config, &shutdown)).await?;
    let LeasedEngine { lease, engine, .. } = &mut leased;
    let steps = async {
        let (report, error) = engine.remove_all_values(&account, Arc::new(PassProgress::new(PassKind::Selected))).await;
        let ended = matches!(report.outcome, PassOutcome::Ok | PassOutcome::Rejected) && error.is_none();
        let forgotten = if ended { Some(engine.forget(&account).await) } else { None };
        ((report, error), forgotten)
    };
    let (result, forgotten) = Box::pin(run_within_limits(lease, &shutdown, steps)).await?;
    let finished = leased.finish(result, false, "").await;
    match forgotten.transpose()? {
        Some(Forgotten::Completely) => {
            ignore_broken_pipe(print_line(format!(
                "no trace of {shown} is left in the state, and nothing that imsync set is in IM"
            )))?;
            Ok(Exit::Done)
        }
        Some(Forgotten::NotYet { late_write }) => {
            let why = match (late_write, finished) {
                (Some(left), _) => {
                    format!("an earlier call may still be applied for {}", duration(left.as_secs_f64().max(1.0)))
                }
                (None, Err(failure)) => failure.message,
                (None, Ok(_)) => "IM refused the removal, and `imsync rejected` shows why".to_owned(),
            };
            Err(CommandFailure::failed(format!(
                "{shown} is not forgotten, because IM may still hold a value that imsync set: {why}; run the command again"
            )))
        }
        None => finished.map_err(|CommandFailure { exit, message }| CommandFailure {
            exit,
            message: format!("{message}; {shown} is not forgotten yet, run the command again"),
        }),
    }
}

/// Whether the sync has run at all. Fails while the table has a row for the account.
async fn is_used(config: &Arc<Config>, account: &Account) -> Result<bool, CommandFailure> {
    let OpenDryRun { mut dry_run, state, reads: _reads } = open_dry_run(config, false).await?;
    let is_used = state.sync_row().await?.is_some();
    let (table, shown) = (&config.source.table, escape_for_terminal(account.as_str()));
    let refused = |how: &str| {
        Err(CommandFailure::failed(format!(
            "{table} has a row for {shown}{how}, and imsync forgets only accounts without a row; delete the row first"
        )))
    };
    match dry_run.presence(account).await? {
        Presence::Missing => Ok(is_used),
        Presence::Present | Presence::Refused(_) => refused(""),
        Presence::Gone(why) if why.filtered => refused(", which source.filter leaves out"),
        Presence::Gone(_) => {
            let column = config.source.deleted_column.as_deref().unwrap_or_default();
            refused(&format!(", which is marked as deleted in {}", escape_for_terminal(column)))
        }
    }
}
