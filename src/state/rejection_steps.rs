//! Statements over all rejections of a sync, in bounded steps: making them due, and deleting them.
//!
//! Owns: how far a step goes, and where the next one begins. Must not know: why all rejections are concerned.
//!
//! A step takes the rejections of the next accounts in their order. One statement over ten million rejections would exceed
//! every time limit, and a step that is killed is repeated.

use std::time::Duration;

use sqlx::PgConnection;

use super::database::State;
use super::error::StateError;
use super::writer::StateWriter;
use crate::clock;
use crate::crash;
use crate::model::Account;

/// Rejections of one step. It takes about a tenth of a second.
const STEP_ROWS: i64 = 5_000;

/// Makes the rejections of a step due: those of sync `$1` with accounts after `$2`, up to `$3`.
const MAKE_DUE: &str = "UPDATE rejection SET next_at = clock_timestamp() \
                        WHERE sync_id = $1 AND account > $2 AND account <= $3 AND next_at > clock_timestamp()";

/// Deletes the rejections of a step, with the same parameters.
const DELETE: &str = "DELETE FROM rejection WHERE sync_id = $1 AND account > $2 AND account <= $3";

/// The accounts of a step: those after the end of the last step, up to `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RejectionStep {
    end: String,
    accounts: i64,
}

impl State {
    /// Makes the retry of the rejections of these accounts due. Returns the number of accounts.
    ///
    /// It needs no lease. A running daemon retries them in its next pass.
    pub async fn retry_rejections_of(&self, sync_id: i32, accounts: &[Account]) -> Result<u64, StateError> {
        let texts: Vec<&str> = accounts.iter().map(Account::as_str).collect();
        sqlx::query("UPDATE rejection SET next_at = clock_timestamp() WHERE sync_id = $1 AND account = ANY ($2)")
            .bind(sync_id)
            .bind(&texts)
            .execute(self.pool())
            .await?;
        self.count_rejected_of(sync_id, accounts).await
    }

    /// Makes the retry of the next rejections after this account due; `None` at the end. Otherwise returns the last account
    /// of the step, and the number of its accounts.
    ///
    /// It needs no lease.
    pub async fn retry_next_rejections(&self, sync_id: i32, after: &str) -> Result<Option<(String, u64)>, StateError> {
        let mut connection = self.pool().acquire().await?;
        let step = apply_step(&mut connection, sync_id, after, MAKE_DUE).await?;
        Ok(step.map(|step| (step.end, u64::try_from(step.accounts).unwrap_or(0))))
    }
}

impl StateWriter {
    /// Begins to make the retry of every rejection due, because the mapping changed. What is under way already goes on.
    pub async fn begin_retry_of_all_rejections(&self) -> Result<(), StateError> {
        self.save_retry_position(Some("")).await
    }

    /// Goes on with it from where the last step ended, for about this time. Returns where it stands; `None` when it is done.
    pub async fn go_on_retrying_all_rejections(
        &self,
        mut after: String,
        time: Duration,
    ) -> Result<Option<String>, StateError> {
        let began = clock::monotonic();
        loop {
            let mut transaction = self.begin().await?;
            let step = apply_step(&mut transaction, self.sync_id(), &after, MAKE_DUE).await?;
            transaction.commit().await?;
            crash::point("rejections: a step is due");
            // In a statement of its own: a transaction that has locked rejections must not wait for the row of the sync. A
            // step that is repeated changes nothing.
            let position = step.map(|step| step.end);
            self.save_retry_position(position.as_deref()).await?;
            match position {
                Some(end) if began.elapsed() < time => after = end,
                position => return Ok(position),
            }
        }
    }

    /// An empty position begins at the first account, unless steps are under way.
    async fn save_retry_position(&self, position: Option<&str>) -> Result<(), StateError> {
        let done = sqlx::query(
            "UPDATE sync SET retry_rejections_after = CASE WHEN $3 = '' THEN coalesce(retry_rejections_after, $3) ELSE $3 END \
             WHERE id = $1 AND lease_epoch = $2",
        )
        .bind(self.sync_id())
        .bind(self.epoch())
        .bind(position)
        .execute(self.pool())
        .await?;
        Self::expect_one(done.rows_affected())
    }

    /// Deletes all rejections of an earlier generation that are left. `between` is called between two steps and ends this
    /// with its error.
    pub async fn finish_deleting_rejections<E: From<StateError>>(
        &self,
        mut between: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = String::new();
        loop {
            between()?;
            let mut transaction = self.begin().await?;
            let step = apply_step(&mut transaction, self.sync_id(), &after, DELETE).await?;
            transaction.commit().await.map_err(StateError::from)?;
            match step {
                Some(step) => after = step.end,
                None => break,
            }
        }
        let done = sqlx::query("UPDATE sync SET delete_rejections = false WHERE id = $1 AND lease_epoch = $2")
            .bind(self.sync_id())
            .bind(self.epoch())
            .execute(self.pool())
            .await
            .map_err(StateError::from)?;
        Self::expect_one(done.rows_affected())?;
        Ok(())
    }
}

/// Deletes rejections of a sync within the transaction that begins a new generation: another app, or an older state of the
/// tables, may have had other reasons to reject a value. Returns whether some are left for further steps.
pub(super) async fn delete_first_rejections(connection: &mut PgConnection, sync_id: i32) -> Result<bool, StateError> {
    match apply_step(connection, sync_id, "", DELETE).await? {
        Some(step) => Ok(next_step(connection, sync_id, &step.end).await?.is_some()),
        None => Ok(false),
    }
}

/// All rejections of an account belong to one step.
async fn next_step(
    connection: &mut PgConnection,
    sync_id: i32,
    after: &str,
) -> Result<Option<RejectionStep>, StateError> {
    let (end, accounts): (Option<String>, i64) = sqlx::query_as(
        "SELECT max(account), count(DISTINCT account) FROM \
         (SELECT account FROM rejection WHERE sync_id = $1 AND account > $2 ORDER BY account LIMIT $3) AS step",
    )
    .bind(sync_id)
    .bind(after)
    .bind(STEP_ROWS)
    .fetch_one(connection)
    .await?;
    Ok(end.map(|end| RejectionStep { end, accounts }))
}

/// Applies a statement to the rejections of the next accounts. `None` at the end.
async fn apply_step(
    connection: &mut PgConnection,
    sync_id: i32,
    after: &str,
    statement: &'static str,
) -> Result<Option<RejectionStep>, StateError> {
    let Some(step) = next_step(&mut *connection, sync_id, after).await? else { return Ok(None) };
    sqlx::query(statement).bind(sync_id).bind(after).bind(&step.end).execute(connection).await?;
    Ok(Some(step))
}
