//! What IM acknowledged, account by account: look-ups, doubts, the walk over all accounts.
//!
//! Owns: reading the table `account`. Must not know: what is done about a difference.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};

use super::acknowledged::{decode, distrust, doubt_provisional};
use super::{State, StateError, StateWriter};
use crate::crash;
use crate::model::{Account, AcknowledgedValue};

/// What is stored for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAccount {
    /// Exactly what is wanted (the digests are equal and nothing is in doubt).
    AsWanted,
    Acknowledged {
        /// By attribute.
        known: Vec<AcknowledgedValue>,
        /// So long a call of unknown outcome may still land.
        late_write: Option<Duration>,
        /// A call had no known outcome, and that is not settled yet.
        unsettled: bool,
    },
}

/// When the doubts of an account are looked into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RetryDue {
    Now,
    In(Duration),
    /// When the row, the mapping or a rejection changes.
    NotByItself,
}

/// What is to be stored for an account. `due` matters only while something in it is unknown.
#[derive(Clone, Debug)]
pub struct AccountRecord {
    pub account: Account,
    /// There is a row already.
    pub exists: bool,
    pub acknowledged: Vec<AcknowledgedValue>,
    pub due: RetryDue,
    /// So long a call of unknown outcome may still land.
    pub late_write: Option<Duration>,
}

/// Numbers about the stored accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountCounts {
    /// With something acknowledged.
    pub known: u64,
    /// With something in doubt.
    pub in_doubt: u64,
}

/// Reads whole rows within a transaction; rows of an older generation come back as unknown.
pub(super) async fn read_accounts(
    connection: &mut PgConnection,
    sync_id: i32,
    generation: i32,
    accounts: &[Account],
) -> Result<HashMap<Account, Vec<AcknowledgedValue>>, StateError> {
    let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
    let rows = sqlx::query(
        "SELECT account, generation, acknowledged::text FROM account WHERE sync_id = $1 AND account = ANY ($2)",
    )
    .bind(sync_id)
    .bind(&texts)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let account: &str = row.try_get(0)?;
            let own: i32 = row.try_get(1)?;
            let mut acknowledged = decode(row.try_get(2)?);
            if own < generation {
                distrust(&mut acknowledged);
            }
            Ok((Account::new(account), acknowledged))
        })
        .collect()
}

impl State {
    /// What is stored for these accounts. With an account comes the digest of what is wanted, where that can be told:
    /// a row that has it is not read further. Accounts without a row are not in the answer.
    pub async fn stored(
        &self,
        sync_id: i32,
        generation: i32,
        wanted: &[(Account, Option<i64>)],
    ) -> Result<HashMap<Account, StoredAccount>, StateError> {
        let accounts: Vec<&str> = wanted.iter().map(|(account, _)| account.as_str()).collect();
        let digests: Vec<Option<i64>> = wanted.iter().map(|(_, digest)| *digest).collect();
        let rows = sqlx::query(
            "SELECT a.account, a.generation, \
             CASE WHEN a.digest = w.digest AND a.generation = $4 AND a.in_doubt_retry_at IS NULL THEN NULL ELSE a.acknowledged::text END, \
             extract(epoch FROM a.late_write_until - clock_timestamp())::float8, a.in_doubt_retry_at < 'infinity' \
             FROM unnest($2::text[], $3::bigint[]) AS w (account, digest) \
             JOIN account a ON a.sync_id = $1 AND a.account = w.account",
        )
        .bind(sync_id)
        .bind(&accounts)
        .bind(&digests)
        .bind(generation)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let account: &str = row.try_get(0)?;
                let own: i32 = row.try_get(1)?;
                let text: Option<&str> = row.try_get(2)?;
                let stored = match text {
                    None => StoredAccount::AsWanted,
                    Some(text) => {
                        let mut known = decode(text);
                        let left: Option<f64> = row.try_get(3)?;
                        let late_write = left.and_then(|left| Duration::try_from_secs_f64(left).ok());
                        if late_write.is_none() {
                            doubt_provisional(&mut known);
                        }
                        if own < generation {
                            distrust(&mut known);
                        }
                        let unsettled: Option<bool> = row.try_get(4)?;
                        StoredAccount::Acknowledged { known, late_write, unsettled: unsettled == Some(true) }
                    }
                };
                Ok((Account::new(account), stored))
            })
            .collect()
    }

    /// Accounts of which something is stored, be it only a rejection, in their order, after this one: the walk that finds
    /// accounts that are gone.
    pub async fn accounts_after(
        &self,
        sync_id: i32,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Account>, StateError> {
        let accounts: Vec<String> = sqlx::query_scalar(
            "(SELECT account FROM account WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3) UNION \
             (SELECT account FROM rejection WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3) \
             ORDER BY account LIMIT $3",
        )
        .bind(sync_id)
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(accounts.into_iter().map(Account::new).collect())
    }

    /// Accounts whose doubts are due, longest due first, each with that time; after this one of an earlier answer.
    pub async fn doubts_due(
        &self,
        sync_id: i32,
        after: Option<&(DateTime<Utc>, Account)>,
        limit: i64,
    ) -> Result<Vec<(DateTime<Utc>, Account)>, StateError> {
        let accounts: Vec<(DateTime<Utc>, String)> = sqlx::query_as(
            "SELECT in_doubt_retry_at, account FROM account WHERE sync_id = $1 AND in_doubt_retry_at <= clock_timestamp() \
             AND ($2::timestamptz IS NULL OR (in_doubt_retry_at, account) > ($2, $3)) ORDER BY in_doubt_retry_at, account LIMIT $4",
        )
        .bind(sync_id)
        .bind(after.map(|(due, _)| *due))
        .bind(after.map(|(_, account)| account.as_str()))
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(accounts.into_iter().map(|(due, account)| (due, Account::new(account))).collect())
    }

    /// Some account with acknowledged values, looked for among the first thousand.
    pub async fn any_acknowledged(
        &self,
        sync_id: i32,
        generation: i32,
    ) -> Result<Option<(Account, Vec<AcknowledgedValue>)>, StateError> {
        let row = sqlx::query(
            "SELECT account, acknowledged::text FROM \
             (SELECT account, acknowledged, generation, in_doubt_retry_at FROM account WHERE sync_id = $1 ORDER BY account LIMIT 1000) AS first \
             WHERE generation = $2 AND in_doubt_retry_at IS NULL LIMIT 1",
        )
        .bind(sync_id)
        .bind(generation)
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| {
            let account: &str = row.try_get(0)?;
            let text: &str = row.try_get(1)?;
            Ok((Account::new(account), decode(text)))
        })
        .transpose()
    }

    /// Some outcome is not known, and will be looked into by itself. What IM has acknowledged, be it only until a late write
    /// can no longer land, is known.
    pub async fn in_doubt_pending(&self, sync_id: i32) -> Result<bool, StateError> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM account WHERE sync_id = $1 AND in_doubt_retry_at < 'infinity' \
             AND acknowledged::jsonb @> '0')",
        )
        .bind(sync_id)
        .fetch_one(self.pool())
        .await?)
    }

    /// Accounts with something in doubt.
    pub async fn count_accounts_in_doubt(&self, sync_id: i32) -> Result<u64, StateError> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM account WHERE sync_id = $1 AND in_doubt_retry_at IS NOT NULL")
                .bind(sync_id)
                .fetch_one(self.pool())
                .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Counts accounts: an index scan over all of them, and a look at those in doubt.
    pub async fn count_accounts(&self, sync_id: i32) -> Result<AccountCounts, StateError> {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM account WHERE sync_id = $1), \
             count(*), count(*) FILTER (WHERE acknowledged::text NOT LIKE '%\"%') \
             FROM account WHERE sync_id = $1 AND in_doubt_retry_at IS NOT NULL",
        )
        .bind(sync_id)
        .fetch_one(self.pool())
        .await?;
        let rows: i64 = row.try_get(0)?;
        let in_doubt: i64 = row.try_get(1)?;
        let nothing_known: i64 = row.try_get(2)?;
        Ok(AccountCounts {
            known: u64::try_from(rows - nothing_known).unwrap_or(0),
            in_doubt: u64::try_from(in_doubt).unwrap_or(0),
        })
    }
}

impl StateWriter {
    /// Doubts of these accounts that are still due after they were looked into: no call can settle them now, so they wait
    /// until the row, the mapping or a rejection changes, or the last late write can no longer arrive.
    pub async fn postpone_in_doubt(&self, accounts: &[Account]) -> Result<(), StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let mut transaction = self.begin().await?;
        sqlx::query(
            "UPDATE account SET in_doubt_retry_at = CASE WHEN late_write_until > clock_timestamp() THEN late_write_until ELSE 'infinity' END \
             WHERE sync_id = $1 AND account = ANY ($2) AND in_doubt_retry_at <= clock_timestamp()",
        )
        .bind(self.sync_id())
        .bind(&texts)
        .execute(&mut *transaction)
        .await?;
        crash::point("doubts: put aside, not committed");
        transaction.commit().await?;
        Ok(())
    }
}
