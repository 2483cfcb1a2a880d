//! Reads a sample of rows for `imsync check`, cheaply for a table of any size.
//!
//! Owns: how the rows are chosen, and the time limit. Must not know: what is wrong with a row.
//!
//! A table is sampled by blocks (`TABLESAMPLE SYSTEM`), so a few hundred blocks are read, whatever its size, and a thousand
//! of their rows are taken at random. A view or a foreign table has no blocks: there the first rows are read that it
//! returns.

use std::fmt;

use sqlx::Row as _;

use super::column_text::RowForm;
use super::error::SourceError;
use super::page::AccountRows;
use super::reader::Source;
use super::session::SourceSession;
use super::table::{RelationKind, Table};
use crate::model::Rows;

/// Blocks that are read of a table, about. Each may be a random access to a disk.
const SAMPLE_BLOCKS: f64 = 300.0;

/// The number of blocks, those of partitions and inheritance children included.
const BLOCKS: &str = "
WITH RECURSIVE part (oid) AS (
  SELECT $1::int8::oid UNION SELECT h.inhrelid FROM part JOIN pg_catalog.pg_inherits AS h ON h.inhparent = part.oid)
SELECT coalesce(sum(pg_catalog.pg_relation_size(c.oid)), 0)::float8 / current_setting('block_size')::float8
FROM part JOIN pg_catalog.pg_class AS c USING (oid) WHERE c.relkind IN ('r', 'm')";

/// How the rows of a sample were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleMethod {
    /// All rows, or 1,000 of all rows at random.
    Whole,
    /// Rows of blocks that were chosen at random.
    Blocks,
    /// The first rows that the relation returned.
    First,
}

impl fmt::Display for SampleMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "chosen at random from all rows",
            Self::Blocks => "chosen at random from 300 random blocks of the table",
            Self::First => "the first that it returns, not a random choice",
        })
    }
}

/// A sample of the rows.
#[derive(Debug)]
pub struct RowSample {
    /// At most 1,000 rows.
    pub rows: Rows,
    /// Rows that the server cannot evaluate: what each raises.
    pub unreadable: Vec<String>,
    /// How the rows were chosen.
    pub method: SampleMethod,
}

/// How the rows of a relation are chosen, and the percentage of its blocks that is read; `None` where it has no blocks.
pub(super) async fn sample_method(
    session: &mut SourceSession,
    table: &Table,
) -> Result<(SampleMethod, Option<String>), SourceError> {
    match table.kind {
        RelationKind::View | RelationKind::Foreign => Ok((SampleMethod::First, None)),
        RelationKind::Table | RelationKind::Partitioned | RelationKind::MaterializedView => {
            let blocks = session.advice_or_error(sqlx::query(BLOCKS).bind(table.oid)).await?;
            let blocks: f64 = blocks.first().map_or(Ok(0.0), |row| row.try_get(0))?;
            let method = if blocks <= SAMPLE_BLOCKS { SampleMethod::Whole } else { SampleMethod::Blocks };
            Ok((method, Some((SAMPLE_BLOCKS / blocks.max(SAMPLE_BLOCKS) * 100.0).to_string())))
        }
    }
}

impl Source {
    /// Reads a sample of at most 1,000 rows.
    ///
    /// # Errors
    /// When it cannot be read within five seconds. The connection stays usable, unless it was lost.
    pub async fn sample(&mut self) -> Result<RowSample, SourceError> {
        let (method, percentage) = sample_method(&mut self.session, &self.table).await?;
        let statements = if percentage.is_some() { &self.statements.sample } else { &self.statements.first_rows };
        let [rows, keys] = [&statements.rows, &statements.keys].map(|sql| {
            let query = sqlx::query(sql.clone());
            if let Some(percentage) = &percentage { query.bind(percentage.clone()) } else { query }
        });
        let read = self.session.advice_or_error(rows).await.and_then(|rows| self.statements.form.decode_all(&rows));
        match read {
            Ok(rows) => Ok(RowSample { rows, unreadable: Vec::new(), method }),
            Err(SourceError::Raised(_)) => {
                let keys = RowForm::of_keys().decode_all(&self.session.advice_or_error(keys).await?)?;
                let accounts = keys.iter().filter_map(|row| row.account).map(str::to_owned).collect();
                let AccountRows { rows, unreadable } = self.read_apart(accounts).await?;
                Ok(RowSample { rows, unreadable: unreadable.into_iter().map(|row| row.raised).collect(), method })
            }
            Err(error) => Err(error),
        }
    }

    /// Which of these texts the account column has, once for each row, with whether the row is gone. `None` when that takes
    /// longer than five seconds, for example because the column has no index.
    pub async fn rows_among(&mut self, mut texts: Vec<String>) -> Option<Vec<(String, bool)>> {
        texts.retain(|text| self.account_type.has_value(text));
        let rows = self.session.advice(sqlx::query(self.statements.keys_of_accounts.clone()).bind(texts)).await?;
        let rows = RowForm::of_keys().decode_all(&rows).ok()?;
        Some(rows.iter().filter_map(|row| Some((row.account?.to_owned(), row.gone))).collect())
    }
}
