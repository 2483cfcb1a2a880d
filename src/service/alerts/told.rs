//! What the receiver of the alerts knows.
//!
//! Owns: the document in the column `alerts` of the sync row, which `imsync status` shows. Must not know: what is the case.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kind::AlertKind;

/// An alert that the receiver has accepted and that has not ended for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StandingAlert {
    /// When the condition began.
    pub(super) since: DateTime<Utc>,
    /// The number of accounts, for conditions of accounts.
    pub(super) accounts: Option<u64>,
}

/// The receiver does not accept alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undelivered {
    /// When the first attempt failed.
    pub(super) since: DateTime<Utc>,
    /// Why. Contains nothing of the URL.
    pub(super) error: String,
}

/// What the receiver knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ToldAlerts {
    /// By the label of the kind, so that a later release may know more of them.
    standing: BTreeMap<String, StandingAlert>,
    /// `None` when the last alert was accepted.
    pub(super) undelivered: Option<Undelivered>,
}

impl ToldAlerts {
    /// As the state has it. Nothing is known before the first alert.
    pub(super) fn stored(document: Option<&Value>) -> Self {
        document.and_then(|document| Self::deserialize(document).ok()).unwrap_or_default()
    }

    /// As the state stores it.
    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The alert of this kind, if it stands.
    pub(super) fn standing(&self, kind: AlertKind) -> Option<&StandingAlert> {
        self.standing.get(kind.label())
    }

    /// The receiver has accepted that the alert stands, or with `None` that it has ended.
    pub(super) fn set(&mut self, kind: AlertKind, alert: Option<StandingAlert>) {
        match alert {
            Some(alert) => self.standing.insert(kind.label().to_owned(), alert),
            None => self.standing.remove(kind.label()),
        };
    }

    /// Accounts were told that are no longer concerned. Returns whether something has changed.
    pub(super) fn lower(&mut self, kind: AlertKind, accounts: Option<u64>) -> bool {
        let Some(standing) = self.standing.get_mut(kind.label()).filter(|standing| standing.accounts > accounts) else {
            return false;
        };
        standing.accounts = accounts;
        true
    }
}
