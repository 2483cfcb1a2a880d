//! Records the outcomes of a delivery: accounts, rejections and the end of its intent in one transaction.
//!
//! Owns: writing the tables `account` and `rejection`. Must not know: how an outcome came about.

use std::time::Duration;

use sqlx::PgConnection;

use super::account::{AccountRecord, RetryDue};
use super::acknowledged::encode;
use super::rejection::{NewRejection, delete_rejections, upsert_rejections};
use super::{StateError, StateWriter};
use crate::crash;
use crate::diff::digest;
use crate::model::{Account, AcknowledgedValue};

/// A transaction that the server rolled back is repeated this often.
const REPEATS: usize = 3;

/// Everything that one transaction records.
#[derive(Debug, Default)]
pub struct OutcomeRecord {
    /// The intent whose outcomes these are; none where nothing was sent.
    pub intent: Option<i64>,
    pub accounts: Vec<AccountRecord>,
    pub rejected: Vec<NewRejection>,
    /// Account and attribute name; `None` for the whole account.
    pub resolved: Vec<(Account, Option<String>)>,
}

impl OutcomeRecord {
    pub fn is_empty(&self) -> bool {
        self.intent.is_none() && self.accounts.is_empty() && self.rejected.is_empty() && self.resolved.is_empty()
    }
}

impl StateWriter {
    /// Records in one transaction under the epoch. `retry_after`: the pause before the first retry of a rejection.
    /// Repeated where the server broke a deadlock (`imsync rejected retry` writes beside us).
    pub async fn record(&self, record: &OutcomeRecord, retry_after: Duration) -> Result<(), StateError> {
        for _ in 0..REPEATS {
            match self.try_record(record, retry_after).await {
                Err(StateError::Contended(_)) => {}
                done => return done,
            }
        }
        self.try_record(record, retry_after).await
    }

    async fn try_record(&self, record: &OutcomeRecord, retry_after: Duration) -> Result<(), StateError> {
        let OutcomeRecord { intent, accounts, rejected, resolved } = record;
        let mut transaction = self.begin().await?;
        write_accounts(&mut transaction, self, accounts).await?;
        delete_rejections(&mut transaction, self.sync_id(), resolved).await?;
        upsert_rejections(&mut transaction, self.sync_id(), rejected, retry_after).await?;
        if let Some(intent) = intent {
            let done = sqlx::query("DELETE FROM intent WHERE id = $1").bind(intent).execute(&mut *transaction).await?;
            Self::expect_one(done.rows_affected())?;
        }
        crash::point("record: not committed");
        transaction.commit().await?;
        crash::point("record: committed");
        Ok(())
    }
}

/// Columns of rows to write, in arrays for `unnest`.
#[derive(Default)]
struct Columns<'a> {
    accounts: Vec<&'a str>,
    acknowledged: Vec<String>,
    digests: Vec<i64>,
    /// Seconds from now; infinite for "not by itself", NULL when nothing is in doubt.
    due: Vec<Option<f64>>,
    /// Seconds from now.
    late_write: Vec<Option<f64>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, record: &'a AccountRecord, text: String) {
        self.accounts.push(record.account.as_str());
        self.acknowledged.push(text);
        self.digests.push(digest::of_acknowledged(&record.acknowledged));
        self.late_write.push(record.late_write.map(|late_write| late_write.as_secs_f64()));
        self.due.push(record.acknowledged.iter().any(AcknowledgedValue::in_doubt).then_some(match record.due {
            RetryDue::Now => 0.0,
            RetryDue::In(pause) => pause.as_secs_f64(),
            RetryDue::NotByItself => f64::INFINITY,
        }));
    }
}

/// Writes account rows: those that exist are updated or, when nothing is held any more, deleted; new ones inserted.
/// Each form touches exactly its rows, or the transaction fails: nobody else writes here under this epoch.
pub(super) async fn write_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    records: &[AccountRecord],
) -> Result<(), StateError> {
    let mut updates = Columns::default();
    let mut inserts = Columns::default();
    let mut deletes: Vec<&str> = Vec::new();
    for record in records {
        match (encode(&record.acknowledged), record.exists) {
            (Some(text), true) => updates.push(record, text),
            (Some(text), false) => inserts.push(record, text),
            (None, true) => deletes.push(record.account.as_str()),
            (None, false) => {}
        }
    }
    if !updates.accounts.is_empty() {
        let done = sqlx::query(
            "UPDATE account SET digest = n.digest, acknowledged = n.acknowledged::json, acknowledged_at = clock_timestamp(), \
             generation = $2, in_doubt_retry_at = CASE WHEN n.due = 'infinity' THEN 'infinity' ELSE clock_timestamp() + make_interval(secs => n.due) END, \
             late_write_until = clock_timestamp() + make_interval(secs => n.late_write) \
             FROM unnest($3::text[], $4::text[], $5::bigint[], $6::float8[], $7::float8[]) AS n (account, acknowledged, digest, due, late_write) \
             WHERE account.sync_id = $1 AND account.account = n.account",
        )
        .bind(writer.sync_id())
        .bind(writer.generation())
        .bind(&updates.accounts)
        .bind(&updates.acknowledged)
        .bind(&updates.digests)
        .bind(&updates.due)
        .bind(&updates.late_write)
        .execute(&mut *connection)
        .await?;
        expect(done.rows_affected(), updates.accounts.len(), "update")?;
    }
    if !inserts.accounts.is_empty() {
        sqlx::query(
            "INSERT INTO account (sync_id, generation, account, acknowledged, digest, in_doubt_retry_at, acknowledged_at, late_write_until) \
             SELECT $1, $2, n.account, n.acknowledged::json, n.digest, \
             CASE WHEN n.due = 'infinity' THEN 'infinity' ELSE clock_timestamp() + make_interval(secs => n.due) END, \
             clock_timestamp(), clock_timestamp() + make_interval(secs => n.late_write) \
             FROM unnest($3::text[], $4::text[], $5::bigint[], $6::float8[], $7::float8[]) AS n (account, acknowledged, digest, due, late_write)",
        )
        .bind(writer.sync_id())
        .bind(writer.generation())
        .bind(&inserts.accounts)
        .bind(&inserts.acknowledged)
        .bind(&inserts.digests)
        .bind(&inserts.due)
        .bind(&inserts.late_write)
        .execute(&mut *connection)
        .await?;
    }
    if !deletes.is_empty() {
        let done = sqlx::query("DELETE FROM account WHERE sync_id = $1 AND account = ANY ($2)")
            .bind(writer.sync_id())
            .bind(&deletes)
            .execute(connection)
            .await?;
        expect(done.rows_affected(), deletes.len(), "delete")?;
    }
    Ok(())
}

fn expect(affected: u64, expected: usize, what: &str) -> Result<(), StateError> {
    if affected == expected as u64 {
        return Ok(());
    }
    Err(StateError::Refused(format!(
        "the {what} of {expected} account rows touched {affected}: somebody else has changed the state tables"
    )))
}
