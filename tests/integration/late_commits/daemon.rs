//! A daemon whose passes are counted: each pass writes a line to the debug log.
//!
//! Owns: starting, killing, and reading what each poll read. Must not know: what a test does in between.

use std::time::Duration;

use serde_json::Value;
use tokio::process::Child;

use crate::support::{TestEnvironment, ended, signal};

#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) kind: String,
    pub(super) outcome: String,
    pub(super) rows_read: u64,
    pub(super) calls: u64,
    pub(super) seconds: f64,
}

pub(super) struct Daemon<'a> {
    env: &'a TestEnvironment,
    child: Child,
    starts: u32,
    /// The number of full passes when the daemon had become idle.
    full_passes: usize,
}

impl<'a> Daemon<'a> {
    pub(super) fn start(env: &'a TestEnvironment) -> Self {
        Self { env, child: spawn(env, 1), starts: 1, full_passes: 0 }
    }

    pub(super) async fn kill(&mut self) {
        signal(&self.child, "KILL");
        ended(&mut self.child).await;
    }

    pub(super) async fn stop(&mut self) {
        signal(&self.child, "TERM");
        assert_eq!(ended(&mut self.child).await, Some(0), "{}", self.log());
    }

    /// Starts the daemon again after a kill or a stop.
    pub(super) fn restart(&mut self) {
        self.starts += 1;
        self.child = spawn(self.env, self.starts);
    }

    pub(super) fn starts(&self) -> u32 {
        self.starts
    }

    /// The log of the current process.
    pub(super) fn log(&self) -> String {
        self.env.printed(&name(self.starts), "err")
    }

    /// The passes of all processes, in order.
    pub(super) fn passes(&self) -> Vec<Pass> {
        (1..=self.starts).flat_map(|start| passes(&self.env.printed(&name(start), "err"))).collect()
    }

    pub(super) fn incremental_passes(&self) -> Vec<Pass> {
        self.passes().into_iter().filter(|pass| pass.kind == "incremental").collect()
    }

    pub(super) fn full_pass_count(&self) -> usize {
        self.passes().iter().filter(|pass| pass.kind == "full").count()
    }

    /// Waits until this many full passes have ended.
    pub(super) async fn wait_for_full_passes(&self, count: usize) {
        self.eventually("another full pass has ended", async || self.full_pass_count() >= count).await;
    }

    /// Waits until IM equals the table and there is nothing left to read. If a session of this test or of the server
    /// was in a transaction at the first transaction list, one more full pass becomes due; this waits for that pass
    /// too.
    pub(super) async fn wait_until_idle(&mut self) {
        self.env.converges(Duration::from_mins(3)).await;
        self.eventually("no full pass is due", async || self.env.no_full_pass_is_due().await).await;
        self.wait_for_empty_polls().await;
        self.full_passes = self.full_pass_count();
    }

    /// A further full pass would hide rows that the incremental passes missed.
    pub(super) fn expect_no_further_full_pass(&self) {
        assert_eq!(self.full_pass_count(), self.full_passes, "{}", self.log());
    }

    /// Waits for this many further successful polls.
    pub(super) async fn wait_for_polls(&self, count: usize) {
        let done = || self.incremental_passes().iter().filter(|pass| pass.outcome == "ok").count();
        let until = done() + count;
        self.eventually("further polls succeed", async || done() >= until).await;
    }

    pub(super) async fn wait_for_failed_passes(&self, count: usize) {
        let failed = || self.passes().iter().filter(|pass| pass.outcome == "failed").count();
        let until = failed() + count;
        self.eventually("passes fail", async || failed() >= until).await;
    }

    /// Waits until polls read no rows: all changes are recorded and older than the slack.
    pub(super) async fn wait_for_empty_polls(&self) {
        let from = self.incremental_passes().len();
        self.eventually("polls read nothing", async || {
            let since = self.incremental_passes().split_off(from);
            since.len() >= 3 && since[since.len() - 3..].iter().all(|pass| pass.rows_read == 0)
        })
        .await;
    }

    /// Waits until IM holds this city.
    pub(super) async fn wait_for_city(&self, account: &str, city: &str) {
        let holds = async || self.env.handle().user(account).get("city").is_some_and(|held| held == city);
        self.eventually(&format!("IM holds {city} for {account}"), holds).await;
    }

    /// Waits for a change that was just committed. The current poll may miss it, the next one must deliver it. Nothing
    /// else may be sent at the same time.
    pub(super) async fn expect_next_poll_delivers(&self, account: &str, city: &str) {
        let before = self.incremental_passes().len();
        self.wait_for_city(account, city).await;
        // The log line of the delivering poll is complete once a later poll has ended.
        self.wait_for_polls(1).await;
        // No counted poll made a call, so the poll before them delivered the change.
        let missed_by = self.incremental_passes()[before..].iter().position(|pass| pass.calls > 0).unwrap_or(0);
        assert!(missed_by <= 1, "{missed_by} polls missed {account}\n{}", self.log());
    }

    async fn eventually(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let reached = tokio::time::timeout(Duration::from_mins(3), async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        });
        assert!(reached.await.is_ok(), "timed out waiting until {what}\n{}", self.log());
    }
}

fn name(start: u32) -> String {
    format!("run-{start}")
}

fn spawn(env: &TestEnvironment, start: u32) -> Child {
    env.start(&name(start), &["run", "-v", "--log-format", "json"])
}

fn passes(log: &str) -> Vec<Pass> {
    // A line that is incomplete or cut by a kill is not valid JSON.
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "pass ended")
        .map(|line| Pass {
            kind: line["kind"].as_str().expect("a pass has a kind").to_owned(),
            outcome: line["outcome"].as_str().expect("a pass has an outcome").to_owned(),
            rows_read: line["rows_read"].as_u64().expect("a pass counts its rows"),
            calls: line["calls"].as_u64().expect("a pass counts its calls"),
            seconds: line["seconds"].as_f64().expect("a pass reports its duration"),
        })
        .collect()
}
