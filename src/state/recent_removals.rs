//! The accounts that lost an attribute in the last 24 hours with the permission of the removal guard.
//!
//! Owns: the table `removal`. Must not know: which share of the accounts trips the guard.
//!
//! Each account counts once, so that an attribute which is set and removed all day does not count hundreds of times.
//! All times are those of the state server, because the next holder of the lease may run on another machine.

use sqlx::PgConnection;

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::model::Account;

impl State {
    /// The number of accounts with a removal in the last 24 hours, without the `excluded` ones, which the caller counts
    /// itself.
    pub async fn count_accounts_with_removals_in_24h_except(
        &self,
        sync_id: i32,
        excluded: &[&str],
    ) -> Result<u64, StateError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM removal LEFT JOIN unnest($2::text[]) AS excluded (account) ON excluded.account = removal.account \
             WHERE sync_id = $1 AND removed_at > now() - interval '24 hours' AND excluded.account IS NULL",
        )
        .bind(sync_id)
        .bind(excluded)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The number of accounts with a removal in the last 24 hours and no acknowledged value left. They were known
    /// accounts when the 24 hours began.
    pub async fn count_fully_removed(&self, sync_id: i32) -> Result<u64, StateError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM removal LEFT JOIN account USING (sync_id, account) WHERE sync_id = $1 AND removed_at > now() - interval '24 hours' \
             AND (acknowledged IS NULL OR (in_doubt_retry_at IS NOT NULL AND acknowledged::text NOT LIKE '%\"%'))",
        )
        .bind(sync_id)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

impl StateWriter {
    /// Records a removal for each of these distinct accounts and deletes the records older than 24 hours.
    ///
    /// To be called before the first call to IM that removes an attribute of theirs. A process that is killed between
    /// the calls has then counted all of them.
    pub async fn record_removals(&self, accounts: &[Account]) -> Result<(), StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let mut transaction = self.begin().await?;
        sqlx::query("DELETE FROM removal WHERE sync_id = $1 AND removed_at <= now() - interval '24 hours'")
            .bind(self.sync_id())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO removal (sync_id, account, removed_at) SELECT $1, account, now() FROM unnest($2::text[]) AS n (account) \
             ON CONFLICT (sync_id, account) DO UPDATE SET removed_at = excluded.removed_at",
        )
        .bind(self.sync_id())
        .bind(&texts)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Deletes the records, so that the count starts at zero: an operator has confirmed the removals with
    /// `--allow-removals`.
    pub async fn clear_removals(&self) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        delete_removals(&mut transaction, self.sync_id()).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Deletes the records of a sync within a transaction.
pub(super) async fn delete_removals(connection: &mut PgConnection, sync_id: i32) -> Result<(), StateError> {
    sqlx::query("DELETE FROM removal WHERE sync_id = $1").bind(sync_id).execute(connection).await?;
    Ok(())
}
