//! Proves a configuration against the source before a pass runs with it.
//!
//! Owns: what has to be asked beyond connecting. Must not know: who asks, and what follows from a refusal.
//!
//! Connecting finds the columns and checks the filter's syntax. Some errors show only when a statement is planned and
//! opened: a function or a column that the filter uses and the role may not, a view that no longer works.

use chrono::DateTime;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _, SqlStr};

use super::error::SourceError;
use super::reader::Source;
use super::statements::Statements;
use super::table::Table;
use crate::clock;

const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";

impl Source {
    /// Lets the server plan every statement and check its privileges. No row is read.
    ///
    /// # Errors
    /// [`SourceError::Unsuitable`] or [`SourceError::Refused`] with the server's reason.
    pub async fn prove_statements(&mut self) -> Result<(), SourceError> {
        let statements: Vec<SqlStr> = all(&self.statements).into_iter().cloned().collect();
        for statement in statements {
            // EXPLAIN opens the plan, which checks privileges, and does not run it.
            let explain = AssertSqlSafe(format!("EXPLAIN {}", statement.as_str())).into_sql_str();
            let parameters = self.session.count_parameters(explain.clone()).await?;
            let query = (0..parameters).fold(sqlx::query(explain), |query, _| query.bind(None::<String>));
            self.session.rows(query).await?;
        }
        Ok(())
    }

    /// By how many seconds the clock of the database is ahead of this machine's; negative when it is behind.
    ///
    /// # Errors
    /// When the source cannot be asked.
    pub async fn clock_offset(&mut self) -> Result<f64, SourceError> {
        let before = clock::now_utc();
        let row = self.session.row(sqlx::query(CLOCK)).await?;
        let taken = clock::now_utc() - before;
        let database = DateTime::from_timestamp_micros(row.try_get(0)?).unwrap_or(before);
        Ok((database - before - taken / 2).as_seconds_f64())
    }

    /// Whether another spelling of the table's name, as it could stand in the configuration, names the same table.
    ///
    /// # Errors
    /// When the source cannot be asked.
    pub async fn is_named(&mut self, configured: &str) -> Result<bool, SourceError> {
        match Table::find(&mut self.session, configured).await {
            Ok(table) => Ok(table.qualified_name() == self.resolved_table()),
            Err(SourceError::Unsuitable(_) | SourceError::Unmet(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The statements that passes run.
fn all(statements: &Statements) -> Vec<&SqlStr> {
    let Statements {
        form: _,
        poll,
        changed_from,
        changed_after,
        changed_after_watermark,
        all,
        first_of_all,
        all_after,
        without_account,
        rows_of_accounts,
        stamped_since,
        unstamped,
        unstamped_after,
        far_future,
        far_future_after,
        newest_counters,
        // Only serve `check`, `explain`, `verify` and warnings.
        newest_stamp_offset: _,
        gone_reasons: _,
        keys_of_accounts: _,
        sample: _,
        at_positions: _,
        first_rows: _,
    } = statements;
    let optional = [
        changed_from,
        changed_after,
        changed_after_watermark,
        unstamped,
        unstamped_after,
        far_future,
        far_future_after,
    ];
    let pages =
        optional.into_iter().flatten().chain([all, first_of_all, all_after]).flat_map(|page| [&page.rows, &page.keys]);
    pages.chain([without_account, rows_of_accounts]).chain(stamped_since).chain(newest_counters).chain(poll).collect()
}
