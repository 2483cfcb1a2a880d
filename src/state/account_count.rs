//! The numbers of accounts of a sync, kept instead of counted: a count over ten million rows takes seconds.
//!
//! Owns: reading the table `account_count`. Must not know: which statements change a number.
//!
//! Triggers of the migration keep the numbers, in the transaction that changes rows of `account`, `rejection` or
//! `owed_removal`. So they are right whoever writes: also the previous release beside an upgrade, or a restored backup.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::database::State;
use super::error::StateError;

/// Numbers of accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountCounts {
    /// With an acknowledged value.
    pub known: u64,
    /// With a value in doubt.
    pub in_doubt: u64,
    /// With a rejection.
    pub rejected: u64,
    /// With an owed removal.
    pub owed_removals: u64,
}

impl AccountCounts {
    /// Of a row that begins with the four numbers, in the order of the fields.
    pub(super) fn of_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let count = |index: usize| -> Result<u64, sqlx::Error> {
            Ok(u64::try_from(row.try_get::<i64, _>(index)?).unwrap_or(0))
        };
        Ok(Self { known: count(0)?, in_doubt: count(1)?, rejected: count(2)?, owed_removals: count(3)? })
    }
}

impl State {
    /// The numbers of this sync.
    pub async fn account_counts(&self, sync_id: i32) -> Result<AccountCounts, StateError> {
        let row = sqlx::query("SELECT known, in_doubt, rejected, owed_removals FROM account_count WHERE sync_id = $1")
            .bind(sync_id)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.as_ref().map(AccountCounts::of_row).transpose()?.unwrap_or_default())
    }
}
