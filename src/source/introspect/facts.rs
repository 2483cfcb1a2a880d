//! What is known about a table and its columns: plain data.
//!
//! Owns: the types, and what follows from one of them alone. Must not know: statements, what imsync proposes.

use crate::model::MAX_VALUE_BYTES;
use crate::quote::shown;
use crate::source::column_type::{AccountType, WatermarkType};
use crate::source::stamp_triggers::FoundTrigger;
use crate::source::table::{Column, RelationKind};

/// The type of a column, as far as a proposal depends on it. Domains count as the type below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `text`, `varchar` or `char(n)`.
    Text,
    /// `citext`, which cannot be an account column.
    CaseInsensitiveText,
    /// `uuid`.
    Uuid,
    /// `smallint` or `integer`.
    Integer,
    /// `bigint`.
    BigInteger,
    /// `boolean`.
    Boolean,
    /// An enum with this number of labels.
    Enum(u32),
    /// `timestamp with time zone`.
    Timestamptz,
    /// `timestamp` without time zone.
    Timestamp,
    /// `date`.
    Date,
    /// Every other type.
    Other,
}

impl ColumnKind {
    /// `labels`: of an enum.
    pub(super) fn new(column: &Column, labels: Option<u32>) -> Self {
        if let Some(labels) = labels {
            return Self::Enum(labels);
        }
        if column.type_name == "citext" || column.type_name.ends_with(".citext") {
            return Self::CaseInsensitiveText;
        }
        match WatermarkType::from_typname(&column.base_type) {
            Some(WatermarkType::Timestamptz) => return Self::Timestamptz,
            Some(WatermarkType::Timestamp) => return Self::Timestamp,
            Some(WatermarkType::Int8) => return Self::BigInteger,
            None => {}
        }
        match AccountType::from_typname(&column.base_type) {
            Some(AccountType::Text | AccountType::Varchar | AccountType::Char) => Self::Text,
            Some(AccountType::Int2 | AccountType::Int4 | AccountType::Int8) => Self::Integer,
            Some(AccountType::Uuid) => Self::Uuid,
            None => match column.base_type.as_str() {
                "bool" => Self::Boolean,
                "date" => Self::Date,
                _ => Self::Other,
            },
        }
    }

    /// A text, whatever its collation.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::CaseInsensitiveText)
    }

    /// A whole number.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Integer | Self::BigInteger)
    }
}

/// What `pg_stats` knows of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnStatistics {
    /// As in `pg_stats`: a number of values, or, if it is negative, their share of the rows.
    pub distinct: f64,
    /// The share of rows with NULL.
    pub null_fraction: f64,
}

/// What a sample of at most 1,000 rows shows of a column: numbers only. Texts were cut at 200 characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnSample {
    /// The rows of the sample.
    pub rows: u64,
    /// Rows without NULL.
    pub values: u64,
    /// Different values.
    pub distinct: u64,
    /// The length of the longest text in bytes.
    pub max_bytes: u64,
    /// Texts that are too long for a value of an attribute.
    pub too_long: u64,
    /// Texts with what looks like an e-mail address.
    pub emails: u64,
    /// Texts and whole numbers that look like a phone number.
    pub phones: u64,
    /// Texts that look like a hash, a token or a key.
    pub secrets: u64,
    /// Texts that spell a uuid.
    pub uuids: u64,
}

impl ColumnSample {
    /// The length in bytes from which a text is too long for a value, less one.
    pub const LIMIT: usize = MAX_VALUE_BYTES;
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct IntrospectedColumn {
    /// Its name.
    pub name: String,
    /// The name of the type as psql shows it.
    pub type_name: String,
    /// Its type.
    pub kind: ColumnKind,
    /// No row has NULL here.
    pub not_null: bool,
    /// The role has SELECT on it.
    pub readable: bool,
    /// Only identical texts are equal.
    pub deterministic: bool,
    /// It alone is the primary key.
    pub is_primary_key: bool,
    /// A unique index over it alone covers all rows.
    pub is_unique: bool,
    /// A btree index begins with it.
    pub leads_index: bool,
    /// What `pg_stats` knows.
    pub statistics: Option<ColumnStatistics>,
    /// What a sample shows.
    pub sample: Option<ColumnSample>,
    /// The trigger that sets it.
    pub trigger: Option<FoundTrigger>,
}

impl IntrospectedColumn {
    /// A column with what the catalogs say about its type.
    pub(super) fn new(column: &Column, labels: Option<u32>) -> Self {
        Self {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            kind: ColumnKind::new(column, labels),
            not_null: column.not_null,
            readable: column.readable,
            deterministic: column.deterministic,
            is_primary_key: false,
            is_unique: false,
            leads_index: false,
            statistics: None,
            sample: None,
            trigger: None,
        }
    }

    /// It may be a watermark column, by its type.
    pub fn has_watermark_type(&self) -> bool {
        matches!(self.kind, ColumnKind::Timestamptz | ColumnKind::Timestamp | ColumnKind::BigInteger)
    }

    /// It may be an account column, by its type.
    pub fn has_account_type(&self) -> bool {
        let fits = matches!(self.kind, ColumnKind::Text | ColumnKind::Uuid) || self.kind.is_integer();
        fits && self.deterministic
    }
}

/// What the catalogs say about a relation itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationFacts {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// As the manual calls it: `table`, `partitioned table`, `view`, `materialized view` or `foreign table`.
    pub kind: &'static str,
    /// Indexes can be created on it.
    pub can_have_indexes: bool,
    /// Rows at the last ANALYZE.
    pub estimated_rows: Option<u64>,
}

impl RelationFacts {
    pub(super) fn new(schema: String, name: String, kind: RelationKind, estimated_rows: Option<u64>) -> Self {
        Self { schema, name, kind: kind.name(), can_have_indexes: kind.can_have_indexes(), estimated_rows }
    }

    /// `schema.table`, quoted where needed.
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", shown(&self.schema), shown(&self.name))
    }
}

/// A table, view or materialized view.
#[derive(Clone, Debug, PartialEq)]
pub struct IntrospectedTable {
    /// The relation.
    pub relation: RelationFacts,
    /// Its columns in their order.
    pub columns: Vec<IntrospectedColumn>,
    /// Why its rows may appear with old timestamps, so that no watermark is possible, as a clause.
    pub watermark_obstacle: Option<String>,
    /// The time zone of the database, as far as it is known.
    pub timezone: Option<String>,
}

impl IntrospectedTable {
    /// The column with this name.
    pub fn column(&self, name: &str) -> Option<&IntrospectedColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// What is known about a watermark column beside its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkDetails {
    /// An index returns the rows in the order of the polls; `None` where none can exist, or that could not be found out.
    pub has_index: Option<bool>,
    /// The statement that creates this index.
    pub create_index: String,
    /// A sentence that says how a trigger moves the column with every change; SQL follows `run: `.
    pub trigger_remedy: String,
}
