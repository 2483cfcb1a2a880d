//! Rejections: values and accounts that IM or imsync refuses, why, and when they are retried.
//!
//! Owns: the table `rejection` and the growing delay between retries. Must not know: the meaning of the vendor's codes.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::model::Account;

/// The delay before a retry doubles with each attempt, up to this multiple of `schedule.rejected_retry`.
const MAX_DELAY_FACTOR: f64 = 24.0;

/// A rejection to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRejection {
    /// The IM account.
    pub account: Account,
    /// The attribute name; `None` for the whole account.
    pub attribute: Option<String>,
    /// The vendor's code; `None` for a value that imsync refuses.
    pub code: Option<i64>,
    /// Why, in a sentence that never contains the value.
    pub reason: String,
    /// Digest of the refused value. The attempts are counted anew when it changes.
    pub desired_digest: i64,
}

/// A stored rejection, as far as a comparison needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingRejection {
    /// The attribute name; `None` for the whole account.
    pub attribute: Option<String>,
    /// The vendor's code; `None` for a value that imsync refuses.
    pub code: Option<i64>,
    /// Digest of the refused value. A different value is sent at once.
    pub desired_digest: i64,
    /// The retry is due.
    pub due: bool,
}

/// A rejection as `imsync rejected` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct ListedRejection {
    /// The IM account.
    pub account: String,
    /// The attribute name; `None` for the whole account.
    pub attribute: Option<String>,
    /// The vendor's code; `None` for a value that imsync refuses.
    pub code: Option<i64>,
    /// Why, in a sentence that never contains the value.
    pub reason: String,
    /// When it was first refused.
    pub first_at: DateTime<Utc>,
    /// When it was last refused.
    pub last_at: DateTime<Utc>,
    /// How often it was refused.
    pub attempts: i32,
    /// When it is retried without a change of the row.
    pub next_at: DateTime<Utc>,
}

impl State {
    /// The rejections of these accounts.
    pub async fn standing_rejections(
        &self,
        sync_id: i32,
        accounts: &[&str],
    ) -> Result<HashMap<Account, Vec<StandingRejection>>, StateError> {
        let rows = sqlx::query(
            "SELECT account, nullif(attribute, ''), code, desired_digest, next_at <= clock_timestamp() \
             FROM rejection WHERE sync_id = $1 AND account = ANY ($2)",
        )
        .bind(sync_id)
        .bind(accounts)
        .fetch_all(self.pool())
        .await?;
        let mut standing: HashMap<Account, Vec<StandingRejection>> = HashMap::new();
        for row in &rows {
            let account: &str = row.try_get(0)?;
            standing.entry(Account::new(account)).or_default().push(StandingRejection {
                attribute: row.try_get(1)?,
                code: row.try_get(2)?,
                desired_digest: row.try_get(3)?,
                due: row.try_get(4)?,
            });
        }
        Ok(standing)
    }

    /// The accounts of the `limit` rejections whose retry has been due longest. The cost does not depend on how many
    /// are due, or are not due yet: `clock_timestamp()` is volatile, so it could not end the scan of the index.
    ///
    /// With each account comes whether it was rejected as a whole with the code `of_account`.
    pub async fn accounts_with_due_rejections(
        &self,
        sync_id: i32,
        of_account: i64,
        limit: i64,
    ) -> Result<Vec<(Account, bool)>, StateError> {
        let accounts: Vec<(String, bool)> = sqlx::query_as(
            "SELECT account, bool_or(attribute = '' AND code IS NOT DISTINCT FROM $2) \
             FROM (SELECT account, attribute, code FROM rejection \
             WHERE sync_id = $1 AND next_at <= statement_timestamp() ORDER BY next_at LIMIT $3) AS due GROUP BY account",
        )
        .bind(sync_id)
        .bind(of_account)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(accounts.into_iter().map(|(account, matches)| (Account::new(account), matches)).collect())
    }

    /// The number of these accounts that have a rejection.
    pub async fn count_rejected_of(&self, sync_id: i32, accounts: &[Account]) -> Result<u64, StateError> {
        let accounts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let count: i64 = sqlx::query_scalar(
            "SELECT count(DISTINCT account) FROM rejection WHERE sync_id = $1 AND account = ANY ($2)",
        )
        .bind(sync_id)
        .bind(&accounts)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The next `limit` rejections after this account and attribute, in ascending order.
    pub async fn list_rejections(
        &self,
        sync_id: i32,
        after: (&str, &str),
        limit: i64,
    ) -> Result<Vec<ListedRejection>, StateError> {
        let rows = sqlx::query(
            "SELECT account, nullif(attribute, ''), code, reason, first_at, last_at, attempts, next_at FROM rejection \
             WHERE sync_id = $1 AND (account, attribute) > ($2, $3) ORDER BY account, attribute LIMIT $4",
        )
        .bind(sync_id)
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(listed).collect()
    }

    /// The rejections of this account.
    pub async fn rejections_of(&self, sync_id: i32, account: &Account) -> Result<Vec<ListedRejection>, StateError> {
        let rows = sqlx::query(
            "SELECT account, nullif(attribute, ''), code, reason, first_at, last_at, attempts, next_at FROM rejection \
             WHERE sync_id = $1 AND account = $2 ORDER BY attribute",
        )
        .bind(sync_id)
        .bind(account.as_str())
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(listed).collect()
    }
}

fn listed(row: &PgRow) -> Result<ListedRejection, StateError> {
    Ok(ListedRejection {
        account: row.try_get(0)?,
        attribute: row.try_get(1)?,
        code: row.try_get(2)?,
        reason: row.try_get(3)?,
        first_at: row.try_get(4)?,
        last_at: row.try_get(5)?,
        attempts: row.try_get(6)?,
        next_at: row.try_get(7)?,
    })
}

impl StateWriter {
    /// Postpones the rejections of these accounts that are still due after a retry (IM did not answer, or the removal
    /// guard holds the removal back). Otherwise every pass would retry them first, and later ones would never be
    /// retried.
    pub async fn postpone_rejections_with_doubled_delay(
        &self,
        accounts: &[Account],
        delay: Duration,
    ) -> Result<(), StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let mut transaction = self.begin().await?;
        sqlx::query(
            "UPDATE rejection SET next_at = clock_timestamp() + make_interval(secs => $3) \
             WHERE sync_id = $1 AND account = ANY ($2) AND next_at <= clock_timestamp()",
        )
        .bind(self.sync_id())
        .bind(&texts)
        .bind(delay.as_secs_f64())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Deletes these rejections within a transaction: account and attribute name, `None` for the whole account.
pub(super) async fn delete_rejections(
    connection: &mut PgConnection,
    sync_id: i32,
    resolved: &[(Account, Option<String>)],
) -> Result<(), StateError> {
    if resolved.is_empty() {
        return Ok(());
    }
    let accounts: Vec<&str> = resolved.iter().map(|(account, _)| account.as_str()).collect();
    let attributes: Vec<&str> =
        resolved.iter().map(|(_, attribute)| attribute.as_deref().unwrap_or_default()).collect();
    sqlx::query(
        "DELETE FROM rejection USING unnest($2::text[], $3::text[]) AS d (account, attribute) \
         WHERE rejection.sync_id = $1 AND rejection.account = d.account AND rejection.attribute = d.attribute",
    )
    .bind(sync_id)
    .bind(&accounts)
    .bind(&attributes)
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds rejections within a transaction, or counts another attempt of those with the same digest. The first retry is
/// due after `retry_after`, and the delay doubles with each attempt.
pub(super) async fn upsert_rejections(
    connection: &mut PgConnection,
    sync_id: i32,
    rejected: &[NewRejection],
    retry_after: Duration,
) -> Result<(), StateError> {
    if rejected.is_empty() {
        return Ok(());
    }
    let mut accounts = Vec::with_capacity(rejected.len());
    let mut attributes = Vec::with_capacity(rejected.len());
    let mut codes = Vec::with_capacity(rejected.len());
    let mut reasons = Vec::with_capacity(rejected.len());
    let mut digests = Vec::with_capacity(rejected.len());
    for NewRejection { account, attribute, code, reason, desired_digest } in rejected {
        accounts.push(account.as_str());
        attributes.push(attribute.as_deref().unwrap_or_default());
        codes.push(*code);
        reasons.push(reason.as_str());
        digests.push(*desired_digest);
    }
    sqlx::query(
        "INSERT INTO rejection AS old (sync_id, account, attribute, code, reason, desired_digest, first_at, last_at, attempts, next_at) \
         SELECT $1, n.account, n.attribute, n.code, n.reason, n.digest, t, t, 1, t + make_interval(secs => $7) \
         FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[]) AS n (account, attribute, code, reason, digest), \
         clock_timestamp() AS t \
         ON CONFLICT (sync_id, account, attribute) DO UPDATE SET code = excluded.code, reason = excluded.reason, \
         desired_digest = excluded.desired_digest, last_at = excluded.last_at, \
         first_at = CASE WHEN old.desired_digest = excluded.desired_digest THEN old.first_at ELSE excluded.first_at END, \
         attempts = CASE WHEN old.desired_digest = excluded.desired_digest THEN old.attempts + 1 ELSE 1 END, \
         next_at = excluded.last_at + make_interval(secs => $7 * CASE WHEN old.desired_digest = excluded.desired_digest \
             THEN least(2.0 ^ least(old.attempts, 10), $8) ELSE 1 END)",
    )
    .bind(sync_id)
    .bind(&accounts)
    .bind(&attributes)
    .bind(&codes)
    .bind(&reasons)
    .bind(&digests)
    .bind(retry_after.as_secs_f64())
    .bind(MAX_DELAY_FACTOR)
    .execute(connection)
    .await?;
    Ok(())
}
