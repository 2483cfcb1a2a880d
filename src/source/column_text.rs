//! How the text of a column is selected and decoded.
//!
//! Owns: the expression for each type, and the text of what it returns. Must not know: the table, pages.
//!
//! The text is the one that a cast to `text` gives, which is what psql shows. Integers and booleans are read as they are,
//! because their text is the same on every server, and the cast costs the server more than the rest of the row. A text is
//! cut, so that a page of long texts does not fill the memory; a type whose texts are short needs no cut.

use std::fmt::Write as _;

use sqlx::postgres::PgRow;
use sqlx::{Row as _, ValueRef};

use super::error::SourceError;
use crate::model::{MAX_COLUMN_TEXT_CHARS, Rows};
use crate::sqlstate::described;

/// Types without a text of more than a hundred characters.
const SHORT_TYPES: &[&str] = &[
    "date",
    "float4",
    "float8",
    "interval",
    "macaddr",
    "macaddr8",
    "name",
    "oid",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "uuid",
];

/// How a column arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnForm {
    /// As a text.
    Text,
    /// As an integer of two, four or eight bytes.
    Integer,
    /// As a boolean.
    Boolean,
}

/// How the columns of the select list arrive: the account, and the mapped columns. The watermark is a text.
#[derive(Clone, Debug)]
pub(super) struct RowForm {
    account: ColumnForm,
    columns: Vec<ColumnForm>,
}

/// The form of a column whose type below all domains is `base_type`, and the expression that selects it.
pub(super) fn selected(column: &str, base_type: &str) -> (ColumnForm, String) {
    let cut = MAX_COLUMN_TEXT_CHARS + 1;
    match base_type {
        "int2" | "int4" | "int8" => (ColumnForm::Integer, column.to_owned()),
        "bool" => (ColumnForm::Boolean, column.to_owned()),
        // A text of so many bytes is not longer in characters, and its bytes are known without reading them.
        "text" | "varchar" => (
            ColumnForm::Text,
            format!(
                "CASE WHEN pg_catalog.octet_length({column}) <= {cut} THEN {column}::text ELSE pg_catalog.left({column}::text, {cut}) END"
            ),
        ),
        short if SHORT_TYPES.contains(&short) => (ColumnForm::Text, format!("{column}::text")),
        _ => (ColumnForm::Text, format!("pg_catalog.left({column}::text, {cut})")),
    }
}

impl RowForm {
    pub(super) fn new(account: ColumnForm, columns: Vec<ColumnForm>) -> Self {
        Self { account, columns }
    }

    /// The columns of the select list.
    pub(super) fn width(&self) -> usize {
        3 + self.columns.len()
    }

    /// Keys alone, as texts.
    pub(super) fn of_keys() -> Self {
        Self::new(ColumnForm::Text, Vec::new())
    }

    /// Adds a row of the select list account, watermark, gone, mapped columns.
    pub(super) fn decode(&self, row: &PgRow, rows: &mut Rows, number: &mut String) -> Result<(), SourceError> {
        rows.begin_row(row.try_get(2)?);
        push(row, 0, self.account, rows, number)?;
        push(row, 1, ColumnForm::Text, rows, number)?;
        for (index, form) in self.columns.iter().enumerate() {
            push(row, 3 + index, *form, rows, number)?;
        }
        Ok(())
    }

    /// The rows of an answer.
    pub(super) fn decode_all(&self, answer: &[PgRow]) -> Result<Rows, SourceError> {
        let (mut rows, mut number) = (Rows::default(), String::new());
        for row in answer {
            self.decode(row, &mut rows, &mut number)?;
        }
        Ok(rows)
    }
}

/// `number` is a buffer.
fn push(row: &PgRow, index: usize, form: ColumnForm, rows: &mut Rows, number: &mut String) -> Result<(), SourceError> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        rows.push_text(None);
        return Ok(());
    }
    let unexpected = || SourceError::Refused("the server sent a value of another length than its type has".to_owned());
    match form {
        ColumnForm::Text => {
            let text = value.as_str().map_err(|_| SourceError::Raised(described("22021")))?;
            rows.push_text(Some(text));
        }
        ColumnForm::Boolean => {
            let bytes = value.as_bytes().map_err(|_| unexpected())?;
            rows.push_text(Some(if bytes == [0] { "false" } else { "true" }));
        }
        ColumnForm::Integer => {
            let bytes = value.as_bytes().map_err(|_| unexpected())?;
            number.clear();
            // Writing to a string cannot fail.
            let _ = write!(number, "{}", integer(bytes).ok_or_else(unexpected)?);
            rows.push_text(Some(number));
        }
    }
    Ok(())
}

fn integer(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        2 => bytes.try_into().ok().map(i16::from_be_bytes).map(i64::from),
        4 => bytes.try_into().ok().map(i32::from_be_bytes).map(i64::from),
        8 => bytes.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    }
}
