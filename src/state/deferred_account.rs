//! Accounts whose row was read while a call for them was in flight. They are looked up when that call has ended.
//!
//! Owns: the table `deferred_account`. Must not know: why an account is in flight, when it is looked up.
//!
//! A deferred account is stored before the watermark moves past its row, and deleted when a later comparison of the
//! account is recorded or stands in a stored intent. So no crash in between loses the row.

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::model::Account;

impl State {
    /// All deferred accounts of the sync. There are at most as many as were in flight at a time.
    pub async fn deferred_accounts(&self, sync_id: i32) -> Result<Vec<Account>, StateError> {
        let accounts: Vec<String> = sqlx::query_scalar("SELECT account FROM deferred_account WHERE sync_id = $1")
            .bind(sync_id)
            .fetch_all(self.pool())
            .await?;
        Ok(accounts.into_iter().map(Account::new).collect())
    }
}

impl StateWriter {
    /// Stores deferred accounts, which are committed when this returns.
    pub async fn defer_accounts(&self, accounts: &[Account]) -> Result<(), StateError> {
        let sql = "INSERT INTO deferred_account (sync_id, account, since) SELECT $1, account, clock_timestamp() \
             FROM unnest($2::text[]) AS n (account) ON CONFLICT DO NOTHING";
        self.write_deferred(sql, accounts).await
    }

    /// Deletes deferred accounts that were looked up.
    pub async fn end_deferral(&self, accounts: &[Account]) -> Result<(), StateError> {
        let sql = "DELETE FROM deferred_account WHERE sync_id = $1 AND account = ANY ($2)";
        self.write_deferred(sql, accounts).await
    }

    /// Executes a statement in a transaction: $1 is the sync, $2 the accounts.
    async fn write_deferred(&self, sql: &'static str, accounts: &[Account]) -> Result<(), StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let mut transaction = self.begin().await?;
        sqlx::query(sql).bind(self.sync_id()).bind(&texts).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}
