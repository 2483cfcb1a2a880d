//! Sessions that write as applications do, and commit long after they fixed their `now()`.
//!
//! Owns: the mix of transactions. Must not know: who reads the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{people, text};
use crate::support::{TestEnvironment, USERS};

/// The number of accounts, `u1` and on.
const ACCOUNTS: u32 = 3_000;
const WRITERS: u32 = 12;
/// The longest transaction, in seconds. A two-phase transaction stays prepared for up to half as long after that.
const LONGEST_TRANSACTION: f64 = 1.5;
/// The longest wait, in seconds, of a tenth of all transactions, which hold no lock until they write and commit, for
/// example while an application calls another service. Other transactions come and go in that time, so that no lock and
/// no transaction id is as old as theirs.
const LONGEST_WAIT: f64 = 2.0 * LONGEST_TRANSACTION;

/// The table. A default and a trigger set its timestamps, as in an application.
pub(super) fn table() -> String {
    format!(
        "{USERS} {}
         UPDATE users SET updated_at = updated_at - substr(id, 2)::int * interval '1 second';
         CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
         CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();",
        people(ACCOUNTS)
    )
}

/// The running writers.
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    sessions: Vec<JoinHandle<u64>>,
    finisher: JoinHandle<()>,
}

/// A prepared transaction that another session ends.
struct PendingCommit {
    gid: String,
    due: Instant,
    keep: bool,
}

impl Writers {
    /// Starts twelve sessions over the accounts of [`table`].
    pub(super) async fn start(env: &TestEnvironment) -> Self {
        let database = text(env, "SELECT current_database()").await;
        let (to_finisher, pending) = mpsc::unbounded_channel();
        let finisher = tokio::spawn(finish(env.database.connect().await, pending));
        let stop = Arc::new(AtomicBool::new(false));
        let mut sessions = Vec::new();
        for number in 0..WRITERS {
            let session = env.database.connect().await;
            let name = format!("{database}_{number}");
            sessions.push(tokio::spawn(write(session, name, stop.clone(), to_finisher.clone())));
        }
        Self { stop, sessions, finisher }
    }

    /// No session begins another transaction after this.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether something is still to be committed.
    pub(super) fn is_running(&self) -> bool {
        !self.finisher.is_finished()
    }

    /// Waits for the last commit and returns the number of transactions.
    pub(super) async fn end(self) -> u64 {
        let mut transactions = 0;
        for session in self.sessions {
            transactions += session.await.expect("a writer does not fail");
        }
        self.finisher.await.expect("every prepared transaction can be ended");
        transactions
    }
}

async fn pause_randomly(max_seconds: f64) {
    let seconds = rand::rng().random_range(0.0..max_seconds);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

async fn write(
    mut session: PgConnection,
    name: String,
    stop: Arc<AtomicBool>,
    to_finisher: mpsc::UnboundedSender<PendingCommit>,
) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        // The sessions share their accounts, so that they wait for locks. The victim of a deadlock starts over.
        if transaction(&mut session, &name, number, &to_finisher).await.is_err() {
            session.execute("ROLLBACK").await.expect("a transaction can be rolled back");
        }
    }
    session.close().await.expect("a session can be closed");
    number
}

async fn transaction(
    session: &mut PgConnection,
    name: &str,
    number: u64,
    to_finisher: &mpsc::UnboundedSender<PendingCommit>,
) -> Result<(), sqlx::Error> {
    let (style, ending): (u32, u32) = (rand::rng().random_range(0..10), rand::rng().random_range(0..20));
    let mut chosen: Vec<u32> = (0..3).map(|_| rand::rng().random_range(1..=ACCOUNTS)).collect();
    chosen.sort_unstable();
    // The transaction fixes its `now()` and holds no lock.
    session.execute("BEGIN; SELECT now()").await?;
    let waits_long = style == 9;
    pause_randomly(if waits_long { LONGEST_WAIT } else { LONGEST_TRANSACTION / 2.0 }).await;
    // The trigger sets the timestamp.
    let update = |account: u32, what: &str| {
        AssertSqlSafe(format!("UPDATE users SET city = '{name} {number} {what}' WHERE id = 'u{account}'"))
    };
    if style < 2 {
        session.execute("SAVEPOINT kept").await?;
        session.execute(update(chosen[0], "kept")).await?;
        session.execute("RELEASE kept; SAVEPOINT dropped").await?;
        session.execute(update(chosen[1], "dropped")).await?;
        session.execute("ROLLBACK TO dropped").await?;
    } else {
        session.execute(update(chosen[0], "first")).await?;
        session.execute(update(chosen[1], "second")).await?;
    }
    if !waits_long {
        pause_randomly(LONGEST_TRANSACTION / 2.0).await;
    }
    session.execute(update(chosen[2], "last")).await?;
    match ending {
        0 | 1 => session.execute("ROLLBACK").await?,
        2..=5 => {
            let gid = format!("{name}_{number}");
            session.execute(AssertSqlSafe(format!("PREPARE TRANSACTION '{gid}'"))).await?;
            let due = imsync::clock::monotonic()
                + Duration::from_secs_f64(rand::rng().random_range(0.0..LONGEST_TRANSACTION / 2.0));
            to_finisher
                .send(PendingCommit { gid, due, keep: ending != 5 || number.is_multiple_of(2) })
                .expect("the finisher listens");
            return Ok(());
        }
        _ => session.execute("COMMIT").await?,
    };
    Ok(())
}

/// Ends the prepared transactions, in its own session.
async fn finish(mut session: PgConnection, mut pending: mpsc::UnboundedReceiver<PendingCommit>) {
    while let Some(PendingCommit { gid, due, keep }) = pending.recv().await {
        tokio::time::sleep_until(due).await;
        let verb = if keep { "COMMIT" } else { "ROLLBACK" };
        session.execute(AssertSqlSafe(format!("{verb} PREPARED '{gid}'"))).await.expect("the transaction is prepared");
    }
}
