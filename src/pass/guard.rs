//! The removal guard: owed removals are counted first, and sent only if there are few enough of them, together with those of
//! the previous 24 hours.
//!
//! Owns: the share, the guard's document and its message. Must not know: which accounts owe a removal, how one is sent.
//!
//! Accounts are counted, each once: those that owe a removal, and those that lost something within the last 24 hours with
//! the guard's permission. They are a share of the accounts that hold something now *or lost their last value within these
//! 24 hours*. If only the accounts that hold something now were counted, the share would grow as accounts are removed: 10
//! and then 10 of 100 would be 20 of 90. An account that lost one of several attributes still holds something, so it is
//! counted once on each side. Removals that `--allow-removals` permits are on neither side, and a full pass with that option
//! starts the count again. Otherwise the earlier removals would be compared with the few accounts that are left, and after
//! an intended cleanup the first removed account would trip the guard.
//!
//! Owed removals are rows of a table, whichever pass found them. So the guard's count is one of the whole table as soon as
//! every row has been compared, also by a full pass that was interrupted and resumed.

use crate::clock;
use crate::state::{State, StateError};
use serde_json::{Value, json};

/// Fewer accounts than this never trip the guard.
const MIN_ACCOUNTS: u64 = 20;

/// The guard's decision about owed removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuardDecision {
    /// The removals may be sent.
    Allowed,
    /// There are too many of them, or there were in an earlier pass and the whole table has not been compared since.
    Tripped,
}

/// What was compared before the guard decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuardScope {
    /// Some rows. A tripped guard stays tripped.
    PartOfTable,
    /// The whole table. A guard is lifted if there are few enough removals by now. `forced_rows`: accounts of the table
    /// that a forced pass compared. Nothing may be acknowledged for them, so that they are not known.
    WholeTable { forced_rows: u64 },
}

impl GuardScope {
    fn forced_rows(self) -> u64 {
        match self {
            Self::PartOfTable => 0,
            Self::WholeTable { forced_rows } => forced_rows,
        }
    }
}

/// The removal guard of one sync.
#[derive(Debug)]
pub(super) struct RemovalGuard {
    max_share: f64,
    /// The guard's document while it is tripped.
    document: Option<Value>,
    /// The document in the sync row. A pass that changes the document stores it at once.
    stored: Option<Value>,
    /// At most so many accounts lost something within 24 hours. `None` until this process has counted them.
    recent_at_most: Option<u64>,
}

impl RemovalGuard {
    /// `stored`: the document in the sync row. `max_share`: `removal.max_share`.
    pub(super) fn new(stored: Option<Value>, max_share: f64) -> Self {
        Self { max_share, document: stored.clone(), stored, recent_at_most: None }
    }

    /// The guard's document while it is tripped.
    pub(super) fn document(&self) -> Option<&Value> {
        self.document.as_ref()
    }

    /// Whether removals are held back.
    pub(super) fn is_tripped(&self) -> bool {
        self.document.is_some()
    }

    /// Whether the guard has tripped or was lifted since it was last stored.
    pub(super) fn differs_from_stored(&self) -> bool {
        self.document != self.stored
    }

    /// The document was stored in the sync row.
    pub(super) fn note_stored(&mut self) {
        self.stored.clone_from(&self.document);
    }

    /// A full pass has sent everything with the permission of the operator.
    pub(super) fn lift(&mut self) {
        self.document = None;
    }

    /// Removals are about to be sent that the guard has permitted.
    pub(super) fn note_permitted(&mut self, accounts: u64) {
        if let Some(recent) = &mut self.recent_at_most {
            *recent += accounts;
        }
    }

    /// Decides whether the owed removals may be sent: trips the guard if there are too many of them, and lifts it if there
    /// are not and the whole table was compared.
    pub(super) async fn decide(
        &mut self,
        state: &State,
        sync_id: i32,
        scope: GuardScope,
    ) -> Result<GuardDecision, StateError> {
        if !self.is_tripped() || scope != GuardScope::PartOfTable {
            let share = self.share(state, sync_id, scope.forced_rows()).await?;
            self.judge(share);
        }
        Ok(if self.is_tripped() { GuardDecision::Tripped } else { GuardDecision::Allowed })
    }

    /// Trips or lifts the guard. One that stays tripped keeps the time since when.
    pub(super) fn judge(&mut self, share: Option<RemovalShare>) {
        let since = self.document.as_ref().map(|document| document["since"].clone());
        self.document = share.and_then(|share| share.trips(self.max_share)).map(|mut document| {
            if let Some(since) = since {
                document["since"] = since;
            }
            document
        });
    }

    /// What is owed and removed already, as a share of the known accounts; `None` if it is certainly small enough.
    ///
    /// Kept numbers decide where they can. Removals of 24 hours are counted only near the limit: there may be millions.
    async fn share(
        &mut self,
        state: &State,
        sync_id: i32,
        forced_rows: u64,
    ) -> Result<Option<RemovalShare>, StateError> {
        let counts = state.account_counts(sync_id).await?;
        let owed = counts.owed_removals;
        if owed == 0 {
            return Ok(None);
        }
        let known_at_least = counts.known.max(forced_rows);
        let is_small = |recent| RemovalShare { owed, recent, known: known_at_least }.trips(self.max_share).is_none();
        if self.recent_at_most.is_some_and(is_small) {
            return Ok(None);
        }
        let recent = state.count_recent_removals(sync_id).await?;
        let is_small = is_small(recent);
        self.recent_at_most = Some(recent);
        if is_small {
            return Ok(None);
        }
        Ok(Some(RemovalShare {
            owed,
            recent: state.count_recent_removals_except_owed(sync_id).await?,
            known: (counts.known + state.count_fully_removed(sync_id).await?).max(forced_rows),
        }))
    }
}

/// What the guard compares, in accounts.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemovalShare {
    /// Their removal is owed.
    pub(super) owed: u64,
    /// Other accounts that lost something within 24 hours.
    pub(super) recent: u64,
    /// They hold something now, or lost their last value within 24 hours.
    pub(super) known: u64,
}

impl RemovalShare {
    fn removed(self) -> u64 {
        self.owed + self.recent
    }

    /// The guard's document if there are too many removals.
    fn trips(self, max_share: f64) -> Option<Value> {
        let Self { owed: _, recent, known } = self;
        #[expect(clippy::cast_precision_loss, reason = "a share of accounts")]
        let share = self.removed() as f64 / known.max(1) as f64;
        (self.removed() >= MIN_ACCOUNTS && share > max_share).then(|| {
            json!({
                "since": clock::now_utc(),
                "accounts": self.removed(),
                "lost_within_24h": recent,
                "known": known,
                "share": (share * 10_000.0).round() / 10_000.0,
                "max_share": max_share,
            })
        })
    }
}

/// What a tripped guard means and what the operator can do, from the guard's document.
pub fn message(guard: &Value) -> String {
    let recent = match guard["lost_within_24h"].as_u64().unwrap_or(0) {
        0 => String::new(),
        recent => format!(" ({recent} of them have lost one within 24 hours)"),
    };
    format!(
        "the removal guard holds removals back: {} of {} known accounts would lose an attribute{recent}, more than removal.max_share = {} allows; \
         nothing is removed until this is decided. If the removals are intended, run `imsync backfill --allow-removals`; if not, check the \
         filter, the mapping and the table (`imsync preview --full` lists the accounts)",
        guard["accounts"], guard["known"], guard["max_share"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_removals_never_trip_and_a_share_is_a_share() {
        let trips = |owed, recent, known, share| RemovalShare { owed, recent, known }.trips(share);
        assert!(trips(10, 9, 19, 0.0).is_none());
        assert!(trips(20, 0, 20, 1.0).is_none());
        assert!(trips(5, 15, 100, 0.2).is_none(), "exactly this share is allowed");
        assert!(trips(5, 16, 100, 0.2).is_some());
        let guard = trips(500, 0, 1000, 0.2).expect("half is more than a fifth");
        assert!(message(&guard).contains("500 of 1000 known accounts would lose an attribute, more"), "{guard}");
        let guard = trips(50, 200, 1000, 0.2).expect("a quarter is more than a fifth");
        assert!(message(&guard).contains("250 of 1000"), "{guard}");
        assert!(message(&guard).contains("(200 of them have lost one within 24 hours)"), "{guard}");
    }

    #[test]
    fn a_guard_that_stays_tripped_keeps_its_time() {
        let share = |owed| Some(RemovalShare { owed, recent: 0, known: 100 });
        let mut guard = RemovalGuard::new(Some(json!({ "since": "then", "accounts": 30 })), 0.2);
        guard.judge(share(40));
        let document = guard.document().expect("two fifths are more than a fifth");
        assert_eq!((&document["since"], &document["accounts"]), (&"then".into(), &40.into()));
        assert!(guard.differs_from_stored());
        guard.note_stored();
        guard.judge(share(20));
        assert!(!guard.is_tripped() && guard.differs_from_stored());
    }
}
