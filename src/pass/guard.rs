//! The removal guard: the removals of a pass are counted first, and sent only if there are few enough of them, together with
//! those of the previous 24 hours.
//!
//! Owns: the share, the guard's document and its message. Must not know: which accounts wait, how a removal is sent.
//!
//! Accounts are counted, each once: those whose removal waits, and those that lost something within the last 24 hours with
//! the guard's permission. They are a share of the accounts that hold something now *or lost their last value within these
//! 24 hours*. If only the accounts that hold something now were counted, the share would grow as accounts are removed: 10
//! and then 10 of 100 would be 20 of 90. An account that lost one of several attributes still holds something, so it is
//! counted once on each side. Removals that `--allow-removals` permits are on neither side, and a full pass with that option
//! starts the count again. Otherwise the earlier removals would be compared with the few accounts that are left, and after
//! an intended cleanup the first removed account would trip the guard.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::pending_removals::PendingRemovals;
use crate::clock;
use crate::model::Account;
use crate::state::{State, StateError};

/// Fewer accounts than this never trip the guard.
const MIN_ACCOUNTS: u64 = 20;

/// How long a count of the known accounts is used where the share is far from the limit. Counting ten million accounts
/// takes a second, and on a busy table every pass has a removal.
const KNOWN_COUNT_VALID: Duration = Duration::from_mins(10);

/// The guard's decision about pending removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuardDecision {
    /// The removals may be sent.
    Allowed,
    /// The guard trips now.
    Tripped,
    /// The guard tripped in an earlier pass. Only a full pass lifts it.
    StillTripped,
}

/// The removal guard of one sync.
#[derive(Debug)]
pub(super) struct RemovalGuard {
    max_share: f64,
    /// The guard's document while it is tripped.
    document: Option<Value>,
    /// The document in the sync row. A pass that changes the document stores it at once.
    stored: Option<Value>,
    /// The known accounts when they were last counted.
    known: Option<(Instant, u64)>,
}

impl RemovalGuard {
    /// `stored`: the document in the sync row. `max_share`: `removal.max_share`.
    pub(super) fn new(stored: Option<Value>, max_share: f64) -> Self {
        Self { max_share, document: stored.clone(), stored, known: None }
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

    /// Lifts the guard for a full pass that has compared everything and is about to decide again, if the guard is the one
    /// that was tripped when the pass began. One that another pass tripped since stays, unless the operator allowed removals.
    pub(super) fn lift_for_full_pass(&mut self, at_begin: Option<&Value>, removals_allowed: bool) {
        if removals_allowed || self.document.as_ref() == at_begin {
            self.document = None;
        }
    }

    /// Restores the guard that was tripped when a full pass began, because the pass did not complete.
    pub(super) fn restore(&mut self, at_begin: Option<&Value>) {
        if self.document.is_none() {
            self.document = at_begin.cloned();
        }
    }

    /// The known accounts have to be counted again: removals are sent that the guard does not count.
    pub(super) fn forget_known_count(&mut self) {
        self.known = None;
    }

    /// Decides whether the pending removals may be sent, and trips the guard if there are too many of them.
    pub(super) async fn decide(
        &mut self,
        state: &State,
        sync_id: i32,
        pending: &PendingRemovals,
    ) -> Result<GuardDecision, StateError> {
        if self.is_tripped() {
            return Ok(GuardDecision::StillTripped);
        }
        self.document = self.judge(state, sync_id, pending).await?;
        Ok(if self.is_tripped() { GuardDecision::Tripped } else { GuardDecision::Allowed })
    }

    async fn judge(
        &mut self,
        state: &State,
        sync_id: i32,
        pending: &PendingRemovals,
    ) -> Result<Option<Value>, StateError> {
        if pending.count() == 0 {
            return Ok(None);
        }
        let accounts: Vec<&str> = pending.accounts().map(Account::as_str).collect();
        let recent = state.count_accounts_with_removals_in_24h_except(sync_id, &accounts).await?;
        let share_of = |known| RemovalShare { pending: pending.count(), recent, known };
        if share_of(0).removed() < MIN_ACCOUNTS {
            return Ok(None);
        }
        // Within this time the known accounts can halve only by removals that are counted above, or by removals that an
        // operator allowed, after which they are counted again.
        let counted = self.known.filter(|(counted_at, _)| counted_at.elapsed() < KNOWN_COUNT_VALID);
        if counted.is_some_and(|(_, known)| share_of(known).trips(self.max_share / 2.0).is_none()) {
            return Ok(None);
        }
        let known = state.count_accounts(sync_id).await?.known;
        self.known = Some((clock::monotonic(), known));
        Ok(share_of(known + state.count_fully_removed(sync_id).await?).trips(self.max_share))
    }
}

/// What the guard compares, in accounts.
#[derive(Clone, Copy, Debug)]
struct RemovalShare {
    /// Their removal waits.
    pending: u64,
    /// Other accounts that lost something within 24 hours.
    recent: u64,
    /// They hold something now, or lost their last value within 24 hours.
    known: u64,
}

impl RemovalShare {
    fn removed(self) -> u64 {
        self.pending + self.recent
    }

    /// The guard's document if there are too many removals.
    fn trips(self, max_share: f64) -> Option<Value> {
        let Self { pending: _, recent, known } = self;
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

    fn tripped(accounts: u64) -> Value {
        json!({ "accounts": accounts })
    }

    #[test]
    fn few_removals_never_trip_and_a_share_is_a_share() {
        let trips = |pending, recent, known, share| RemovalShare { pending, recent, known }.trips(share);
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
    fn a_full_pass_lifts_only_the_guard_it_began_with() {
        let mut guard = RemovalGuard::new(Some(tripped(20)), 0.2);
        guard.lift_for_full_pass(None, false);
        assert!(guard.is_tripped(), "another pass tripped it meanwhile");
        guard.lift_for_full_pass(Some(&tripped(20)), false);
        assert!(!guard.is_tripped() && guard.differs_from_stored());
        guard.note_stored();
        assert!(!guard.differs_from_stored());

        let mut guard = RemovalGuard::new(Some(tripped(20)), 0.2);
        guard.lift_for_full_pass(None, true);
        assert!(!guard.is_tripped(), "the operator allowed the removals");
    }

    #[test]
    fn an_incomplete_full_pass_restores_the_guard() {
        let mut guard = RemovalGuard::new(Some(tripped(20)), 0.2);
        guard.lift_for_full_pass(Some(&tripped(20)), false);
        guard.restore(Some(&tripped(20)));
        assert_eq!(guard.document(), Some(&tripped(20)));
        guard.restore(Some(&tripped(30)));
        assert_eq!(guard.document(), Some(&tripped(20)), "a tripped guard stays as it is");
        assert!(!guard.differs_from_stored());
    }
}
