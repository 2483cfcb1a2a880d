//! The command line: clap types and the way from arguments to a command.
//!
//! Owns: names, flags, help texts, the exit on wrong usage. Must not know: what a command does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{self, CommandResult, Global};
use crate::config::LogFormat;
use crate::logging::Verbosity;

const EXAMPLES: &str = "\
Examples:
  imsync demo                         see it work: nothing to configure
  imsync check -c imsync.toml         can this configuration sync?
  imsync backfill --dry-run           what would a first sync do?
  imsync backfill                     push every difference of the whole table
  imsync run                          keep IM equal to the table (the daemon)
  imsync status                       how far is it, and does anything stand in the way?

Exit codes: 0 done; 1 could not finish (database, IM, guard); 2 wrong usage or configuration; 3 finished, rejections stand.
The configuration is taken from -c, else $IMSYNC_CONFIG, else ./imsync.toml, else /etc/imsync/imsync.toml.";

/// Keeps the user attributes of a Tencent Cloud Chat (IM) app equal to columns of a Postgres table.
#[derive(Debug, Parser)]
#[command(name = "imsync", version, after_help = EXAMPLES, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct GlobalArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Log more: -v debug, -vv trace
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,
    /// Log warnings and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// The form of log lines on stderr
    #[arg(long, value_name = "FORMAT", global = true)]
    log_format: Option<LogFormatArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormatArg {
    Auto,
    Text,
    Json,
    Journald,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: poll the table, push what changed, until told to stop
    #[command(after_help = "\
Examples:
  imsync run -c /etc/imsync/imsync.toml
  imsync run --once                   one pass, for cron; exit 3 when rejections stand

SIGTERM stops after calls in flight are recorded (at most 25 s); SIGHUP reads the configuration again.")]
    Run {
        /// Make one incremental pass and exit (a full one where that is due)
        #[arg(long)]
        once: bool,
        /// Print the pass as JSON
        #[arg(long, requires = "once")]
        json: bool,
    },
    /// Compare the whole table and push every difference; find accounts that are gone
    #[command(after_help = "\
Examples:
  imsync backfill --dry-run           counts, calls and time, nothing sent
  imsync backfill                     goes on where an interrupted one stopped
  imsync backfill --account u42       this account only
  imsync backfill --force             every attribute again, whatever the state says")]
    Backfill {
        /// Send every attribute again whatever the state says
        #[arg(long)]
        force: bool,
        /// Only this account (repeatable); one that is no longer in the table is treated as gone
        #[arg(long = "account", value_name = "ID")]
        accounts: Vec<String>,
        /// Send and change nothing; print counts, calls, time and whether the guard would trip
        #[arg(long)]
        dry_run: bool,
        /// Lift the removal guard for this pass
        #[arg(long)]
        allow_removals: bool,
        /// Print the pass as JSON
        #[arg(long)]
        json: bool,
    },
    /// Examine configuration, databases, table, credentials and attribute names
    #[command(after_help = "\
Examples:
  imsync check
  imsync check --offline              arguments, file and environment alone (exit 2 when they are wrong)")]
    Check {
        /// Look at arguments, file and environment alone
        #[arg(long)]
        offline: bool,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show lag, watermark, accounts, rejections, lease and last passes
    #[command(after_help = "\
Examples:
  imsync status
  imsync status --json | jq .lag_seconds")]
    Status {
        /// Look again every two seconds
        #[arg(long)]
        watch: bool,
        /// Print the document as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what the next pass would send, account by account, old → new
    #[command(after_help = "\
Examples:
  imsync preview --limit 20
  imsync preview --full --json        what a backfill would send, gone accounts included")]
    Preview {
        /// What a backfill would send, gone accounts included
        #[arg(long)]
        full: bool,
        /// At most this many accounts
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Only this account (repeatable)
        #[arg(long = "account", value_name = "ID", conflicts_with = "full")]
        accounts: Vec<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// List what could not be sent and why, or try it again
    #[command(
        after_help = "\
Examples:
  imsync rejected                     grouped by reason
  imsync rejected --all
  imsync rejected retry --account u42",
        args_conflicts_with_subcommands = true
    )]
    Rejected {
        #[command(subcommand)]
        action: Option<RejectedAction>,
        /// List each
        #[arg(long)]
        all: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Create or upgrade the state tables
    #[command(after_help = "\
Examples:
  imsync migrate --print              the SQL that this database lacks
  imsync migrate --rebind             accept another app for this sync")]
    Migrate {
        /// Print the SQL that this database lacks instead of running it
        #[arg(long, conflicts_with = "rebind")]
        print: bool,
        /// Accept another app for this sync: every acknowledged value then counts as unknown
        #[arg(long)]
        rebind: bool,
    },
    /// Serve a local IM for trying things out
    #[command(after_help = commands::simulate::EXAMPLES)]
    Simulate(commands::simulate::Arguments),
    /// See imsync work: private Postgres, simulator, made-up users, daemon, changes
    #[command(after_help = "\
Examples:
  imsync demo
  imsync demo --users 100000 --seconds 60")]
    Demo {
        /// Made-up users in the table
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        users: u32,
        /// How long people change before the comparison
        #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
}

#[derive(Debug, Subcommand)]
enum RejectedAction {
    /// Make rejections due again, also beside a running daemon
    Retry {
        /// Only this account (repeatable)
        #[arg(long = "account", value_name = "ID")]
        accounts: Vec<String>,
    },
}

impl GlobalArgs {
    fn checked(self) -> Global {
        Global {
            config: self.config,
            verbosity: match (self.quiet, self.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, 0) => Verbosity::AsConfigured,
                (false, 1) => Verbosity::Debug,
                (false, _) => Verbosity::Trace,
            },
            log_format: self.log_format.map(|format| match format {
                LogFormatArg::Auto => LogFormat::Auto,
                LogFormatArg::Text => LogFormat::Text,
                LogFormatArg::Json => LogFormat::Json,
                LogFormatArg::Journald => LogFormat::Journald,
            }),
        }
    }
}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> CommandResult {
        let global = self.global.checked();
        match self.command {
            Command::Run { once: false, .. } => Box::pin(commands::run::daemon(global)).await,
            Command::Run { once: true, json } => Box::pin(commands::run::once(global, json)).await,
            Command::Backfill { force, accounts, dry_run, allow_removals, json } => {
                let arguments = commands::backfill::Arguments { force, allow_removals, dry_run, accounts, json };
                Box::pin(commands::backfill::run(global, arguments)).await
            }
            Command::Check { offline, json } => commands::check::run(global, offline, json).await,
            Command::Status { watch, json } => commands::status::run(global, json, watch).await,
            Command::Preview { full, limit, accounts, json } => {
                commands::preview::run(global, commands::preview::Arguments { full, limit, accounts, json }).await
            }
            Command::Rejected { action: None, all, json } => commands::rejected::list(global, all, json).await,
            Command::Rejected { action: Some(RejectedAction::Retry { accounts }), .. } => {
                commands::rejected::retry(global, accounts).await
            }
            Command::Migrate { print, rebind } => commands::migrate::run(global, print, rebind).await,
            Command::Simulate(arguments) => commands::simulate::run(global, arguments).await,
            Command::Demo { users, seconds } => commands::demo::run(global, users, seconds).await,
        }
    }
}
