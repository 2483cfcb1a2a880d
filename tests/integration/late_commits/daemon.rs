//! A daemon whose passes can be counted: each is a line of its debug log.
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
    /// Full passes until it was at rest.
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

    /// Starts the one that was killed or stopped again.
    pub(super) fn start_again(&mut self) {
        self.starts += 1;
        self.child = spawn(self.env, self.starts);
    }

    pub(super) fn starts(&self) -> u32 {
        self.starts
    }

    /// What the present process has logged.
    pub(super) fn log(&self) -> String {
        self.env.printed(&name(self.starts), "err")
    }

    /// All passes of all starts, in order.
    pub(super) fn passes(&self) -> Vec<Pass> {
        (1..=self.starts).flat_map(|start| passes(&self.env.printed(&name(start), "err"))).collect()
    }

    pub(super) fn incremental(&self) -> Vec<Pass> {
        self.passes().into_iter().filter(|pass| pass.kind == "incremental").collect()
    }

    pub(super) fn full(&self) -> usize {
        self.passes().iter().filter(|pass| pass.kind == "full").count()
    }

    /// Waits until so many full passes have ended.
    pub(super) async fn full_passes(&self, count: usize) {
        self.eventually("another full pass", async || self.full() >= count).await;
    }

    /// Waits until IM holds what the table says and there is nothing left to read. When a session of ours, or one of the
    /// server's own, was in a transaction at the very first fence, one more full pass falls due: that one has run too.
    pub(super) async fn comes_to_rest(&mut self) {
        self.env.converges(Duration::from_mins(3)).await;
        self.eventually("no full pass is to come", async || self.env.no_full_pass_is_to_come().await).await;
        self.quiet().await;
        self.full_passes = self.full();
    }

    /// A full pass would have hidden what the incremental ones missed.
    pub(super) fn has_made_no_further_full_pass(&self) {
        assert_eq!(self.full(), self.full_passes, "{}", self.log());
    }

    /// Waits for so many further polls that went through.
    pub(super) async fn polls(&self, count: usize) {
        let done = || self.incremental().iter().filter(|pass| pass.outcome == "ok").count();
        let until = done() + count;
        self.eventually("further polls", async || done() >= until).await;
    }

    pub(super) async fn failed_polls(&self, count: usize) {
        let failed = || self.passes().iter().filter(|pass| pass.outcome == "failed").count();
        let until = failed() + count;
        self.eventually("passes that fail", async || failed() >= until).await;
    }

    /// Waits until polls find nothing to read any more: what changed is recorded and older than the slack.
    pub(super) async fn quiet(&self) {
        let from = self.incremental().len();
        self.eventually("polls that read nothing", async || {
            let since = self.incremental().split_off(from);
            since.len() >= 3 && since[since.len() - 3..].iter().all(|pass| pass.rows_read == 0)
        })
        .await;
    }

    /// Waits until IM holds this city.
    pub(super) async fn polls_until(&self, account: &str, city: &str) {
        let holds = async || self.env.handle().user(account).get("city").is_some_and(|held| held == city);
        self.eventually(&format!("{account} in {city}"), holds).await;
    }

    /// What has been committed just now arrives: the poll under way may have passed it by, the next one brings it. Nothing
    /// else is to be sent meanwhile.
    pub(super) async fn brings_at_once(&self, account: &str, city: &str) {
        let before = self.incremental().len();
        self.polls_until(account, city).await;
        // The poll that brought it has told of itself when a later one has.
        self.polls(1).await;
        // None has made a call: then it was the last one before.
        let passed_by = self.incremental()[before..].iter().position(|pass| pass.calls > 0).unwrap_or(0);
        assert!(passed_by <= 1, "{passed_by} polls passed {account} by\n{}", self.log());
    }

    async fn eventually(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let came = tokio::time::timeout(Duration::from_mins(3), async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        });
        assert!(came.await.is_ok(), "never came: {what}\n{}", self.log());
    }
}

fn name(start: u32) -> String {
    format!("run-{start}")
}

fn spawn(env: &TestEnvironment, start: u32) -> Child {
    env.start(&name(start), &["run", "-v", "--log-format", "json"])
}

fn passes(log: &str) -> Vec<Pass> {
    // A line under way, or one cut by a kill, is no JSON.
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "pass ended")
        .map(|line| Pass {
            kind: line["kind"].as_str().expect("a pass has a kind").to_owned(),
            outcome: line["outcome"].as_str().expect("a pass has an outcome").to_owned(),
            rows_read: line["rows_read"].as_u64().expect("a pass counts its rows"),
            calls: line["calls"].as_u64().expect("a pass counts its calls"),
            seconds: line["seconds"].as_f64().expect("a pass takes its time"),
        })
        .collect()
}
