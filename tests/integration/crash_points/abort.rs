//! A process runs until it dies at its point, and what it leaves behind comes to rest.
//!
//! Owns: telling a death from an end. Must not know: what must be so afterwards.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use tokio::process::Child;

use super::armed;
use super::scenarios::{CrashCase, Scenario};
use super::system::{CrashSystem, DOUBTS, PATIENCE};
use crate::support::signal;

const SIGABRT: i32 = 6;

impl CrashSystem {
    /// False: it ended in another way, and that a good one.
    pub(super) async fn run_until_death(&self, case: CrashCase) -> bool {
        let at = format!("{}#{}", case.point, case.arrival);
        let mut command = armed(&self.env, case.scenario.command(), &at);
        let log = std::fs::File::create(self.env.directory().join("run.err")).expect("a log file");
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the binary can be run");
        let status = match case.scenario {
            Scenario::Daemon => self.end_of_daemon(&mut child).await,
            _ => self.end_of(&mut child).await,
        };
        let log = self.env.printed("run", "err");
        match (status.signal(), status.code()) {
            (Some(SIGABRT), _) => true,
            (_, Some(0 | 3)) => false,
            // A pass stops where IM refuses everybody, and says so where doubts are left.
            (_, Some(1)) if case.scenario == Scenario::Suspicion || log.contains(DOUBTS) => false,
            _ => panic!("{}: {status:?}\n{log}", self.now),
        }
    }

    async fn end_of(&self, child: &mut Child) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status =
            status.unwrap_or_else(|_| panic!("{}: has not ended\n{}", self.now, self.env.printed("run", "err")));
        status.expect("a child can be waited for")
    }

    /// A daemon is told to stop once IM is as the table, if it runs as long as that.
    async fn end_of_daemon(&self, child: &mut Child) -> ExitStatus {
        let worked = self.until("IM is as the table", async || self.differences(&BTreeSet::new()).await.is_empty());
        tokio::select! {
            status = child.wait() => return status.expect("a child can be waited for"),
            () = worked => {}
        }
        signal(child, "TERM");
        self.end_of(child).await
    }

    /// Nothing of the dead process goes on: its sessions have ended, and IM has answered its calls.
    pub(super) async fn come_to_rest(&self) {
        self.until("the sessions of the dead process have ended", async || {
            let sessions = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name LIKE 'imsync%'";
            self.number(sessions).await == 0
        })
        .await;
        let quiet = self.env.handle().wait_until(|counters| counters.in_flight == 0);
        assert!(tokio::time::timeout(PATIENCE, quiet).await.is_ok(), "{}: calls are still in flight", self.now);
    }
}
