//! Sessions of applications, with transactions that stay open across passes, in sequence or prepared.
//!
//! Owns: the SQL of each action, and what is open where. Must not know: imsync.
//!
//! All sessions are driven by one task. A statement that would wait for another session's lock fails after a moment,
//! and its transaction is rolled back, as after a deadlock or with an impatient application.

use std::collections::VecDeque;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::operation::{Watermark, WatermarkUpdate, WriterAction};
use super::operation_counts::OperationCounts;
use super::plan::WRITERS;
use super::table::{self, COLUMNS};
use crate::support::Database;

/// Long enough for a statement that does not wait.
const SETTINGS: &str = "SET lock_timeout = '10ms'";

struct WriterSession {
    connection: PgConnection,
    open: bool,
    savepoints: u32,
}

/// All writer sessions.
pub(super) struct Writers {
    pub(super) watermark: Watermark,
    database: String,
    sessions: Vec<Option<WriterSession>>,
    /// Global ids of the prepared transactions, the oldest first.
    prepared: VecDeque<String>,
    count: u32,
}

fn literal(text: Option<&str>) -> String {
    text.map_or_else(|| "NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}

fn id(account: u64) -> String {
    literal(Some(&table::account(account)))
}

fn set_watermark(watermark: Watermark, update: WatermarkUpdate) -> String {
    let detectable = update.detectable() || watermark == Watermark::None;
    format!("updated_at = {}, detectable = {detectable}", table::watermark_expression(watermark, update))
}

/// The statements of an action that writes.
fn statements(watermark: Watermark, action: &WriterAction) -> Vec<String> {
    let now = set_watermark(watermark, WatermarkUpdate::Now);
    let set = |column: usize, value: usize| format!("{} = {}", COLUMNS[column].0, literal(table::value(value)));
    match action {
        WriterAction::Set { account, column, value, update } => {
            vec![format!(
                "UPDATE users SET {}, {} WHERE id = {}",
                set(*column, *value),
                set_watermark(watermark, *update),
                id(*account)
            )]
        }
        WriterAction::SetAndRestore { account, column, value } => {
            let (name, _) = COLUMNS[*column];
            let id = id(*account);
            vec![
                format!("SELECT set_config('test.was', coalesce({name}, 'NULL'), true) FROM users WHERE id = {id}"),
                format!("UPDATE users SET {}, {now} WHERE id = {id}", set(*column, *value)),
                format!("UPDATE users SET {name} = nullif(current_setting('test.was'), 'NULL'), {now} WHERE id = {id}"),
            ]
        }
        WriterAction::Bulk { column, value, modulus, rest } => {
            vec![format!("UPDATE users SET {}, {now} WHERE number % {modulus} = {rest}", set(*column, *value))]
        }
        WriterAction::BulkGone { modulus, rest, gone } => {
            let when = if *gone { "now()" } else { "NULL" };
            vec![format!("UPDATE users SET deleted_at = {when}, {now} WHERE number % {modulus} = {rest}")]
        }
        WriterAction::GoneBelow { below, gone } => {
            let when = if *gone { "now()" } else { "NULL" };
            vec![format!("UPDATE users SET deleted_at = {when}, {now} WHERE number < {below}")]
        }
        WriterAction::Extra { account, extra } => {
            let extra = literal(Some(table::EXTRAS[*extra]));
            vec![format!("UPDATE users SET extra = {extra}, {now} WHERE id = {}", id(*account))]
        }
        WriterAction::Insert { account, value } => {
            let (city, other) = (literal(table::value(*value)), literal(table::value(*value % 3)));
            vec![format!(
                "INSERT INTO users (id, number, city, note, plan, gender, tier, lang) \
                 VALUES ({}, {account}, {city}, {other}, {other}, {other}, {other}, {city})",
                id(*account)
            )]
        }
        WriterAction::Delete { account } => vec![format!("DELETE FROM users WHERE id = {}", id(*account))],
        WriterAction::Gone { account, gone } => {
            let when = if *gone { "now()" } else { "NULL" };
            vec![format!("UPDATE users SET deleted_at = {when}, {now} WHERE id = {}", id(*account))]
        }
        WriterAction::Bot { account, bot } => {
            let kind = if *bot { "'bot'" } else { "NULL" };
            vec![format!("UPDATE users SET kind = {kind}, {now} WHERE id = {}", id(*account))]
        }
        WriterAction::Rename { from, to } => {
            vec![format!("UPDATE users SET id = {}, number = {to}, {now} WHERE id = {}", id(*to), id(*from))]
        }
        WriterAction::Savepoint
        | WriterAction::Release
        | WriterAction::RollbackTo
        | WriterAction::Commit
        | WriterAction::CommitAndChain
        | WriterAction::Rollback
        | WriterAction::Prepare
        | WriterAction::Disconnect => Vec::new(),
    }
}

impl WriterSession {
    async fn run(&mut self, sql: String) -> sqlx::Result<()> {
        self.connection.execute(AssertSqlSafe(sql)).await.map(drop)
    }
}

impl Writers {
    pub(super) fn new(database: String, watermark: Watermark) -> Self {
        let sessions = std::iter::repeat_with(|| None).take(WRITERS).collect();
        Self { watermark, database, sessions, prepared: VecDeque::new(), count: 0 }
    }

    /// Executes the action in this session.
    pub(super) async fn write(
        &mut self,
        database: &Database,
        writer: usize,
        action: &WriterAction,
        counts: &mut OperationCounts,
    ) {
        if self.sessions[writer].is_none() {
            let mut connection = database.connect().await;
            connection.execute(SETTINGS).await.expect("a plain setting");
            self.sessions[writer] = Some(WriterSession { connection, open: false, savepoints: 0 });
        }
        let name = format!("{action:?}");
        let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
        match self.try_write(writer, action).await {
            Ok(()) => counts.count("actions", name),
            Err(error) => {
                // A lock time-out, a duplicate key or a deadlock ends the transaction.
                let known = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
                assert!(
                    matches!(known.as_deref(), Some("55P03" | "23505" | "40P01")),
                    "{action:?} in session {writer}: {error}"
                );
                let session = self.sessions[writer].as_mut().expect("the session is open");
                session.run("ROLLBACK".to_owned()).await.expect("a transaction can be rolled back");
                (session.open, session.savepoints) = (false, 0);
                counts.count("actions", "rolled back for a lock or a key");
            }
        }
    }

    async fn try_write(&mut self, writer: usize, action: &WriterAction) -> sqlx::Result<()> {
        let Some(session) = &mut self.sessions[writer] else { return Ok(()) };
        if !session.open
            && !matches!(
                action,
                WriterAction::Commit
                    | WriterAction::Rollback
                    | WriterAction::Release
                    | WriterAction::RollbackTo
                    | WriterAction::Disconnect
            )
        {
            // `now()` is fixed here, however late the first row is written.
            session.run("BEGIN; SELECT now()".to_owned()).await?;
            (session.open, session.savepoints) = (true, 0);
        }
        for statement in statements(self.watermark, action) {
            session.run(statement).await?;
        }
        match action {
            WriterAction::Savepoint => {
                session.savepoints += 1;
                session.run(format!("SAVEPOINT s{}", session.savepoints)).await?;
            }
            WriterAction::Release | WriterAction::RollbackTo if session.savepoints > 0 => {
                let verb = if *action == WriterAction::Release { "RELEASE" } else { "ROLLBACK TO" };
                session.run(format!("{verb} s{}", session.savepoints)).await?;
                session.savepoints -= 1;
            }
            WriterAction::Commit | WriterAction::Rollback if session.open => {
                session.run(if *action == WriterAction::Commit { "COMMIT" } else { "ROLLBACK" }.to_owned()).await?;
                (session.open, session.savepoints) = (false, 0);
            }
            WriterAction::CommitAndChain => {
                session.run("COMMIT AND CHAIN".to_owned()).await?;
                session.savepoints = 0;
            }
            WriterAction::Prepare => {
                self.count += 1;
                let gid = format!("{}_{}", self.database, self.count);
                session.run(format!("PREPARE TRANSACTION '{gid}'")).await?;
                (session.open, session.savepoints) = (false, 0);
                self.prepared.push_back(gid);
            }
            WriterAction::Disconnect => {
                if let Some(session) = self.sessions[writer].take() {
                    // Dropped without a protocol message: the server sees the end of the stream.
                    drop(session.connection);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends one prepared transaction, if there is one. A session in a transaction cannot do it.
    pub(super) async fn finish(&mut self, other: &mut PgConnection, oldest: bool, commit: bool) {
        let gid = if oldest { self.prepared.pop_front() } else { self.prepared.pop_back() };
        let Some(gid) = gid else { return };
        let verb = if commit { "COMMIT" } else { "ROLLBACK" };
        other.execute(AssertSqlSafe(format!("{verb} PREPARED '{gid}'"))).await.expect("the transaction is prepared");
    }

    /// Ends everything that is open. Half of it is committed.
    pub(super) async fn end_all(&mut self, other: &mut PgConnection) {
        for writer in 0..self.sessions.len() {
            if let Some(session) = &mut self.sessions[writer]
                && session.open
            {
                let verb = if writer % 2 == 0 { "COMMIT" } else { "ROLLBACK" };
                session.run(verb.to_owned()).await.expect("an open transaction can be ended");
                (session.open, session.savepoints) = (false, 0);
            }
        }
        while !self.prepared.is_empty() {
            let commit = self.prepared.len().is_multiple_of(2);
            self.finish(other, true, commit).await;
        }
    }

    pub(super) async fn close(self) {
        for session in self.sessions.into_iter().flatten() {
            // An open transaction ends with its session.
            let _ = session.connection.close().await;
        }
    }
}
