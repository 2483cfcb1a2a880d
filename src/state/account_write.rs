//! Writing the table `account`: bulk update, insert and delete.
//!
//! Owns: the three statements, and by how much they change the numbers of accounts. Must not know: how an outcome came about.

use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{PgConnection, Postgres};

use super::account::{AccountRecord, RetryDue};
use super::account_count::CountChanges;
use super::acknowledged_json::encode;
use super::error::StateError;
use super::writer::StateWriter;
use crate::diff::digest;
use crate::model::AcknowledgedValue;

/// The columns of the rows to write, as arrays for `unnest`.
#[derive(Default)]
struct AccountColumns<'a> {
    accounts: Vec<&'a str>,
    acknowledged: Vec<String>,
    digests: Vec<i64>,
    /// Seconds from now; infinite for [`RetryDue::OnChange`], NULL when nothing is in doubt.
    due: Vec<Option<f64>>,
    /// Seconds from now.
    late_write: Vec<Option<f64>>,
    /// What these rows add to the numbers of accounts.
    counts: CountChanges,
}

impl<'a> AccountColumns<'a> {
    fn push(&mut self, record: &'a AccountRecord, text: String) {
        let in_doubt = record.acknowledged.iter().any(AcknowledgedValue::in_doubt);
        self.counts.in_doubt += i64::from(in_doubt);
        // Only a row in doubt can lack a value. Its JSON has a string exactly if it has one.
        self.counts.known += i64::from(!in_doubt || text.contains('"'));
        self.accounts.push(record.account.as_str());
        self.acknowledged.push(text);
        self.digests.push(digest::of_acknowledged_values(&record.acknowledged));
        self.late_write.push(record.late_write.map(|late_write| late_write.as_secs_f64()));
        self.due.push(in_doubt.then_some(match record.due {
            RetryDue::Now => 0.0,
            RetryDue::In(delay) => delay.as_secs_f64(),
            RetryDue::OnChange => f64::INFINITY,
        }));
    }
}

/// Writes rows within a transaction of the writer: updates the existing ones, deletes those without a value, inserts
/// the others. Returns by how much that changes the numbers of accounts.
///
/// An update or a delete must affect exactly its rows. Otherwise the transaction fails, because no other process writes
/// this table under the same epoch.
pub(super) async fn write_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    records: &[AccountRecord],
) -> Result<CountChanges, StateError> {
    let mut updates = AccountColumns::default();
    let mut inserts = AccountColumns::default();
    let mut deletes: Vec<&str> = Vec::new();
    for record in records {
        match (encode(&record.acknowledged), record.exists) {
            (Some(text), true) => updates.push(record, text),
            (Some(text), false) => inserts.push(record, text),
            (None, true) => deletes.push(record.account.as_str()),
            (None, false) => {}
        }
    }
    let mut changes = update_accounts(connection, writer, &updates).await?;
    changes += insert_accounts(connection, writer, &inserts).await?;
    changes += delete_accounts(connection, writer, &deletes).await?;
    Ok(changes)
}

/// Rows before they were written: all of them, those with an acknowledged value, and those in doubt.
type CountsBefore = (i64, i64, i64);

async fn update_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    rows: &AccountColumns<'_>,
) -> Result<CountChanges, StateError> {
    if rows.accounts.is_empty() {
        return Ok(CountChanges::default());
    }
    // Nothing else writes these rows meanwhile, so `old` is what the update replaces.
    let sql = "WITH updated AS (UPDATE account SET digest = n.digest, acknowledged = n.acknowledged::json, acknowledged_at = clock_timestamp(), \
         generation = $2, in_doubt_retry_at = CASE WHEN n.due = 'infinity' THEN 'infinity' ELSE clock_timestamp() + make_interval(secs => n.due) END, \
         late_write_until = clock_timestamp() + make_interval(secs => n.late_write) \
         FROM unnest($3::text[], $4::text[], $5::bigint[], $6::float8[], $7::float8[]) AS n (account, acknowledged, digest, due, late_write) \
         JOIN account AS old ON old.sync_id = $1 AND old.account = n.account \
         WHERE account.sync_id = $1 AND account.account = n.account \
         RETURNING old.in_doubt_retry_at IS NOT NULL AS in_doubt, \
         CASE WHEN old.in_doubt_retry_at IS NULL THEN true ELSE old.acknowledged::text LIKE '%\"%' END AS known) \
         SELECT count(*), count(*) FILTER (WHERE known), count(*) FILTER (WHERE in_doubt) FROM updated";
    let before: CountsBefore = bind_rows(sqlx::query_as(sql), writer, rows).fetch_one(connection).await?;
    expect_affected(before.0, rows.accounts.len(), "update")?;
    Ok(rows.counts.less(before))
}

async fn insert_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    rows: &AccountColumns<'_>,
) -> Result<CountChanges, StateError> {
    if rows.accounts.is_empty() {
        return Ok(CountChanges::default());
    }
    let sql = "WITH inserted AS (INSERT INTO account (sync_id, generation, account, acknowledged, digest, in_doubt_retry_at, acknowledged_at, late_write_until) \
         SELECT $1, $2, n.account, n.acknowledged::json, n.digest, \
         CASE WHEN n.due = 'infinity' THEN 'infinity' ELSE clock_timestamp() + make_interval(secs => n.due) END, \
         clock_timestamp(), clock_timestamp() + make_interval(secs => n.late_write) \
         FROM unnest($3::text[], $4::text[], $5::bigint[], $6::float8[], $7::float8[]) AS n (account, acknowledged, digest, due, late_write) \
         RETURNING 1) SELECT count(*), 0::bigint, 0::bigint FROM inserted";
    let _: CountsBefore = bind_rows(sqlx::query_as(sql), writer, rows).fetch_one(connection).await?;
    Ok(rows.counts)
}

/// Binds the columns: $1 is the sync, $2 the generation, $3 to $7 are the arrays.
fn bind_rows<'q>(
    query: QueryAs<'q, Postgres, CountsBefore, PgArguments>,
    writer: &StateWriter,
    rows: &'q AccountColumns<'_>,
) -> QueryAs<'q, Postgres, CountsBefore, PgArguments> {
    query
        .bind(writer.sync_id())
        .bind(writer.generation())
        .bind(&rows.accounts)
        .bind(&rows.acknowledged)
        .bind(&rows.digests)
        .bind(&rows.due)
        .bind(&rows.late_write)
}

async fn delete_accounts(
    connection: &mut PgConnection,
    writer: &StateWriter,
    accounts: &[&str],
) -> Result<CountChanges, StateError> {
    if accounts.is_empty() {
        return Ok(CountChanges::default());
    }
    let before: CountsBefore = sqlx::query_as(
        "WITH deleted AS (DELETE FROM account WHERE sync_id = $1 AND account = ANY ($2) \
         RETURNING in_doubt_retry_at IS NOT NULL AS in_doubt, \
         CASE WHEN in_doubt_retry_at IS NULL THEN true ELSE acknowledged::text LIKE '%\"%' END AS known) \
         SELECT count(*), count(*) FILTER (WHERE known), count(*) FILTER (WHERE in_doubt) FROM deleted",
    )
    .bind(writer.sync_id())
    .bind(accounts)
    .fetch_one(connection)
    .await?;
    expect_affected(before.0, accounts.len(), "delete")?;
    Ok(CountChanges::default().less(before))
}

impl CountChanges {
    fn less(mut self, (_, known, in_doubt): CountsBefore) -> Self {
        self.known -= known;
        self.in_doubt -= in_doubt;
        self
    }
}

fn expect_affected(affected: i64, expected: usize, statement: &str) -> Result<(), StateError> {
    if usize::try_from(affected) == Ok(expected) {
        return Ok(());
    }
    Err(StateError::Refused(format!(
        "the {statement} of {expected} account rows affected {affected}: another program has changed the state tables"
    )))
}
