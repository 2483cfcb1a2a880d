//! The watermark: open, transaction lists, started_after, read_from. Pure arithmetic over readings of the source.
//!
//! Owns: what may not have been read yet. Must not know: SQL, connections.
//!
//! A row's stamp is taken when its transaction begins (`now()`) and seen when it commits, so the newest stamp seen says
//! nothing about what is still to come. What does: a transaction that was not in progress at a transaction list began after it, so
//! its stamps are not before that transaction list's clock. That clock is the transaction's *started_after*; when the transaction has
//! ended, everything from its started_after on is read once more. `CREATE INDEX CONCURRENTLY` waits out the same set.

use std::collections::HashMap;

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod model;
mod transaction_list;

pub use transaction_list::{
    HeldBackBy, PreparedTransaction, RunningTransaction, TransactionList, WatermarkBound, WatermarkKind,
};

/// The durable form, stored as JSON in the sync row: everything the next transaction list is compared with. Short keys, because it
/// is written with every pass; unknown keys are ignored, so that an older release can read what a newer one wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedWatermark {
    #[serde(rename = "v", deserialize_with = "known_version")]
    version: u32,
    kind: WatermarkKind,
    read_from: WatermarkBound,
    clock: i64,
    candidate: WatermarkBound,
    #[serde(rename = "start")]
    server_start: i64,
    #[serde(rename = "kept", default, skip_serializing_if = "is_false")]
    ids_kept: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    first_list_pending: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    fell: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    open: Vec<OpenTransaction>,
}

/// A transaction that was in progress at the last transaction list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenTransaction {
    id: String,
    /// What it writes is not dated before this.
    started_after: WatermarkBound,
    /// It may be one of the transactions of the very first transaction_list: when the last of them has ended a full pass falls due.
    #[serde(rename = "first", default, skip_serializing_if = "is_false")]
    in_first_list: bool,
    /// Of the first transaction list and without a visible start: no bound finds its rows, only that full pass does. Not the same
    /// as a started_after at the beginning, which an empty table's counter has too.
    #[serde(default, skip_serializing_if = "is_false")]
    unbounded: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(rename = "gid", default, skip_serializing_if = "Option::is_none")]
    prepared: Option<String>,
    #[serde(rename = "app", default, skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    /// The clock of the transaction list that saw it first.
    since: i64,
    /// For so many transaction lists still (this one included) the started_after of a member that vanishes may be its own: it is a prepared
    /// transaction whose id we have not seen running.
    #[serde(default, skip_serializing_if = "is_zero")]
    successor: u8,
}

/// The form written by this release.
const VERSION: u32 = 1;

fn known_version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(deserializer)?;
    if version == VERSION {
        Ok(version)
    } else {
        Err(serde::de::Error::custom(format!("watermark of form {version}, this release knows form {VERSION}")))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands out references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands out references")]
fn is_zero(count: &u8) -> bool {
    *count == 0
}

/// A prepared transaction that no longer shows the virtual id under which it ran (manual, `pg_locks`: the backend part
/// is -1 once no backend stands behind it). Such an id names the transaction itself and outlives a restart.
fn names_xid(id: &str) -> bool {
    id.starts_with("-1/")
}

/// What may not have been read yet, carried from transaction list to transaction list.
#[derive(Clone, Debug)]
pub struct WatermarkTracker {
    saved: SavedWatermark,
    /// The candidates before and after a rise that no writer explains.
    jump: Option<(i64, i64)>,
    /// When the last transactions took the database clock, on ours. Not saved: it means nothing to another process.
    between: Option<(Instant, Instant)>,
    /// How far the database clock was seen to have gone back at the last transactions, in microseconds.
    back: i64,
}

/// By how much more, in microseconds, our monotonic clock must have advanced than the database's before that counts as a
/// step back. A clock that is slewed, or runs slower than ours, never goes back, so what is told apart here is only the
/// cost of transactions rows twice. ntpd steps from 128 ms on and slews what is less; a smaller step made by hand is a tenth of
/// the least slack, and does not add up from transaction list to transaction list, since each begins anew at its own transactions.
const LEAST_STEP: i64 = 100_000;

impl WatermarkTracker {
    /// The first transaction list of a sync: every member's started_after is the beginning (or its start, where that may be seen).
    /// `read_from` becomes this transactions's candidate.
    pub fn begin(transactions: &TransactionList) -> Self {
        let mut open: Vec<OpenTransaction> = Vec::new();
        for running in &transactions.running {
            let started_after = match (transactions.kind, running.started) {
                (WatermarkKind::Timestamp, Some(started)) => WatermarkBound::At(started),
                _ => WatermarkBound::Beginning,
            };
            let member = OpenTransaction::running(running, started_after, transactions.clock);
            open.push(OpenTransaction {
                in_first_list: true,
                unbounded: started_after == WatermarkBound::Beginning,
                ..member
            });
        }
        let mut ids_kept = false;
        for prepared in &transactions.prepared {
            if let Some(member) = open.iter_mut().find(|member| member.id == prepared.id) {
                member.prepared = Some(prepared.gid.clone());
                ids_kept = true;
            } else {
                let member = OpenTransaction::prepared(prepared, WatermarkBound::Beginning, transactions.clock);
                open.push(OpenTransaction { in_first_list: true, unbounded: true, successor: 2, ..member });
            }
        }
        Self {
            saved: SavedWatermark {
                version: VERSION,
                kind: transactions.kind,
                read_from: transactions.candidate,
                clock: transactions.clock,
                candidate: transactions.candidate,
                server_start: transactions.server_start,
                ids_kept,
                first_list_pending: !open.is_empty(),
                fell: false,
                open,
            },
            jump: None,
            between: transactions.between,
            back: 0,
        }
    }

    pub fn restore(saved: SavedWatermark) -> Self {
        Self { saved, jump: None, between: None, back: 0 }
    }

    pub fn save(&self) -> SavedWatermark {
        self.saved.clone()
    }

    /// Takes the next transaction_list: `read_from` is lowered to the started_after of the open that have ended, new open get their started_after.
    /// Must be called with every transactions, of failed passes too. Read from [`WatermarkTracker::read_from`] afterwards.
    pub fn observe(&mut self, transactions: &TransactionList) {
        let restarted = transactions.server_start != self.saved.server_start;
        if restarted {
            self.saved.ids_kept = false;
        }
        self.step_back(self.went_back(transactions));
        self.between = transactions.between;

        let last = self.saved.candidate;
        let previous = std::mem::take(&mut self.saved.open);
        // For a prepared transaction that may be any of the previous open, or newer than all of them.
        let lowest = previous
            .iter()
            .filter(|member| !member.unbounded)
            .map(|member| member.started_after)
            .fold(last, WatermarkBound::min);
        let of_first_fence = previous.iter().any(|member| member.in_first_list);
        let mut previous: HashMap<String, OpenTransaction> =
            previous.into_iter().map(|member| (member.id.clone(), member)).collect();

        let mut open: Vec<OpenTransaction> =
            Vec::with_capacity(transactions.running.len() + transactions.prepared.len());
        for running in &transactions.running {
            // The pid tells a virtual id that came round again (all backends died, the postmaster did not).
            let same = |old: &OpenTransaction| !restarted && old.prepared.is_none() && old.pid == Some(running.pid);
            let member = if previous.get(&running.id).is_some_and(same) {
                previous.remove(&running.id).map(|old| OpenTransaction { application: running.named(), ..old })
            } else {
                let started_after = match (self.saved.kind, running.started) {
                    (WatermarkKind::Timestamp, Some(started)) => last.min(WatermarkBound::At(started)),
                    _ => last,
                };
                Some(OpenTransaction::running(running, started_after, transactions.clock))
            };
            open.extend(member);
        }

        let by_id: HashMap<&str, usize> =
            transactions.running.iter().enumerate().map(|(place, running)| (running.id.as_str(), place)).collect();
        let mut unknown: Vec<&PreparedTransaction> = Vec::new();
        for prepared in &transactions.prepared {
            let same = |old: &OpenTransaction| {
                (!restarted || names_xid(&prepared.id)) && old.prepared.as_ref().is_none_or(|gid| *gid == prepared.gid)
            };
            if let Some(&place) = by_id.get(prepared.id.as_str()) {
                // PreparedTransaction between the two lists: one transaction, seen in both.
                open[place].prepared = Some(prepared.gid.clone());
                self.saved.ids_kept = true;
            } else if previous.get(&prepared.id).is_some_and(same) {
                if let Some(old) = previous.remove(&prepared.id) {
                    self.saved.ids_kept |= old.prepared.is_none();
                    let successor = old.successor.saturating_sub(1);
                    open.push(OpenTransaction { prepared: Some(prepared.gid.clone()), successor, ..old });
                }
            } else {
                unknown.push(prepared);
            }
        }
        for prepared in unknown {
            open.push(if self.ran_under(&prepared.id) {
                // Had it run at the last transaction list, this id would have been there. Without this case a stream of short
                // prepared transactions would hand the lowest started_after from one to the next for ever.
                OpenTransaction::prepared(prepared, last, transactions.clock)
            } else {
                let member = OpenTransaction::prepared(prepared, lowest, transactions.clock);
                OpenTransaction { in_first_list: of_first_fence, successor: 2, ..member }
            });
        }

        let vanished: Vec<OpenTransaction> = previous.into_values().collect();
        let passed_on = vanished.iter().filter(|member| !member.unbounded).map(|member| member.started_after).min();
        if let Some(started_after) = passed_on {
            self.saved.read_from = self.saved.read_from.min(started_after);
        }
        let first_vanished = vanished.iter().any(|member| member.in_first_list);
        for member in &mut open {
            if member.successor > 0 && !self.ran_under(&member.id) {
                member.started_after =
                    passed_on.map_or(member.started_after, |started_after| member.started_after.min(started_after));
                member.in_first_list |= first_vanished;
            }
        }

        if self.saved.kind == WatermarkKind::Counter {
            self.look_at_counter(transactions.candidate, &mut open);
        }
        self.saved.open = open;
        self.saved.candidate = transactions.candidate;
        self.saved.clock = transactions.clock;
        self.saved.server_start = transactions.server_start;
    }

    /// This id of a prepared transaction is certainly the virtual id under which it ran. Believed only of a server that
    /// was seen, since it started, to show a transaction under one id while it ran and when it was prepared.
    fn ran_under(&self, id: &str) -> bool {
        self.saved.ids_kept && !names_xid(id)
    }

    fn look_at_counter(&mut self, candidate: WatermarkBound, open: &mut [OpenTransaction]) {
        if candidate < self.saved.candidate {
            // Someone set it back (or deleted the newest row, which looks the same). What is open may hold values that
            // were drawn below every bound we know.
            self.saved.fell = true;
            self.saved.read_from = self.saved.read_from.min(candidate);
            for member in open {
                member.started_after = WatermarkBound::Beginning;
            }
        }
        self.jump = match (self.saved.candidate, candidate) {
            (WatermarkBound::At(before), WatermarkBound::At(after)) if jumps(before, after) => Some((before, after)),
            _ => None,
        };
    }

    /// Everything dated before it is recorded (slack not subtracted).
    pub fn read_from(&self) -> WatermarkBound {
        self.saved.read_from
    }

    /// All that the pass read from `read_from` on is recorded: `read_from` rises to the candidate of the last transaction list observed,
    /// which has to be the one that the pass began with.
    pub fn complete(&mut self) {
        self.saved.read_from = self.saved.candidate;
        self.saved.fell = false;
    }

    /// How far the database clock has gone back since the last transactions, in microseconds; at least that, where no transactions
    /// of this process went before. Of no meaning for a counter.
    ///
    /// The database read its clock somewhere between our two looks at ours. That it went back is only believed when it
    /// must have, however the round trips went; how far, is then taken for the most that it can be.
    fn went_back(&self, transactions: &TransactionList) -> i64 {
        if self.saved.kind == WatermarkKind::Counter {
            return 0;
        }
        let advanced = transactions.clock.saturating_sub(self.saved.clock);
        let (least, most) = match (self.between, transactions.between) {
            (Some((asked_before, answered_before)), Some((asked, answered))) => {
                (micros(answered_before, asked), micros(asked_before, answered))
            }
            _ => (0, 0),
        };
        let certain = advanced < 0 || least.saturating_sub(advanced) > LEAST_STEP;
        if certain { most.saturating_sub(advanced) } else { 0 }
    }

    /// Whatever was written since the last transactions is dated at or after its candidate less the step: by transactions that
    /// began since, and by those that were open already and stamp with the wall clock. So that bounds started_after, too.
    fn step_back(&mut self, by: i64) {
        self.back = by;
        if by > 0 {
            self.saved.read_from = self.saved.read_from.less(by);
            self.saved.candidate = self.saved.candidate.less(by);
            for member in &mut self.saved.open {
                member.started_after = member.started_after.min(self.saved.candidate);
            }
        }
    }

    /// The database clock went back by so many microseconds before the last transactions; what is dated since is read again.
    pub fn stepped_back(&self) -> Option<i64> {
        (self.back > 0).then_some(self.back)
    }

    /// The lowest of `read_from` and the started_after still open; what is shown as the watermark.
    pub fn durable(&self) -> WatermarkBound {
        self.saved.open.iter().map(|member| member.started_after).fold(self.saved.read_from, WatermarkBound::min)
    }

    /// The oldest open member, when it holds the durable watermark below `read_from`.
    pub fn held_back_by(&self) -> Option<HeldBackBy> {
        let below = self.saved.open.iter().filter(|member| member.started_after < self.saved.read_from);
        let oldest = below.min_by_key(|member| (member.since, member.started_after))?;
        Some(HeldBackBy {
            pid: if oldest.prepared.is_some() { None } else { oldest.pid },
            prepared: oldest.prepared.clone(),
            application: oldest.application.clone(),
            since: DateTime::from_timestamp_micros(oldest.since)?,
        })
    }

    /// The last member of the very first transaction list has ended, and nobody has taken note of it yet: a full pass is due.
    /// It has to begin after the transactions that said so; a full pass that was under way then does not count.
    pub fn first_list_cleared(&self) -> bool {
        self.saved.first_list_pending && !self.saved.open.iter().any(|member| member.in_first_list)
    }

    /// The full pass that [`WatermarkTracker::first_list_cleared`] asks for has been written down as due.
    pub fn note_first_list_cleared(&mut self) {
        if self.first_list_cleared() {
            self.saved.first_list_pending = false;
        }
    }

    /// A bigint watermark whose largest value fell below an earlier candidate: a full pass is due. Stays so over failed
    /// passes and restarts until the next [`WatermarkTracker::complete`]; look at it after each [`WatermarkTracker::observe`].
    pub fn fell(&self) -> bool {
        self.saved.fell
    }

    /// A bigint watermark rose further between the last two readings than rows could have been written: the largest
    /// values before and after. Worth a warning, since everything counted below the second is no longer looked for.
    pub fn jumped(&self) -> Option<(i64, i64)> {
        self.jump
    }
}

fn micros(from: Instant, to: Instant) -> i64 {
    i64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(i64::MAX)
}

/// Nobody writes a billion rows between two polls; a column that counts microseconds does not double.
fn jumps(before: i64, after: i64) -> bool {
    after.saturating_sub(before) > 1_000_000_000 && after > before.saturating_mul(2)
}

impl OpenTransaction {
    fn running(running: &RunningTransaction, started_after: WatermarkBound, since: i64) -> Self {
        Self {
            id: running.id.clone(),
            started_after,
            in_first_list: false,
            unbounded: false,
            pid: Some(running.pid),
            prepared: None,
            application: running.named(),
            since,
            successor: 0,
        }
    }

    fn prepared(prepared: &PreparedTransaction, started_after: WatermarkBound, since: i64) -> Self {
        Self {
            id: prepared.id.clone(),
            started_after,
            in_first_list: false,
            unbounded: false,
            pid: None,
            prepared: Some(prepared.gid.clone()),
            application: None,
            since,
            successor: 0,
        }
    }
}
