//! Accounts of which the removal guard let an attribute go within 24 hours.
//!
//! Owns: the table `removal`. Must not know: what share of them is too many.
//!
//! An account stands there once, so an attribute that comes and goes all day counts as one account, not as hundreds.
//! The clock is the state server's: the writer may be another machine tomorrow.

use sqlx::PgConnection;

use super::{State, StateError, StateWriter};
use crate::model::Account;

impl State {
    /// Accounts of which something was let go within 24 hours, those named left out: they are counted anyway.
    pub async fn count_recent_removals_except(&self, sync_id: i32, named: &[&str]) -> Result<u64, StateError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM removal LEFT JOIN unnest($2::text[]) AS named (account) ON named.account = removal.account \
             WHERE sync_id = $1 AND removed_at > now() - interval '24 hours' AND named.account IS NULL",
        )
        .bind(sync_id)
        .bind(named)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Of these accounts, those that hold nothing acknowledged any more: they were known when the 24 hours began.
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
    /// Counts these accounts (no two the same) and forgets those that no longer count. To be called before the first call
    /// that removes something of theirs: a process that is killed among them has then counted them all.
    pub async fn count_removals(&self, accounts: &[Account]) -> Result<(), StateError> {
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

    /// The count begins anew: somebody has looked at all of it and said that it is meant.
    pub async fn forget_removals(&self) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        self.forget_removals_in(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn forget_removals_in(&self, connection: &mut PgConnection) -> Result<(), StateError> {
        sqlx::query("DELETE FROM removal WHERE sync_id = $1").bind(self.sync_id()).execute(connection).await?;
        Ok(())
    }
}
