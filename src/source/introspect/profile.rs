//! How many values the columns have and what they look like: from `pg_stats`, and from a sample of rows.
//!
//! Owns: the statement over the sample, and the forms of texts that it counts. Must not know: what imsync proposes.
//!
//! The server counts, so no value of a row leaves it. The rows are chosen as `sample` chooses them.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _, SqlStr};

use super::facts::{ColumnKind, ColumnSample, ColumnStatistics};
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

/// Forms of texts, as POSIX regular expressions of PostgreSQL. An e-mail address anywhere in the text.
const EMAIL: &str = r"[^@[:space:]]@[^@[:space:]]+\.[^@[:space:]]";
/// A number in international form anywhere in the text, or a text that is a number, perhaps with an extension. Not a date or
/// two years, which have as many digits.
const PHONE: &str = concat!(
    r"(^|[^[:alnum:]])\+[1-9][\d ().\-/]{6,18}\d|",
    r"^\s*(?!\d{4}-?(0[1-9]|1[0-2])-?([0-2]\d|3[01])$|(19|20)\d\d ?[-/] ?(19|20)\d\d$)",
    r"([a-z]{1,10}[.:] ?)?[+(]*\d[\d ().\-/]{6,18}\d( ?(x|ext\.?|#) ?\d{1,6})?\s*$",
);
/// A whole number that has as many digits as a phone number, and is no date such as 20251231.
const PHONE_AS_NUMBER: &str = r"^(?!(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])$)\d{8,15}$";
/// Hexadecimal digests, the forms of crypt and LDAP, JSON web tokens, keys with a prefix such as `sk_live_`, and long texts in
/// base64.
const SECRET: &str = concat!(
    r"^([0-9a-fA-F]{32,}|\$[0-9a-z-]{1,12}\$.*|\{[A-Za-z0-9-]{2,12}\}.+|eyJ[\w-]{10,}\..*|[A-Za-z0-9+/_=-]{40,}",
    r"|[A-Za-z]{2,10}[_-](live|test|prod)[_-].{6,}|AKIA[0-9A-Z]{12,}|AIza[\w-]{20,}",
    r"|(gh[a-z]|github_pat|glpat|xox[a-z]|sk|pk|rk|npm|pypi|whsec)[_-][\w-]{12,}",
    r"|[A-Za-z]{2,10}([_-][A-Za-z0-9]{1,10})*[_-](?=[A-Za-z]*\d)[A-Za-z0-9]{16,})$",
);
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

/// What a sample of at most 1,000 rows shows of these columns.
///
/// # Errors
/// When the rows cannot be read within five seconds. The connection stays usable, unless it was lost.
pub(super) async fn samples(
    session: &mut SourceSession,
    table: &Table,
    columns: &[(String, ColumnKind)],
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

/// The forms of e-mail addresses, phone numbers, secrets and uuids for values of this type.
fn forms(kind: ColumnKind) -> [Option<&'static str>; 4] {
    if kind.is_text() {
        [Some(EMAIL), Some(PHONE), Some(SECRET), Some(UUID)]
    } else if kind.is_integer() {
        [None, Some(PHONE_AS_NUMBER), None, None]
    } else {
        [None; 4]
    }
}

fn statement(table: &Table, columns: &[(String, ColumnKind)], has_blocks: bool) -> SqlStr {
    let texts = columns.iter().enumerate().map(|(index, (name, _))| {
        format!(
            "pg_catalog.left({}.{}::text COLLATE \"C\", {MAX_CHARS}) AS c{index}",
            identifier(&table.name),
            identifier(name)
        )
    });
    let numbers = columns.iter().enumerate().map(|(index, (_, kind))| {
        let column = format!("c{index}");
        let of_form = |form: Option<&str>| match form {
            Some(form) => format!("count(*) FILTER (WHERE {column} ~ {})", literal(form)),
            None => "0::int8".to_owned(),
        };
        let bytes = format!("pg_catalog.octet_length({column})");
        [
            format!("count({column}), count(DISTINCT {column}), max({bytes})::int8"),
            format!("count(*) FILTER (WHERE {bytes} > {})", ColumnSample::LIMIT),
            forms(*kind).map(of_form).join(", "),
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
