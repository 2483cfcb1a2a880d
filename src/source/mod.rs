//! The customer's Postgres table: introspection, keyset pages, look-ups, the transaction list.
//!
//! Owns: every statement that touches the source database. Must not know: IM, the state tables, the mapping's rules.
//!
//! `session` opens the connection, `table` finds the relation, `fitness` judges it, `statements` writes the SQL; this
//! file reads pages with it. `transaction_list` and [`watermark`] see to it that no committed row is missed.

use std::time::Duration;

use chrono::DateTime;
use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef};

use crate::config;
use crate::model::{Account, Row};

mod account;
mod error;
mod fitness;
mod session;
mod statements;
mod table;
#[cfg(test)]
mod tests;
mod transaction_list;
pub mod watermark;

pub use error::SourceError;
pub use watermark::{TransactionList, WatermarkBound, WatermarkKind};

use account::text_of;
use fitness::Found;
use session::SourceSession;
use statements::{Shape, Statements};
use table::{Table, WatermarkType};

/// Less than this is never subtracted from a time: between taking `now()` and publishing its transaction a session may
/// be descheduled, and no list shows it then.
const LEAST_SLACK: Duration = Duration::from_secs(1);

/// Where an incremental read goes on: the last row of the page before, both as text. Made by [`Page::cursor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// `None` without a watermark column: the scan then goes by the account alone.
    pub watermark: Option<String>,
    /// `None` where the last row has no account: those come last among the rows of one watermark.
    pub account: Option<String>,
}

/// A page of rows, in order, of one snapshot.
#[derive(Debug)]
pub struct Page {
    /// At most `page_size` and one rows.
    pub rows: Vec<Row>,
    /// The scan has reached its end.
    pub last: bool,
}

impl Page {
    /// Where the next page of the same scan begins; `None` for a page without rows.
    pub fn cursor(&self) -> Option<Cursor> {
        let row = self.rows.last()?;
        let text = |value: &Option<Box<str>>| value.as_deref().map(str::to_owned);
        Some(Cursor { watermark: text(&row.watermark), account: text(&row.account) })
    }
}

/// One open connection to the source with the table's description. All statements go through it one after the other,
/// so that none of our own sessions appears in a transaction list.
///
/// After [`SourceError::Unreachable`] it stays unusable: connect anew. After any other error too, since the table may have
/// changed under its description.
#[derive(Debug)]
pub struct Source {
    session: SourceSession,
    config: config::Source,
    table: Table,
    resolved: String,
    account_type: account::AccountType,
    /// Rows may lack an account.
    nullable: bool,
    unique: bool,
    watermark: Option<WatermarkType>,
    columns: usize,
    statements: Statements,
    limit: u64,
    warnings: Vec<String>,
}

impl Source {
    /// Connects, sets the session (`DateStyle` and its like, timeouts, `application_name`), introspects, and checks
    /// what a pass needs. `columns` are the mapped columns (see `Mapping::columns`), in their order.
    pub async fn connect(config: &config::Config, columns: &[String]) -> Result<Self, SourceError> {
        let mut session = SourceSession::open(&config.source.url, &config.name).await?;
        let source = config.source.clone();
        let table = Table::find(&mut session, &source.table).await?;
        let found: Found<'_> = fitness::columns(&table, config, columns)?;
        if found.watermark.is_some() {
            fitness::watermark_moves(&mut session, &table).await?;
        }
        let unique = table.is_unique(&mut session, found.account.0).await?;
        // Where an account may be there twice, one row more tells whether the last account of a page goes on.
        let limit = u64::from(source.page_size.max(1)) + u64::from(!unique);
        let shape = Shape {
            schema: &table.schema,
            table: &table.name,
            account: (&found.account.0.name, found.account.1),
            watermark: found.watermark.map(|(column, kind)| (column.name.as_str(), kind)),
            timezone: &source.watermark_timezone,
            deleted: found.deleted,
            filter: source.filter.as_deref(),
            columns,
            limit,
        };
        fitness::expressions(&mut session, &shape).await?;
        let statements = shape.statements();
        let warnings = fitness::warnings(&mut session, &table, &found, columns, &statements, unique).await?;
        Ok(Self {
            resolved: table.shown(),
            account_type: found.account.1,
            nullable: !found.account.0.not_null,
            watermark: found.watermark.map(|(_, kind)| kind),
            session,
            config: source,
            unique,
            columns: columns.len(),
            statements,
            limit,
            warnings,
            table,
        })
    }

    /// `schema.table`, quoted where needed, as resolved: the state is bound to it.
    pub fn resolved_table(&self) -> &str {
        &self.resolved
    }

    /// The watermark column serves incremental passes (it is configured).
    pub fn has_watermark(&self) -> bool {
        self.watermark.is_some()
    }

    /// The watermark column is a bigint: a counter, not a time.
    pub fn watermark_is_counter(&self) -> bool {
        self.watermark == Some(WatermarkType::Int8)
    }

    /// A unique index makes sure that no account is there twice. Without one, and in a view, another row of an account
    /// may lie outside the page that shows the first.
    pub fn account_is_unique(&self) -> bool {
        self.unique
    }

    /// Things worth a warning at start: replica, no index, future stamps…
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Rough number of rows from the planner's statistics, for progress bars; `None` when never analysed, and for views.
    pub async fn estimated_rows(&mut self) -> Result<Option<u64>, SourceError> {
        self.table.estimated_rows(&mut self.session).await
    }

    /// Clock (or counter), running and prepared transactions, by separate statements in autocommit and in that order.
    pub async fn transactions(&mut self) -> Result<TransactionList, SourceError> {
        transaction_list::take(&mut self.session, self.statements.largest.as_ref()).await
    }

    /// The next page in the order (watermark, account) from `from` on (slack subtracted here), after `after`.
    ///
    /// Without a watermark column the whole table in the order of the account; `from` means nothing then. Rows whose
    /// watermark is NULL are not among them. A row without account may be left out where a page ends: it is no row of IM's.
    pub async fn changed_since(&mut self, from: WatermarkBound, after: Option<&Cursor>) -> Result<Page, SourceError> {
        let (Some(kind), Some(first), Some(next), Some(beyond)) = (
            self.watermark,
            &self.statements.changed_from,
            &self.statements.changed_after,
            &self.statements.changed_beyond,
        ) else {
            return self.all_after(after.and_then(|cursor| cursor.account.as_deref())).await;
        };
        let query = match after {
            None => sqlx::query(first.clone()).bind(self.bound_text(kind, from)),
            Some(Cursor { watermark, account: Some(account) }) => {
                sqlx::query(next.clone()).bind(watermark.clone()).bind(account.clone())
            }
            Some(Cursor { watermark, account: None }) => sqlx::query(beyond.clone()).bind(watermark.clone()),
        };
        let rows = self.session.rows(query).await?;
        self.page(&rows, |one, other| one.watermark == other.watermark && one.account == other.account)
    }

    /// The next page in the order of the account column, after the row whose account column has this text. Rows without
    /// an account come with the last page, a page of them at most.
    pub async fn all_after(&mut self, after: Option<&str>) -> Result<Page, SourceError> {
        let query = match after {
            None => sqlx::query(self.statements.all.clone()),
            Some(account) => sqlx::query(self.statements.all_after.clone()).bind(account.to_owned()),
        };
        let rows = self.session.rows(query).await?;
        let mut page = self.page(&rows, |one, other| one.account == other.account)?;
        if page.last && self.nullable {
            let rows = self.session.rows(sqlx::query(self.statements.without_account.clone())).await?;
            page.rows.extend(self.decode(&rows)?);
        }
        Ok(page)
    }

    /// The rows of these IM accounts. Accounts without a row, also those that cannot be a value of the column, are simply not among them.
    pub async fn rows_of(&mut self, accounts: &[Account]) -> Result<Vec<Row>, SourceError> {
        let texts: Vec<String> =
            accounts.iter().filter_map(|account| text_of(&self.config, self.account_type, account)).collect();
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.session.rows(sqlx::query(self.statements.of_accounts.clone()).bind(texts)).await?;
        self.decode(&rows)
    }

    /// A bound as the server reads it, slack subtracted from a time.
    fn bound_text(&self, kind: WatermarkType, bound: WatermarkBound) -> String {
        if kind == WatermarkType::Int8 {
            return match bound {
                WatermarkBound::Beginning => i64::MIN.to_string(),
                WatermarkBound::At(value) => value.to_string(),
            };
        }
        let slack = self.config.watermark_grace.max(LEAST_SLACK);
        match bound.less(i64::try_from(slack.as_micros()).unwrap_or(i64::MAX)) {
            WatermarkBound::Beginning => "-infinity".to_owned(),
            WatermarkBound::At(micros) => time_text(micros),
        }
    }

    fn page(&self, rows: &[PgRow], same_key: fn(&Row, &Row) -> bool) -> Result<Page, SourceError> {
        let mut rows = self.decode(rows)?;
        let last = (rows.len() as u64) < self.limit;
        if !last && !self.unique {
            drop_unfinished(&mut rows, same_key);
        }
        Ok(Page { rows, last })
    }

    fn decode(&self, rows: &[PgRow]) -> Result<Vec<Row>, SourceError> {
        let row = |row: &PgRow| {
            let mut values = Vec::with_capacity(self.columns);
            for place in 0..self.columns {
                values.push(text(row, 3 + place)?);
            }
            Ok(Row { account: text(row, 0)?, watermark: text(row, 1)?, gone: row.try_get(2)?, values })
        };
        rows.iter().map(row).collect()
    }
}

/// Takes the rows of the last key from a full page, so that the next page has all of them: an account that is there
/// twice has to be seen twice. A page that has no other key keeps them; it shows the fault as it is.
fn drop_unfinished(rows: &mut Vec<Row>, same_key: fn(&Row, &Row) -> bool) {
    let Some(last) = rows.last() else { return };
    if last.account.is_none() {
        return;
    }
    if let Some(end) = rows.iter().rposition(|row| !same_key(row, last)) {
        rows.truncate(end + 1);
    }
}

fn text(row: &PgRow, place: usize) -> Result<Option<Box<str>>, SourceError> {
    let value = row.try_get_raw(place)?;
    if value.is_null() {
        return Ok(None);
    }
    let text = value.as_str().map_err(|error| SourceError::Refused(format!("a value is not UTF-8: {error}")))?;
    Ok(Some(text.into()))
}

/// Exact to the microsecond, in UTC; before the year 1 everything is read.
fn time_text(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) if micros >= -62_135_596_800_000_000 => time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
        _ => "-infinity".to_owned(),
    }
}
