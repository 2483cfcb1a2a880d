//! The reader of the source: one connection, the description of the table, and its pages.
//!
//! Owns: the order of the steps at connection, paging, the slack below a bound. Must not know: what the rows mean.

use std::time::Duration;

use chrono::DateTime;
use sqlx::postgres::PgRow;

use super::activity::SourceActivity;
use super::column_type::{AccountType, WatermarkType};
use super::error::SourceError;
use super::list_transactions::list_transactions;
use super::page::{Cursor, Page, decode_rows, drop_incomplete_key};
use super::requirements::{self, ConfiguredColumns};
use super::session::SourceSession;
use super::statements::{StatementInputs, Statements};
use super::table::Table;
use super::unmap_account::strip_account_format;
use super::warnings::WarningInputs;
use super::watermark::{TransactionList, WatermarkPoint};
use crate::config;
use crate::model::{Account, Row};

/// The minimum that is subtracted from a time. A session may be descheduled between taking `now()` and publishing its
/// transaction; no transaction list contains it in that interval.
const MIN_SLACK: Duration = Duration::from_secs(1);

/// The first day of the year 1, in microseconds since the Unix epoch.
const YEAR_ONE_MICROS: i64 = -62_135_596_800_000_000;

/// An open connection to the source, with the description of the table. All statements run on it one after the other, so
/// no transaction list contains another session of this process.
///
/// It is unusable after an error and has to be replaced by a new connection: after [`SourceError::Unreachable`] because
/// the connection is closed, after any other error because the table may have changed.
#[derive(Debug)]
pub struct Source {
    pub(super) session: SourceSession,
    config: config::SourceConfig,
    table: Table,
    qualified_name: String,
    account_type: AccountType,
    account_nullable: bool,
    account_unique: bool,
    pub(super) watermark: Option<WatermarkType>,
    /// The number of mapped columns.
    columns: usize,
    pub(super) statements: Statements,
    /// `LIMIT` of a page.
    limit: u64,
    warnings: Vec<String>,
}

impl Source {
    /// Connects, applies the session settings, introspects the table, and checks everything that a pass needs.
    /// `columns` are the mapped columns (`Mapping::columns`), in their order.
    ///
    /// # Errors
    /// [`SourceError::Unsuitable`] when the configuration, the table or the role has to be changed, else
    /// [`SourceError::Unreachable`] or [`SourceError::Refused`].
    pub async fn connect(config: &config::Config, columns: &[String]) -> Result<Self, SourceError> {
        let mut session = SourceSession::open(&config.source.url, &config.application_name()).await?;
        let source = config.source.clone();
        let table = Table::find(&mut session, &source.table).await?;
        let found: ConfiguredColumns<'_> = requirements::find_columns(&table, config, columns)?;
        if found.watermark.is_some() {
            requirements::check_watermark_relation(&mut session, &table).await?;
        }
        let (account, account_type) = found.account;
        let account_unique = table.has_unique_index(&mut session, account).await?;
        // Where an account may have several rows, one more row shows whether the last account of a page continues.
        let limit = u64::from(source.page_size.max(1)) + u64::from(!account_unique);
        let inputs = StatementInputs {
            schema: &table.schema,
            table: &table.name,
            account: (&account.name, account_type),
            watermark: found.watermark.map(|(column, kind)| (column.name.as_str(), kind)),
            timezone: &source.watermark_timezone,
            deleted: found.deleted,
            filter: source.filter.as_deref(),
            columns,
            limit,
        };
        requirements::check_expressions(&mut session, &inputs).await?;
        let statements = inputs.statements();
        let warnings =
            WarningInputs { table: &table, found: &found, mapped: columns, statements: &statements, account_unique };
        let warnings = warnings.collect(&mut session).await;
        Ok(Self {
            qualified_name: table.qualified_name(),
            account_type,
            account_nullable: !account.not_null,
            account_unique,
            watermark: found.watermark.map(|(_, kind)| kind),
            session,
            config: source,
            columns: columns.len(),
            statements,
            limit,
            warnings,
            table,
        })
    }

    /// `schema.table` as resolved, quoted where needed. The state is bound to it.
    pub fn resolved_table(&self) -> &str {
        &self.qualified_name
    }

    /// A watermark column is configured, so incremental passes are possible.
    pub fn has_watermark(&self) -> bool {
        self.watermark.is_some()
    }

    /// The watermark column is a bigint: a counter instead of a time.
    pub fn watermark_is_counter(&self) -> bool {
        self.watermark == Some(WatermarkType::Int8)
    }

    /// A unique index ensures that no account has two rows. Without one, and in a view, another row of an account may be
    /// on another page.
    pub fn account_is_unique(&self) -> bool {
        self.account_unique
    }

    /// The statement that runs on this connection.
    pub fn activity(&self) -> SourceActivity {
        self.session.activity()
    }

    /// Sentences for the log at start: a replica, a missing index, stamps in the future.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The approximate number of rows according to the planner's statistics, for progress reports. `None` for a view,
    /// for a table that was never analyzed, and when the source does not tell in time.
    pub async fn estimated_rows(&mut self) -> Option<u64> {
        self.table.estimated_rows(&mut self.session).await
    }

    /// Reads the clock (or the counter), the running and the prepared transactions, in this order.
    ///
    /// # Errors
    /// [`SourceError::Unsuitable`] behind a pooler in transaction mode, else that of the statement.
    pub async fn transactions(&mut self) -> Result<TransactionList, SourceError> {
        list_transactions(&mut self.session, self.statements.largest_counter.as_ref()).await
    }

    /// The next page in the order (watermark, account): rows from `from` on, less the slack, and after the cursor
    /// `after`.
    ///
    /// Rows whose watermark is NULL are not included. A row without an account may be left out at the end of a page,
    /// since it has no counterpart in IM. Without a watermark column this is [`Source::all_after`], and `from` is
    /// ignored.
    pub async fn changed_since(&mut self, from: WatermarkPoint, after: Option<&Cursor>) -> Result<Page, SourceError> {
        let (Some(kind), Some(first), Some(next), Some(next_watermark)) = (
            self.watermark,
            &self.statements.changed_from,
            &self.statements.changed_after,
            &self.statements.changed_after_watermark,
        ) else {
            return self.all_after(after.and_then(|cursor| cursor.account.as_deref())).await;
        };
        let query = match after {
            None => sqlx::query(first.clone()).bind(self.bound_text(kind, from)),
            Some(Cursor { watermark, account: Some(account) }) => {
                sqlx::query(next.clone()).bind(watermark.clone()).bind(account.clone())
            }
            Some(Cursor { watermark, account: None }) => sqlx::query(next_watermark.clone()).bind(watermark.clone()),
        };
        let rows = self.session.rows(query).await?;
        self.page(&rows, |one, other| one.watermark == other.watermark && one.account == other.account)
    }

    /// The next page in the order of the account column, after the row whose account column has this text. The last page
    /// also has rows without an account, at most `page_size` of them.
    pub async fn all_after(&mut self, after: Option<&str>) -> Result<Page, SourceError> {
        let query = match after {
            None => sqlx::query(self.statements.all.clone()),
            Some(account) => sqlx::query(self.statements.all_after.clone()).bind(account.to_owned()),
        };
        let rows = self.session.rows(query).await?;
        let mut page = self.page(&rows, |one, other| one.account == other.account)?;
        if page.last && self.account_nullable {
            let rows = self.session.rows(sqlx::query(self.statements.without_account.clone())).await?;
            page.rows.extend(decode_rows(&rows, self.columns)?);
        }
        Ok(page)
    }

    /// The rows of these IM accounts. Accounts that have no row, or cannot be a value of the account column, are left
    /// out.
    pub async fn rows_of(&mut self, accounts: &[Account]) -> Result<Vec<Row>, SourceError> {
        let texts: Vec<String> = accounts
            .iter()
            .filter_map(|account| strip_account_format(&self.config, self.account_type, account))
            .collect();
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let query = sqlx::query(self.statements.rows_of_accounts.clone()).bind(texts);
        let rows = self.session.rows(query).await?;
        decode_rows(&rows, self.columns)
    }

    /// The parameter of `changed_from` for a bound; the slack is subtracted from a time.
    pub(super) fn bound_text(&self, kind: WatermarkType, bound: WatermarkPoint) -> String {
        if kind == WatermarkType::Int8 {
            return match bound {
                WatermarkPoint::Beginning => i64::MIN.to_string(),
                WatermarkPoint::At(value) => value.to_string(),
            };
        }
        let slack = self.config.watermark_grace.max(MIN_SLACK);
        match bound.lowered_by(i64::try_from(slack.as_micros()).unwrap_or(i64::MAX)) {
            WatermarkPoint::Beginning => "-infinity".to_owned(),
            WatermarkPoint::At(micros) => timestamp_text(micros),
        }
    }

    fn page(&self, rows: &[PgRow], same_key: fn(&Row, &Row) -> bool) -> Result<Page, SourceError> {
        let mut rows = decode_rows(rows, self.columns)?;
        let last = (rows.len() as u64) < self.limit;
        if !last && !self.account_unique {
            drop_incomplete_key(&mut rows, same_key);
        }
        Ok(Page { rows, last })
    }
}

/// A time as PostgreSQL reads it, exact to the microsecond and in UTC. Before the year 1, where everything is read, it is
/// `-infinity`.
fn timestamp_text(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) if micros >= YEAR_ONE_MICROS => time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
        _ => "-infinity".to_owned(),
    }
}
