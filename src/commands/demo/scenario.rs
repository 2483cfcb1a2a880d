//! The phases of the demo: set up, backfill, daemon with a workload, comparison.
//!
//! Owns: the order of the phases and the exit code. Must not know: how a phase is done.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection};

use super::child::ChildProcess;
use super::compare;
use super::daemon_phase::DaemonPhase;
use super::environment::DemoEnvironment;
use super::narrator::Narrator;
use super::workload::{CommitTimes, Workload};
use crate::clock::Shutdown;
use crate::cluster;
use crate::commands::exit::{CommandFailure, CommandResult, Exit};
use crate::commands::options::GlobalOptions;
use crate::commands::output::thousands;
use crate::config::{LogFormat, LogLevel};
use crate::logging;
use crate::service::signals::{self, OnHangup};

/// The seed of the random number generators. It is fixed, so that every run generates the same users and changes.
pub(super) const SEED: u64 = 20_260_101;
/// The maximum number of differences that are printed.
const MAX_PRINTED_DIFFERENCES: usize = 10;

/// The size of the demo.
#[derive(Clone, Copy, Debug)]
struct DemoOptions {
    /// The number of generated users.
    users: u32,
    /// How long the workload runs beside the daemon.
    seconds: u64,
}

/// Runs the demo with `users` generated users and a workload of `seconds`.
///
/// The exit code is 0 when the table and IM are equal at the end, also when a signal ended the workload early. It is 0
/// as well when a signal ended the set-up or the backfill, because there is nothing to compare then. It is 1 when they
/// differ.
pub async fn run(global: GlobalOptions, users: u32, seconds: u64) -> CommandResult {
    // The narrator describes on stdout what happens. The log adds warnings only.
    logging::init(LogLevel::Warn, global.log_format.unwrap_or(LogFormat::Auto), global.verbosity);
    let shutdown = Shutdown::default();
    signals::listen(&shutdown, OnHangup::Stop)?;
    let program = std::env::current_exe()?;
    match run_phases(&program, DemoOptions { users, seconds }, &shutdown, io::stdout()).await {
        Ok(exit) => Ok(exit),
        Err(error) => Err(match error.downcast::<io::Error>() {
            Ok(error) => error.into(),
            Err(error) => CommandFailure::failed(format!("{error:#}")),
        }),
    }
}

async fn run_phases(
    program: &Path,
    options: DemoOptions,
    shutdown: &Shutdown,
    out: impl io::Write,
) -> anyhow::Result<Exit> {
    let DemoOptions { users, seconds } = options;
    cluster::check_installed()?;
    let mut narrator = Narrator::new(out);
    narrator.print(&format!(
        "Setting up a private PostgreSQL with {} generated users, and a simulated IM service.",
        thousands(users.into())
    ))?;
    let environment = tokio::select! {
        environment = DemoEnvironment::set_up(users, SEED) => environment?,
        () = shutdown.wait() => return Ok(Exit::Done),
    };

    narrator.print("\nimsync backfill: the first full pass pushes every attribute of every user.")?;
    if !backfill(program, &environment, shutdown).await? {
        narrator.print("Stopped during the backfill. There is nothing to compare yet.")?;
        return Ok(Exit::Done);
    }

    narrator.print(&format!(
        "\nimsync run: for {seconds} s the daemon follows while users move, change plans, join and leave (Ctrl-C ends \
         this early).\nChanges that arrive in IM, with the time since their commit:\n"
    ))?;
    let mut daemon = start_daemon(program, &environment)?;
    let phase = run_daemon_phase(&environment, &mut daemon, options, shutdown, &mut narrator).await;
    let status = daemon.stop().await?;
    phase?;
    let exit = compare_table_with_im(&environment, &mut narrator).await?;
    if !status.success() {
        bail!("the daemon exited with an error ({status}){}", environment.daemon_log_tail().await);
    }
    environment.im.stop().await;
    tokio::task::spawn_blocking(move || drop(environment.cluster)).await?;
    Ok(exit)
}

/// Runs `imsync backfill`, with its progress on the terminal. Returns false when the user asked to stop.
async fn backfill(program: &Path, environment: &DemoEnvironment, shutdown: &Shutdown) -> anyhow::Result<bool> {
    let arguments = ["backfill".as_ref(), "-c".as_ref(), environment.configuration.as_os_str()];
    let mut child = ChildProcess::start(program, arguments, Stdio::inherit(), Stdio::inherit())?;
    let status = tokio::select! {
        status = child.wait() => status?,
        () = shutdown.wait() => {
            child.stop().await?;
            return Ok(false);
        }
    };
    if !status.success() {
        bail!("the backfill exited with an error ({status})");
    }
    Ok(true)
}

fn start_daemon(program: &Path, environment: &DemoEnvironment) -> anyhow::Result<ChildProcess> {
    let log = std::fs::File::create(&environment.daemon_log).context("cannot create the daemon's log file")?;
    let arguments = ["run".as_ref(), "-c".as_ref(), environment.configuration.as_os_str()];
    Ok(ChildProcess::start(program, arguments, Stdio::null(), log.into())?)
}

/// Runs the workload beside the daemon until it has ended and its changes have arrived in IM.
async fn run_daemon_phase(
    environment: &DemoEnvironment,
    daemon: &mut ChildProcess,
    options: DemoOptions,
    shutdown: &Shutdown,
    narrator: &mut Narrator<impl io::Write>,
) -> anyhow::Result<()> {
    let workload =
        Workload { url: environment.url.clone(), seed: SEED, users: options.users, commits: CommitTimes::default() };
    let mut phase = DaemonPhase { environment, daemon, shutdown };
    let changed = phase.follow(workload, Duration::from_secs(options.seconds), narrator).await?;
    narrator.print(&format!(
        "\n{} rows changed, {} attribute changes arrived. The workload has ended; waiting for imsync to catch up.",
        thousands(changed),
        thousands(narrator.arrived)
    ))?;
    if let Some(elapsed) = phase.wait_until_equal(options.users).await? {
        narrator.print(&format!("imsync caught up after {:.1} s.", elapsed.as_secs_f64()))?;
    }
    Ok(())
}

/// Compares the table with IM, prints the differences, and returns the exit code of the demo.
async fn compare_table_with_im(
    environment: &DemoEnvironment,
    narrator: &mut Narrator<impl io::Write>,
) -> anyhow::Result<Exit> {
    let mut connection = PgConnection::connect(&environment.url).await?;
    let table = compare::expected_attributes(&mut connection).await?;
    connection.close().await?;
    let found = compare::differences(&table, &environment.im.handle().users());
    narrator.print(&format!(
        "\nTable and IM compared, account by account: {} accounts, {} differ",
        count(table.len()),
        count(compare::count_accounts(&found))
    ))?;
    for difference in found.iter().take(MAX_PRINTED_DIFFERENCES) {
        narrator.print(&format!("  {difference}"))?;
    }
    if found.len() > MAX_PRINTED_DIFFERENCES {
        narrator.print(&format!("  … and {} more", count(found.len() - MAX_PRINTED_DIFFERENCES)))?;
    }
    Ok(if found.is_empty() { Exit::Done } else { Exit::Failed })
}

fn count(number: usize) -> String {
    thousands(u64::try_from(number).unwrap_or(u64::MAX))
}
