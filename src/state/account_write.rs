//! Writing the table `account`: bulk update, insert and delete.
//!
//! Owns: the three statements. Must not know: how an outcome came about.
//!
//! New rows are copied in PostgreSQL's binary format, which costs the server a third less than an `INSERT` of arrays.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::account::{AccountRecord, RetryDue};
use super::acknowledged_json::encode;
use super::copy_format::{CopyData, pg_micros};
use super::error::StateError;
use super::writer::StateWriter;
use crate::diff::DigestKey;
use crate::model::AcknowledgedValue;

/// The columns of the rows to write.
#[derive(Default)]
struct AccountColumns<'a> {
    accounts: Vec<&'a str>,
    acknowledged: Vec<String>,
    digests: Vec<i64>,
    /// Seconds from now; infinite for [`RetryDue::OnChange`], NULL when nothing is in doubt.
    due: Vec<Option<f64>>,
    /// Seconds from now.
    late_write: Vec<Option<f64>>,
}

impl<'a> AccountColumns<'a> {
    fn push(&mut self, record: &'a AccountRecord, text: String, key: &DigestKey) {
        self.accounts.push(record.account.as_str());
        self.acknowledged.push(text);
        self.digests.push(key.of_acknowledged_values(&record.acknowledged));
        self.late_write.push(record.late_write.map(|late_write| late_write.as_secs_f64()));
        self.due.push(record.acknowledged.iter().any(AcknowledgedValue::in_doubt).then_some(match record.due {
            RetryDue::Now => 0.0,
            RetryDue::In(delay) => delay.as_secs_f64(),
            RetryDue::OnChange => f64::INFINITY,
        }));
    }
}

/// Writes rows within a transaction of the writer: updates the existing ones, deletes those without a value, inserts
/// the others.
///
/// An update or a delete must affect exactly its rows. Otherwise the transaction fails, because no other process writes
/// this table under the same epoch.
pub(super) async fn write_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    records: &[AccountRecord],
) -> Result<(), StateError> {
    let mut updates = AccountColumns::default();
    let mut inserts = AccountColumns::default();
    let mut deletes: Vec<&str> = Vec::new();
    for record in records {
        match (encode(&record.acknowledged), record.exists) {
            (Some(text), true) => updates.push(record, text, writer.digest_key()),
            (Some(text), false) => inserts.push(record, text, writer.digest_key()),
            (None, true) => deletes.push(record.account.as_str()),
            (None, false) => {}
        }
    }
    update_accounts(connection, writer, &updates).await?;
    insert_accounts(connection, writer, &inserts).await?;
    delete_accounts(connection, writer, &deletes).await
}

async fn update_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    rows: &AccountColumns<'_>,
) -> Result<(), StateError> {
    if rows.accounts.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE account SET digest = n.digest, acknowledged = n.acknowledged::json, acknowledged_at = clock_timestamp(), \
         generation = $2, in_doubt_retry_at = CASE WHEN n.due = 'infinity' THEN 'infinity' ELSE clock_timestamp() + make_interval(secs => n.due) END, \
         late_write_until = clock_timestamp() + make_interval(secs => n.late_write) \
         FROM unnest($3::text[], $4::text[], $5::bigint[], $6::float8[], $7::float8[]) AS n (account, acknowledged, digest, due, late_write) \
         WHERE account.sync_id = $1 AND account.account = n.account";
    let done = sqlx::query(sql)
        .bind(writer.sync_id())
        .bind(writer.generation())
        .bind(&rows.accounts)
        .bind(&rows.acknowledged)
        .bind(&rows.digests)
        .bind(&rows.due)
        .bind(&rows.late_write)
        .execute(connection)
        .await?;
    expect_affected(done.rows_affected(), rows.accounts.len(), "update")
}

async fn insert_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    rows: &AccountColumns<'_>,
) -> Result<(), StateError> {
    if rows.accounts.is_empty() {
        return Ok(());
    }
    let now = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *connection).await?;
    let statement = "COPY account (sync_id, generation, account, acknowledged, digest, acknowledged_at, in_doubt_retry_at, late_write_until) \
         FROM STDIN (FORMAT binary)";
    copy_data(writer, rows, now).copy(connection, statement).await
}

/// `now`: the clock of the server.
fn copy_data(writer: &StateWriter, rows: &AccountColumns<'_>, now: DateTime<Utc>) -> CopyData {
    let mut data = CopyData::with_capacity(200 * rows.accounts.len());
    let from_now = |seconds: Option<f64>| seconds.map(|seconds| micros_after(now, seconds));
    for (index, account) in rows.accounts.iter().enumerate() {
        data.begin_row(8);
        data.field(Some(&writer.sync_id().to_be_bytes()));
        data.field(Some(&writer.generation().to_be_bytes()));
        data.field(Some(account.as_bytes()));
        data.field(Some(rows.acknowledged[index].as_bytes()));
        data.field(Some(&rows.digests[index].to_be_bytes()));
        data.field(Some(&pg_micros(now).to_be_bytes()));
        data.field(from_now(rows.due[index]).map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        data.field(from_now(rows.late_write[index]).map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    }
    data
}

/// A `timestamptz` so many seconds from now. The largest number is `infinity`.
fn micros_after(now: DateTime<Utc>, seconds: f64) -> i64 {
    if seconds == f64::INFINITY {
        return i64::MAX;
    }
    let after = std::time::Duration::try_from_secs_f64(seconds).ok().and_then(|after| TimeDelta::from_std(after).ok());
    let time = after.and_then(|after| now.checked_add_signed(after));
    time.map_or(i64::MAX, pg_micros)
}

async fn delete_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    accounts: &[&str],
) -> Result<(), StateError> {
    if accounts.is_empty() {
        return Ok(());
    }
    let done = sqlx::query("DELETE FROM account WHERE sync_id = $1 AND account = ANY ($2)")
        .bind(writer.sync_id())
        .bind(accounts)
        .execute(connection)
        .await?;
    expect_affected(done.rows_affected(), accounts.len(), "delete")
}

fn expect_affected(affected: u64, expected: usize, statement: &str) -> Result<(), StateError> {
    if affected == expected as u64 {
        return Ok(());
    }
    Err(StateError::Refused(format!(
        "the {statement} of {expected} account rows affected {affected}: another program has changed the state tables"
    )))
}
