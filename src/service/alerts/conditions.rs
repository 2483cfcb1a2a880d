//! What is the case: one condition for each kind of alert, and since when it holds.
//!
//! Owns: how long a condition lasts before it counts, so that what flaps raises no alert. Must not know: what was told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::kind::AlertKind;
use crate::service::readiness::{InstanceRole, ReadinessStatus};

/// The sync fails when it has not been ready for so many intervals, within these bounds. With the default interval that is a
/// minute, in which a database restarts and fails over.
const FAILING_INTERVALS: u32 = 6;
const MIN_FAILING: Duration = Duration::from_secs(15);
const MAX_FAILING: Duration = Duration::from_mins(5);
/// It has recovered when it has been ready for this part of that time.
const RECOVERED_PART: u32 = 4;
/// Most outcomes that are unknown are resolved by the next pass, those of a dead host within minutes.
const IN_DOUBT_LIMIT: Duration = Duration::from_hours(1);

/// What a leader knows at the end of a pass.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct PassFacts {
    /// Accounts with a rejection.
    pub(in crate::service) rejected: u64,
    /// Outcomes are unknown that a later pass retries.
    pub(in crate::service) in_doubt_pending: bool,
    /// The document of the removal guard while it is tripped.
    pub(in crate::service) guard: Option<Value>,
    /// The accounts whose change only this full pass has seen; `None` if the pass does not tell.
    pub(in crate::service) missed_changes: Option<u64>,
}

/// Whether a condition holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// Nothing is known yet, or it does not hold for long enough. What was told stays.
    Undecided,
    /// It does not hold.
    Clear,
    /// It holds.
    Holds(AlertDetails),
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AlertDetails {
    /// For how long it has held.
    pub(super) held_for: Duration,
    /// The number of accounts, for conditions of accounts.
    pub(super) accounts: Option<u64>,
    /// Why the sync fails.
    pub(super) reason: Option<String>,
    /// More about it, an object.
    pub(super) details: Value,
}

/// The observed conditions.
#[derive(Debug)]
pub(super) struct Conditions {
    interval: Duration,
    readiness: ReadinessStatus,
    /// When readiness changed between ready and not ready.
    readiness_since: Instant,
    /// Of the newest pass of this leader; `None` before its end, and for an instance that does not lead.
    pass: Option<PassFacts>,
    in_doubt_since: Option<Instant>,
    drifted: u64,
    missed_changes: u64,
}

impl Conditions {
    /// At the start of the process. `interval` is `schedule.interval`.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            readiness: ReadinessStatus::NotReady(String::new()),
            readiness_since: now,
            pass: None,
            in_doubt_since: None,
            drifted: 0,
            missed_changes: 0,
        }
    }

    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// To be called often.
    pub(super) fn note_readiness(&mut self, readiness: ReadinessStatus, now: Instant) {
        if readiness.is_ready() != self.readiness.is_ready() {
            self.readiness_since = now;
        }
        self.readiness = readiness;
    }

    /// This instance leads from now on. The numbers are those of the row of the sync.
    pub(super) fn begin_leading(&mut self, drifted: u64, missed_changes: u64) {
        (self.pass, self.in_doubt_since) = (None, None);
        (self.drifted, self.missed_changes) = (drifted, missed_changes);
    }

    /// Another instance may lead.
    pub(super) fn stop_leading(&mut self) {
        (self.pass, self.in_doubt_since) = (None, None);
    }

    pub(super) fn note_pass(&mut self, facts: PassFacts, now: Instant) {
        self.in_doubt_since = facts.in_doubt_pending.then(|| self.in_doubt_since.unwrap_or(now));
        self.missed_changes = facts.missed_changes.unwrap_or(self.missed_changes);
        self.pass = Some(facts);
    }

    pub(super) fn note_verification(&mut self, drifted: u64) {
        self.drifted = drifted;
    }

    /// Another instance holds the lease.
    pub(super) fn is_standby(&self) -> bool {
        self.readiness == ReadinessStatus::Ready(InstanceRole::Standby)
    }

    /// Whether the condition of this kind holds.
    pub(super) fn condition(&self, kind: AlertKind, now: Instant) -> Condition {
        if kind == AlertKind::Failing {
            return self.failing(now);
        }
        let Some(pass) = &self.pass else { return Condition::Undecided };
        match kind {
            AlertKind::Failing => Condition::Undecided,
            AlertKind::Rejected => of_accounts(pass.rejected),
            AlertKind::Drift => of_accounts(self.drifted),
            AlertKind::MissedChanges => of_accounts(self.missed_changes),
            AlertKind::Guard => pass.guard.as_ref().map_or(Condition::Clear, guard),
            AlertKind::InDoubt => match self.in_doubt_since.map(|since| now - since) {
                None => Condition::Clear,
                Some(held_for) if held_for < IN_DOUBT_LIMIT => Condition::Undecided,
                Some(held_for) => Condition::Holds(AlertDetails::lasting(held_for)),
            },
        }
    }

    fn failing(&self, now: Instant) -> Condition {
        let limit = self.interval.saturating_mul(FAILING_INTERVALS).clamp(MIN_FAILING, MAX_FAILING);
        let held_for = now - self.readiness_since;
        match &self.readiness {
            ReadinessStatus::Ready(_) if held_for >= limit / RECOVERED_PART => Condition::Clear,
            ReadinessStatus::NotReady(reason) if held_for >= limit => {
                Condition::Holds(AlertDetails { reason: Some(reason.clone()), ..AlertDetails::lasting(held_for) })
            }
            _ => Condition::Undecided,
        }
    }
}

impl AlertDetails {
    fn lasting(held_for: Duration) -> Self {
        Self { held_for, accounts: None, reason: None, details: json!({}) }
    }
}

fn of_accounts(accounts: u64) -> Condition {
    if accounts == 0 {
        return Condition::Clear;
    }
    Condition::Holds(AlertDetails { accounts: Some(accounts), ..AlertDetails::lasting(Duration::ZERO) })
}

/// The numbers of the guard's document.
fn guard(document: &Value) -> Condition {
    let numbers = ["known", "lost_within_24h", "max_share"];
    let details = numbers.map(|key| (key.to_owned(), document[key].clone())).into_iter().collect();
    Condition::Holds(AlertDetails {
        accounts: document["accounts"].as_u64(),
        details: Value::Object(details),
        ..AlertDetails::lasting(Duration::ZERO)
    })
}
