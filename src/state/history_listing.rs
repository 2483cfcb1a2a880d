//! Reading the history, page by page, the oldest row first.
//!
//! Owns: the statements of the listing, and from which row on it lists. Must not know: how a row is shown.
//!
//! Each statement reads one range of one index, however long the history is. No transaction stays open between two pages: the
//! reader may take its time.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::database::State;
use super::error::StateError;
use crate::model::Account;

/// A row of the history. Its keys are those of the JSON object.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct HistoryRow {
    /// When the outcome was recorded.
    pub at: DateTime<Utc>,
    /// The IM account.
    pub account: String,
    /// The attribute.
    pub attribute: String,
    /// The value that IM had acknowledged before; `None` for none, and when the outcome of an earlier call was unknown.
    pub old: Option<String>,
    /// The value that was set; `None` for a removal.
    pub new: Option<String>,
    /// The kind of the pass.
    pub pass: String,
    /// `acknowledged`, `rejected` or `in_doubt`.
    pub outcome: String,
    /// When the pass started.
    pub pass_started_at: DateTime<Utc>,
}

/// What IM acknowledged last for an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAcknowledged {
    /// The value that was set; `None` for a removal.
    pub value: Option<String>,
    /// When the outcome was recorded.
    pub at: DateTime<Utc>,
}

/// Which rows are listed.
#[derive(Clone, Debug)]
pub struct HistoryRange {
    /// `sync.id`.
    pub sync_id: i32,
    /// Only those of these accounts; empty means all.
    pub accounts: Vec<Account>,
    /// None that is older.
    pub since: DateTime<Utc>,
    /// None that is newer. Otherwise the listing of a busy sync would not end.
    pub until: DateTime<Utc>,
}

/// The place of a row in a listing. No two rows have the same: two calls with one account are never in flight together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPlace {
    at: DateTime<Utc>,
    account: String,
    attribute: String,
}

impl HistoryRange {
    /// The place before the first row.
    pub fn begin(&self) -> HistoryPlace {
        HistoryPlace { at: self.since, account: String::new(), attribute: String::new() }
    }
}

impl HistoryRow {
    /// Its place.
    pub fn place(&self) -> HistoryPlace {
        HistoryPlace { at: self.at, account: self.account.clone(), attribute: self.attribute.clone() }
    }
}

/// The next `$6` rows after the place `$3`, `$4`, `$5`, up to the time `$2`. A comparison of all three columns at once would
/// offer the planner the index of accounts, of which it would read every entry of the sync.
pub(super) const PAGE: &str = "\
    SELECT at, account, attribute, old_value, new_value, pass_kind, outcome, pass_started_at FROM history \
    WHERE sync_id = $1 AND at <= $2 AND at >= $3 AND (at > $3 OR (account, attribute) > ($4, $5)) \
    ORDER BY at, account, attribute LIMIT $6";

/// [`PAGE`] of the accounts `$7`. Each account is read alone, so that the rows of all others are not touched.
pub(super) const PAGE_OF_ACCOUNTS: &str = "\
    SELECT h.* FROM unnest($7::text[]) AS asked (id) CROSS JOIN LATERAL \
    (SELECT at, account, attribute, old_value, new_value, pass_kind, outcome, pass_started_at FROM history \
     WHERE sync_id = $1 AND account = asked.id AND at <= $2 AND at >= $3 \
     AND (at > $3 OR (account, attribute) > ($4, $5)) \
     ORDER BY at, account, attribute LIMIT $6) AS h ORDER BY at, account, attribute LIMIT $6";

/// The row before the newest `$4` rows between the times `$3` and `$2`.
pub(super) const BEFORE_NEWEST: &str = "\
    SELECT at, account, attribute FROM history WHERE sync_id = $1 AND at <= $2 AND at >= $3 \
    ORDER BY at DESC, account DESC, attribute DESC OFFSET $4 LIMIT 1";

/// [`BEFORE_NEWEST`] of the accounts `$5`.
pub(super) const BEFORE_NEWEST_OF_ACCOUNTS: &str = "\
    SELECT h.* FROM unnest($5::text[]) AS asked (id) CROSS JOIN LATERAL \
    (SELECT at, account, attribute FROM history WHERE sync_id = $1 AND account = asked.id AND at <= $2 AND at >= $3 \
     ORDER BY at DESC, account DESC, attribute DESC LIMIT $4 + 1) AS h \
    ORDER BY at DESC, account DESC, attribute DESC OFFSET $4 LIMIT 1";

impl State {
    /// The clock of the server, and the time so long before it.
    pub async fn clock_and_time_before(&self, ago: Duration) -> Result<(DateTime<Utc>, DateTime<Utc>), StateError> {
        let times = "SELECT statement_timestamp(), statement_timestamp() - make_interval(secs => $1)";
        Ok(sqlx::query_as(times).bind(ago.as_secs_f64()).fetch_one(self.pool()).await?)
    }

    /// The place of the row before the newest `count` ones; `None` if there are no others.
    pub async fn history_before_newest(
        &self,
        range: &HistoryRange,
        count: u64,
    ) -> Result<Option<HistoryPlace>, StateError> {
        let HistoryRange { sync_id, accounts, since, until } = range;
        let count = i64::try_from(count).unwrap_or(i64::MAX - 1);
        let statement = if accounts.is_empty() { BEFORE_NEWEST } else { BEFORE_NEWEST_OF_ACCOUNTS };
        let mut query = sqlx::query_as(statement).bind(sync_id).bind(until).bind(since).bind(count);
        if !accounts.is_empty() {
            query = query.bind(texts(accounts));
        }
        let found: Option<(DateTime<Utc>, String, String)> = query.fetch_optional(self.pool()).await?;
        Ok(found.map(|(at, account, attribute)| HistoryPlace { at, account, attribute }))
    }

    /// The next `limit` rows after this place.
    pub async fn history_page(
        &self,
        range: &HistoryRange,
        after: &HistoryPlace,
        limit: i64,
    ) -> Result<Vec<HistoryRow>, StateError> {
        let HistoryRange { sync_id, accounts, since: _, until } = range;
        let HistoryPlace { at, account, attribute } = after;
        let statement = if accounts.is_empty() { PAGE } else { PAGE_OF_ACCOUNTS };
        let mut query =
            sqlx::query(statement).bind(sync_id).bind(until).bind(at).bind(account).bind(attribute).bind(limit);
        if !accounts.is_empty() {
            query = query.bind(texts(accounts));
        }
        query.fetch_all(self.pool()).await?.iter().map(listed).collect()
    }

    /// What IM acknowledged last for each attribute of an account, by attribute name, as far as the history goes back.
    pub async fn last_acknowledged(
        &self,
        sync_id: i32,
        account: &Account,
    ) -> Result<HashMap<String, LastAcknowledged>, StateError> {
        let rows: Vec<(String, Option<String>, DateTime<Utc>)> = sqlx::query_as(
            "SELECT DISTINCT ON (attribute) attribute, new_value, at FROM history \
             WHERE sync_id = $1 AND account = $2 AND outcome = 'acknowledged' ORDER BY attribute, at DESC",
        )
        .bind(sync_id)
        .bind(account.as_str())
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(attribute, value, at)| (attribute, LastAcknowledged { value, at })).collect())
    }
}

fn texts(accounts: &[Account]) -> Vec<&str> {
    accounts.iter().map(Account::as_str).collect()
}

fn listed(row: &PgRow) -> Result<HistoryRow, StateError> {
    Ok(HistoryRow {
        at: row.try_get(0)?,
        account: row.try_get(1)?,
        attribute: row.try_get(2)?,
        old: row.try_get(3)?,
        new: row.try_get(4)?,
        pass: row.try_get(5)?,
        outcome: row.try_get(6)?,
        pass_started_at: row.try_get(7)?,
    })
}
