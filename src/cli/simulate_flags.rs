//! The arguments of `imsync simulate`, declared for clap. The doc comments are help texts.
//!
//! Owns: these arguments. Must not know: what the command does with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::durations;

#[derive(Debug, Args)]
pub(super) struct SimulateFlags {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    pub(super) listen: SocketAddr,
    /// SDKAppID of the simulated app
    #[arg(long, value_name = "ID", default_value_t = 1_400_000_000)]
    pub(super) app: u32,
    /// Secret key of the app
    #[arg(long, value_name = "KEY", default_value = "simulator-secret-key")]
    pub(super) key: String,
    /// Administrator of the app
    ///
    /// The simulator accepts calls of this user only, as IM does.
    #[arg(long, value_name = "NAME", default_value = "administrator")]
    pub(super) identifier: String,
    /// Attribute names of the app, at most ten
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) attributes: Vec<String>,
    /// Delay before a call is applied (units: ms, s, m)
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = duration)]
    pub(super) latency: Duration,
    /// Maximum calls per second of each command (0: no limit)
    ///
    /// The simulator refuses further calls with the code 60007.
    #[arg(long, value_name = "CALLS", default_value_t = 100)]
    pub(super) rate: u32,
    /// File with the accounts that exist, one a line (default: every account exists)
    ///
    /// Calls for other accounts are refused with the code 70107 until the account is imported.
    #[arg(long, value_name = "FILE")]
    pub(super) imported_accounts: Option<PathBuf>,
    /// Make calls fail (repeatable); --help-faults shows the syntax
    #[arg(long = "fault", value_name = "SPEC")]
    pub(super) faults: Vec<String>,
    /// Print the syntax of --fault and exit
    #[arg(long)]
    pub(super) help_faults: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    durations::parse(text).map_err(str::to_owned)
}
