//! Whether this instance does its work, and if not, why: what `/readyz` answers. Pure.
//!
//! Owns: the rule and its words. Must not know: HTTP, passes, databases.
//!
//! The rule: ready while this instance stands by; a leader is ready when the newest finished pass did not fail (or none
//! has finished yet), and either it ended less than three intervals ago (at least 5 s) or one under way has recorded
//! something within three intervals (at least 60 s). So a leader that has just begun is not ready until its first pass
//! has ended or recorded something: for a table at rest that is a moment, and a database that is unreachable shows from the start.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock;

/// How many intervals may go by.
const INTERVALS: u32 = 3;
/// The least time allowed since the end of a pass, for very short intervals.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// The least time allowed since a pass under way has recorded something: one batch may be retried that long (`retry_for`).
const RECORDED_WITHIN: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Holds the lease and makes the passes.
    Leader,
    /// Polls the lease that another instance holds.
    Standby,
}

/// The answer of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ready(Role),
    /// With a sentence for people.
    NotReady(String),
}

impl Verdict {
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// `{"ready":true,"role":"leader"|"standby"}` or `{"ready":false,"reason":"…"}`
    pub fn to_json(&self) -> Value {
        match self {
            Self::Ready(Role::Leader) => json!({"ready": true, "role": "leader"}),
            Self::Ready(Role::Standby) => json!({"ready": true, "role": "standby"}),
            Self::NotReady(reason) => json!({"ready": false, "reason": reason}),
        }
    }
}

/// What readiness is decided from. Share it in an `Arc`: the daemon reports, the HTTP server asks.
#[derive(Debug)]
pub struct Readiness(Mutex<Facts>);

#[derive(Debug)]
struct Facts {
    interval: Duration,
    /// `None`: not known (yet), because the lease could not be asked for.
    role: Option<Role>,
    /// Since when the role is what it is.
    since: Instant,
    /// More than one: incremental passes go between the pages of a full one.
    under_way: u32,
    /// When a pass under way last recorded something.
    recorded: Option<Instant>,
    finished: Option<Finished>,
    trouble: Option<String>,
}

#[derive(Debug)]
struct Finished {
    at: Instant,
    error: Option<String>,
}

impl Readiness {
    /// Neither leading nor standing by yet. `interval` is `schedule.interval`.
    pub fn new(interval: Duration) -> Self {
        Self(Mutex::new(Facts {
            interval,
            role: None,
            since: clock::monotonic(),
            under_way: 0,
            recorded: None,
            finished: None,
            trouble: None,
        }))
    }

    pub fn pass_started(&self) {
        self.facts().under_way += 1;
    }

    /// Outcomes of a pass under way were committed to the state tables.
    pub fn pass_recorded_something(&self) {
        self.facts().recorded = Some(clock::monotonic());
    }

    /// `failed`: the error of a pass whose outcome is `failed`; `None` for all others, `rejected` and `guard` too.
    /// The text is shown to whoever asks `/readyz`: no secrets, no values.
    pub fn pass_finished(&self, failed: Option<String>) {
        let mut facts = self.facts();
        facts.under_way = facts.under_way.saturating_sub(1);
        if facts.under_way == 0 {
            facts.recorded = None;
        }
        facts.finished = Some(Finished { at: clock::monotonic(), error: failed });
        facts.trouble = None;
    }

    /// Another instance holds the lease, as a question just answered has told. May be said again and again.
    pub fn standing_by(&self) {
        self.facts().become_role(Some(Role::Standby));
    }

    /// This instance holds the lease. Passes of an earlier time as leader no longer count.
    pub fn leading(&self) {
        self.facts().become_role(Some(Role::Leader));
    }

    /// What keeps this instance from its work between passes, such as a database that is unreachable. Alone it makes no leader
    /// unready, it explains why it is or will be; but who stands by and has trouble does not know any more whether
    /// somebody else leads. Over with the next finished pass, with [`Readiness::leading`] or [`Readiness::standing_by`].
    pub fn trouble(&self, reason: String) {
        let mut facts = self.facts();
        if facts.role == Some(Role::Standby) {
            facts.become_role(None);
        }
        facts.trouble = Some(reason);
    }

    /// A reloaded configuration has another interval.
    pub fn set_interval(&self, interval: Duration) {
        self.facts().interval = interval;
    }

    pub fn verdict(&self, now: Instant) -> Verdict {
        self.facts().verdict(now)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Nothing here can leave the facts half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn become_role(&mut self, role: Option<Role>) {
        self.trouble = None;
        if self.role != role {
            self.role = role;
            self.since = clock::monotonic();
            self.under_way = 0;
            self.recorded = None;
            self.finished = None;
        }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        match self.role {
            Some(Role::Standby) => Verdict::Ready(Role::Standby),
            Some(Role::Leader) => match self.shortcoming(now) {
                None => Verdict::Ready(Role::Leader),
                Some(reason) => Verdict::NotReady(reason),
            },
            None => Verdict::NotReady(match &self.trouble {
                Some(trouble) => trouble.clone(),
                None => format!(
                    "started {} ago and does not know yet whether another instance leads",
                    Ago(now - self.since)
                ),
            }),
        }
    }

    /// Why a leader is not ready; `None` when it is.
    fn shortcoming(&self, now: Instant) -> Option<String> {
        let three = self.interval.saturating_mul(INTERVALS);
        let reason = match &self.finished {
            Some(Finished { at, error: Some(error) }) => {
                format!("the last pass failed {} ago: {error}", Ago(now - *at))
            }
            newest => {
                let ended = newest.as_ref().map(|pass| now - pass.at);
                if ended.is_some_and(|ago| ago < three.max(ENDED_WITHIN)) {
                    return None;
                }
                let recorded = self.recorded.filter(|_| self.under_way > 0).map(|at| now - at);
                if recorded.is_some_and(|ago| ago <= three.max(RECORDED_WITHIN)) {
                    return None;
                }
                let since_when = match ended {
                    Some(ago) => format!("no pass has ended for {}", Ago(ago)),
                    None => {
                        format!("no pass has ended in the {} since this instance took the lease", Ago(now - self.since))
                    }
                };
                match (self.under_way, recorded) {
                    (0, _) => since_when,
                    (_, None) => format!("{since_when}; the one under way has recorded nothing so far"),
                    (_, Some(ago)) => {
                        format!("{since_when}; the one under way last recorded something {} ago", Ago(ago))
                    }
                }
            }
        };
        Some(match &self.trouble {
            None => reason,
            Some(trouble) => format!("{reason}; now: {trouble}"),
        })
    }
}

/// A time span as people say it: `12 s`, `3 min`, `2 h`, `5 d`.
struct Ago(Duration);

impl fmt::Display for Ago {
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
