//! The workload of the demo: users move, change plans, join and leave, one by one and many at once.
//!
//! Owns: the changes of the table, and the time at which each was committed. Must not know: imsync, IM.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::postgres::PgQueryResult;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::Instant;

use super::users;
use crate::clock::{Shutdown, monotonic};

/// The pause between two changes of single users.
const CHANGE_PAUSE: Duration = Duration::from_millis(130);
/// The pause between two changes of many users in one statement.
const BULK_PAUSE: Duration = Duration::from_secs(5);
/// The maximum number of users that one statement changes.
const BULK_LIMIT: i64 = 300;
/// How long a slow transaction stays open after its changes.
const SLOW_COMMIT: Duration = Duration::from_millis(1_500);
/// The number of users at the start of the table that only slow transactions change. Other changes never wait for the
/// row locks of a slow transaction.
const RESERVED: u32 = 5;
/// The number of users from which on there are slow transactions.
const SLOW_COMMIT_MIN_USERS: u32 = 50;

/// For each account, the commit time of its newest change.
#[derive(Clone, Debug, Default)]
pub(super) struct CommitTimes(Arc<Mutex<HashMap<String, Instant>>>);

impl CommitTimes {
    fn record(&self, accounts: impl IntoIterator<Item = String>) {
        let now = monotonic();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.extend(accounts.into_iter().map(|account| (account, now)));
    }

    /// The commit time of the account's newest change; `None` when the workload has not changed it.
    pub(super) fn of(&self, account: &str) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(account).copied()
    }
}

/// All changes that happen in the table until a stop is requested.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    /// The URL of the database with the table `users`.
    pub(super) url: String,
    /// The seed of the random number generators.
    pub(super) seed: u64,
    /// The number of users at the beginning. They are numbered from 1.
    pub(super) users: u32,
    /// Receives the commit times.
    pub(super) commits: CommitTimes,
}

impl Workload {
    /// Runs until a stop is requested, and commits every transaction before it returns. Returns the number of changed
    /// rows.
    pub(super) async fn run(self, stop: &Shutdown) -> sqlx::Result<u64> {
        let next_number = AtomicU32::new(self.users + 1);
        let (quick, slow) =
            tokio::join!(self.run_quick_changes(&next_number, stop), self.run_slow_transactions(&next_number, stop));
        Ok(quick? + slow?)
    }

    async fn run_quick_changes(&self, next_number: &AtomicU32, stop: &Shutdown) -> sqlx::Result<u64> {
        let mut quick = QuickChanges::connect(self).await?;
        let mut changed = 0;
        let mut last_bulk = monotonic();
        while !stop.requested() {
            changed += if last_bulk.elapsed() >= BULK_PAUSE {
                last_bulk = monotonic();
                quick.change_a_city().await?
            } else {
                quick.change_one_user(next_number).await?
            };
            stop.sleep(CHANGE_PAUSE).await;
        }
        quick.connection.close().await?;
        Ok(changed)
    }

    /// Runs transactions that commit late. Their rows have the timestamp of BEGIN and become visible at COMMIT, when
    /// the daemon has already read newer rows.
    async fn run_slow_transactions(&self, next_number: &AtomicU32, stop: &Shutdown) -> sqlx::Result<u64> {
        if self.users < SLOW_COMMIT_MIN_USERS {
            return Ok(0);
        }
        let mut connection = PgConnection::connect(&self.url).await?;
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(2));
        let mut changed = 0;
        while !stop.requested() {
            let updated = users::id(rng.random_range(1..=RESERVED));
            let inserted = next_number.fetch_add(1, Ordering::Relaxed);
            let mut transaction = connection.begin().await?;
            let update = sqlx::query("UPDATE users SET level = level + 1 WHERE id = $1").bind(&updated);
            changed += update.execute(&mut *transaction).await?.rows_affected() + 1;
            // The insert then runs in a subtransaction, so its row carries a transaction ID of its own.
            transaction.execute("SAVEPOINT before_insert").await?;
            users::insert(&mut transaction, self.seed, inserted..inserted + 1, false).await?;
            stop.sleep(SLOW_COMMIT).await;
            transaction.commit().await?;
            self.commits.record([updated, users::id(inserted)]);
            stop.sleep(SLOW_COMMIT).await;
        }
        connection.close().await?;
        Ok(changed)
    }
}

/// The changes that commit at once, and the users they can pick from.
struct QuickChanges<'a> {
    workload: &'a Workload,
    connection: PgConnection,
    rng: StdRng,
    /// Accounts whose row exists and is not marked as deleted.
    present: Vec<String>,
    /// Accounts whose row is marked as deleted.
    deleted: Vec<String>,
    /// How many more accounts may lose an attribute. Without a limit, the removal guard would stop all removals once
    /// more than a fifth of the accounts lose one.
    removals_left: u32,
}

impl<'a> QuickChanges<'a> {
    async fn connect(workload: &'a Workload) -> sqlx::Result<Self> {
        let first = if workload.users < SLOW_COMMIT_MIN_USERS { 1 } else { RESERVED + 1 };
        Ok(Self {
            workload,
            connection: PgConnection::connect(&workload.url).await?,
            rng: StdRng::seed_from_u64(workload.seed.wrapping_add(1)),
            present: (first..=workload.users).map(users::id).collect(),
            deleted: Vec::new(),
            removals_left: (workload.users / 10).max(15),
        })
    }

    /// Makes one random change. Returns the number of changed rows, as all methods below do.
    async fn change_one_user(&mut self, next_number: &AtomicU32) -> sqlx::Result<u64> {
        match self.rng.random_range(0..100) {
            0..14 => self.insert_user(next_number).await,
            14..19 => self.restore_user().await,
            19..29 if self.removals_left > 0 && self.present.len() > 1 => self.delete_user().await,
            _ => self.update_user().await,
        }
    }

    async fn update_user(&mut self) -> sqlx::Result<u64> {
        let account = self.present[self.rng.random_range(0..self.present.len())].clone();
        let done = self.update_random_column(&account).await?;
        self.workload.commits.record([account]);
        Ok(done.rows_affected())
    }

    async fn update_random_column(&mut self, account: &str) -> sqlx::Result<PgQueryResult> {
        let update = match self.rng.random_range(0..100) {
            0..45 => {
                let city = users::random_city(&mut self.rng);
                sqlx::query("UPDATE users SET city = $2 WHERE id = $1").bind(account).bind(city)
            }
            45..70 => sqlx::query("UPDATE users SET level = level + 1 WHERE id = $1").bind(account),
            70..85 => {
                let plan = users::pick(&mut self.rng, &users::PLANS);
                sqlx::query("UPDATE users SET plan = $2, vip = ($2 = 'team') WHERE id = $1").bind(account).bind(plan)
            }
            85..90 if self.removals_left > 0 => {
                self.removals_left -= 1;
                sqlx::query("UPDATE users SET gender = NULL WHERE id = $1").bind(account)
            }
            _ => {
                let name = users::generate(self.workload.seed, self.rng.random_range(0..u32::MAX)).name;
                sqlx::query("UPDATE users SET name = $2 WHERE id = $1").bind(account).bind(name)
            }
        };
        update.execute(&mut self.connection).await
    }

    async fn insert_user(&mut self, next_number: &AtomicU32) -> sqlx::Result<u64> {
        let number = next_number.fetch_add(1, Ordering::Relaxed);
        users::insert(&mut self.connection, self.workload.seed, number..number + 1, false).await?;
        self.present.push(users::id(number));
        self.workload.commits.record([users::id(number)]);
        Ok(1)
    }

    /// Marks the row of a user as deleted, or deletes the row, with equal probability.
    async fn delete_user(&mut self) -> sqlx::Result<u64> {
        self.removals_left -= 1;
        let index = self.rng.random_range(0..self.present.len());
        let account = self.present.swap_remove(index);
        let statement = if self.rng.random_bool(0.5) {
            self.deleted.push(account.clone());
            "UPDATE users SET deleted_at = now() WHERE id = $1"
        } else {
            "DELETE FROM users WHERE id = $1"
        };
        let done = sqlx::query(statement).bind(&account).execute(&mut self.connection).await?;
        self.workload.commits.record([account]);
        Ok(done.rows_affected())
    }

    async fn restore_user(&mut self) -> sqlx::Result<u64> {
        let Some(account) = self.deleted.pop() else { return Ok(0) };
        let update = sqlx::query("UPDATE users SET deleted_at = NULL WHERE id = $1").bind(&account);
        let done = update.execute(&mut self.connection).await?;
        self.present.push(account.clone());
        self.workload.commits.record([account]);
        Ok(done.rows_affected())
    }

    /// Raises the level of the users of one city in one statement: hundreds of rows with the same timestamp.
    async fn change_a_city(&mut self) -> sqlx::Result<u64> {
        let city = users::random_city(&mut self.rng);
        let accounts: Vec<String> = sqlx::query_scalar(
            "UPDATE users SET level = level + 1 WHERE id IN
                 (SELECT id FROM users WHERE city = $1 AND id > $2 AND deleted_at IS NULL LIMIT $3)
             RETURNING id",
        )
        .bind(city)
        .bind(users::id(RESERVED))
        .bind(BULK_LIMIT)
        .fetch_all(&mut self.connection)
        .await?;
        let changed = accounts.len();
        self.workload.commits.record(accounts);
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }
}
