//! The accounts that lost an attribute in the last 24 hours with the permission of the removal guard.
//!
//! Owns: the table `removal`. Must not know: which share of the accounts trips the guard.
//!
//! Each account counts once, so that an attribute which is set and removed all day does not count hundreds of times.
//! All times are those of the state server, because the next holder of the lease may run on another machine. After
//! `--allow-removals` only what is removed later counts (`sync.removals_counted_from`).

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;

/// Records that no longer count are deleted in steps of this many, or of twice the new ones.
const MIN_DELETED: usize = 10_000;

impl State {
    /// The number of accounts with a removal in the last 24 hours. Reads only the index.
    pub async fn count_recent_removals(&self, sync_id: i32) -> Result<u64, StateError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM removal WHERE sync_id = $1 AND removed_at > \
             (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = $1)",
        )
        .bind(sync_id)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The number of accounts with a removal in the last 24 hours that have no owed removal.
    pub async fn count_recent_removals_except_owed(&self, sync_id: i32) -> Result<u64, StateError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM removal WHERE sync_id = $1 AND removed_at > \
             (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = $1) \
             AND NOT EXISTS (SELECT FROM owed_removal owed WHERE owed.sync_id = $1 AND owed.account = removal.account)",
        )
        .bind(sync_id)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The number of these accounts that have had a removal in the last 24 hours.
    pub async fn count_recent_removals_of(&self, sync_id: i32, accounts: &[&str]) -> Result<u64, StateError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM removal WHERE sync_id = $1 AND account = ANY ($2) AND removed_at > \
             (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = $1)",
        )
        .bind(sync_id)
        .bind(accounts)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The number of accounts with a removal in the last 24 hours and no acknowledged value left. They were known
    /// accounts when the 24 hours began.
    pub async fn count_fully_removed(&self, sync_id: i32) -> Result<u64, StateError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM removal LEFT JOIN account USING (sync_id, account) WHERE sync_id = $1 AND removed_at > \
             (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = $1) \
             AND (acknowledged IS NULL OR (in_doubt_retry_at IS NOT NULL AND acknowledged::text NOT LIKE '%\"%'))",
        )
        .bind(sync_id)
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

impl StateWriter {
    /// Records a removal for each of these distinct accounts and deletes some of the records that no longer count.
    ///
    /// To be called before the first call to IM that removes an attribute of theirs. A process that is killed between
    /// the calls has then counted all of them.
    pub async fn record_removals(&self, accounts: &[&str]) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "DELETE FROM removal USING (SELECT account FROM removal WHERE sync_id = $1 AND removed_at <= \
             (SELECT greatest(now() - interval '24 hours', removals_counted_from) FROM sync WHERE id = $1) \
             ORDER BY removed_at LIMIT $2) AS old WHERE removal.sync_id = $1 AND removal.account = old.account",
        )
        .bind(self.sync_id())
        .bind(i64::try_from(MIN_DELETED.max(2 * accounts.len())).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO removal (sync_id, account, removed_at) SELECT $1, account, now() FROM unnest($2::text[]) AS n (account) \
             ON CONFLICT (sync_id, account) DO UPDATE SET removed_at = excluded.removed_at",
        )
        .bind(self.sync_id())
        .bind(accounts)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removals up to now no longer count: an operator has confirmed them with `--allow-removals`.
    pub async fn count_removals_from_now(&self) -> Result<(), StateError> {
        let done =
            sqlx::query("UPDATE sync SET removals_counted_from = clock_timestamp() WHERE id = $1 AND lease_epoch = $2")
                .bind(self.sync_id())
                .bind(self.epoch())
                .execute(self.pool())
                .await?;
        Self::expect_one(done.rows_affected())
    }
}
