//! Rows without a stamp, or with one far from the others, which polls read slowly or miss.
//!
//! Owns: how they are counted, and a sentence with a remedy for each kind. Must not know: how pages are read.

use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};

use super::column_type::WatermarkType;
use super::hidden_changes::{HiddenChangeInputs, hidden};
use super::session::SourceSession;
use super::stamp_remedy::LARGEST_COUNTER;
use super::table::{Column, RelationKind};
use crate::finding::Finding;
use crate::quote::{identifier, shown};

/// Rows are counted up to here.
const MAX_COUNTED: u32 = 100_000;

impl HiddenChangeInputs<'_> {
    /// What is unusual about the stamps of the rows.
    pub(super) async fn unusual_stamps(
        &self,
        session: &mut SourceSession,
        column: &Column,
        kind: WatermarkType,
    ) -> Vec<Finding> {
        let name = self.table.qualified_name();
        let relation = format!("{}.{}", identifier(&self.table.schema), identifier(&self.table.name));
        let (quoted, stamp) = (identifier(&column.name), shown(&column.name));
        let count = |condition: String| {
            let text = format!(
                "SELECT count(*) FROM (SELECT FROM {relation} WHERE {condition} LIMIT {MAX_COUNTED}) AS counted"
            );
            AssertSqlSafe(text).into_sql_str()
        };
        let future = match (&self.horizon, kind) {
            (Some(horizon), _) => format!("{quoted} >= {horizon}"),
            (None, _) => format!("{quoted} >= {LARGEST_COUNTER}"),
        };
        let mut found = Vec::new();
        let nulls = if column.not_null { 0 } else { number(session, count(format!("{quoted} IS NULL"))).await };
        if nulls > 0 {
            let read = if self.is_indexed {
                "every poll reads a page of them again (source.page_size)".to_owned()
            } else {
                format!("no index leads to them, and {}", self.full_pass())
            };
            let table = if matches!(self.table.kind, RelationKind::Table | RelationKind::Partitioned) {
                let now = if kind == WatermarkType::Int8 { "0" } else { "now()" };
                format!(
                    "Fill them; run: UPDATE {name} SET {stamp} = {now} WHERE {stamp} IS NULL; ALTER TABLE {name} ALTER COLUMN {stamp} SET NOT NULL;"
                )
            } else {
                format!("fill {stamp} in the table below the view")
            };
            found.push(hidden(
                "source.null_stamps",
                format!("{} of {name} have no {stamp}: {read}", rows(nulls)),
                table,
            ));
        }
        let ahead = number(session, count(future)).await;
        if ahead > 0 {
            let (message, remedy) = if kind == WatermarkType::Int8 {
                (
                    format!(
                        "{} of {name} have a {stamp} near the largest bigint: rows with smaller values that come later are missed, and {}",
                        rows(ahead),
                        self.full_pass()
                    ),
                    "give these rows values of the counter".to_owned(),
                )
            } else {
                (
                    format!(
                        "{} of {name} have a {stamp} more than a day ahead or infinity: polls read them a page at a time, so a change of one may wait",
                        rows(ahead)
                    ),
                    format!(
                        "Correct them; run: UPDATE {name} SET {stamp} = now() WHERE {stamp} > now() + interval '1 day';"
                    ),
                )
            };
            found.push(hidden("source.future_stamps", message, remedy));
        }
        if kind != WatermarkType::Int8 {
            let behind = number(session, count(format!("{quoted} = '-infinity'"))).await;
            found.extend(self.infinite_past(behind, &stamp));
        }
        found
    }

    fn infinite_past(&self, behind: i64, stamp: &str) -> Option<Finding> {
        let name = self.table.qualified_name();
        (behind > 0).then(|| {
            hidden(
                "source.infinite_past_stamps",
                format!(
                    "{} of {name} have a {stamp} of -infinity: a row that comes with it is missed, and {}",
                    rows(behind),
                    self.full_pass()
                ),
                format!("run: UPDATE {name} SET {stamp} = now() WHERE {stamp} = '-infinity';"),
            )
        })
    }
}

fn rows(count: i64) -> String {
    match count {
        1 => "1 row".to_owned(),
        count if count >= i64::from(MAX_COUNTED) => format!("{count} or more rows"),
        count => format!("{count} rows"),
    }
}

async fn number(session: &mut SourceSession, statement: sqlx::SqlStr) -> i64 {
    let answer = session.advice(sqlx::query(statement)).await.unwrap_or_default();
    answer.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0)
}
