//! Rejections: what could not be sent, why, and when it is tried again.
//!
//! Owns: the table `rejection`. Must not know: the vendor's codes.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, Row as _};

use super::{State, StateError, StateWriter};
use crate::model::Account;

/// The pause before a retry doubles with each refusal, up to this many times `rejected_retry`.
const LONGEST_PAUSE: f64 = 24.0;

/// A refusal to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRejection {
    pub account: Account,
    /// `None`: the whole account.
    pub attribute: Option<String>,
    /// The vendor's code; `None` for a value refused here.
    pub code: Option<i64>,
    pub reason: String,
    pub desired_digest: i64,
}

/// A rejection that stands, as the diff needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingRejection {
    pub attribute: Option<String>,
    pub code: Option<i64>,
    pub desired_digest: i64,
    pub due: bool,
}

/// A rejection as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct ListedRejection {
    pub account: String,
    pub attribute: Option<String>,
    pub code: Option<i64>,
    pub reason: String,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
    pub attempts: i32,
    pub next_at: DateTime<Utc>,
}

impl State {
    /// What stands against these accounts.
    pub async fn rejections_of(
        &self,
        sync_id: i32,
        accounts: &[Account],
    ) -> Result<HashMap<Account, Vec<StandingRejection>>, StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let rows = sqlx::query(
            "SELECT account, nullif(attribute, ''), code, desired_digest, next_at <= clock_timestamp() \
             FROM rejection WHERE sync_id = $1 AND account = ANY ($2)",
        )
        .bind(sync_id)
        .bind(&texts)
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

    /// Accounts with a rejection whose pause is over: those of the so many that have been due longest. Costs as much
    /// whether a hundred are due or a million.
    pub async fn rejections_due(&self, sync_id: i32, limit: i64) -> Result<Vec<Account>, StateError> {
        let accounts: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT account FROM (SELECT account FROM rejection \
             WHERE sync_id = $1 AND next_at <= clock_timestamp() ORDER BY next_at LIMIT $2) AS due",
        )
        .bind(sync_id)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(accounts.into_iter().map(Account::new).collect())
    }

    /// Anything stands rejected.
    pub async fn rejections_exist(&self, sync_id: i32) -> Result<bool, StateError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM rejection WHERE sync_id = $1)")
            .bind(sync_id)
            .fetch_one(self.pool())
            .await?)
    }

    /// Accounts with a standing rejection; of these accounts only, where some are named.
    pub async fn count_rejected(&self, sync_id: i32, only: Option<&[Account]>) -> Result<u64, StateError> {
        let texts: Option<Vec<&str>> = only.map(|accounts| accounts.iter().map(Account::as_str).collect());
        let count: i64 = sqlx::query_scalar(
            "SELECT count(DISTINCT account) FROM rejection WHERE sync_id = $1 AND ($2::text[] IS NULL OR account = ANY ($2))",
        )
        .bind(sync_id)
        .bind(texts)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// All rejections in the order of their accounts, after this account and attribute.
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
        rows.iter()
            .map(|row| {
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
            })
            .collect()
    }

    /// Makes rejections due at once: of these accounts, or all. Needs no lease: a running daemon finds them in its next pass.
    pub async fn retry_rejections(&self, sync_id: i32, only: Option<&[Account]>) -> Result<u64, StateError> {
        let texts: Option<Vec<&str>> = only.map(|accounts| accounts.iter().map(Account::as_str).collect());
        let accounts: i64 = sqlx::query_scalar(
            "WITH due AS (UPDATE rejection SET next_at = clock_timestamp() \
             WHERE sync_id = $1 AND ($2::text[] IS NULL OR account = ANY ($2)) RETURNING account) \
             SELECT count(DISTINCT account) FROM due",
        )
        .bind(sync_id)
        .bind(texts)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(accounts).unwrap_or(0))
    }
}

impl StateWriter {
    /// Rejections of these accounts that are still due after they were tried (no answer came, a removal must wait) get
    /// a pause: else they would be tried in every pass, before all that come after them.
    pub async fn postpone_rejections(&self, accounts: &[Account], pause: Duration) -> Result<(), StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let mut transaction = self.begin().await?;
        sqlx::query(
            "UPDATE rejection SET next_at = clock_timestamp() + make_interval(secs => $3) \
             WHERE sync_id = $1 AND account = ANY ($2) AND next_at <= clock_timestamp()",
        )
        .bind(self.sync_id())
        .bind(&texts)
        .bind(pause.as_secs_f64())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Makes every rejection due (the mapping changed).
    pub async fn make_rejections_due(&self) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        sqlx::query("UPDATE rejection SET next_at = clock_timestamp() WHERE sync_id = $1")
            .bind(self.sync_id())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

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
    .bind(LONGEST_PAUSE)
    .execute(connection)
    .await?;
    Ok(())
}
