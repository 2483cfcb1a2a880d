//! The next alert: what is the case and is not told.
//!
//! Owns: the comparison, and how often a growing number is told. Must not know: how an alert is sent or stored. No I/O.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::Instant;

use super::conditions::{AlertDetails, Condition, Conditions};
use super::kind::AlertKind;
use super::told::{StandingAlert, ToldAlerts, Undelivered};

/// The number of rejected accounts may grow with every pass. It is told again at most this often.
const GROWTH_INTERVAL: Duration = Duration::from_mins(10);

/// One change of the state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alert {
    pub(super) kind: AlertKind,
    /// `None`: the condition has ended.
    pub(super) finding: Option<AlertDetails>,
    /// When the condition began.
    pub(super) since: DateTime<Utc>,
    /// Of the accounts, those that the receiver does not know.
    pub(super) new_accounts: u64,
}

/// What is the case and what the receiver knows.
#[derive(Debug)]
pub(super) struct AlertState {
    pub(super) conditions: Conditions,
    told: ToldAlerts,
    /// `told` has changed since it was stored or read.
    is_unsaved: bool,
    /// When a number of rejected accounts was told last.
    rejected_told: Option<Instant>,
}

impl AlertState {
    pub(super) fn new(conditions: Conditions) -> Self {
        Self { conditions, told: ToldAlerts::default(), is_unsaved: false, rejected_told: None }
    }

    /// This instance leads from now on. What it has told while it could not store it adds to what is stored.
    pub(super) fn begin_leading(&mut self, stored: Option<&Value>, drifted: u64, missed_changes: u64) {
        let mut told = ToldAlerts::stored(stored);
        if self.is_unsaved {
            told.set(AlertKind::Failing, self.told.standing(AlertKind::Failing).cloned());
            told.undelivered = self.told.undelivered.take();
        }
        self.told = told;
        self.conditions.begin_leading(drifted, missed_changes);
    }

    /// The alert to send next; `None` when the receiver knows what is the case. `at`: the wall clock at `now`.
    pub(super) fn next(&mut self, now: Instant, at: DateTime<Utc>) -> Option<Alert> {
        AlertKind::ALL.into_iter().find_map(|kind| self.next_of(kind, now, at))
    }

    fn next_of(&mut self, kind: AlertKind, now: Instant, at: DateTime<Utc>) -> Option<Alert> {
        // What a standby has stored, its leader ends.
        if self.conditions.is_standby() && !self.is_unsaved {
            return None;
        }
        let condition = self.conditions.condition(kind, now);
        let standing = self.told.standing(kind).cloned();
        match (standing, condition) {
            (_, Condition::Undecided) | (None, Condition::Clear) => None,
            (Some(standing), Condition::Clear) => {
                Some(Alert { kind, finding: None, since: standing.since, new_accounts: 0 })
            }
            (None, Condition::Holds(finding)) => {
                let new_accounts = finding.accounts.unwrap_or(0);
                Some(Alert { kind, since: at - finding.held_for, finding: Some(finding), new_accounts })
            }
            (Some(standing), Condition::Holds(finding)) => {
                self.is_unsaved |= self.told.lower(kind, finding.accounts);
                let new_accounts = finding.accounts.unwrap_or(0).saturating_sub(standing.accounts.unwrap_or(0));
                let told_lately =
                    kind == AlertKind::Rejected && self.rejected_told.is_some_and(|told| now - told < GROWTH_INTERVAL);
                let is_due = kind.tells_growth() && new_accounts > 0 && !told_lately;
                is_due.then_some(Alert { kind, finding: Some(finding), since: standing.since, new_accounts })
            }
        }
    }

    /// The receiver has accepted the alert.
    pub(super) fn delivered(&mut self, alert: &Alert, now: Instant) {
        let standing =
            alert.finding.as_ref().map(|finding| StandingAlert { since: alert.since, accounts: finding.accounts });
        self.told.set(alert.kind, standing);
        self.told.undelivered = None;
        self.is_unsaved = true;
        if alert.kind == AlertKind::Rejected {
            self.rejected_told = Some(now);
        }
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, error: &str, at: DateTime<Utc>) {
        let since = self.told.undelivered.as_ref().map_or(at, |undelivered| undelivered.since);
        let undelivered = Some(Undelivered { since, error: error.to_owned() });
        self.is_unsaved |= self.told.undelivered != undelivered;
        self.told.undelivered = undelivered;
    }

    /// What is to be stored, if it has changed.
    pub(super) fn unsaved(&self) -> Option<Value> {
        self.is_unsaved.then(|| self.told.to_json())
    }

    /// This document is stored.
    pub(super) fn saved(&mut self, document: &Value) {
        self.is_unsaved = self.told.to_json() != *document;
    }
}
