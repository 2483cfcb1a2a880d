//! The generation: one number that declares every acknowledged value of a sync unknown when it is incremented.
//!
//! Owns: `sync.generation`, `sync.state_server` and the change of `sync.binding`. Must not know: when it has to be
//! incremented.
//!
//! One updated row replaces an update of every row of `account`. Rows of a lower generation are read as unknown.

use sqlx::{PgConnection, PgTransaction};

use super::binding::Binding;
use super::error::StateError;
use super::other_syncs::{announce_to_other_syncs, lock_announcements};
use super::rejection_steps::delete_first_rejections;
use super::writer::StateWriter;
use crate::crash;

impl StateWriter {
    /// Increments the generation because the state server changed, and makes a full pass due for the reason `why`.
    pub async fn start_generation(&mut self, server: &str, why: &str) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        let generation: i32 = sqlx::query_scalar(
            "UPDATE sync SET generation = generation + 1, state_server = $2, full_pass_due = $3, \
             full_pass_request = full_pass_request + 1, full_pass_position = NULL \
             WHERE id = $1 RETURNING generation",
        )
        .bind(self.sync_id())
        .bind(server)
        .bind(why)
        .fetch_one(&mut *transaction)
        .await?;
        self.commit_generation(transaction, generation).await
    }

    /// Binds the sync to another app and increments the generation, in one transaction. Removals in the other app do not
    /// count against the guard of this one.
    pub async fn rebind(&mut self, binding: &Binding) -> Result<(), StateError> {
        let json = serde_json::to_string(binding).map_err(|error| StateError::Refused(error.to_string()))?;
        let mut transaction = self.begin().await?;
        lock_announcements(&mut transaction).await?;
        forget_overwritten_values(&mut transaction, self.sync_id()).await?;
        announce_to_other_syncs(&mut transaction, self.sync_id()).await?;
        let generation: i32 = sqlx::query_scalar(
            "UPDATE sync SET binding = $2::text::jsonb, generation = generation + 1, \
             removals_counted_from = clock_timestamp(), full_pass_due = 'the sync was bound to another app', \
             full_pass_request = full_pass_request + 1, full_pass_position = NULL \
             WHERE id = $1 RETURNING generation",
        )
        .bind(self.sync_id())
        .bind(json)
        .fetch_one(&mut *transaction)
        .await?;
        self.commit_generation(transaction, generation).await
    }

    async fn commit_generation(
        &mut self,
        mut transaction: PgTransaction<'static>,
        generation: i32,
    ) -> Result<(), StateError> {
        // A sync with millions of them deletes the others in steps, before its next pass.
        let some_are_left = delete_first_rejections(&mut transaction, self.sync_id()).await?;
        sqlx::query("UPDATE sync SET delete_rejections = $2, retry_rejections_after = NULL WHERE id = $1")
            .bind(self.sync_id())
            .bind(some_are_left)
            .execute(&mut *transaction)
            .await?;
        crash::point("generation: incremented, not committed");
        transaction.commit().await?;
        crash::point("generation: incremented");
        self.set_generation(generation);
        Ok(())
    }

    /// Stores the identity of the state server at first use.
    pub async fn save_server_identity(&self, server: &str) -> Result<(), StateError> {
        let done = sqlx::query("UPDATE sync SET state_server = $3 WHERE id = $1 AND lease_epoch = $2")
            .bind(self.sync_id())
            .bind(self.epoch())
            .bind(server)
            .execute(self.pool())
            .await?;
        Self::expect_one(done.rows_affected())
    }
}
/// In another app, this sync has overwritten nothing. What it has overwritten in this app is sent again by the others.
async fn forget_overwritten_values(connection: &mut PgConnection, sync_id: i32) -> Result<(), StateError> {
    sqlx::query("DELETE FROM overwritten_value WHERE sync_id = $1").bind(sync_id).execute(&mut *connection).await?;
    sqlx::query("UPDATE overwritten_value SET released = true").execute(connection).await?;
    Ok(())
}
