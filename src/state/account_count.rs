//! The numbers of accounts of a sync, kept instead of counted: a count over ten million rows takes seconds.
//!
//! Owns: the table `account_count`. Must not know: which statements change a number.
//!
//! The transaction that changes rows of `account`, `rejection` or `owed_removal` also changes the numbers. It does so last,
//! so that the row of the numbers is locked for the commit alone and no two transactions wait for each other.

use sqlx::{PgConnection, Row as _};

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;

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

/// By how much a transaction changes the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CountChanges {
    pub(super) known: i64,
    pub(super) in_doubt: i64,
    pub(super) rejected: i64,
    pub(super) owed_removals: i64,
}

impl std::ops::AddAssign for CountChanges {
    fn add_assign(&mut self, other: Self) {
        let Self { known, in_doubt, rejected, owed_removals } = other;
        self.known += known;
        self.in_doubt += in_doubt;
        self.rejected += rejected;
        self.owed_removals += owed_removals;
    }
}

impl CountChanges {
    /// Writes the changes, as the last statement of a transaction.
    pub(super) async fn write(self, connection: &mut PgConnection, sync_id: i32) -> Result<(), StateError> {
        if self == Self::default() {
            return Ok(());
        }
        let Self { known, in_doubt, rejected, owed_removals } = self;
        let done = sqlx::query(
            "UPDATE account_count SET known = known + $2, in_doubt = in_doubt + $3, rejected = rejected + $4, \
             owed_removals = owed_removals + $5 WHERE sync_id = $1",
        )
        .bind(sync_id)
        .bind(known)
        .bind(in_doubt)
        .bind(rejected)
        .bind(owed_removals)
        .execute(connection)
        .await?;
        if done.rows_affected() == 1 {
            return Ok(());
        }
        Err(StateError::Refused("account_count has no row of this sync: another program has changed it".to_owned()))
    }
}

impl State {
    /// The numbers of this sync.
    pub async fn account_counts(&self, sync_id: i32) -> Result<AccountCounts, StateError> {
        let row = sqlx::query("SELECT known, in_doubt, rejected, owed_removals FROM account_count WHERE sync_id = $1")
            .bind(sync_id)
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else { return Ok(AccountCounts::default()) };
        let count = |index: usize| -> Result<u64, sqlx::Error> {
            Ok(u64::try_from(row.try_get::<i64, _>(index)?).unwrap_or(0))
        };
        Ok(AccountCounts { known: count(0)?, in_doubt: count(1)?, rejected: count(2)?, owed_removals: count(3)? })
    }
}

impl StateWriter {
    /// Counts everything once more if a release that does not keep the numbers has written since. Returns whether it did.
    ///
    /// The holder of the lease calls it before it writes anything. It takes seconds for ten million accounts.
    pub async fn repair_account_counts(&self) -> Result<bool, StateError> {
        let mut transaction = self.begin().await?;
        let kept: Option<bool> =
            sqlx::query_scalar("SELECT lease_epoch IS NOT DISTINCT FROM $2 FROM account_count WHERE sync_id = $1")
                .bind(self.sync_id())
                .bind(self.epoch())
                .fetch_optional(&mut *transaction)
                .await?;
        if kept == Some(true) {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO account_count (sync_id, known, in_doubt, rejected, owed_removals, lease_epoch) SELECT $1, \
             (SELECT count(*) FROM account WHERE sync_id = $1) - doubtful.without_value, doubtful.number, \
             (SELECT count(DISTINCT account) FROM rejection WHERE sync_id = $1), \
             (SELECT count(*) FROM owed_removal WHERE sync_id = $1), $2 \
             FROM (SELECT count(*) AS number, count(*) FILTER (WHERE acknowledged::text NOT LIKE '%\"%') AS without_value \
                 FROM account WHERE sync_id = $1 AND in_doubt_retry_at IS NOT NULL) AS doubtful \
             ON CONFLICT (sync_id) DO UPDATE SET known = excluded.known, in_doubt = excluded.in_doubt, \
             rejected = excluded.rejected, owed_removals = excluded.owed_removals, lease_epoch = excluded.lease_epoch",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// The holder of the lease before this epoch kept the numbers, and the new one will. To be called when the epoch is
/// incremented, in the same transaction.
pub(super) async fn continue_counts(connection: &mut PgConnection, sync_id: i32, epoch: i64) -> Result<(), StateError> {
    sqlx::query("UPDATE account_count SET lease_epoch = $2 WHERE sync_id = $1 AND lease_epoch = $2 - 1")
        .bind(sync_id)
        .bind(epoch)
        .execute(connection)
        .await?;
    Ok(())
}
