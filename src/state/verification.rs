//! What a verification needs of the state besides the values, and where its result is stored.
//!
//! Owns: the column `verification` of `sync`, the lock that lets one verification of an app run at a time. Must not know: how
//! accounts are verified.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::model::Account;

/// While it lives, no other verification of the app runs that uses the same state database. The lock ends with its session.
#[derive(Debug)]
pub struct VerificationLock {
    _session: PgConnection,
}

impl State {
    /// Accounts that a call carries now, or that are to be looked at when one has ended.
    pub async fn accounts_under_way(&self, sync_id: i32, accounts: &[Account]) -> Result<HashSet<Account>, StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT carried FROM intent, unnest(accounts) AS carried WHERE sync_id = $1 AND carried = ANY ($2) \
             UNION SELECT account FROM deferred_account WHERE sync_id = $1 AND account = ANY ($2)",
        )
        .bind(sync_id)
        .bind(texts)
        .fetch_all(self.pool())
        .await?;
        Ok(found.into_iter().map(Account::new).collect())
    }

    /// When the newest outcome of each of these accounts was recorded.
    pub async fn recorded_at(
        &self,
        sync_id: i32,
        accounts: &[Account],
    ) -> Result<HashMap<Account, DateTime<Utc>>, StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        let found: Vec<(String, DateTime<Utc>)> =
            sqlx::query_as("SELECT account, acknowledged_at FROM account WHERE sync_id = $1 AND account = ANY ($2)")
                .bind(sync_id)
                .bind(texts)
                .fetch_all(self.pool())
                .await?;
        Ok(found.into_iter().map(|(account, at)| (Account::new(account), at)).collect())
    }

    /// Those of these accounts that are rejected with this code as a whole.
    pub async fn rejected_with(
        &self,
        sync_id: i32,
        accounts: &[&str],
        code: i64,
    ) -> Result<HashSet<Account>, StateError> {
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT account FROM rejection WHERE sync_id = $1 AND account = ANY ($2) AND attribute = '' AND code = $3",
        )
        .bind(sync_id)
        .bind(accounts)
        .bind(code)
        .fetch_all(self.pool())
        .await?;
        Ok(found.into_iter().map(Account::new).collect())
    }

    /// Takes the lock; `None` when another verification of the app runs. Each of them may use the whole rate of the command
    /// that reads, so two at once would exceed it.
    pub async fn lock_verification(&self, sdk_app_id: u32) -> Result<Option<VerificationLock>, StateError> {
        let take = async {
            let mut session = self.dedicated_connection().await?;
            let taken: bool =
                sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('imsync verification ' || $1, 0))")
                    .bind(sdk_app_id.to_string())
                    .fetch_one(&mut session)
                    .await?;
            Ok::<_, StateError>(taken.then_some(VerificationLock { _session: session }))
        };
        self.pool().while_running(take).await
    }
}

impl StateWriter {
    /// Stores what a verification found, with the time of the server.
    pub async fn save_verification(&self, found: &Value) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET verification = $3::text::jsonb || jsonb_build_object('ended_at', clock_timestamp()) \
             WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(found.to_string())
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }
}
