//! The kinds of alerts.
//!
//! Owns: their names in the JSON document and in the state tables, their order and their severities. Must not know: when an
//! alert fires.

/// A condition that an alert tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlertKind {
    /// The daemon is not ready: passes fail, or a database cannot be reached.
    Failing,
    /// The removal guard holds removals back.
    Guard,
    /// Accounts are rejected.
    Rejected,
    /// Outcomes of calls have stayed unknown.
    InDoubt,
    /// A verification found accounts that differ in IM.
    Drift,
    /// A full pass found changes that no incremental pass had seen.
    MissedChanges,
}

impl AlertKind {
    /// All kinds. Of several alerts that are due, the first is sent first.
    pub(super) const ALL: [Self; 6] =
        [Self::Failing, Self::Guard, Self::Rejected, Self::InDoubt, Self::Drift, Self::MissedChanges];

    /// The value of `kind` in the document.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Guard => "guard",
            Self::Rejected => "rejected",
            Self::InDoubt => "in_doubt",
            Self::Drift => "drift",
            Self::MissedChanges => "missed_changes",
        }
    }

    /// The value of `severity` in the document: `error` where a person has to act before the sync goes on.
    pub(super) fn severity(self) -> &'static str {
        match self {
            Self::Failing | Self::Guard => "error",
            Self::Rejected | Self::InDoubt | Self::Drift | Self::MissedChanges => "warning",
        }
    }

    /// Whether a larger number of accounts is told again while the alert stands.
    pub(super) fn tells_growth(self) -> bool {
        matches!(self, Self::Rejected | Self::Drift)
    }
}
