//! Owed removals: accounts of which an attribute is to be removed, until the removal is recorded.
//!
//! Owns: the table `owed_removal`. Must not know: which share of the accounts trips the removal guard.
//!
//! A row is stored before the position of a full pass or the watermark may move past the row of the source that it comes
//! from. So the removal guard counts the whole table, whichever part of it a pass has read.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::crash;
use crate::model::Account;

/// Why a removal is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// The account left the table.
    Gone,
    /// A column became NULL, or its value is to be removed.
    Emptied,
    /// The mapping no longer names an attribute.
    Unmapped,
    /// Nothing is acknowledged for an attribute, and `--force` removes it in case IM holds a value.
    Forced,
}

impl RemovalReason {
    fn label(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Emptied => "emptied",
            Self::Unmapped => "unmapped",
            Self::Forced => "forced",
        }
    }

    /// The column has a check constraint with these labels.
    fn from_label(label: &str) -> Self {
        match label {
            "gone" => Self::Gone,
            "unmapped" => Self::Unmapped,
            "forced" => Self::Forced,
            _ => Self::Emptied,
        }
    }
}

impl State {
    /// The owed removals of these accounts.
    pub async fn owed_removals_of(
        &self,
        sync_id: i32,
        accounts: impl Iterator<Item = &Account>,
    ) -> Result<HashMap<Account, RemovalReason>, StateError> {
        let texts: Vec<&str> = accounts.map(Account::as_str).collect();
        let rows = sqlx::query("SELECT account, why FROM owed_removal WHERE sync_id = $1 AND account = ANY ($2)")
            .bind(sync_id)
            .bind(&texts)
            .fetch_all(self.pool())
            .await?;
        rows.iter()
            .map(|row| Ok((Account::new(row.try_get::<&str, _>(0)?), RemovalReason::from_label(row.try_get(1)?))))
            .collect()
    }

    /// The next `limit` accounts after this one that owe a removal, in ascending order.
    pub async fn owed_removals_after(
        &self,
        sync_id: i32,
        after: Option<&Account>,
        limit: i64,
    ) -> Result<Vec<Account>, StateError> {
        let accounts: Vec<String> = sqlx::query_scalar(
            "SELECT account FROM owed_removal WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3",
        )
        .bind(sync_id)
        .bind(after.map(Account::as_str).unwrap_or_default())
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(accounts.into_iter().map(Account::new).collect())
    }
}

impl StateWriter {
    /// Stores what a comparison found: removals that are owed from now on (or for another reason), and accounts of which
    /// none is owed any more.
    pub async fn update_owed_removals(
        &self,
        owed: &[(Account, RemovalReason)],
        ended: &[Account],
    ) -> Result<(), StateError> {
        let accounts: Vec<&str> = owed.iter().map(|(account, _)| account.as_str()).collect();
        let reasons: Vec<&str> = owed.iter().map(|(_, reason)| reason.label()).collect();
        let mut transaction = self.begin().await?;
        if !owed.is_empty() {
            sqlx::query(
                "INSERT INTO owed_removal (sync_id, account, since, why) \
                 SELECT $1, n.account, clock_timestamp(), n.why FROM unnest($2::text[], $3::text[]) AS n (account, why) \
                 ON CONFLICT (sync_id, account) DO UPDATE SET why = excluded.why",
            )
            .bind(self.sync_id())
            .bind(&accounts)
            .bind(&reasons)
            .execute(&mut *transaction)
            .await?;
        }
        delete_owed_removals(&mut transaction, self.sync_id(), ended).await?;
        crash::point("removals: owed, not committed");
        transaction.commit().await?;
        crash::point("removals: owed");
        Ok(())
    }
}

/// Deletes the owed removals of these accounts within a transaction.
pub(super) async fn delete_owed_removals(
    connection: &mut PgConnection,
    sync_id: i32,
    accounts: &[Account],
) -> Result<(), StateError> {
    if accounts.is_empty() {
        return Ok(());
    }
    let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
    sqlx::query("DELETE FROM owed_removal WHERE sync_id = $1 AND account = ANY ($2)")
        .bind(sync_id)
        .bind(&texts)
        .execute(connection)
        .await?;
    Ok(())
}
