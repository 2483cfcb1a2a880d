//! The arguments, declared for clap. The doc comments of this file are help texts.
//!
//! Owns: commands, flags, defaults, allowed ranges, and the first part of each help text. Must not know: what a command
//! does with its arguments.
//!
//! `-h` prints the first paragraph of each doc comment. `--help` prints all paragraphs, and the examples of `help`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;

use super::init_flags::InitFlags;
use super::simulate_flags::SimulateFlags;
use super::{completions, help};
use crate::commands::history::Since;

/// Keep the user attributes of a Tencent Cloud Chat (IM) app equal to columns of a PostgreSQL table
#[derive(Debug, Parser)]
#[command(
    name = "imsync",
    version,
    after_long_help = help::IMSYNC,
    arg_required_else_help = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    disable_version_flag = true
)]
pub struct Cli {
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: CliCommand,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = GLOBAL_OPTIONS, display_order = 1000)]
    version: Option<bool>,
}

/// The heading of the options that every command takes.
const GLOBAL_OPTIONS: &str = "Global options";

#[derive(Debug, Args)]
#[command(next_help_heading = GLOBAL_OPTIONS)]
pub(super) struct GlobalArgs {
    /// Read the configuration from this file
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// Log more: -v for debug, -vv for trace
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "quiet")]
    pub(super) verbose: u8,
    /// Log warnings and errors only
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Set the log format
    #[arg(long, value_name = "FORMAT", global = true)]
    pub(super) log_format: Option<LogFormatArg>,
    /// Print help: -h prints a summary, --help prints details and examples
    #[arg(short, long, action = ArgAction::Help, global = true)]
    help: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormatArg {
    Auto,
    Text,
    Json,
    Journald,
}

#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Run the daemon: read changed rows and push them to IM until stopped
    ///
    /// The daemon starts a pass every `schedule.interval`, or at once when it is notified. It keeps running while a
    /// database or IM is unreachable, and retries. Where another imsync holds the lease of this sync, it stands by.
    #[command(after_long_help = help::RUN)]
    Run {
        /// Run one pass and exit
        ///
        /// The pass is incremental, or a full pass when one is due. The exit code is 3 when rejections exist at its
        /// end.
        #[arg(long)]
        once: bool,
        /// Print the report of the pass as JSON
        #[arg(long, requires = "once")]
        json: bool,
    },
    /// Run a full pass: push every difference and find accounts that are gone
    ///
    /// A full pass reads the whole table, compares every row with what IM acknowledged last, and pushes the
    /// differences. An interrupted backfill resumes where it stopped when it is run again with the same flags.
    #[command(after_long_help = help::BACKFILL)]
    Backfill {
        /// Send every attribute again, whatever the state tables say
        #[arg(long)]
        force: bool,
        /// Push only this account (repeatable)
        ///
        /// An account that is no longer in the table is treated as gone.
        #[arg(long = "account", value_name = "ID")]
        accounts: Vec<String>,
        /// Print what the pass would do; send and change nothing
        ///
        /// Prints counts, the number of calls, the time they take at the configured rate, and whether the removal guard
        /// would trip. The exit code is the one that the pass itself would have.
        #[arg(long)]
        dry_run: bool,
        /// Lift the removal guard for this pass
        #[arg(long)]
        allow_removals: bool,
        /// Print the report of the pass as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check configuration, databases, table, credentials and attribute names
    ///
    /// Prints one line for each finding, with a remedy where something is wrong. Changes nothing.
    #[command(after_long_help = help::CHECK)]
    Check {
        /// Validate the configuration only; no network
        ///
        /// Reads the arguments, the configuration file, the files it names, and the environment. The exit code is 2
        /// when one of them is wrong.
        #[arg(long)]
        offline: bool,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show lag, watermark, accounts, rejections, lease and last passes
    ///
    /// Reads the state tables. It works while no daemon runs.
    #[command(after_long_help = help::STATUS)]
    Status {
        /// Refresh every two seconds
        #[arg(long)]
        watch: bool,
        /// Print the status as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what the next pass would send, account by account, old → new
    ///
    /// Sends and changes nothing.
    #[command(after_long_help = help::PREVIEW)]
    Preview {
        /// Show what a backfill would send, including removals for accounts that are gone
        #[arg(long)]
        full: bool,
        /// Show at most this many accounts
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Show only this account (repeatable)
        #[arg(long = "account", value_name = "ID", conflicts_with = "full")]
        accounts: Vec<String>,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Explain why an account has, or lacks, an attribute
    ///
    /// Shows the row, what the mapping makes of it, what IM acknowledged and holds now, and what happens next. ID is the IM
    /// account, or the text of the account column. Changes nothing. The exit code is 1 when neither the table, the state nor
    /// IM knows the account.
    #[command(after_long_help = help::EXPLAIN)]
    Explain {
        /// The account
        #[arg(value_name = "ID")]
        id: String,
        /// Do not ask IM what it holds
        #[arg(long)]
        no_im: bool,
        /// Print the explanation as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read attributes back from IM and compare them with the table
    ///
    /// Compares a random sample of the rows, or all of them. A change that is under way does not count as a difference. Passes
    /// that run meanwhile go first. Without --repair nothing is changed.
    #[command(after_long_help = help::VERIFY)]
    Verify {
        /// Compare this many rows, drawn at random
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..=10_000_000))]
        sample: u32,
        /// Compare all rows, and the accounts that have left the table
        #[arg(long, conflicts_with = "sample")]
        all: bool,
        /// Send what the table says to accounts that differ
        ///
        /// Needs the lease, so stop the daemon first. The removal guard counts what is removed.
        #[arg(long)]
        repair: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// List rejected accounts and values with their reasons, or retry them
    ///
    /// A rejection is an account or an attribute that imsync could not send, because its value is not valid or because
    /// IM refused it. imsync retries rejections on its own at growing intervals.
    #[command(after_long_help = help::REJECTED, args_conflicts_with_subcommands = true)]
    Rejected {
        #[command(subcommand)]
        action: Option<RejectedAction>,
        /// List every rejection instead of groups
        #[arg(long)]
        all: bool,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show the attribute names of the app beside the mapping, or set missing names
    ///
    /// An app has ten slots for attribute names. imsync can set a value only where the app knows the name.
    #[command(after_long_help = help::ATTRIBUTES, args_conflicts_with_subcommands = true)]
    Attributes {
        #[command(subcommand)]
        action: Option<AttributesAction>,
        /// Print the slots as JSON
        #[arg(long)]
        json: bool,
    },
    /// List what was sent: when, account, attribute, old → new, outcome and pass
    ///
    /// The newest row is the last. The history is kept while `[history] keep` is set. Without --account, --since, --limit
    /// and --json, the newest 1,000 rows are listed.
    #[command(after_long_help = help::HISTORY)]
    History {
        /// List only this account (repeatable)
        #[arg(long = "account", value_name = "ID")]
        accounts: Vec<String>,
        /// List what was sent since: a duration before now, such as 1d, or a time in RFC 3339
        #[arg(long, value_name = "TIME", value_parser = Since::parse)]
        since: Option<Since>,
        /// List at most the newest N rows
        #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
        limit: Option<u64>,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Remove everything that imsync has set and stored for an account without a row
    ///
    /// Removes from IM what imsync has set for the account, also with `removal.gone = "keep"`, then every trace of it from
    /// the state tables. Refused while the table has a row for the account. Needs the lease, so stop the daemon first.
    #[command(after_long_help = help::FORGET)]
    Forget {
        /// The account: the IM account, or the text of the account column
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Write a commented configuration for a database and a table
    ///
    /// Reads the catalogs, statistics and a sample of rows, and proposes account, watermark, deleted column and up to ten
    /// attributes, each with what was found. Writes the file of -c, `$IMSYNC_CONFIG` or ./imsync.toml with mode 0600, never over
    /// another file, and ends with `check`. Without a table it lists those that may hold the users. Changes nothing in the
    /// database.
    #[command(after_long_help = help::INIT)]
    Init(InitFlags),
    /// Create or upgrade the state tables
    #[command(after_long_help = help::MIGRATE)]
    Migrate {
        /// Print the SQL that this database needs; do not run it
        #[arg(long, conflicts_with = "rebind")]
        print: bool,
        /// Bind this sync to the configured app
        ///
        /// imsync then treats every acknowledged value as unknown, and the next pass is a full pass.
        #[arg(long)]
        rebind: bool,
    },
    /// Serve a simulated IM service for local tests
    ///
    /// The simulator implements the API calls that imsync uses, with the limits and error codes of the vendor. It keeps
    /// everything in memory.
    #[command(after_long_help = help::SIMULATE)]
    Simulate(SimulateFlags),
    /// Show imsync at work: private PostgreSQL, simulated IM, generated users
    ///
    /// Runs a backfill, then the daemon while rows change, and compares the table with IM at the end. The exit code is
    /// 1 when they differ. Needs PostgreSQL's programs on this machine and no configuration, and leaves nothing behind.
    #[command(after_long_help = help::DEMO)]
    Demo {
        /// Number of generated users
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
        users: u32,
        /// How long rows change before the comparison, in seconds
        #[arg(long, value_name = "S", default_value_t = 20, value_parser = value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
    /// Print the completions of a shell, for a file that the shell reads
    ///
    /// Needs no configuration and no network. The Debian package contains the files for bash, zsh and fish.
    #[command(after_long_help = completions::HELP)]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum RejectedAction {
    /// Make rejections due, so that the next pass retries them
    ///
    /// This works while a daemon runs.
    #[command(after_long_help = help::REJECTED_RETRY)]
    Retry {
        /// Retry only this account (repeatable)
        #[arg(long = "account", value_name = "ID")]
        accounts: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AttributesAction {
    /// Set the names that the mapping needs and the app does not know, in free slots
    ///
    /// Shows which name gets which slot, and asks. Never renames, moves or removes a name.
    #[command(after_long_help = help::ATTRIBUTES_APPLY)]
    Apply {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}
