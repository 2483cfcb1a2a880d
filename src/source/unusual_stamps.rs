//! Rows without a stamp, or with one far from the others, which polls read slowly or miss.
//!
//! Owns: how they are counted, and a sentence with a remedy for each kind. Must not know: how pages are read.

use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};

use super::column_type::WatermarkType;
use super::hidden_changes::{HiddenChangeInputs, hidden};
use super::session::SourceSession;
use super::stamp_remedy::{LARGEST_COUNTER, stamp_now};
use super::table::Column;
use crate::finding::Finding;
use crate::quote::{identifier, shown};

/// Rows are counted up to here.
const MAX_COUNTED: u32 = 100_000;

/// Why there is no number.
const NOT_COUNTED: &str = "these rows could not be counted: that takes over 5 s, or the role may not read them";

/// An UPDATE cannot set the column.
const IS_COMPUTED: &str = "SELECT attgenerated <> '' OR attidentity = 'a' FROM pg_catalog.pg_attribute WHERE attrelid = $1::int8::oid AND attnum = $2";

/// The watermark column, and how its stamps can be corrected.
struct StampColumn<'a> {
    inputs: &'a HiddenChangeInputs<'a>,
    column: &'a Column,
    kind: WatermarkType,
    /// An UPDATE of the relation can set it.
    is_writable: bool,
}

impl HiddenChangeInputs<'_> {
    /// What is unusual about the stamps of the rows.
    pub(super) async fn unusual_stamps(
        &self,
        session: &mut SourceSession,
        column: &Column,
        kind: WatermarkType,
    ) -> Vec<Finding> {
        let question = sqlx::query(IS_COMPUTED).bind(self.table.oid).bind(column.attnum);
        let answer = session.advice(question).await.unwrap_or_default();
        let is_computed = answer.first().and_then(|row| row.try_get(0).ok()).unwrap_or(true);
        let is_writable = self.table.kind.has_row_triggers() && !is_computed;
        let stamps = StampColumn { inputs: self, column, kind, is_writable };
        let mut found = Vec::new();
        if !column.not_null {
            found.extend(stamps.missing(session).await);
        }
        found.extend(stamps.future(session).await);
        if kind != WatermarkType::Int8 {
            found.extend(stamps.infinite_past(session).await);
        }
        found
    }
}

impl StampColumn<'_> {
    /// The number of rows under a condition; `None` when they could not be counted in time.
    async fn count(&self, session: &mut SourceSession, condition: &str) -> Option<i64> {
        let relation = self.inputs.table.identifier();
        let text =
            format!("SELECT count(*) FROM (SELECT FROM {relation} WHERE {condition} LIMIT {MAX_COUNTED}) AS counted");
        let answer = session.advice(sqlx::query(AssertSqlSafe(text).into_sql_str())).await?;
        answer.first()?.try_get(0).ok()
    }

    /// What makes the stamps under a condition usual.
    fn correction(&self, what: &str, condition: &str) -> String {
        let (table, name) = (self.inputs.table, &self.column.name);
        if self.is_writable {
            let now = stamp_now(table, name, self.kind, self.inputs.timezone);
            format!("{what}; run: UPDATE {} SET {} = {now} WHERE {condition};", table.identifier(), identifier(name))
        } else if table.kind.has_row_triggers() {
            format!("{what}: {} is computed, so correct what it is computed from", shown(name))
        } else {
            format!("{what} in the table from which {} takes {}", table.qualified_name(), shown(name))
        }
    }

    /// For a message: the number of rows, and the relation.
    fn rows_have(&self, count: i64) -> String {
        let rows = match count {
            1 => "1 row".to_owned(),
            count if count >= i64::from(MAX_COUNTED) => format!("{count} or more rows"),
            count => format!("{count} rows"),
        };
        let have = if count == 1 { "has" } else { "have" };
        format!("{rows} of {} {have}", self.inputs.table.qualified_name())
    }

    async fn missing(&self, session: &mut SourceSession) -> Option<Finding> {
        let condition = format!("{} IS NULL", identifier(&self.column.name));
        let Some(count) = self.count(session, &condition).await else {
            return Some(Finding::unchecked("source.null_stamps", NOT_COUNTED));
        };
        let read = if self.inputs.is_indexed {
            "every poll reads a page of them again (source.page_size)".to_owned()
        } else {
            format!("no index leads to them, and {}", self.inputs.full_pass())
        };
        let message = format!("{} no {}: {read}", self.rows_have(count), shown(&self.column.name));
        (count > 0).then(|| hidden("source.null_stamps", message, self.correction("Fill them", &condition)))
    }

    async fn future(&self, session: &mut SourceSession) -> Option<Finding> {
        let (stamp, quoted) = (shown(&self.column.name), identifier(&self.column.name));
        let (condition, message, remedy) = match &self.inputs.horizon {
            Some(horizon) => {
                let condition = format!("{quoted} >= {horizon}");
                let remedy = self.correction("Correct them", &condition);
                let message = format!(
                    "{stamp} more than a day ahead or infinity: polls read them a page at a time, so a change of one may wait"
                );
                (condition, message, remedy)
            }
            None => (
                format!("{quoted} >= {LARGEST_COUNTER}"),
                format!(
                    "{stamp} near the largest bigint: rows with smaller values that come later are missed, and {}",
                    self.inputs.full_pass()
                ),
                "give these rows values of the counter".to_owned(),
            ),
        };
        let Some(count) = self.count(session, &condition).await else {
            return Some(Finding::unchecked("source.future_stamps", NOT_COUNTED));
        };
        (count > 0).then(|| hidden("source.future_stamps", format!("{} {message}", self.rows_have(count)), remedy))
    }

    async fn infinite_past(&self, session: &mut SourceSession) -> Option<Finding> {
        let condition = format!("{} = '-infinity'", identifier(&self.column.name));
        let Some(count) = self.count(session, &condition).await else {
            return Some(Finding::unchecked("source.infinite_past_stamps", NOT_COUNTED));
        };
        let message = format!(
            "{} {} = -infinity: a row that comes with it is missed, and {}",
            self.rows_have(count),
            shown(&self.column.name),
            self.inputs.full_pass()
        );
        (count > 0).then(|| hidden("source.infinite_past_stamps", message, self.correction("Correct them", &condition)))
    }
}
