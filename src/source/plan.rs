//! How the server would run the statements of the passes: by an index, or by reading or sorting the whole table.
//!
//! Owns: the EXPLAIN and its judgement. Must not know: who asks.

use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _, SqlStr};

use super::error::SourceError;
use super::reader::Source;
use crate::finding::Finding;
use crate::quote::identifier;

/// Reading a table of so many rows takes some milliseconds, so no index is missing.
const SMALL_TABLE: u64 = 10_000;

impl Source {
    /// What the server does for a poll that begins now, and for a page of a full pass.
    ///
    /// # Errors
    /// When the source cannot be asked.
    pub async fn plans(&mut self) -> Result<Vec<Finding>, SourceError> {
        let mut findings = Vec::new();
        let rows = self.estimated_rows().await;
        let (account, watermark) = (self.config.account_column.clone(), self.config.watermark_column.clone());
        if let (Some(kind), Some(statement), Some(watermark)) =
            (self.watermark, self.statements.changed_from.as_ref().map(|page| page.rows.clone()), watermark)
        {
            let bound = self.transactions().await?.taken_at;
            let bound = self.bound_text(kind, bound);
            let plan = self.explain(&statement, Some(bound)).await?;
            let message = "the plan of a poll";
            findings.push(match self.judge(&plan, rows, &[&watermark, &account]) {
                Ok(served) => Finding::ok("source.poll_plan", format!("{message} {served}")),
                Err((problem, remedy)) => {
                    add(Finding::warning("source.poll_plan", format!("{message} {problem}")), remedy)
                }
            });
        }
        let plan = self.explain(&self.statements.all.rows.clone(), None).await?;
        let message = "the plan of a full pass";
        findings.push(match self.judge(&plan, rows, &[&account]) {
            Ok(served) => Finding::ok("source.full_pass_plan", format!("{message} {served}")),
            Err((problem, remedy)) => {
                add(Finding::warning("source.full_pass_plan", format!("{message} {problem}")), remedy)
            }
        });
        Ok(findings)
    }

    async fn explain(&mut self, statement: &SqlStr, bound: Option<String>) -> Result<Vec<String>, SourceError> {
        let explain = AssertSqlSafe(format!("EXPLAIN {}", statement.as_str())).into_sql_str();
        let query = sqlx::query(explain);
        let query = if bound.is_some() { query.bind(bound) } else { query };
        let rows = self.session.rows(query).await?;
        rows.iter().map(|row| row.try_get(0).map_err(SourceError::from)).collect()
    }

    /// What is right, or what is wrong with its remedy; SQL if it ends with a semicolon.
    fn judge(&self, plan: &[String], rows: Option<u64>, columns: &[&str]) -> Result<String, (String, String)> {
        if rows.is_some_and(|rows| rows < SMALL_TABLE) {
            return Ok("reads a small table".to_owned());
        }
        let Some(step) = whole_table_step(plan) else { return Ok("uses an index".to_owned()) };
        let read = rows.or_else(|| estimated_rows(plan)).unwrap_or_default();
        if read < SMALL_TABLE {
            return Ok("reads a small table".to_owned());
        }
        let problem = format!("has a {step} over about {read} rows for each page");
        let remedy = if self.table.kind.can_have_indexes() {
            let columns: Vec<String> = columns.iter().map(|name| identifier(name)).collect();
            format!(
                "CREATE INDEX{} ON {} ({}); ANALYZE {};",
                self.table.concurrently(),
                self.table.identifier(),
                columns.join(", "),
                self.table.identifier()
            )
        } else {
            format!("give the tables below {} an index over {}", self.resolved_table(), columns.join(", "))
        };
        Err((problem, remedy))
    }
}

fn add(finding: Finding, remedy: String) -> Finding {
    if remedy.ends_with(';') { finding.sql(remedy) } else { finding.remedy(remedy) }
}

/// The step that needs the whole table: a sequential scan, or a sort that is not incremental over one.
fn whole_table_step(plan: &[String]) -> Option<&'static str> {
    let has = |step: &str| plan.iter().any(|line| line.contains(step));
    if !has("Seq Scan on ") {
        None
    } else if has("Sort  (") {
        Some("sequential scan and a sort")
    } else {
        Some("sequential scan")
    }
}

/// The largest estimate of the plan.
fn estimated_rows(plan: &[String]) -> Option<u64> {
    let rows = |line: &String| {
        let (_, rest) = line.split_once(" rows=")?;
        rest.split(|sign: char| !sign.is_ascii_digit()).next()?.parse().ok()
    };
    plan.iter().filter_map(rows).max()
}

#[cfg(test)]
mod tests {
    use super::{estimated_rows, whole_table_step};

    fn plan(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_plan_without_an_index_is_found() {
        let sorted = plan(
            "Limit  (cost=11174.82..11187.32 rows=5000 width=96)\n  ->  Sort  (cost=11174.82..11424.82 rows=100000 width=96)\n        ->  Seq Scan on users  (cost=0.00..2869.82 rows=100000 width=96)",
        );
        assert_eq!(
            (whole_table_step(&sorted), estimated_rows(&sorted)),
            (Some("sequential scan and a sort"), Some(100_000))
        );
        for served in [
            "Limit  (cost=0.42..8.44 rows=1 width=96)\n  ->  Index Scan using i on users  (cost=0.42..8.44 rows=1 width=96)",
            "Limit  (cost=0.5..9 rows=9 width=96)\n  ->  Incremental Sort  (cost=0.5..9 rows=9 width=9)\n        ->  Index Scan using i on users",
            "Limit\n  ->  Sort  (cost=8..9 rows=3 width=9)\n        ->  Bitmap Heap Scan on users  (cost=4..8 rows=3 width=9)",
        ] {
            assert_eq!(whole_table_step(&plan(served)), None, "{served}");
        }
    }
}
