//! From parsed arguments to the command.
//!
//! Owns: the conversion of clap's types to those of `commands`. Must not know: what a command does.

use clap::CommandFactory as _;

use super::args::{AttributesAction, Cli, CliCommand, GlobalArgs, LogFormatArg, RejectedAction};
use super::completions;
use super::init_flags::InitFlags;
use super::simulate_flags::SimulateFlags;
use crate::commands;
use crate::commands::exit::CommandResult;
use crate::commands::options::GlobalOptions;
use crate::config::LogFormat;
use crate::logging::Verbosity;

impl Cli {
    /// Runs the command and returns its exit code, or why it failed.
    pub async fn run(self) -> CommandResult {
        let global = GlobalOptions::from(self.global);
        match self.command {
            CliCommand::Run { once: false, .. } => Box::pin(commands::run::daemon(global)).await,
            CliCommand::Run { once: true, json } => Box::pin(commands::run::once(global, json)).await,
            CliCommand::Backfill { force, accounts, dry_run, allow_removals, json } => {
                let args = commands::backfill::BackfillArgs { force, allow_removals, dry_run, accounts, json };
                Box::pin(commands::backfill::run(global, args)).await
            }
            CliCommand::Check { offline, json } => commands::check::run(global, offline, json).await,
            CliCommand::Status { watch, json } => commands::status::run(global, json, watch).await,
            CliCommand::Preview { full, limit, accounts, json } => {
                commands::preview::run(global, commands::preview::PreviewArgs { full, limit, accounts, json }).await
            }
            CliCommand::Explain { id, no_im, json } => {
                let args = commands::explain::ExplainArgs { id, no_im, json };
                Box::pin(commands::explain::run(global, args)).await
            }
            CliCommand::Verify { sample, all, repair, json } => {
                let sample = (!all).then(|| usize::try_from(sample).unwrap_or(usize::MAX));
                let args = commands::verify::VerifyArgs { sample, repair, json };
                Box::pin(commands::verify::run(global, args)).await
            }
            CliCommand::Rejected { action: None, all, json } => commands::rejected::list(global, all, json).await,
            CliCommand::Rejected { action: Some(RejectedAction::Retry { accounts }), .. } => {
                commands::rejected::retry(global, accounts).await
            }
            CliCommand::Attributes { action: None, json } => commands::attributes::list(global, json).await,
            CliCommand::Attributes { action: Some(AttributesAction::Apply { yes }), .. } => {
                commands::attributes::apply(global, yes).await
            }
            CliCommand::History { accounts, since, limit, json } => {
                commands::history::run(global, commands::history::HistoryArgs { accounts, since, limit, json }).await
            }
            CliCommand::Forget { id } => Box::pin(commands::forget::run(global, id)).await,
            CliCommand::Init(flags) => Box::pin(commands::init::run(global, flags.into())).await,
            CliCommand::Migrate { print, rebind } => commands::migrate::run(global, print, rebind).await,
            CliCommand::Simulate(SimulateFlags { help_faults: true, .. }) => commands::simulate::print_fault_syntax(),
            CliCommand::Simulate(flags) => commands::simulate::run(global, flags.into()).await,
            CliCommand::Demo { users, seconds } => commands::demo::run(global, users, seconds).await,
            CliCommand::Completions { shell } => completions::print(shell, &mut Self::command()),
        }
    }
}

impl From<GlobalArgs> for GlobalOptions {
    fn from(args: GlobalArgs) -> Self {
        Self {
            verbosity: match (args.quiet, args.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, 0) => Verbosity::AsConfigured,
                (false, 1) => Verbosity::Debug,
                (false, _) => Verbosity::Trace,
            },
            log_format: args.log_format.map(LogFormat::from),
            config: args.config,
        }
    }
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Auto => Self::Auto,
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
            LogFormatArg::Journald => Self::Journald,
        }
    }
}

impl From<SimulateFlags> for commands::simulate::SimulateArgs {
    fn from(flags: SimulateFlags) -> Self {
        let SimulateFlags {
            listen,
            app,
            key,
            identifier,
            attributes,
            latency,
            rate,
            imported_accounts,
            faults,
            help_faults: _,
        } = flags;
        Self { listen, app, key, identifier, attributes, latency, rate, imported_accounts, faults }
    }
}

impl From<InitFlags> for commands::init::InitArgs {
    fn from(flags: InitFlags) -> Self {
        let InitFlags { url, table, attributes, region, base_url, sdk_app_id, identifier, secret_key_file } = flags;
        let im = commands::init::ImOptions { region, base_url, sdk_app_id, identifier, secret_key_file };
        Self { positional: url.into_iter().chain(table).collect(), attributes, im }
    }
}
