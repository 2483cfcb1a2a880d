//! Deletes every trace of one account.
//!
//! Owns: which tables and columns of the state can name an account. Must not know: whether IM still holds something of it.

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::model::Account;

/// The tables with a row for each account, all with the columns `sync_id` and `account`.
const TABLES: [&str; 7] =
    ["account", "rejection", "removal", "owed_removal", "deferred_account", "overwritten_value", "history"];

impl State {
    /// Whether a call with this account is under way, or was when a process died.
    pub async fn has_intent(&self, sync_id: i32, account: &Account) -> Result<bool, StateError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM intent WHERE sync_id = $1 AND $2 = ANY (accounts))")
            .bind(sync_id)
            .bind(account.as_str())
            .fetch_one(self.pool())
            .await?)
    }
}

impl StateWriter {
    /// Deletes every trace of an account, in one transaction. `texts`: the account column's texts that mean this account.
    ///
    /// A full pass that was interrupted at this account begins again, and so does making all rejections due.
    pub async fn delete_account(&self, account: &Account, texts: &[String]) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        for table in TABLES {
            let statement = format!("DELETE FROM {table} WHERE sync_id = $1 AND account = $2");
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(self.sync_id())
                .bind(account.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(
            "UPDATE sync SET \
             full_pass_position = CASE WHEN full_pass_position->>'after' = ANY ($3) THEN NULL ELSE full_pass_position END, \
             retry_rejections_after = CASE WHEN retry_rejections_after = $2 THEN '' ELSE retry_rejections_after END, \
             verification = verification || jsonb_build_object('examples', (verification->'examples') - $2), \
             full_pass_repairs = full_pass_repairs || jsonb_build_object('examples', (full_pass_repairs->'examples') - $2), \
             full_pass_repairs_so_far = CASE WHEN full_pass_repairs_so_far->>'after' = ANY ($3) THEN NULL \
               ELSE full_pass_repairs_so_far || jsonb_build_object('examples', (full_pass_repairs_so_far->'examples') - $2) END \
             WHERE id = $1",
        )
        .bind(self.sync_id())
        .bind(account.as_str())
        .bind(texts)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
