//! The daemon phase: the workload changes rows, and the daemon pushes the changes to the simulated IM service.
//!
//! Owns: running workload, daemon and arrivals side by side, and waiting until the table and IM are equal. Must not
//! know: what the workload changes, and how an arrival is printed.

use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::child::ChildProcess;
use super::compare;
use super::environment::DemoEnvironment;
use super::narrator::Narrator;
use super::workload::Workload;
use crate::clock::{Shutdown, monotonic};
use crate::simulator::AttributeChange;

/// How long arrivals are collected before they are printed, so that the changes of one call appear together.
const COLLECT_FOR: Duration = Duration::from_millis(20);
/// The shortest pause between two comparisons while waiting for the daemon to catch up.
const MIN_COMPARE_PAUSE: Duration = Duration::from_millis(100);

/// The daemon and what runs beside it.
#[derive(Debug)]
pub(super) struct DaemonPhase<'a> {
    pub(super) environment: &'a DemoEnvironment,
    pub(super) daemon: &'a mut ChildProcess,
    /// Ends the workload early.
    pub(super) shutdown: &'a Shutdown,
}

impl DaemonPhase<'_> {
    /// Runs the workload for `duration` and prints the changes that arrive. Returns the number of changed rows.
    pub(super) async fn follow(
        &mut self,
        workload: Workload,
        duration: Duration,
        narrator: &mut Narrator<impl io::Write>,
    ) -> anyhow::Result<u64> {
        let im = self.environment.im.handle();
        let mut arrivals = im.subscribe();
        let commits = workload.commits.clone();
        let stop = Shutdown::default();
        let workload = workload.run(&stop);
        tokio::pin!(workload);
        let mut end = std::pin::pin!(self.shutdown.sleep(duration));
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                changed = &mut workload => return changed.context("the workload failed"),
                status = self.daemon.wait() => {
                    let log = self.environment.daemon_log_tail().await;
                    bail!("the daemon exited unexpectedly ({}){log}", status?);
                }
                () = &mut end, if !stop.requested() => stop.request(),
                _ = seconds.tick() => narrator.tick(monotonic())?,
                arrived = arrivals.recv() => {
                    let changes = collect(arrived, &mut arrivals).await?;
                    let now = monotonic();
                    let since_commit = |account: &str| Some(now.saturating_duration_since(commits.of(account)?));
                    narrator.print_arrivals(&changes, now, since_commit, |account| im.user(account).is_empty())?;
                }
            }
        }
    }

    /// Waits until the table and IM are equal and returns how long that took.
    ///
    /// Returns `None` after a time limit that depends on the number of users. The final comparison then lists what
    /// differs.
    pub(super) async fn wait_until_equal(&mut self, users: u32) -> anyhow::Result<Option<Duration>> {
        // Time for two full passes at 95 calls of 100 users a second, and 30 seconds more for a busy machine.
        let limit = Duration::from_secs(30 + u64::from(users) / 4_000);
        let mut connection = PgConnection::connect(&self.environment.url).await?;
        let began = monotonic();
        while began.elapsed() < limit {
            let compared = monotonic();
            let table = compare::expected_attributes(&mut connection).await?;
            if compare::differences(&table, &self.environment.im.handle().users()).is_empty() {
                return Ok(Some(compared.saturating_duration_since(began)));
            }
            // Comparing a large table takes long. The daemon gets at least as much processor time as the comparison.
            let pause = compared.elapsed().max(MIN_COMPARE_PAUSE);
            tokio::select! {
                status = self.daemon.wait() => {
                    let log = self.environment.daemon_log_tail().await;
                    bail!("the daemon exited unexpectedly ({}){log}", status?);
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(None)
    }
}

/// The first arrival and those that follow it within a short time.
///
/// The simulator reports the changes of one call one by one, and the changes of an account belong on one line.
async fn collect(
    first: Result<AttributeChange, RecvError>,
    arrivals: &mut Receiver<AttributeChange>,
) -> anyhow::Result<Vec<AttributeChange>> {
    let mut changes = match first {
        Ok(change) => vec![change],
        // The channel dropped changes because too many arrived at once. They would not have been printed anyway.
        Err(RecvError::Lagged(_)) => Vec::new(),
        Err(RecvError::Closed) => bail!("the simulated IM service has stopped"),
    };
    tokio::time::sleep(COLLECT_FOR).await;
    loop {
        match arrivals.try_recv() {
            Ok(change) => changes.push(change),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(changes),
        }
    }
}
