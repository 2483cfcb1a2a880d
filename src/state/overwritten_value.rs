//! The table `overwritten_value`: values over which another sync of the app has set one of its own.
//!
//! Owns: its statements, and making a value unknown when that sync has given up its own, so that it is sent again. Must not
//! know: when a value counts as overwritten.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::PgConnection;

use super::account::{AccountRecord, RetryDue, read_accounts};
use super::account_write::write_accounts;
use super::error::StateError;
use super::shared_account::{SharedDecision, claims_after};
use super::writer::StateWriter;
use crate::model::{Account, AcknowledgedValue, AttributeIndex};

/// At most so many are made unknown in one transaction.
const STEP: i64 = 5_000;

impl StateWriter {
    /// Makes values unknown that another sync has overwritten and released. Returns of how many accounts. The rows of
    /// accounts that are not `idle` stay: a delivery still has their old values.
    pub async fn mark_released_values_unknown(&self, is_idle: impl Fn(&Account) -> bool) -> Result<u64, StateError> {
        // Read outside of a transaction, because there is nearly never one.
        let released: Vec<(String, String, Option<f64>)> = sqlx::query_as(
            "SELECT o.account, o.attribute, extract(epoch FROM a.late_write_until - clock_timestamp())::float8 \
             FROM overwritten_value o LEFT JOIN account a USING (sync_id, account) \
             WHERE o.sync_id = $1 AND o.released ORDER BY 1, 2 LIMIT $2",
        )
        .bind(self.sync_id())
        .bind(STEP)
        .fetch_all(self.pool())
        .await?;
        let mut rows: Vec<(Account, String, Option<Duration>)> = released
            .into_iter()
            .map(|(account, attribute, left)| {
                (Account::new(account), attribute, left.and_then(|left| Duration::try_from_secs_f64(left).ok()))
            })
            .collect();
        rows.retain(|(account, ..)| is_idle(account));
        if rows.is_empty() {
            return Ok(0);
        }
        let mut accounts: Vec<Account> = rows.iter().map(|(account, ..)| account.clone()).collect();
        accounts.dedup();
        let mut transaction = self.begin().await?;
        let mut stored = read_accounts(&mut transaction, self.sync_id(), self.generation(), &accounts).await?;
        let mut records = Vec::new();
        for of_account in rows.chunk_by(|one, next| one.0 == next.0) {
            let Some(acknowledged) = stored.remove(&of_account[0].0) else { continue };
            let held = |attribute: &AttributeIndex| {
                acknowledged.get(attribute.index()).is_some_and(|known| *known != AcknowledgedValue::Absent)
            };
            let names = of_account.iter().filter_map(|(_, name, _)| self.attribute_of(name));
            let unknown: Vec<AttributeIndex> = names.filter(held).collect();
            if !unknown.is_empty() {
                records.push(AccountRecord {
                    account: of_account[0].0.clone(),
                    exists: true,
                    acknowledged: claims_after(&acknowledged, &[], &unknown),
                    due: RetryDue::Now,
                    late_write: of_account[0].2,
                });
            }
        }
        write_accounts(&mut transaction, self, &records).await?;
        let (accounts, attributes): (Vec<&str>, Vec<&str>) =
            rows.iter().map(|(account, attribute, _)| (account.as_str(), attribute.as_str())).unzip();
        sqlx::query(
            "DELETE FROM overwritten_value AS o USING unnest($2::text[], $3::text[]) AS n (account, attribute) \
             WHERE o.sync_id = $1 AND (o.account, o.attribute) = (n.account, n.attribute) AND o.released",
        )
        .bind(self.sync_id())
        .bind(&accounts)
        .bind(&attributes)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(records.len() as u64)
    }
}

/// The attributes of these accounts over which another sync has set a value.
pub(super) async fn read_overwritten(
    connection: &mut PgConnection,
    writer: &StateWriter,
    accounts: &[&str],
) -> Result<HashMap<String, Vec<AttributeIndex>>, StateError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT account, attribute FROM overwritten_value WHERE sync_id = $1 AND account = ANY ($2)")
            .bind(writer.sync_id())
            .bind(accounts)
            .fetch_all(connection)
            .await?;
    let mut overwritten: HashMap<String, Vec<AttributeIndex>> = HashMap::new();
    for (account, attribute) in rows {
        overwritten.entry(account).or_default().extend(writer.attribute_of(&attribute));
    }
    Ok(overwritten)
}

/// Stores whose values are overwritten now, and whose are the only ones now. What this sync sends or gives up is not
/// overwritten any more.
pub(super) async fn write_overwritten(
    connection: &mut PgConnection,
    writer: &StateWriter,
    accounts: &[&str],
    decisions: &[SharedDecision],
) -> Result<(), StateError> {
    let (mut overwrites, mut releases, mut settled) =
        (OverwrittenColumns::default(), OverwrittenColumns::default(), OverwrittenColumns::default());
    for (account, decision) in accounts.iter().zip(decisions) {
        overwrites.extend(account, decision.overwrites.iter().map(|(id, name)| (*id, name.as_str())));
        releases.extend(account, decision.releases.iter().map(|(id, name)| (*id, name.as_str())));
        let own = decision.dropped.iter().chain(&decision.unknown);
        settled.extend(account, own.map(|attribute| (writer.sync_id(), &*writer.names()[attribute.index()])));
    }
    settled
        .execute(
            connection,
            "DELETE FROM overwritten_value AS o USING unnest($1::int[], $2::text[], $3::text[]) AS n (sync_id, account, attribute) \
             WHERE (o.sync_id, o.account, o.attribute) = (n.sync_id, n.account, n.attribute)",
        )
        .await?;
    overwrites
        .execute(
            connection,
            "INSERT INTO overwritten_value (sync_id, account, attribute) \
             SELECT * FROM unnest($1::int[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING",
        )
        .await?;
    releases
        .execute(
            connection,
            "UPDATE overwritten_value AS o SET released = true FROM unnest($1::int[], $2::text[], $3::text[]) AS n (sync_id, account, attribute) \
             WHERE (o.sync_id, o.account, o.attribute) = (n.sync_id, n.account, n.attribute)",
        )
        .await
}

/// Rows of `overwritten_value`, as arrays for `unnest`.
#[derive(Default)]
struct OverwrittenColumns<'a> {
    sync_ids: Vec<i32>,
    accounts: Vec<&'a str>,
    attributes: Vec<&'a str>,
}

impl<'a> OverwrittenColumns<'a> {
    fn extend(&mut self, account: &'a str, rows: impl Iterator<Item = (i32, &'a str)>) {
        for (sync_id, attribute) in rows {
            self.sync_ids.push(sync_id);
            self.accounts.push(account);
            self.attributes.push(attribute);
        }
    }

    async fn execute(&self, connection: &mut PgConnection, sql: &'static str) -> Result<(), StateError> {
        if !self.accounts.is_empty() {
            let query = sqlx::query(sql).bind(&self.sync_ids).bind(&self.accounts).bind(&self.attributes);
            query.execute(connection).await?;
        }
        Ok(())
    }
}
