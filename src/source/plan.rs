//! How the server would run the statements of the passes: by an index, or by reading a large table for each page.
//!
//! Owns: the EXPLAIN and its judgement. Must not know: who asks.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _, SqlStr};

use super::error::SourceError;
use super::reader::Source;
use super::table::Column;
use crate::finding::{Finding, Remedy};
use crate::quote::shown;

/// Reading a table of so many rows takes some milliseconds, so no index is missing.
const SMALL_TABLE: i64 = 10_000;

/// The rows of these tables at the last ANALYZE, or as many as they have room for if there was none.
const ROWS: &str = "
SELECT scanned.schema, scanned.name,
    CASE WHEN c.reltuples >= 0 THEN c.reltuples::int8 ELSE pg_catalog.pg_relation_size(c.oid) / 200 END
FROM unnest($1::text[], $2::text[]) AS scanned (schema, name)
JOIN pg_catalog.pg_namespace n ON n.nspname = scanned.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = scanned.name";

/// A table that a plan reads from its first to its last row.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scanned {
    schema: String,
    name: String,
}

/// A plan that reads too much, and what to do about it.
struct PlanProblem {
    message: String,
    remedy: Remedy,
}

impl Source {
    /// What the server does for a poll that begins now, and for a page of a full pass.
    ///
    /// # Errors
    /// When the source cannot be asked.
    pub async fn plans(&mut self) -> Result<Vec<Finding>, SourceError> {
        let mut findings = Vec::new();
        let (account, watermark) = (self.config.account_column.clone(), self.config.watermark_column.clone());
        if let (Some(kind), Some(statement), Some(watermark)) =
            (self.watermark, self.statements.poll.clone(), watermark)
        {
            let bound = self.transactions().await?.taken_at;
            let bound = self.bound_text(kind, bound);
            findings.push(match self.judge(&statement, Some(bound), &[&watermark, &account]).await? {
                Ok(served) => Finding::ok("source.poll_plan", served),
                Err(problem) => Finding::warning("source.poll_plan", problem.message).with(problem.remedy),
            });
        }
        let statement = self.statements.all.rows.clone();
        findings.push(match self.judge(&statement, None, &[&account]).await? {
            Ok(served) => Finding::ok("source.full_pass_plan", served),
            Err(problem) => Finding::warning("source.full_pass_plan", problem.message).with(problem.remedy),
        });
        Ok(findings)
    }

    /// What serves the statement, or what is wrong. `order`: the columns of the index that should serve the statement.
    async fn judge(
        &mut self,
        statement: &SqlStr,
        bound: Option<String>,
        order: &[&str],
    ) -> Result<Result<String, PlanProblem>, SourceError> {
        let plan_of = if bound.is_some() { "the plan of a poll" } else { "the plan of a full pass" };
        let scanned = whole_tables(&self.explain(statement, bound).await?);
        if scanned.is_empty() {
            return Ok(Ok(format!("{plan_of} uses an index")));
        }
        let Some((table, rows)) = self.largest(&scanned).await?.filter(|(_, rows)| *rows >= self.small_table()) else {
            return Ok(Ok(format!("{plan_of} reads a small table")));
        };
        let message = format!("{plan_of} reads {table} from the first to the last row, about {rows}, for each page");
        let columns: Vec<Column> = order.iter().filter_map(|name| self.table.column(name)).cloned().collect();
        let columns: Vec<&Column> = columns.iter().collect();
        let remedy = if !self.table.kind.can_have_indexes() {
            let columns = order.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
            Remedy::Text(format!("give {table} an index over {columns}, or over what the view makes them of"))
        } else if self.table.has_index_for_order(&mut self.session, &columns).await == Some(false) {
            let index = if columns.len() == 1 { "source.account_index" } else { "source.watermark_index" };
            Remedy::Text(format!("create the index that {index} names"))
        } else {
            Remedy::Sql(format!("ANALYZE {};", self.table.identifier()))
        };
        Ok(Err(PlanProblem { message, remedy }))
    }

    /// A page that holds the whole table is read best in one go.
    fn small_table(&self) -> i64 {
        SMALL_TABLE.max(i64::try_from(self.limit).unwrap_or(i64::MAX))
    }

    async fn explain(&mut self, statement: &SqlStr, bound: Option<String>) -> Result<Value, SourceError> {
        let explain = AssertSqlSafe(format!("EXPLAIN (FORMAT JSON, VERBOSE) {}", statement.as_str())).into_sql_str();
        let query = sqlx::query(explain);
        let query = if bound.is_some() { query.bind(bound) } else { query };
        // The type is json, whose binary form is its text.
        let text: String = self.session.row(query).await?.try_get_unchecked(0)?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// The largest of these tables, as it is shown, with its rows.
    async fn largest(&mut self, scanned: &[Scanned]) -> Result<Option<(String, i64)>, SourceError> {
        let (schemas, names): (Vec<&str>, Vec<&str>) =
            scanned.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
        let mut tables = Vec::new();
        for row in self.session.rows(sqlx::query(ROWS).bind(schemas).bind(names)).await? {
            let (schema, name, rows): (String, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            tables.push((format!("{}.{}", shown(&schema), shown(&name)), rows));
        }
        Ok(tables.into_iter().max_by_key(|(_, rows)| *rows))
    }
}

/// The tables that a plan reads wholly for its own rows. What a subquery of the filter reads is not the order of the table.
fn whole_tables(explained: &Value) -> Vec<Scanned> {
    let mut found = Vec::new();
    let mut open: Vec<&Value> = explained.as_array().into_iter().flatten().map(|query| &query["Plan"]).collect();
    while let Some(node) = open.pop() {
        if matches!(node["Parent Relationship"].as_str(), Some("SubPlan" | "InitPlan")) {
            continue;
        }
        let is_scan = node["Node Type"].as_str().is_some_and(|kind| kind.ends_with("Seq Scan"));
        if let (true, Some(schema), Some(name)) = (is_scan, node["Schema"].as_str(), node["Relation Name"].as_str()) {
            found.push(Scanned { schema: schema.to_owned(), name: name.to_owned() });
        }
        open.extend(node["Plans"].as_array().into_iter().flatten());
    }
    found.sort();
    found.dedup();
    found
}
