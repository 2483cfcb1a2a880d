//! Whether this instance is ready, and why not: what `/readyz` answers. No I/O.
//!
//! Owns: the rule and its sentences. Must not know: HTTP, passes, databases.
//!
//! A standby is ready. A leader is ready when the newest finished pass did not fail (or none has finished yet), and
//! it ended less than three intervals ago (at least 5 s) or a running pass has recorded outcomes within three
//! intervals (at least 60 s). A new leader is therefore not ready until its first pass has ended or recorded
//! something. For an unchanged table that takes a moment, and an unreachable database shows from the start.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock;

/// The number of intervals within which a pass has to end or to record something.
const INTERVALS: u32 = 3;
/// The shortest time allowed since the end of a pass, for very short intervals.
const MIN_ENDED_LIMIT: Duration = Duration::from_secs(5);
/// The shortest time allowed since a running pass recorded something: one batch may be retried for so long
/// (`im.retry_for`).
const MIN_RECORDED_LIMIT: Duration = Duration::from_mins(1);

/// What this instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceRole {
    /// Holds the lease and runs the passes.
    Leader,
    /// Tries to take the lease that another instance holds.
    Standby,
}

/// Readiness at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadinessStatus {
    /// Ready in this role.
    Ready(InstanceRole),
    /// Not ready, with a sentence for the operator.
    NotReady(String),
}

impl ReadinessStatus {
    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// `{"ready":true,"role":"leader"|"standby"}` or `{"ready":false,"reason":"…"}`
    pub fn to_json(&self) -> Value {
        match self {
            Self::Ready(InstanceRole::Leader) => json!({"ready": true, "role": "leader"}),
            Self::Ready(InstanceRole::Standby) => json!({"ready": true, "role": "standby"}),
            Self::NotReady(reason) => json!({"ready": false, "reason": reason}),
        }
    }
}

/// What the daemon reports and the HTTP server reads. Shared in an `Arc`.
#[derive(Debug)]
pub struct Readiness(Mutex<ReadinessInputs>);

#[derive(Debug)]
struct ReadinessInputs {
    interval: Duration,
    /// `None`: not known, because the lease could not be tried.
    role: Option<InstanceRole>,
    /// When the role changed last.
    since: Instant,
    /// More than one while incremental passes run between the pages of a full one.
    running_passes: u32,
    /// When a running pass last recorded outcomes.
    recorded: Option<Instant>,
    /// When a pass last began or recorded something.
    progressed: Instant,
    finished: Option<FinishedPass>,
    problem: Option<String>,
}

#[derive(Debug)]
struct FinishedPass {
    at: Instant,
    error: Option<String>,
}

impl Readiness {
    /// Without a role. `interval` is `schedule.interval`.
    pub fn new(interval: Duration) -> Self {
        Self(Mutex::new(ReadinessInputs {
            interval,
            role: None,
            since: clock::monotonic(),
            running_passes: 0,
            recorded: None,
            progressed: clock::monotonic(),
            finished: None,
            problem: None,
        }))
    }

    /// A pass has started.
    pub fn pass_started(&self) {
        let mut inputs = self.inputs();
        inputs.running_passes += 1;
        inputs.progressed = clock::monotonic();
    }

    /// For how long a running pass has recorded nothing; `None` while no pass runs, also because a database is away.
    pub fn pass_without_progress(&self) -> Option<Duration> {
        let inputs = self.inputs();
        (inputs.running_passes > 0 && inputs.problem.is_none()).then(|| inputs.progressed.elapsed())
    }

    /// A running pass has committed outcomes to the state tables.
    pub fn pass_recorded_outcomes(&self) {
        let mut inputs = self.inputs();
        inputs.progressed = clock::monotonic();
        inputs.recorded = Some(inputs.progressed);
    }

    /// A pass has ended. `error`: why it failed; `None` for every outcome but `failed`, so for `rejected` and `guard`
    /// too.
    ///
    /// Everybody who can reach `/readyz` reads the text, so it must contain no secrets and no values.
    pub fn pass_finished(&self, error: Option<String>) {
        let mut inputs = self.inputs();
        inputs.running_passes = inputs.running_passes.saturating_sub(1);
        if inputs.running_passes == 0 {
            inputs.recorded = None;
        }
        inputs.finished = Some(FinishedPass { at: clock::monotonic(), error });
        inputs.problem = None;
    }

    /// Another instance holds the lease. To be called after each attempt to take it.
    pub fn set_standby(&self) {
        self.inputs().set_role(Some(InstanceRole::Standby));
    }

    /// This instance holds the lease. Passes of an earlier period as leader no longer count.
    pub fn set_leader(&self) {
        self.inputs().set_role(Some(InstanceRole::Leader));
    }

    /// An error between passes, such as an unreachable database. It lasts until a pass finishes or the role is set.
    ///
    /// It does not make a leader unready, it explains why it is. A standby loses its role, because it no longer knows
    /// whether another instance leads.
    pub fn set_problem(&self, reason: String) {
        let mut inputs = self.inputs();
        if inputs.role == Some(InstanceRole::Standby) {
            inputs.set_role(None);
        }
        inputs.problem = Some(reason);
    }

    /// A reloaded configuration has another `schedule.interval`.
    pub fn set_interval(&self, interval: Duration) {
        self.inputs().interval = interval;
    }

    /// Readiness at the moment `now`.
    pub fn status(&self, now: Instant) -> ReadinessStatus {
        self.inputs().status(now)
    }

    fn inputs(&self) -> MutexGuard<'_, ReadinessInputs> {
        // Each change is a plain assignment, so a panic cannot leave a change half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessInputs {
    fn set_role(&mut self, role: Option<InstanceRole>) {
        self.problem = None;
        if self.role != role {
            self.role = role;
            self.since = clock::monotonic();
            self.running_passes = 0;
            self.recorded = None;
            self.finished = None;
        }
    }

    fn status(&self, now: Instant) -> ReadinessStatus {
        match self.role {
            Some(InstanceRole::Standby) => ReadinessStatus::Ready(InstanceRole::Standby),
            Some(InstanceRole::Leader) => match self.leader_problem(now) {
                None => ReadinessStatus::Ready(InstanceRole::Leader),
                Some(reason) => ReadinessStatus::NotReady(reason),
            },
            None => ReadinessStatus::NotReady(match &self.problem {
                Some(problem) => problem.clone(),
                None => format!(
                    "started {} ago, not known yet whether another instance leads",
                    RoundedDuration(now - self.since)
                ),
            }),
        }
    }

    /// Why a leader is not ready; `None` when it is.
    fn leader_problem(&self, now: Instant) -> Option<String> {
        let reason = match &self.finished {
            Some(FinishedPass { at, error: Some(error) }) => {
                format!("the last pass failed {} ago: {error}", RoundedDuration(now - *at))
            }
            _ => self.stalled(now)?,
        };
        Some(match &self.problem {
            None => reason,
            Some(problem) => format!("{reason}; now: {problem}"),
        })
    }

    /// Why passes make no progress; `None` when one has ended or recorded something within its limit.
    fn stalled(&self, now: Instant) -> Option<String> {
        let limit = self.interval.saturating_mul(INTERVALS);
        let ended_ago = self.finished.as_ref().map(|pass| now - pass.at);
        if ended_ago.is_some_and(|ago| ago < limit.max(MIN_ENDED_LIMIT)) {
            return None;
        }
        let recorded_ago = self.recorded.filter(|_| self.running_passes > 0).map(|at| now - at);
        if recorded_ago.is_some_and(|ago| ago <= limit.max(MIN_RECORDED_LIMIT)) {
            return None;
        }
        let ended = match ended_ago {
            Some(ago) => format!("no pass has ended for {}", RoundedDuration(ago)),
            None => format!(
                "no pass has ended in the {} since this instance took the lease",
                RoundedDuration(now - self.since)
            ),
        };
        Some(match (self.running_passes, recorded_ago) {
            (0, _) => ended,
            (_, None) => format!("{ended}; the running one has recorded nothing so far"),
            (_, Some(ago)) => format!("{ended}; the running one last recorded something {} ago", RoundedDuration(ago)),
        })
    }
}

/// A time span in one rounded unit: `12 s`, `3 min`, `2 h`, `5 d`.
struct RoundedDuration(Duration);

impl fmt::Display for RoundedDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds @ 120..7_200 => write!(f, "{} min", seconds / 60),
            seconds @ 7_200..172_800 => write!(f, "{} h", seconds / 3_600),
            seconds => write!(f, "{} d", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests;
