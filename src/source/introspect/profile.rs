//! How many values the columns have and what they look like: from `pg_stats`, and from a sample of rows.
//!
//! Owns: the statement over the sample, and the forms of texts that it counts. Must not know: what imsync proposes.
//!
//! The server counts, so no value of a row leaves it. The rows are chosen as `sample` chooses them.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _, SqlStr};

use super::facts::{ColumnSample, ColumnStatistics};
use crate::quote::{identifier, literal};
use crate::source::error::SourceError;
use crate::source::sample::sample_method;
use crate::source::session::SourceSession;
use crate::source::statements::SAMPLE_ROWS;
use crate::source::table::Table;

/// The statistics of all rows: those that include inheritance children where they exist.
const STATISTICS: &str = "
SELECT DISTINCT ON (s.attname) s.attname::text, s.n_distinct::float8, s.null_frac::float8
FROM pg_catalog.pg_stats AS s WHERE s.schemaname = $1 AND s.tablename = $2
ORDER BY s.attname, s.inherited DESC";

/// Characters of a text that are looked at.
const MAX_CHARS: usize = 200;
/// Columns of a sample. A statement returns at most 1,664 columns (PostgreSQL manual, appendix K).
const MAX_SAMPLED_COLUMNS: usize = 150;

/// Forms of texts, as POSIX regular expressions of PostgreSQL.
const EMAIL: &str = r"^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$";
/// Not a date, which has as many digits.
const PHONE: &str = r"^(?!\d{4}-\d\d-\d\d$)[+(]?\d[\d ().\-/]{6,18}\d$";
/// Hexadecimal digests, the forms of crypt and LDAP, JSON web tokens, and long texts in base64.
const SECRET: &str =
    r"^([0-9a-fA-F]{32,}|\$[0-9a-z-]{1,12}\$.*|\{[A-Za-z0-9-]{2,12}\}.+|eyJ[\w-]{10,}\..*|[A-Za-z0-9+/_=-]{40,})$";
const UUID: &str = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";
/// Numbers that the statement returns for a column.
const NUMBERS: usize = 8;

/// What `pg_stats` knows, by column. Empty for a table that was never analyzed, and where it could not be read.
pub(super) async fn statistics(session: &mut SourceSession, table: &Table) -> HashMap<String, ColumnStatistics> {
    let query = sqlx::query(STATISTICS).bind(table.schema.clone()).bind(table.name.clone());
    let rows = session.advice(query).await.unwrap_or_default();
    let of_row = |row: &PgRow| {
        let statistics = ColumnStatistics { distinct: row.try_get(1).ok()?, null_fraction: row.try_get(2).ok()? };
        Some((row.try_get(0).ok()?, statistics))
    };
    rows.iter().filter_map(of_row).collect()
}

/// What a sample of at most 1,000 rows shows of these columns. The flag of a column: it is a text.
///
/// # Errors
/// When the rows cannot be read within five seconds. The connection stays usable, unless it was lost.
pub(super) async fn samples(
    session: &mut SourceSession,
    table: &Table,
    columns: &[(String, bool)],
) -> Result<HashMap<String, ColumnSample>, SourceError> {
    let columns = &columns[..columns.len().min(MAX_SAMPLED_COLUMNS)];
    if columns.is_empty() {
        return Ok(HashMap::new());
    }
    let (_, percentage) = sample_method(session, table).await?;
    let query = sqlx::query(statement(table, columns, percentage.is_some()));
    let query = if let Some(percentage) = percentage { query.bind(percentage) } else { query };
    let answer = session.advice_or_error(query).await?;
    let Some(row) = answer.first() else { return Ok(HashMap::new()) };
    columns.iter().enumerate().map(|(index, (name, _))| Ok((name.clone(), sample_of(row, index)?))).collect()
}

fn sample_of(row: &PgRow, index: usize) -> Result<ColumnSample, SourceError> {
    let number = |offset: usize| -> Result<u64, SourceError> {
        let number: Option<i64> = row.try_get(1 + index * NUMBERS + offset)?;
        Ok(u64::try_from(number.unwrap_or_default()).unwrap_or_default())
    };
    Ok(ColumnSample {
        rows: u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default(),
        values: number(0)?,
        distinct: number(1)?,
        max_bytes: number(2)?,
        too_long: number(3)?,
        emails: number(4)?,
        phones: number(5)?,
        secrets: number(6)?,
        uuids: number(7)?,
    })
}

fn statement(table: &Table, columns: &[(String, bool)], has_blocks: bool) -> SqlStr {
    let texts = columns.iter().enumerate().map(|(index, (name, _))| {
        format!(
            "pg_catalog.left({}.{}::text COLLATE \"C\", {MAX_CHARS}) AS c{index}",
            identifier(&table.name),
            identifier(name)
        )
    });
    let numbers = columns.iter().enumerate().map(|(index, (_, is_text))| {
        let column = format!("c{index}");
        let of_form = |form: &str| {
            if *is_text {
                format!("count(*) FILTER (WHERE {column} ~ {})", literal(form))
            } else {
                "0::int8".to_owned()
            }
        };
        let bytes = format!("pg_catalog.octet_length({column})");
        [
            format!("count({column}), count(DISTINCT {column}), max({bytes})::int8"),
            format!("count(*) FILTER (WHERE {bytes} > {})", ColumnSample::LIMIT),
            [EMAIL, PHONE, SECRET, UUID].map(of_form).join(", "),
        ]
        .join(", ")
    });
    let rows =
        if has_blocks { "TABLESAMPLE SYSTEM ($1::text::pg_catalog.float4) ORDER BY pg_catalog.random()" } else { "" };
    let text = format!(
        "SELECT count(*), {} FROM (SELECT {} FROM {} {rows} LIMIT {SAMPLE_ROWS}) AS sample",
        numbers.collect::<Vec<_>>().join(", "),
        texts.collect::<Vec<_>>().join(", "),
        table.identifier()
    );
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}
