//! The table `account`: which values IM acknowledged for each account.
//!
//! Owns: reading its rows, and what a row is. Must not know: how rows are written, what is done about a difference.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::acknowledged_json::{decode, mark_all_unknown, mark_provisional_unknown};
use super::database::State;
use super::error::StateError;
use crate::model::{Account, AcknowledgedValue};

/// The search for acknowledged accounts reads at most so many pages of 1,000 rows.
const MAX_SEARCHED_PAGES: usize = 10;

/// What is stored for an account, compared with what is desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAccount {
    /// The acknowledged values are the desired ones (the digests are equal), and nothing is in doubt.
    UpToDate,
    /// The stored values, for a comparison one by one.
    Acknowledged {
        /// In the order of `AttributeIndex`.
        known: Vec<AcknowledgedValue>,
        /// For how long an earlier call of unknown outcome may still be applied by IM.
        late_write: Option<Duration>,
        /// Something is in doubt and a retry is scheduled.
        retry_pending: bool,
        /// The row is of the present generation.
        is_current: bool,
    },
}

/// When the unknown values of an account are retried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RetryDue {
    /// In the next pass.
    Now,
    /// After this time.
    In(Duration),
    /// When the row, the mapping or a rejection changes.
    OnChange,
}

/// A row to write.
#[derive(Clone, Debug)]
pub struct AccountRecord {
    /// The IM account.
    pub account: Account,
    /// Whether the table has a row for it.
    pub exists: bool,
    /// In the order of `AttributeIndex`. When no value is present, the row is deleted.
    pub acknowledged: Vec<AcknowledgedValue>,
    /// Stored only when a value is in doubt.
    pub due: RetryDue,
    /// For how long an earlier call of unknown outcome may still be applied by IM.
    pub late_write: Option<Duration>,
}

impl State {
    /// What is stored for these accounts, in their order; `None` for an account without a row. The accounts are distinct.
    ///
    /// Each account comes with the digest of its desired values, or `None` where it cannot be computed. A row with the same
    /// digest, in which nothing is in doubt, is not transferred.
    pub async fn stored_accounts(
        &self,
        sync_id: i32,
        generation: i32,
        accounts: &[&str],
        digests: &[Option<i64>],
    ) -> Result<Vec<Option<StoredAccount>>, StateError> {
        let mut stored = vec![Some(StoredAccount::UpToDate); accounts.len()];
        let mut differing: Vec<usize> = (0..accounts.len()).collect();
        // Where no digest can be equal, each row is transferred anyway.
        if digests.iter().any(Option::is_some)
            && let Some(found) = self.digests_in_range(sync_id, generation, accounts).await?
        {
            for (stored, _) in stored.iter_mut().zip(&found).filter(|(_, found)| found.is_none()) {
                *stored = None;
            }
            differing.retain(|position| found[*position].is_some() && found[*position] != digests[*position]);
        }
        let accounts: Vec<&str> = differing.iter().map(|position| accounts[*position]).collect();
        let digests: Vec<Option<i64>> = differing.iter().map(|position| digests[*position]).collect();
        for (number, account) in self.differing_accounts(sync_id, generation, &accounts, &digests).await? {
            stored[differing[number]] = account;
        }
        Ok(stored)
    }

    /// What is stored for those of these accounts that differ from the digest, with their numbers.
    async fn differing_accounts(
        &self,
        sync_id: i32,
        generation: i32,
        accounts: &[&str],
        digests: &[Option<i64>],
    ) -> Result<Vec<(usize, Option<StoredAccount>)>, StateError> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        // LATERAL with LIMIT is always a look-up in the index. A join would read the whole table as long as it has never been
        // analyzed, which is so after the first pass.
        let rows = sqlx::query(
            "SELECT w.n::int, a.generation, a.acknowledged::text, \
             extract(epoch FROM a.late_write_until - clock_timestamp())::float8, a.in_doubt_retry_at < 'infinity' \
             FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS w (account, digest, n) \
             LEFT JOIN LATERAL (SELECT * FROM account WHERE sync_id = $1 AND account = w.account LIMIT 1) AS a ON true \
             WHERE w.digest IS NULL OR a.digest IS DISTINCT FROM w.digest OR a.generation <> $4 OR a.in_doubt_retry_at IS NOT NULL",
        )
        .bind(sync_id)
        .bind(accounts)
        .bind(digests)
        .bind(generation)
        .fetch_all(self.pool())
        .await?;
        let numbered = |row: &PgRow| {
            let number = usize::try_from(row.try_get::<i32, _>(0)? - 1).unwrap_or_default();
            Ok((number, stored_account(row, generation)?))
        };
        rows.iter().map(numbered).collect()
    }

    /// When the newest outcome of this account was recorded; `None` without a row.
    pub async fn acknowledged_at(&self, sync_id: i32, account: &Account) -> Result<Option<DateTime<Utc>>, StateError> {
        Ok(sqlx::query_scalar("SELECT acknowledged_at FROM account WHERE sync_id = $1 AND account = $2")
            .bind(sync_id)
            .bind(account.as_str())
            .fetch_optional(self.pool())
            .await?)
    }

    /// Whether the next pass looks at this account whatever its row says: a value is unknown and its retry is due, or an
    /// earlier pass left the account to it.
    pub async fn is_retry_due(&self, sync_id: i32, account: &Account) -> Result<bool, StateError> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM account WHERE sync_id = $1 AND account = $2 \
             AND in_doubt_retry_at <= clock_timestamp()) \
             OR EXISTS (SELECT FROM deferred_account WHERE sync_id = $1 AND account = $2)",
        )
        .bind(sync_id)
        .bind(account.as_str())
        .fetch_one(self.pool())
        .await?)
    }

    /// The next `limit` accounts after `after`, in ascending order, for which a value, a rejection or an owed removal is
    /// stored. A full pass finds accounts with it that have left the table.
    pub async fn accounts_after(
        &self,
        sync_id: i32,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Account>, StateError> {
        let accounts: Vec<String> = sqlx::query_scalar(
            "(SELECT account FROM account WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3) UNION \
             (SELECT account FROM rejection WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3) UNION \
             (SELECT account FROM owed_removal WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3) \
             ORDER BY account LIMIT $3",
        )
        .bind(sync_id)
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(accounts.into_iter().map(Account::new).collect())
    }

    /// The next `limit` accounts after `after` that have a row in `account`, in no particular order. An index is enough for
    /// this statement.
    pub async fn accounts_with_values_after(
        &self,
        sync_id: i32,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, StateError> {
        // As one array: a row of the answer costs more than an account.
        let accounts: Option<Vec<String>> = sqlx::query_scalar(
            "SELECT array_agg(account) FROM (SELECT account FROM account WHERE sync_id = $1 AND account > $2 \
             ORDER BY account LIMIT $3) AS step",
        )
        .bind(sync_id)
        .bind(after)
        .bind(limit)
        .fetch_one(self.pool())
        .await?;
        Ok(accounts.unwrap_or_default())
    }

    /// The next `limit` accounts after `after`, in ascending order, that have a rejection or owe a removal, each with whether
    /// it has a row in `account`.
    pub async fn rejected_or_owed_after(
        &self,
        sync_id: i32,
        after: &str,
        limit: i64,
    ) -> Result<Vec<(Account, bool)>, StateError> {
        let accounts: Vec<(String, bool)> = sqlx::query_as(
            "SELECT account, EXISTS (SELECT FROM account a WHERE a.sync_id = $1 AND a.account = step.account) FROM (\
             (SELECT account FROM rejection WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3) UNION \
             (SELECT account FROM owed_removal WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3) \
             ORDER BY account LIMIT $3) AS step ORDER BY account",
        )
        .bind(sync_id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(accounts.into_iter().map(|(account, has_row)| (Account::new(account), has_row)).collect())
    }

    /// Accounts with an acknowledged value, all of whose values are known and of which nothing is rejected, with their
    /// values, in ascending order: up to 32 of the 1,000 rows after `after`, or of later rows if there is none among
    /// these. The search begins again at the first row, and ends after 10,000 rows.
    pub async fn acknowledged_accounts(
        &self,
        sync_id: i32,
        generation: i32,
        after: &Account,
    ) -> Result<Vec<(Account, Vec<AcknowledgedValue>)>, StateError> {
        let mut after = Some(after.as_str().to_owned());
        for _ in 0..MAX_SEARCHED_PAGES {
            let rows = sqlx::query(
                "SELECT account, acknowledged FROM (SELECT account, acknowledged::text, generation, in_doubt_retry_at FROM account \
                 WHERE sync_id = $1 AND account > $3 ORDER BY account LIMIT 1000) AS page \
                 WHERE generation = $2 AND in_doubt_retry_at IS NULL AND acknowledged LIKE '%\"%' \
                 AND NOT EXISTS (SELECT FROM rejection WHERE sync_id = $1 AND rejection.account = page.account) \
                 ORDER BY account LIMIT 32",
            )
            .bind(sync_id)
            .bind(generation)
            .bind(after.as_deref().unwrap_or_default())
            .fetch_all(self.pool())
            .await?;
            if !rows.is_empty() {
                let account = |row: &PgRow| Ok((Account::new(row.try_get::<&str, _>(0)?), decode(row.try_get(1)?)));
                return rows.iter().map(account).collect();
            }
            let last: Option<String> = sqlx::query_scalar(
                "SELECT max(account) FROM (SELECT account FROM account WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT 1000) AS page",
            )
            .bind(sync_id)
            .bind(after.as_deref().unwrap_or_default())
            .fetch_one(self.pool())
            .await?;
            if last.is_none() && after.as_deref().unwrap_or_default().is_empty() {
                break;
            }
            after = last;
        }
        Ok(Vec::new())
    }
}

/// A row of [`State::differing_accounts`]; `None` if the account has none.
fn stored_account(row: &PgRow, generation: i32) -> Result<Option<StoredAccount>, StateError> {
    let Some(text) = row.try_get::<Option<&str>, _>(2)? else { return Ok(None) };
    let mut known = decode(text);
    let seconds_left: Option<f64> = row.try_get(3)?;
    let late_write = seconds_left.and_then(|left| Duration::try_from_secs_f64(left).ok());
    if late_write.is_none() {
        mark_provisional_unknown(&mut known);
    }
    let is_current = row.try_get::<i32, _>(1)? >= generation;
    if !is_current {
        mark_all_unknown(&mut known);
    }
    let retry_pending = row.try_get::<Option<bool>, _>(4)? == Some(true);
    Ok(Some(StoredAccount::Acknowledged { known, late_write, retry_pending, is_current }))
}

/// Reads the values of these accounts within a transaction. The values of an older generation are returned as unknown.
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
            let row_generation: i32 = row.try_get(1)?;
            let mut acknowledged = decode(row.try_get(2)?);
            if row_generation < generation {
                mark_all_unknown(&mut acknowledged);
            }
            Ok((Account::new(account), acknowledged))
        })
        .collect()
}
