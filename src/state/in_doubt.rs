//! Accounts in doubt: those with a call whose outcome is not known, or with a value that a late write may overwrite.
//!
//! Owns: the statements on `account.in_doubt_retry_at`. Must not know: how a doubtful value is resolved.

use chrono::{DateTime, Utc};

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::crash;
use crate::model::Account;

impl State {
    /// The next `limit` accounts whose retry is due, each with the time since when it is due, in this order. `after`:
    /// the last entry of the previous call.
    pub async fn in_doubt_accounts_due(
        &self,
        sync_id: i32,
        after: Option<&(DateTime<Utc>, Account)>,
        limit: i64,
    ) -> Result<Vec<(DateTime<Utc>, Account)>, StateError> {
        let accounts: Vec<(DateTime<Utc>, String)> = sqlx::query_as(
            "SELECT in_doubt_retry_at, account FROM account WHERE sync_id = $1 AND in_doubt_retry_at <= statement_timestamp() \
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

    /// Whether a value is unknown and a retry is scheduled. A provisional value counts as known: IM acknowledged it,
    /// even if a late write may still overwrite it.
    pub async fn in_doubt_pending(&self, sync_id: i32) -> Result<bool, StateError> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM account WHERE sync_id = $1 AND in_doubt_retry_at < 'infinity' \
             AND acknowledged::jsonb @> '0')",
        )
        .bind(sync_id)
        .fetch_one(self.pool())
        .await?)
    }
}

impl StateWriter {
    /// Postpones the retry of these accounts where it is still due after it was tried: no call can resolve it now.
    /// The next retry is when a late write is no longer possible, else when the row, the mapping or a rejection
    /// changes.
    pub async fn postpone_in_doubt_retries(&self, accounts: &[Account]) -> Result<(), StateError> {
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
        crash::point("in doubt: postponed, not committed");
        transaction.commit().await?;
        Ok(())
    }
}
