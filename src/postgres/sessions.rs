//! Questions to a server about its sessions: poolers, its identity, and whether it still runs a statement.
//!
//! Owns: the statements that ask a server about sessions and about itself. Must not know: tables, what a caller does.
//!
//! A connection whose server has vanished stays open for many minutes, because nothing arrives that would end it. A
//! fixed time limit would have to be longer than the longest statement. So a second connection asks instead.

use std::io;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row};

use super::connect::{CONNECT_TIMEOUT, ask};
use super::connector::Connector;

/// A server that has not answered for so long is asked on a second connection.
const FIRST_CHECK: Duration = Duration::from_secs(2);
/// It is asked again after so long.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// So many times in a row the server says that it runs no statement of this sync, until the answer counts as lost. It may
/// have been on its way the first time.
const MAX_MISSES: u32 = 2;

/// How long a transaction of the second connection waits for an answer to the first one.
const HOLD_TIME: Duration = Duration::from_millis(20);

async fn backend_pid(connection: &mut PgConnection, sql: &'static str) -> Result<i32, sqlx::Error> {
    ask(connection, sql).await?.try_get(0)
}

/// A connection that was compared with a second one.
#[derive(Debug)]
pub struct ProbedSession {
    /// The process id of the server session behind the connection; `None` when a pooler gives it another one for each
    /// transaction.
    pub pid: Option<i32>,
    /// The second connection, with the process id of its session; `None` where there is none.
    pub second: Option<(PgConnection, i32)>,
}

/// Finds out whether a pooler gives a connection another server session for each transaction.
///
/// Session settings and locks do not survive such a pooler. A second connection that holds its session in a transaction makes
/// it switch the server session of this one, then or once both are idle again. Without a second connection, for example
/// because of a connection limit, there is nothing to compare with.
///
/// # Errors
/// When the connection fails.
pub async fn session_pid(own: &mut PgConnection, connector: &Connector) -> Result<ProbedSession, sqlx::Error> {
    const PID: &str = "SELECT pg_catalog.pg_backend_pid()";
    let first = backend_pid(own, PID).await?;
    let Ok(mut second) = connector.connect_again().await else {
        return Ok(ProbedSession { pid: Some(first), second: None });
    };
    let held = match backend_pid(&mut second, "BEGIN; SELECT pg_catalog.pg_backend_pid()").await {
        Ok(held) => Some(held),
        // A pooler may permit no transactions. PostgreSQL always does.
        Err(sqlx::Error::Database(_)) => return Ok(ProbedSession { pid: None, second: None }),
        Err(_) => None,
    };
    if held == Some(first) {
        return Ok(ProbedSession { pid: None, second: None });
    }
    let (idle, ended) = {
        let mut idle = std::pin::pin!(backend_pid(own, PID));
        // A pooler with few sessions may let this one wait until the other ends its transaction.
        let answered = tokio::time::timeout(HOLD_TIME, &mut idle).await;
        let ended = backend_pid(&mut second, "COMMIT; SELECT pg_catalog.pg_backend_pid()").await;
        (if let Ok(answered) = answered { answered } else { idle.await }, ended)
    };
    let mut moved = idle? != first;
    for _ in 0..3 {
        moved |= backend_pid(own, PID).await? != first;
    }
    // A pooler that hands out the session that became free last gave this one its own again, if that was the last one.
    let last = backend_pid(&mut second, PID).await;
    moved |= last.as_ref().is_ok_and(|pid| *pid == first);
    let second = last.ok().filter(|_| !moved && ended.is_ok()).map(|pid| (second, pid));
    Ok(ProbedSession { pid: (!moved).then_some(first), second })
}

/// What a server says about the statements of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// One is running, or the server cannot tell.
    Running,
    /// None is running.
    NoneRunning,
    /// It does not answer.
    NoAnswer,
}

/// Whether another session with the same role and application name runs a statement.
async fn ask_what_runs(connector: &Connector) -> Asked {
    let asked = async {
        let mut connection = match connector.connect_again().await {
            Ok(connection) => connection,
            // A server that refuses a connection is there.
            Err(failure) if failure.answered => return Ok(true),
            Err(failure) => return Err(sqlx::Error::Io(io::Error::other(failure))),
        };
        let row = ask(
            &mut connection,
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid <> pg_catalog.pg_backend_pid() \
             AND usename = current_user AND application_name = pg_catalog.current_setting('application_name') \
             AND datname = pg_catalog.current_database() AND state NOT LIKE 'idle%')",
        )
        .await?;
        let running: bool = row.try_get(0)?;
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.close()).await;
        Ok::<_, sqlx::Error>(running)
    };
    match asked.await {
        Ok(false) => Asked::NoneRunning,
        Err(sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)) => Asked::NoAnswer,
        // A server that refuses the question is there.
        Ok(true) | Err(_) => Asked::Running,
    }
}

/// Waits for a future that waits for the server, as long as the server runs a statement of this sync. `running` is called
/// each time the server has confirmed that.
///
/// # Errors
/// [`sqlx::Error::Io`] when the server no longer answers, or has no statement whose answer could still arrive. The
/// connection of the future is then of no use.
pub fn while_running<T>(
    connector: &Connector,
    future: impl Future<Output = T>,
    running: impl FnMut(),
) -> impl Future<Output = Result<T, sqlx::Error>> {
    // Boxed, because every statement waits here.
    wait_while_running(connector, Box::pin(future), running)
}

async fn wait_while_running<T>(
    connector: &Connector,
    mut future: impl Future<Output = T> + Unpin,
    mut running: impl FnMut(),
) -> Result<T, sqlx::Error> {
    let (mut misses, mut wait) = (0, FIRST_CHECK);
    loop {
        let asked = async {
            tokio::time::sleep(wait).await;
            Box::pin(ask_what_runs(connector)).await
        };
        let asked = tokio::select! {
            biased;
            output = &mut future => return Ok(output),
            asked = asked => asked,
        };
        wait = CHECK_INTERVAL;
        let lost = match asked {
            Asked::Running => {
                misses = 0;
                running();
                continue;
            }
            Asked::NoneRunning => {
                misses += 1;
                if misses < MAX_MISSES {
                    continue;
                }
                "an answer did not arrive, although the server has ended the statement".to_owned()
            }
            Asked::NoAnswer => {
                format!("no answer, and no new connection within {} s either", CONNECT_TIMEOUT.as_secs())
            }
        };
        return Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, lost)));
    }
}
