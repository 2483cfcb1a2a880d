//! Sessions that write as applications do, and commit long after they took their time.
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

/// Accounts `u1` and on.
const ACCOUNTS: u32 = 3_000;
const WRITERS: u32 = 12;
/// The longest transaction; two-phase ones stay prepared for up to half as long on top.
const LONGEST: f64 = 1.5;
/// How long the patient ones, a tenth of all, hold nothing before they write and commit: while somebody else is asked,
/// say. Others come and go meanwhile, so that no lock and no transaction id is as old as they are.
const PATIENT: f64 = 2.0 * LONGEST;

/// Stamps as an application sets them: by a default, and by a trigger.
pub(super) fn table() -> String {
    format!(
        "{USERS} {}
         UPDATE users SET updated_at = updated_at - substr(id, 2)::int * interval '1 second';
         CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
         CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();",
        people(ACCOUNTS)
    )
}

/// The writers at work.
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    sessions: Vec<JoinHandle<u64>>,
    finisher: JoinHandle<()>,
}

/// A transaction that another session is to end.
struct PendingCommit {
    gid: String,
    due: Instant,
    keep: bool,
}

impl Writers {
    /// Twelve sessions over the accounts of [`table`].
    pub(super) async fn start(env: &TestEnvironment) -> Self {
        let database = text(env, "SELECT current_database()").await;
        let (hand_over, handed_over) = mpsc::unbounded_channel();
        let finisher = tokio::spawn(finish(env.database.connect().await, handed_over));
        let stop = Arc::new(AtomicBool::new(false));
        let mut sessions = Vec::new();
        for number in 0..WRITERS {
            let session = env.database.connect().await;
            let name = format!("{database}_{number}");
            sessions.push(tokio::spawn(write(session, name, stop.clone(), hand_over.clone())));
        }
        Self { stop, sessions, finisher }
    }

    /// Nobody begins another transaction.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Something is still to be committed.
    pub(super) fn at_work(&self) -> bool {
        !self.finisher.is_finished()
    }

    /// Waits for the last commit; gives the number of transactions.
    pub(super) async fn end(self) -> u64 {
        let mut transactions = 0;
        for session in self.sessions {
            transactions += session.await.expect("a writer does not fail");
        }
        self.finisher.await.expect("every prepared transaction can be ended");
        transactions
    }
}

async fn think(most: f64) {
    let seconds = rand::rng().random_range(0.0..most);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

async fn write(
    mut session: PgConnection,
    name: String,
    stop: Arc<AtomicBool>,
    hand_over: mpsc::UnboundedSender<PendingCommit>,
) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        // Accounts of others too, so that locks are waited for; the loser of a deadlock starts over.
        if transaction(&mut session, &name, number, &hand_over).await.is_err() {
            session.execute("ROLLBACK").await.expect("a transaction can be given up");
        }
    }
    session.close().await.expect("a session ends in order");
    number
}

async fn transaction(
    session: &mut PgConnection,
    name: &str,
    number: u64,
    hand_over: &mpsc::UnboundedSender<PendingCommit>,
) -> Result<(), sqlx::Error> {
    let (style, ending): (u32, u32) = (rand::rng().random_range(0..10), rand::rng().random_range(0..20));
    let mut chosen: Vec<u32> = (0..3).map(|_| rand::rng().random_range(1..=ACCOUNTS)).collect();
    chosen.sort_unstable();
    // Nothing is held yet, but the time is taken.
    session.execute("BEGIN; SELECT now()").await?;
    let patient = style == 9;
    think(if patient { PATIENT } else { LONGEST / 2.0 }).await;
    // The trigger sets the stamp.
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
    if !patient {
        think(LONGEST / 2.0).await;
    }
    session.execute(update(chosen[2], "last")).await?;
    match ending {
        0 | 1 => session.execute("ROLLBACK").await?,
        2..=5 => {
            let gid = format!("{name}_{number}");
            session.execute(AssertSqlSafe(format!("PREPARE TRANSACTION '{gid}'"))).await?;
            let due =
                imsync::clock::monotonic() + Duration::from_secs_f64(rand::rng().random_range(0.0..LONGEST / 2.0));
            hand_over
                .send(PendingCommit { gid, due, keep: ending != 5 || number.is_multiple_of(2) })
                .expect("the finisher listens");
            return Ok(());
        }
        _ => session.execute("COMMIT").await?,
    };
    Ok(())
}

/// Ends what was prepared, in a session of its own.
async fn finish(mut session: PgConnection, mut handed_over: mpsc::UnboundedReceiver<PendingCommit>) {
    while let Some(PendingCommit { gid, due, keep }) = handed_over.recv().await {
        tokio::time::sleep_until(due).await;
        let verb = if keep { "COMMIT" } else { "ROLLBACK" };
        session.execute(AssertSqlSafe(format!("{verb} PREPARED '{gid}'"))).await.expect("it is prepared");
    }
}
