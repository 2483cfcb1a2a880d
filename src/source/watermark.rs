//! The watermark: members, fences, floors, unread. Pure arithmetic over readings of the source.
//!
//! Owns: what may not have been read yet. Must not know: SQL, connections.
//!
//! A row's stamp is taken when its transaction begins (`now()`) and seen when it commits, so the newest stamp seen says
//! nothing about what is still to come. What does: a transaction that was not in progress at a fence began after it, so
//! its stamps are not before that fence's clock. That clock is the transaction's *floor*; when the transaction has
//! ended, everything from its floor on is read once more. `CREATE INDEX CONCURRENTLY` waits out the same set.

use std::collections::HashMap;

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod model;
mod reading;

pub use reading::{Bound, HeldBackBy, Kind, Prepared, Reading, Running};

/// The durable form, stored as JSON in the sync row: everything the next fence is compared with. Short keys, because it
/// is written with every pass; unknown keys are ignored, so that an older release can read what a newer one wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    #[serde(rename = "v", deserialize_with = "known_version")]
    version: u32,
    kind: Kind,
    unread: Bound,
    clock: i64,
    candidate: Bound,
    #[serde(rename = "start")]
    server_start: i64,
    #[serde(rename = "kept", default, skip_serializing_if = "is_false")]
    ids_kept: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    first_pending: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    fell: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member>,
}

/// A transaction that was in progress at the last fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    id: String,
    /// What it writes is not dated before this.
    floor: Bound,
    /// It may be one of the transactions of the very first fence: when the last of them has ended a full pass falls due.
    #[serde(rename = "first", default, skip_serializing_if = "is_false")]
    first_fence: bool,
    /// Of the first fence and without a visible start: no bound finds its rows, only that full pass does. Not the same
    /// as a floor at the beginning, which an empty table's counter has too.
    #[serde(default, skip_serializing_if = "is_false")]
    boundless: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(rename = "gid", default, skip_serializing_if = "Option::is_none")]
    prepared: Option<String>,
    #[serde(rename = "app", default, skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    /// The clock of the fence that saw it first.
    since: i64,
    /// For so many fences still (this one included) the floor of a member that vanishes may be its own: it is a prepared
    /// transaction whose id we have not seen running.
    #[serde(default, skip_serializing_if = "is_zero")]
    heir: u8,
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

/// What may not have been read yet, carried from fence to fence.
#[derive(Clone, Debug)]
pub struct Tracker {
    saved: Saved,
    /// The candidates before and after a rise that no writer explains.
    jump: Option<(i64, i64)>,
    /// When the last reading took the database clock, on ours. Not saved: it means nothing to another process.
    between: Option<(Instant, Instant)>,
    /// How far the database clock was seen to have gone back at the last reading, in microseconds.
    back: i64,
}

/// By how much more, in microseconds, our monotonic clock must have advanced than the database's before that counts as a
/// step back. A clock that is slewed, or runs slower than ours, never goes back, so what is told apart here is only the
/// cost of reading rows twice. ntpd steps from 128 ms on and slews what is less; a smaller step made by hand is a tenth of
/// the least slack, and does not add up from fence to fence, since each begins anew at its own reading.
const LEAST_STEP: i64 = 100_000;

impl Tracker {
    /// The first fence of a sync: every member's floor is the beginning (or its start, where that may be seen).
    /// `unread` becomes this reading's candidate.
    pub fn begin(reading: &Reading) -> Self {
        let mut members: Vec<Member> = Vec::new();
        for running in &reading.running {
            let floor = match (reading.kind, running.started) {
                (Kind::Timestamp, Some(started)) => Bound::At(started),
                _ => Bound::Beginning,
            };
            let member = Member::running(running, floor, reading.clock);
            members.push(Member { first_fence: true, boundless: floor == Bound::Beginning, ..member });
        }
        let mut ids_kept = false;
        for prepared in &reading.prepared {
            if let Some(member) = members.iter_mut().find(|member| member.id == prepared.id) {
                member.prepared = Some(prepared.gid.clone());
                ids_kept = true;
            } else {
                let member = Member::prepared(prepared, Bound::Beginning, reading.clock);
                members.push(Member { first_fence: true, boundless: true, heir: 2, ..member });
            }
        }
        Self {
            saved: Saved {
                version: VERSION,
                kind: reading.kind,
                unread: reading.candidate,
                clock: reading.clock,
                candidate: reading.candidate,
                server_start: reading.server_start,
                ids_kept,
                first_pending: !members.is_empty(),
                fell: false,
                members,
            },
            jump: None,
            between: reading.between,
            back: 0,
        }
    }

    pub fn restore(saved: Saved) -> Self {
        Self { saved, jump: None, between: None, back: 0 }
    }

    pub fn save(&self) -> Saved {
        self.saved.clone()
    }

    /// Takes the next fence: `unread` is lowered to the floors of the members that have ended, new members get their floors.
    /// Must be called with every reading, of failed passes too. Read from [`Tracker::unread`] afterwards.
    pub fn observe(&mut self, reading: &Reading) {
        let restarted = reading.server_start != self.saved.server_start;
        if restarted {
            self.saved.ids_kept = false;
        }
        self.step_back(self.went_back(reading));
        self.between = reading.between;

        let last = self.saved.candidate;
        let previous = std::mem::take(&mut self.saved.members);
        // For a prepared transaction that may be any of the previous members, or newer than all of them.
        let lowest =
            previous.iter().filter(|member| !member.boundless).map(|member| member.floor).fold(last, Bound::min);
        let of_first_fence = previous.iter().any(|member| member.first_fence);
        let mut previous: HashMap<String, Member> =
            previous.into_iter().map(|member| (member.id.clone(), member)).collect();

        let mut members: Vec<Member> = Vec::with_capacity(reading.running.len() + reading.prepared.len());
        for running in &reading.running {
            // The pid tells a virtual id that came round again (all backends died, the postmaster did not).
            let same = |old: &Member| !restarted && old.prepared.is_none() && old.pid == Some(running.pid);
            let member = if previous.get(&running.id).is_some_and(same) {
                previous.remove(&running.id).map(|old| Member { application: running.named(), ..old })
            } else {
                let floor = match (self.saved.kind, running.started) {
                    (Kind::Timestamp, Some(started)) => last.min(Bound::At(started)),
                    _ => last,
                };
                Some(Member::running(running, floor, reading.clock))
            };
            members.extend(member);
        }

        let by_id: HashMap<&str, usize> =
            reading.running.iter().enumerate().map(|(place, running)| (running.id.as_str(), place)).collect();
        let mut unknown: Vec<&Prepared> = Vec::new();
        for prepared in &reading.prepared {
            let same = |old: &Member| {
                (!restarted || names_xid(&prepared.id)) && old.prepared.as_ref().is_none_or(|gid| *gid == prepared.gid)
            };
            if let Some(&place) = by_id.get(prepared.id.as_str()) {
                // Prepared between the two lists: one transaction, seen in both.
                members[place].prepared = Some(prepared.gid.clone());
                self.saved.ids_kept = true;
            } else if previous.get(&prepared.id).is_some_and(same) {
                if let Some(old) = previous.remove(&prepared.id) {
                    self.saved.ids_kept |= old.prepared.is_none();
                    let heir = old.heir.saturating_sub(1);
                    members.push(Member { prepared: Some(prepared.gid.clone()), heir, ..old });
                }
            } else {
                unknown.push(prepared);
            }
        }
        for prepared in unknown {
            members.push(if self.ran_under(&prepared.id) {
                // Had it run at the last fence, this id would have been there. Without this case a stream of short
                // prepared transactions would hand the lowest floor from one to the next for ever.
                Member::prepared(prepared, last, reading.clock)
            } else {
                let member = Member::prepared(prepared, lowest, reading.clock);
                Member { first_fence: of_first_fence, heir: 2, ..member }
            });
        }

        let vanished: Vec<Member> = previous.into_values().collect();
        let passed_on = vanished.iter().filter(|member| !member.boundless).map(|member| member.floor).min();
        if let Some(floor) = passed_on {
            self.saved.unread = self.saved.unread.min(floor);
        }
        let first_vanished = vanished.iter().any(|member| member.first_fence);
        for member in &mut members {
            if member.heir > 0 && !self.ran_under(&member.id) {
                member.floor = passed_on.map_or(member.floor, |floor| member.floor.min(floor));
                member.first_fence |= first_vanished;
            }
        }

        if self.saved.kind == Kind::Counter {
            self.look_at_counter(reading.candidate, &mut members);
        }
        self.saved.members = members;
        self.saved.candidate = reading.candidate;
        self.saved.clock = reading.clock;
        self.saved.server_start = reading.server_start;
    }

    /// This id of a prepared transaction is certainly the virtual id under which it ran. Believed only of a server that
    /// was seen, since it started, to show a transaction under one id while it ran and when it was prepared.
    fn ran_under(&self, id: &str) -> bool {
        self.saved.ids_kept && !names_xid(id)
    }

    fn look_at_counter(&mut self, candidate: Bound, members: &mut [Member]) {
        if candidate < self.saved.candidate {
            // Someone set it back (or deleted the newest row, which looks the same). What is open may hold values that
            // were drawn below every bound we know.
            self.saved.fell = true;
            self.saved.unread = self.saved.unread.min(candidate);
            for member in members {
                member.floor = Bound::Beginning;
            }
        }
        self.jump = match (self.saved.candidate, candidate) {
            (Bound::At(before), Bound::At(after)) if jumps(before, after) => Some((before, after)),
            _ => None,
        };
    }

    /// Everything dated before it is recorded (slack not subtracted).
    pub fn unread(&self) -> Bound {
        self.saved.unread
    }

    /// All that the pass read from `unread` on is recorded: `unread` rises to the candidate of the last fence observed,
    /// which has to be the one that the pass began with.
    pub fn complete(&mut self) {
        self.saved.unread = self.saved.candidate;
        self.saved.fell = false;
    }

    /// How far the database clock has gone back since the last reading, in microseconds; at least that, where no reading
    /// of this process went before. Of no meaning for a counter.
    ///
    /// The database read its clock somewhere between our two looks at ours. That it went back is only believed when it
    /// must have, however the round trips went; how far, is then taken for the most that it can be.
    fn went_back(&self, reading: &Reading) -> i64 {
        if self.saved.kind == Kind::Counter {
            return 0;
        }
        let advanced = reading.clock.saturating_sub(self.saved.clock);
        let (least, most) = match (self.between, reading.between) {
            (Some((asked_before, answered_before)), Some((asked, answered))) => {
                (micros(answered_before, asked), micros(asked_before, answered))
            }
            _ => (0, 0),
        };
        let certain = advanced < 0 || least.saturating_sub(advanced) > LEAST_STEP;
        if certain { most.saturating_sub(advanced) } else { 0 }
    }

    /// Whatever was written since the last reading is dated at or after its candidate less the step: by transactions that
    /// began since, and by those that were open already and stamp with the wall clock. So that bounds floors, too.
    fn step_back(&mut self, by: i64) {
        self.back = by;
        if by > 0 {
            self.saved.unread = self.saved.unread.less(by);
            self.saved.candidate = self.saved.candidate.less(by);
            for member in &mut self.saved.members {
                member.floor = member.floor.min(self.saved.candidate);
            }
        }
    }

    /// The database clock went back by so many microseconds before the last reading; what is dated since is read again.
    pub fn stepped_back(&self) -> Option<i64> {
        (self.back > 0).then_some(self.back)
    }

    /// The lowest of `unread` and the floors still open; what is shown as the watermark.
    pub fn durable(&self) -> Bound {
        self.saved.members.iter().map(|member| member.floor).fold(self.saved.unread, Bound::min)
    }

    /// The oldest open member, when it holds the durable watermark below `unread`.
    pub fn held_back_by(&self) -> Option<HeldBackBy> {
        let below = self.saved.members.iter().filter(|member| member.floor < self.saved.unread);
        let oldest = below.min_by_key(|member| (member.since, member.floor))?;
        Some(HeldBackBy {
            pid: if oldest.prepared.is_some() { None } else { oldest.pid },
            prepared: oldest.prepared.clone(),
            application: oldest.application.clone(),
            since: DateTime::from_timestamp_micros(oldest.since)?,
        })
    }

    /// The last member of the very first fence has ended, and nobody has taken note of it yet: a full pass is due.
    /// It has to begin after the reading that said so; a full pass that was under way then does not count.
    pub fn first_fence_cleared(&self) -> bool {
        self.saved.first_pending && !self.saved.members.iter().any(|member| member.first_fence)
    }

    /// The full pass that [`Tracker::first_fence_cleared`] asks for has been written down as due.
    pub fn note_first_fence(&mut self) {
        if self.first_fence_cleared() {
            self.saved.first_pending = false;
        }
    }

    /// A bigint watermark whose largest value fell below an earlier candidate: a full pass is due. Stays so over failed
    /// passes and restarts until the next [`Tracker::complete`]; look at it after each [`Tracker::observe`].
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

impl Member {
    fn running(running: &Running, floor: Bound, since: i64) -> Self {
        Self {
            id: running.id.clone(),
            floor,
            first_fence: false,
            boundless: false,
            pid: Some(running.pid),
            prepared: None,
            application: running.named(),
            since,
            heir: 0,
        }
    }

    fn prepared(prepared: &Prepared, floor: Bound, since: i64) -> Self {
        Self {
            id: prepared.id.clone(),
            floor,
            first_fence: false,
            boundless: false,
            pid: None,
            prepared: Some(prepared.gid.clone()),
            application: None,
            since,
            heir: 0,
        }
    }
}
