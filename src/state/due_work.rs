//! What the state holds for a pass to do, apart from the rows that it reads: one statement at its beginning.
//!
//! Owns: that statement. Must not know: how any of this work is done.
//!
//! Each question has an index, so the statement takes the same time however many accounts there are. A pass that finds
//! nothing needs no other statement.

use sqlx::Row as _;

use super::account_count::AccountCounts;
use super::error::StateError;
use super::writer::StateWriter;

/// What was to be done when a pass began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DueWork {
    /// The numbers of accounts.
    pub counts: AccountCounts,
    /// Intents are left over.
    pub abandoned_intents: bool,
    /// Another sync has given up values that it had set over those of this one.
    pub released_values: bool,
    /// The retry of an account in doubt is due.
    pub in_doubt_due: bool,
    /// A value is unknown and a retry is scheduled; see [`super::State::in_doubt_pending`].
    pub in_doubt_pending: bool,
    /// The retry of a rejection is due.
    pub rejections_due: bool,
}

impl DueWork {
    /// Values have become unknown since the question, or become so because of it.
    pub fn has_unknown_outcomes(&self) -> bool {
        self.abandoned_intents || self.released_values || self.in_doubt_due
    }
}

impl StateWriter {
    /// What is to be done now. `live`: the intents whose outcomes this process is still going to record.
    pub async fn due_work(&self, live: &[i64]) -> Result<DueWork, StateError> {
        // `statement_timestamp()` is stable, so it ends the scan of an index.
        let row = sqlx::query(
            "SELECT coalesce(known, 0), coalesce(in_doubt, 0), coalesce(rejected, 0), coalesce(owed_removals, 0), \
             EXISTS (SELECT FROM intent WHERE sync_id = $1 AND id <> ALL ($2)), \
             EXISTS (SELECT FROM overwritten_value WHERE sync_id = $1 AND released), \
             EXISTS (SELECT FROM account WHERE sync_id = $1 AND in_doubt_retry_at <= statement_timestamp()), \
             CASE WHEN in_doubt > 0 THEN EXISTS (SELECT FROM account WHERE sync_id = $1 \
               AND in_doubt_retry_at < 'infinity' AND acknowledged::jsonb @> '0') ELSE false END, \
             EXISTS (SELECT FROM rejection WHERE sync_id = $1 AND next_at <= statement_timestamp()) \
             FROM (SELECT $1::int AS sync_id) AS asked LEFT JOIN account_count USING (sync_id)",
        )
        .bind(self.sync_id())
        .bind(live)
        .fetch_one(self.pool())
        .await?;
        Ok(DueWork {
            counts: AccountCounts::of_row(&row)?,
            abandoned_intents: row.try_get(4)?,
            released_values: row.try_get(5)?,
            in_doubt_due: row.try_get(6)?,
            in_doubt_pending: row.try_get(7)?,
            rejections_due: row.try_get(8)?,
        })
    }
}
