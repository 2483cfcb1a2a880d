//! Runs a process until it aborts at its crash point, and waits until nothing of it is still active.
//!
//! Owns: telling an abort from a regular exit. Must not know: what must be true afterwards.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Child;

use super::armed;
use super::scenarios::{self, CrashCase, Scenario};
use super::system::{CrashSystem, TIMEOUT, UNKNOWN_OUTCOMES_MESSAGE};
use crate::support::signal;

const SIGABRT: i32 = 6;

impl CrashSystem {
    /// Returns false if the process ended in another, acceptable way.
    pub(super) async fn run_until_abort(&self, case: CrashCase) -> bool {
        let at = format!("{}#{}", case.point, case.arrival);
        let mut command = armed(&self.env, case.scenario.command(), &at);
        let log = std::fs::File::create(self.env.directory().join("run.err")).expect("the log file can be created");
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the binary can be run");
        let status = match case.scenario {
            Scenario::Daemon => self.wait_for_daemon(&mut child).await,
            Scenario::SilentAccount => tokio::select! {
                status = self.wait_for_exit(&mut child) => status,
                () = self.change_silent_account() => unreachable!("the changes never end"),
            },
            _ => self.wait_for_exit(&mut child).await,
        };
        let log = self.env.printed("run", "err");
        match (status.signal(), status.code()) {
            (Some(SIGABRT), _) => true,
            (_, Some(0 | 3)) => false,
            // A pass stops if IM refuses every account, and exits with 1 if outcomes are unknown.
            (_, Some(1)) if case.scenario == Scenario::RefusedAttribute || log.contains(UNKNOWN_OUTCOMES_MESSAGE) => {
                false
            }
            _ => panic!("{}: {status:?}\n{log}", self.current_case),
        }
    }

    async fn wait_for_exit(&self, child: &mut Child) -> ExitStatus {
        let status = tokio::time::timeout(TIMEOUT, child.wait()).await;
        let status = status.unwrap_or_else(|_| {
            panic!("{}: the process has not ended\n{}", self.current_case, self.env.printed("run", "err"))
        });
        status.expect("a child can be waited for")
    }

    /// The row of the silent account changes while a call for it is in flight.
    async fn change_silent_account(&self) {
        for number in 0_u32.. {
            self.execute(&scenarios::change_of_silent_account(number)).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// A daemon is stopped when IM equals the table, unless it aborts earlier.
    async fn wait_for_daemon(&self, child: &mut Child) -> ExitStatus {
        let converged = self.until("IM equals the table", async || self.differences(&BTreeSet::new()).await.is_empty());
        tokio::select! {
            status = child.wait() => return status.expect("a child can be waited for"),
            () = converged => {}
        }
        signal(child, "TERM");
        self.wait_for_exit(child).await
    }

    /// Waits until the sessions of the aborted process have ended and IM has answered its calls.
    pub(super) async fn wait_until_inactive(&self) {
        self.until("the sessions of the aborted process have ended", async || {
            let sessions = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name LIKE 'imsync%'";
            self.number(sessions).await == 0
        })
        .await;
        let quiet = self.env.handle().wait_until(|counters| counters.in_flight == 0);
        assert!(tokio::time::timeout(TIMEOUT, quiet).await.is_ok(), "{}: calls are still in flight", self.current_case);
    }
}
