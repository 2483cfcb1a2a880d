//! How the leaders of one app divide its call rate. Pure.
//!
//! Owns: the arithmetic. Must not know: statements, time, calls.
//!
//! The rate is divided into slots, and each slot belongs to at most one leader. What all of them may call together is then
//! never more than the rate, whatever each of them knows about the others. The rules below only decide who should have how
//! many.

/// The rate is divided into at most so many slots. Each slot in use is an advisory lock, of which a server has some
/// thousands.
const MAX_SLOTS: u32 = 50;
/// A leader without need keeps one slot of so many, for its next change.
const RESERVE_DIVISOR: u32 = 10;
/// While there are fewer slots than leaders that need one, they take turns of so many seconds.
const TURN_SECONDS: i64 = 4;

/// A leader of the app, as the locks show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CallLeader {
    /// The process id of its session.
    pub(super) pid: i32,
    /// Its `im.calls_per_second`.
    pub(super) limit: u32,
    /// It could use more slots.
    pub(super) wants_more: bool,
    /// The slots that it has.
    pub(super) slots: Vec<u32>,
}

/// What a leader should change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotPlan {
    /// Slots to give back.
    pub(super) release: Vec<u32>,
    /// Free slots, of which it should take `take`.
    pub(super) free: Vec<u32>,
    pub(super) take: usize,
}

/// The slots of a rate.
pub(super) fn slot_count(limit: u32) -> u32 {
    limit.min(MAX_SLOTS)
}

/// The calls per second that these slots allow. Whole numbers: with N calls per second a rate limiter starts at most N
/// calls in any second, so the sum over all leaders is at most the rate.
pub(super) fn worth(limit: u32, slots: impl Iterator<Item = u32>) -> u32 {
    let count = u64::from(slot_count(limit));
    let up_to = |slot: u64| slot * u64::from(limit) / count.max(1);
    let of_slot = |slot: u32| up_to(u64::from(slot) + 1) - up_to(u64::from(slot));
    let sum: u64 = slots.filter(|slot| u64::from(*slot) < count).map(of_slot).sum();
    u32::try_from(sum).unwrap_or(u32::MAX)
}

/// The slots that a leader keeps for its next change.
pub(super) fn reserve(limit: u32) -> u32 {
    (slot_count(limit) / RESERVE_DIVISOR).max(1)
}

/// What the leader `own` should do. `limit`: the lowest rate that a leader is configured with. `used`: the slots that its
/// calls need, or more than there are if calls wait. `seconds`: a clock that all leaders share.
pub(super) fn plan(leaders: &[CallLeader], own: i32, limit: u32, used: u32, seconds: i64) -> SlotPlan {
    let count = slot_count(limit);
    let held = |leader: &CallLeader| to_u32(leader.slots.iter().filter(|slot| **slot < count).count());
    let Some(me) = leaders.iter().find(|leader| leader.pid == own) else { return SlotPlan::default() };
    let mine: Vec<u32> = me.slots.iter().copied().filter(|slot| *slot < count).collect();
    let has = to_u32(mine.len());
    let taken: Vec<u32> = leaders.iter().flat_map(|leader| leader.slots.iter().copied()).collect();
    let free: Vec<u32> = (0..count).filter(|slot| !taken.contains(slot)).collect();
    let need = used.saturating_add(1).max(reserve(limit));

    let rivals: Vec<i32> = leaders.iter().filter(|leader| leader.wants_more).map(|leader| leader.pid).collect();
    let target = if me.wants_more {
        let kept: u32 = leaders.iter().filter(|leader| !leader.wants_more).map(held).sum();
        let fair = fair_part(count.saturating_sub(kept), &rivals, own, seconds);
        // A leader that only lacks its reserve takes no more than that.
        fair.min(need.max(has))
    } else if !rivals.is_empty() {
        has.min(need.min(count.div_ceil(to_u32(leaders.len()))))
    } else {
        has + to_u32(free.len()) / to_u32(leaders.len()).max(1)
    };
    let release = mine.iter().rev().take(has.saturating_sub(target) as usize).copied().collect();
    SlotPlan { release, take: target.saturating_sub(has) as usize, free }
}

/// The part of one of the rivals. What cannot be divided goes to the first of them; where nobody would get a whole slot, in
/// turns.
fn fair_part(slots: u32, rivals: &[i32], own: i32, seconds: i64) -> u32 {
    let many = to_u32(rivals.len()).max(1);
    let mut sorted = rivals.to_vec();
    sorted.sort_unstable();
    let rank = to_u32(sorted.iter().position(|pid| *pid == own).unwrap_or(0));
    let turn =
        if slots < many { u32::try_from((seconds / TURN_SECONDS).rem_euclid(i64::from(many))).unwrap_or(0) } else { 0 };
    slots / many + u32::from((rank + turn) % many < slots % many)
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a leader needs, in slots.
    const IDLE: u32 = 0;
    const BUSY: u32 = u32::MAX;

    fn joined(pids: &[i32], limit: u32) -> Vec<CallLeader> {
        pids.iter().map(|pid| CallLeader { pid: *pid, limit, wants_more: true, slots: Vec::new() }).collect()
    }

    /// One second of one leader.
    fn tick(leaders: &mut [CallLeader], index: usize, need: u32, limit: u32, seconds: i64) {
        let has = to_u32(leaders[index].slots.len());
        leaders[index].wants_more = need > has || has < reserve(limit);
        let SlotPlan { release, free, take } = plan(leaders, leaders[index].pid, limit, need, seconds);
        let slots = &mut leaders[index].slots;
        slots.retain(|slot| !release.contains(slot));
        slots.extend(free.into_iter().take(take));
        slots.sort_unstable();
    }

    fn after(leaders: &mut [CallLeader], needs: &[u32], limit: u32, seconds: i64) -> Vec<usize> {
        for second in 0..seconds {
            for (index, need) in needs.iter().enumerate() {
                tick(leaders, index, *need, limit, second);
            }
        }
        leaders.iter().map(|leader| leader.slots.len()).collect()
    }

    #[test]
    fn each_leader_gets_its_part_or_what_the_others_do_not_need() {
        let alone = after(&mut joined(&[1], 95), &[IDLE], 95, 2);
        assert_eq!(alone, [50]);
        let mut two = joined(&[1, 2], 95);
        assert_eq!(after(&mut two, &[BUSY, BUSY], 95, 5), [25, 25]);
        assert_eq!(after(&mut two, &[BUSY, IDLE], 95, 5), [45, 5], "an idle leader keeps its reserve");
        assert_eq!(after(&mut two, &[IDLE, BUSY], 95, 5), [5, 45]);
        assert_eq!(after(&mut two, &[12, BUSY], 95, 5), [13, 37]);
        assert_eq!(after(&mut two, &[BUSY, BUSY], 95, 5), [25, 25]);
        let mut three = joined(&[1, 2, 3], 95);
        assert_eq!(after(&mut three, &[BUSY, BUSY, IDLE], 95, 8), [23, 22, 5]);
        three.remove(0);
        assert_eq!(after(&mut three, &[BUSY, IDLE], 95, 5), [45, 5], "the slots of a leader that ended are taken");
    }

    #[test]
    fn leaders_take_turns_where_there_is_less_than_a_call_for_each() {
        let mut two = joined(&[1, 2], 1);
        let mut calls = [0, 0];
        for second in 0..40 {
            for index in 0..2 {
                tick(&mut two, index, BUSY, 1, second);
            }
            for (index, leader) in two.iter().enumerate() {
                calls[index] += leader.slots.len();
            }
        }
        assert!(calls.iter().all(|calls| *calls >= 10) && calls.iter().sum::<usize>() <= 40, "{calls:?}");
    }

    #[test]
    fn all_slots_together_are_worth_the_rate() {
        for limit in [1, 2, 7, 49, 50, 51, 95, 100, 1_234, 100_000] {
            assert_eq!(worth(limit, 0..slot_count(limit)), limit);
            assert_eq!(worth(limit, 0..1_000), limit, "slots of a higher rate are worth nothing");
            assert!((0..slot_count(limit)).all(|slot| worth(limit, std::iter::once(slot)) > 0));
        }
    }

    proptest! {
        #[test]
        fn no_slot_belongs_to_two_leaders(
            limit in 1_u32..120,
            ticks in proptest::collection::vec((0_usize..4, 0_u32..60), 1..60),
        ) {
            let mut leaders = joined(&[4, 9, 2, 7], limit);
            for (second, (index, need)) in (0..).zip(ticks) {
                tick(&mut leaders, index, need, limit, second);
                let mut slots: Vec<u32> = leaders.iter().flat_map(|leader| leader.slots.clone()).collect();
                slots.sort_unstable();
                let many = slots.len();
                slots.dedup();
                prop_assert_eq!(slots.len(), many);
                prop_assert!(worth(limit, slots.into_iter()) <= limit);
            }
        }
    }
}
