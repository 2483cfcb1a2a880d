//! What happens to people: they move, upgrade, leave and come, one by one and many at once.
//!
//! Owns: the changes and when each was committed. Must not know: imsync, IM.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::Instant;

use super::people;
use crate::clock::{Shutdown, monotonic};

/// Between two changes of one person.
const PACE: Duration = Duration::from_millis(130);
/// Between two changes of many people at once.
const BULK_PACE: Duration = Duration::from_secs(5);
/// People that one statement changes at most.
const BULK: i64 = 300;
/// How long the slow transaction stays open after it has changed something.
const SLOW: Duration = Duration::from_millis(1_500);
/// The first people, whom only the slow transaction changes: nobody else shall wait for its locks.
const RESERVED: u32 = 5;
/// Fewer people than this do without the slow transaction.
const ENOUGH: u32 = 50;

/// When the newest change of each account was committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Commits(Arc<Mutex<HashMap<String, Instant>>>);

impl Commits {
    fn note(&self, accounts: impl IntoIterator<Item = String>) {
        let now = monotonic();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.extend(accounts.into_iter().map(|account| (account, now)));
    }

    pub(super) fn of(&self, account: &str) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(account).copied()
    }
}

/// Everything that goes on in the table until somebody asks it to stop.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) url: String,
    pub(super) seed: u64,
    /// How many people there are at the beginning, numbered from 1.
    pub(super) users: u32,
    pub(super) commits: Commits,
}

impl Life {
    /// Ends with every transaction committed; gives the number of changes of rows.
    pub(super) async fn go_on(self, stop: &Shutdown) -> sqlx::Result<u64> {
        let newcomer = AtomicU32::new(self.users + 1);
        let (quick, slow) = tokio::join!(self.quick(&newcomer, stop), self.slow(&newcomer, stop));
        Ok(quick? + slow?)
    }

    async fn quick(&self, newcomer: &AtomicU32, stop: &Shutdown) -> sqlx::Result<u64> {
        let mut town = Town::enter(self).await?;
        let mut changes = 0;
        let mut last_bulk = monotonic();
        while !stop.requested() {
            changes += if last_bulk.elapsed() >= BULK_PACE {
                last_bulk = monotonic();
                town.celebrate().await?
            } else {
                town.one_change(newcomer).await?
            };
            stop.sleep(PACE).await;
        }
        town.connection.close().await?;
        Ok(changes)
    }

    /// Transactions that take their time: their rows are dated at BEGIN and appear at COMMIT, when a poll has long read
    /// past that date.
    async fn slow(&self, newcomer: &AtomicU32, stop: &Shutdown) -> sqlx::Result<u64> {
        if self.users < ENOUGH {
            return Ok(0);
        }
        let mut connection = PgConnection::connect(&self.url).await?;
        let mut dice = StdRng::seed_from_u64(self.seed.wrapping_add(2));
        let mut changes = 0;
        while !stop.requested() {
            let old = people::id(dice.random_range(1..=RESERVED));
            let new = newcomer.fetch_add(1, Ordering::Relaxed);
            let mut transaction = connection.begin().await?;
            let updated = sqlx::query("UPDATE users SET level = level + 1 WHERE id = $1").bind(&old);
            changes += updated.execute(&mut *transaction).await?.rows_affected() + 1;
            transaction.execute("SAVEPOINT midway").await?;
            people::settle(&mut transaction, self.seed, new..new + 1, false).await?;
            stop.sleep(SLOW).await;
            transaction.commit().await?;
            self.commits.note([old, people::id(new)]);
            stop.sleep(SLOW).await;
        }
        connection.close().await?;
        Ok(changes)
    }
}

/// The people as the quick changes know them.
struct Town<'a> {
    life: &'a Life,
    connection: PgConnection,
    dice: StdRng,
    present: Vec<String>,
    deleted: Vec<String>,
    /// How many accounts may still lose something: above a fifth the removal guard rightly stops all removals.
    losses: u32,
}

impl<'a> Town<'a> {
    async fn enter(life: &'a Life) -> sqlx::Result<Self> {
        let first = if life.users < ENOUGH { 1 } else { RESERVED + 1 };
        Ok(Self {
            life,
            connection: PgConnection::connect(&life.url).await?,
            dice: StdRng::seed_from_u64(life.seed.wrapping_add(1)),
            present: (first..=life.users).map(people::id).collect(),
            deleted: Vec::new(),
            losses: (life.users / 10).max(15),
        })
    }

    async fn one_change(&mut self, newcomer: &AtomicU32) -> sqlx::Result<u64> {
        match self.dice.random_range(0..100) {
            0..14 => return self.come(newcomer).await,
            14..19 => return self.come_back().await,
            19..29 if self.losses > 0 && self.present.len() > 1 => return self.leave().await,
            _ => {}
        }
        let who = self.present[self.dice.random_range(0..self.present.len())].clone();
        let done = match self.dice.random_range(0..100) {
            0..45 => {
                let city = people::some_city(&mut self.dice);
                let moved = sqlx::query("UPDATE users SET city = $2 WHERE id = $1").bind(&who).bind(city);
                moved.execute(&mut self.connection).await?
            }
            45..70 => {
                let risen = sqlx::query("UPDATE users SET level = level + 1 WHERE id = $1").bind(&who);
                risen.execute(&mut self.connection).await?
            }
            70..85 => {
                let plan = people::pick(&mut self.dice, &people::PLANS);
                let bought = sqlx::query("UPDATE users SET plan = $2, vip = ($2 = 'team') WHERE id = $1");
                bought.bind(&who).bind(plan).execute(&mut self.connection).await?
            }
            85..90 if self.losses > 0 => {
                self.losses -= 1;
                let untold = sqlx::query("UPDATE users SET gender = NULL WHERE id = $1").bind(&who);
                untold.execute(&mut self.connection).await?
            }
            _ => {
                let name = people::person(self.life.seed, self.dice.random_range(0..u32::MAX)).name;
                let renamed = sqlx::query("UPDATE users SET name = $2 WHERE id = $1").bind(&who).bind(name);
                renamed.execute(&mut self.connection).await?
            }
        };
        self.life.commits.note([who]);
        Ok(done.rows_affected())
    }

    async fn come(&mut self, newcomer: &AtomicU32) -> sqlx::Result<u64> {
        let number = newcomer.fetch_add(1, Ordering::Relaxed);
        people::settle(&mut self.connection, self.life.seed, number..number + 1, false).await?;
        self.present.push(people::id(number));
        self.life.commits.note([people::id(number)]);
        Ok(1)
    }

    /// Half of those who leave are marked as deleted; of the others no row remains.
    async fn leave(&mut self) -> sqlx::Result<u64> {
        self.losses -= 1;
        let at = self.dice.random_range(0..self.present.len());
        let who = self.present.swap_remove(at);
        let statement = if self.dice.random_bool(0.5) {
            self.deleted.push(who.clone());
            "UPDATE users SET deleted_at = now() WHERE id = $1"
        } else {
            "DELETE FROM users WHERE id = $1"
        };
        let left = sqlx::query(statement).bind(&who).execute(&mut self.connection).await?;
        self.life.commits.note([who]);
        Ok(left.rows_affected())
    }

    async fn come_back(&mut self) -> sqlx::Result<u64> {
        let Some(who) = self.deleted.pop() else { return Ok(0) };
        let back = sqlx::query("UPDATE users SET deleted_at = NULL WHERE id = $1").bind(&who);
        let back = back.execute(&mut self.connection).await?;
        self.present.push(who.clone());
        self.life.commits.note([who]);
        Ok(back.rows_affected())
    }

    /// A whole city rises by a level, in one statement: hundreds of rows with one timestamp.
    async fn celebrate(&mut self) -> sqlx::Result<u64> {
        let city = people::some_city(&mut self.dice);
        let risen: Vec<String> = sqlx::query_scalar(
            "UPDATE users SET level = level + 1 WHERE id IN
                 (SELECT id FROM users WHERE city = $1 AND id > $2 AND deleted_at IS NULL LIMIT $3)
             RETURNING id",
        )
        .bind(city)
        .bind(people::id(RESERVED))
        .bind(BULK)
        .fetch_all(&mut self.connection)
        .await?;
        let changes = risen.len();
        self.life.commits.note(risen);
        Ok(u64::try_from(changes).unwrap_or(u64::MAX))
    }
}
