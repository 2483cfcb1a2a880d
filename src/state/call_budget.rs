//! The call rate that all leaders of one app in this database share.
//!
//! Owns: the advisory locks that divide it, and when a share changes. Must not know: who should have how much (`call_slots`),
//! how a rate is kept.
//!
//! Each slot of the rate is an advisory lock of the session that holds the lease. So the server sees to it that no slot is
//! used twice, frees the slots of a process that dies, and sees the leaders of all schemas of the database. A share is
//! lowered before a slot is given back, and raised a second after one was taken, because the vendor counts the calls of a
//! second.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use super::call_slots::{CallLeader, plan, reserve, slot_count, worth};
use super::error::StateError;
use crate::call_share::CallShare;
use crate::clock::{self, LEASE_VALID_FOR};

/// The numbers of the advisory locks: slots from 0; the configured rate of a leader; a leader that wants more.
const RATE_LOCK: i32 = 1_000_000;
const WANTS_MORE_LOCK: i32 = 2_000_000;
/// Added to the time after which every other leader knows of this one, or has lost its lease.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// What takes part in the budget of an app.
#[derive(Clone, Debug)]
pub struct CallBudget {
    /// `im.sdk_app_id`.
    pub sdk_app_id: u32,
    /// `im.calls_per_second`.
    pub calls_per_second: u32,
    /// The share, which the rate limiters obey.
    pub share: CallShare,
}

/// A leader that takes part. Every method runs on the session of the lease.
#[derive(Debug)]
pub(super) struct BudgetMember {
    budget: CallBudget,
    key: i32,
    pid: i32,
    held: BTreeSet<u32>,
    /// The slots that were held a second ago already.
    usable: BTreeSet<u32>,
    /// The lowest rate of a leader, now and a second ago: a higher one is used a second later.
    limit: u32,
    limit_before: u32,
    wants_more: bool,
    /// No call before this moment: other leaders may not know yet that this one has a lower rate.
    not_before: Option<Instant>,
}

/// The leaders of the app as the locks show them, and the clock of the server.
struct Observed {
    leaders: Vec<CallLeader>,
    seconds: i64,
}

impl BudgetMember {
    /// Joins the leaders of the app. Alone, the member has the whole rate at once.
    pub(super) async fn join(
        connection: &mut PgConnection,
        budget: CallBudget,
        sync_id: i32,
    ) -> Result<Self, StateError> {
        let limit = budget.calls_per_second;
        let (key, pid): (i32, i32) = sqlx::query_as(
            "SELECT hashtext('imsync calls ' || $1) & 2147483647, pg_backend_pid() FROM pg_advisory_lock_shared(hashtext('imsync calls ' || $1) & 2147483647, $2)",
        )
        .bind(budget.sdk_app_id.to_string())
        .bind(RATE_LOCK + i32::try_from(limit).unwrap_or(RATE_LOCK))
        .fetch_one(&mut *connection)
        .await?;
        let (held, usable) = (BTreeSet::new(), BTreeSet::new());
        let limit_before = limit;
        let mut member =
            Self { budget, key, pid, held, usable, limit, limit_before, wants_more: false, not_before: None };
        let observed = member.observe(connection).await?;
        member.limit = lowest(&observed.leaders).unwrap_or(limit);
        member.limit_before = member.limit;
        if observed.leaders.iter().any(|leader| leader.limit > limit) {
            member.not_before = Some(clock::monotonic() + LEASE_VALID_FOR + RATE_WINDOW);
        }
        let is_alone = observed.leaders.len() == 1;
        member.change_slots(connection, &observed, 0).await?;
        if is_alone && !others_called_just_now(connection, sync_id, &member.budget).await? {
            member.usable.clone_from(&member.held);
        }
        member.set_wants_more(connection, member.held.is_empty()).await?;
        member.publish();
        Ok(member)
    }

    /// Once a second: uses what was taken the last time, and gives back or takes slots. The first statement is the ping of
    /// the lease.
    pub(super) async fn tick(
        &mut self,
        connection: &mut PgConnection,
        answered: impl FnOnce(),
    ) -> Result<(), StateError> {
        let observed = self.observe(connection).await?;
        answered();
        let limit = lowest(&observed.leaders).unwrap_or(self.budget.calls_per_second);
        self.limit = limit.min(self.limit_before);
        self.limit_before = limit;
        self.usable.clone_from(&self.held);
        self.publish();
        let share = self.budget.share.calls_per_second();
        let demand = self.budget.share.take_demand();
        let used = used_slots(limit, demand.started);
        let is_busy = demand.waited && demand.started >= share / 10 * 7;
        let lacks_reserve = u32::try_from(self.held.len()).unwrap_or(0) < reserve(limit);
        self.set_wants_more(connection, is_busy || lacks_reserve).await?;
        self.change_slots(connection, &observed, if is_busy { u32::MAX } else { used }).await
    }

    fn publish(&self) {
        let waits = self.not_before.is_some_and(|moment| clock::monotonic() < moment);
        self.budget.share.set(if waits { 0 } else { worth(self.limit, self.usable.iter().copied()) });
    }

    async fn observe(&self, connection: &mut PgConnection) -> Result<Observed, StateError> {
        // How pg_locks shows two integers: PostgreSQL manual, 54.12.
        let locks: Vec<(i32, i32, i64)> = sqlx::query_as(
            "SELECT pid, objid::bigint::int, extract(epoch FROM clock_timestamp())::bigint FROM pg_locks \
             WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid::bigint = $1 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(i64::from(self.key))
        .fetch_all(connection)
        .await?;
        let mut leaders: Vec<CallLeader> = Vec::new();
        for (pid, number, _) in &locks {
            let position = leaders.iter().position(|leader| leader.pid == *pid).unwrap_or_else(|| {
                leaders.push(CallLeader { pid: *pid, ..CallLeader::default() });
                leaders.len() - 1
            });
            let leader = &mut leaders[position];
            match *number {
                WANTS_MORE_LOCK => leader.wants_more = true,
                RATE_LOCK..WANTS_MORE_LOCK => leader.limit = u32::try_from(number - RATE_LOCK).unwrap_or(0),
                slot => leader.slots.extend(u32::try_from(slot)),
            }
        }
        // A session that has just joined shows its rate first.
        leaders.retain(|leader| leader.limit > 0);
        for leader in &mut leaders {
            leader.slots.sort_unstable();
        }
        Ok(Observed { leaders, seconds: locks.first().map_or(0, |(.., seconds)| *seconds) })
    }

    async fn change_slots(
        &mut self,
        connection: &mut PgConnection,
        observed: &Observed,
        used: u32,
    ) -> Result<(), StateError> {
        let mut leaders = observed.leaders.clone();
        if let Some(me) = leaders.iter_mut().find(|leader| leader.pid == self.pid) {
            me.wants_more = self.wants_more;
        }
        let limit = lowest(&leaders).unwrap_or(self.limit);
        let plan = plan(&leaders, self.pid, limit, used, observed.seconds);
        if !plan.release.is_empty() {
            for slot in &plan.release {
                self.held.remove(slot);
                self.usable.remove(slot);
            }
            // Before another leader can have the slots.
            self.publish();
            self.each_slot(
                connection,
                "SELECT slot FROM unnest($2::int[]) AS slot WHERE pg_advisory_unlock($1, slot)",
                &plan.release,
            )
            .await?;
        }
        let mut missing = plan.take;
        for candidates in plan.free.chunks(missing.max(1)) {
            if missing == 0 {
                break;
            }
            let candidates = &candidates[..candidates.len().min(missing)];
            let taken = self
                .each_slot(
                    connection,
                    "SELECT slot FROM unnest($2::int[]) AS slot WHERE pg_try_advisory_lock($1, slot)",
                    candidates,
                )
                .await?;
            missing -= taken.len().min(missing);
            self.held.extend(taken);
        }
        Ok(())
    }

    async fn each_slot(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        slots: &[u32],
    ) -> Result<Vec<u32>, StateError> {
        let slots: Vec<i32> = slots.iter().filter_map(|slot| i32::try_from(*slot).ok()).collect();
        let done: Vec<i32> = sqlx::query_scalar(sql).bind(self.key).bind(&slots).fetch_all(connection).await?;
        Ok(done.into_iter().filter_map(|slot| u32::try_from(slot).ok()).collect())
    }

    /// Shows the other leaders whether this one could use more slots.
    async fn set_wants_more(&mut self, connection: &mut PgConnection, wants_more: bool) -> Result<(), StateError> {
        if wants_more != self.wants_more {
            let sql = if wants_more {
                "SELECT pg_advisory_lock_shared($1, $2)::text"
            } else {
                "SELECT pg_advisory_unlock_shared($1, $2)::text"
            };
            sqlx::query(sql).bind(self.key).bind(WANTS_MORE_LOCK).execute(connection).await?;
            self.wants_more = wants_more;
        }
        Ok(())
    }
}

fn lowest(leaders: &[CallLeader]) -> Option<u32> {
    leaders.iter().map(|leader| leader.limit).min()
}

/// The slots that this many calls in a second need, with a quarter in reserve.
fn used_slots(limit: u32, started: u32) -> u32 {
    let count = u64::from(slot_count(limit));
    let slots = (u64::from(started) * 5 * count).div_ceil(u64::from(limit.max(1)) * 4);
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// Whether another sync of the app, which is not running now, may have called within the last second. One in another schema
/// of the database is not known, so any other schema with state tables counts.
async fn others_called_just_now(
    connection: &mut PgConnection,
    sync_id: i32,
    budget: &CallBudget,
) -> Result<bool, StateError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM sync WHERE id <> $1 AND binding->>'sdk_app_id' = $2 \
             AND coalesce(last_call_at > clock_timestamp() - interval '1 second', lease_epoch > 0)) \
         OR EXISTS (SELECT FROM pg_class WHERE relname = 'overwritten_value' AND relkind = 'r' \
             AND relnamespace <> current_schema()::regnamespace)",
    )
    .bind(sync_id)
    .bind(budget.sdk_app_id.to_string())
    .fetch_one(connection)
    .await?)
}
