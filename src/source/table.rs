//! Introspection: the configured relation, its columns and their types, its indexes, what the role may read.
//!
//! Owns: the statements over the system catalogues. Must not know: which of it imsync accepts (see `fitness`).

use sqlx::Row;

use super::error::SourceError;
use super::session::SourceSession;
use crate::config::{TableName, parse_table_name};
use crate::quote::shown;

/// What a relation is (`pg_class.relkind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
}

impl RelationKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Partitioned => "partitioned table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Foreign => "foreign table",
        }
    }

    /// It can have indexes of its own.
    pub(super) fn indexed(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned | Self::MaterializedView)
    }
}

/// The types that a watermark column can have (domains over them resolved).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatermarkType {
    Timestamptz,
    Timestamp,
    Int8,
}

impl WatermarkType {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Timestamptz => "pg_catalog.timestamptz",
            Self::Timestamp => "pg_catalog.timestamp",
            Self::Int8 => "pg_catalog.int8",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) number: i16,
    /// As `psql` shows it.
    pub(super) type_name: String,
    /// `pg_type.typname` below all domains; empty when that type is not one of the server's own.
    pub(super) base: String,
    pub(super) not_null: bool,
    pub(super) deterministic: bool,
    pub(super) readable: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) oid: i64,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: RelationKind,
    pub(super) columns: Vec<Column>,
    /// The role that we are.
    pub(super) role: String,
    pub(super) schema_usable: bool,
    /// Policies would hide rows from this role.
    pub(super) row_security: bool,
}

const RELATIONS: &str = "
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, current_user::text,
       has_schema_privilege(n.oid, 'USAGE'), c.relrowsecurity AND row_security_active(c.oid)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = $1
  AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $2 END";

/// Other relations that could be meant, the likeliest first.
const SIMILAR: &str = "
SELECT n.nspname::text, c.relname::text, current_database()::text
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY lower(c.relname) = lower($1) DESC, 1, 2
LIMIT 1000";

const COLUMNS: &str = "
SELECT a.attname::text, a.attnum, format_type(a.atttypid, a.atttypmod),
       (SELECT CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text ELSE '' END
        FROM (WITH RECURSIVE below (oid) AS (
                SELECT a.atttypid
                UNION ALL
                SELECT t.typbasetype FROM below JOIN pg_catalog.pg_type AS t USING (oid) WHERE t.typtype = 'd')
              SELECT oid FROM below) AS below
        JOIN pg_catalog.pg_type AS t USING (oid) WHERE t.typtype <> 'd'),
       a.attnotnull, coalesce(l.collisdeterministic, true), has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum";

/// A unique index over one column and all rows. A parent of inherited tables (not partitions) has none over its children.
const UNIQUE: &str = "
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_index AS i
  WHERE i.indrelid = $1::int8::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
    AND i.indnkeyatts = 1 AND i.indkey[0] = $2)
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS c ON c.oid = h.inhparent
    WHERE h.inhparent = $1::int8::oid AND c.relkind = 'r')";

/// A btree over all rows that begins with these columns, in their own order and collation, all in one direction.
const SERVED: &str = "
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_index AS i
  JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
  WHERE i.indrelid = $1::int8::oid AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree'
    AND i.indnkeyatts >= cardinality($2::int2[])
    AND NOT EXISTS (
      SELECT FROM unnest($2::int2[]) WITH ORDINALITY AS wanted (number, place)
      LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = wanted.number
      LEFT JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[wanted.place - 1]
      WHERE i.indkey[wanted.place - 1] <> wanted.number OR NOT o.opcdefault
        OR i.indcollation[wanted.place - 1] <> a.attcollation
        OR i.indoption[wanted.place - 1] <> i.indoption[0] OR i.indoption[wanted.place - 1] NOT IN (0, 3)))";

/// The first materialized view or foreign table that a relation is made of: through views, partitions and children.
const MADE_OF: &str = "
WITH RECURSIVE part (oid) AS (
  SELECT $1::int8::oid
  UNION
  SELECT next.oid FROM part CROSS JOIN LATERAL (
    SELECT d.refobjid AS oid
    FROM pg_catalog.pg_rewrite AS r
    JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
      AND d.refclassid = 'pg_catalog.pg_class'::regclass
    WHERE r.ev_class = part.oid AND r.ev_type = '1'
    UNION ALL
    SELECT h.inhrelid FROM pg_catalog.pg_inherits AS h WHERE h.inhparent = part.oid
  ) AS next)
SELECT c.relkind::text, n.nspname::text, c.relname::text
FROM part JOIN pg_catalog.pg_class AS c USING (oid) JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('m', 'f')
ORDER BY 2, 3 LIMIT 1";

/// Rows by the last ANALYZE, children and partitions included; NULL when none of them was ever analysed.
const ESTIMATE: &str = "
WITH RECURSIVE part (oid) AS (
  SELECT $1::int8::oid UNION SELECT h.inhrelid FROM part JOIN pg_catalog.pg_inherits AS h ON h.inhparent = part.oid)
SELECT sum(c.reltuples)::int8 FROM part JOIN pg_catalog.pg_class AS c USING (oid)
WHERE c.relkind IN ('r', 'm', 'f') AND c.reltuples >= 0";

fn kind_of(relkind: &str) -> RelationKind {
    match relkind {
        "p" => RelationKind::Partitioned,
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "f" => RelationKind::Foreign,
        _ => RelationKind::Table,
    }
}

impl Table {
    /// Finds the configured relation; says what is similar when there is none.
    pub(super) async fn find(session: &mut SourceSession, configured: &str) -> Result<Self, SourceError> {
        let TableName { schema, table: name, folded: _ } = parse_table_name(configured).map_err(|reason| {
            SourceError::Unsuitable(format!("source.table = {configured:?} is not a table's name: {reason}"))
        })?;
        let found = session.rows(sqlx::query(RELATIONS).bind(&name).bind(schema.as_deref())).await?.pop();
        let Some(row) = found else { return Err(not_found(session, configured, &name).await?) };
        let oid: i64 = row.try_get(0)?;
        let mut columns = Vec::new();
        for column in session.rows(sqlx::query(COLUMNS).bind(oid)).await? {
            columns.push(Column {
                name: column.try_get(0)?,
                number: column.try_get(1)?,
                type_name: column.try_get(2)?,
                base: column.try_get::<Option<String>, _>(3)?.unwrap_or_default(),
                not_null: column.try_get(4)?,
                deterministic: column.try_get(5)?,
                readable: column.try_get(6)?,
            });
        }
        Ok(Self {
            oid,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            kind: kind_of(&row.try_get::<String, _>(3)?),
            columns,
            role: row.try_get(4)?,
            schema_usable: row.try_get(5)?,
            row_security: row.try_get(6)?,
        })
    }

    /// `schema.table`, quoted where needed.
    pub(super) fn shown(&self) -> String {
        format!("{}.{}", shown(&self.schema), shown(&self.name))
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// A unique index makes sure that no two rows carry one value of this column.
    pub(super) async fn is_unique(&self, session: &mut SourceSession, column: &Column) -> Result<bool, SourceError> {
        let row = session.row(sqlx::query(UNIQUE).bind(self.oid).bind(column.number)).await?;
        Ok(self.kind.indexed() && row.try_get(0)?)
    }

    /// An index gives the rows in the order of these columns.
    pub(super) async fn is_served(
        &self,
        session: &mut SourceSession,
        columns: &[&Column],
    ) -> Result<bool, SourceError> {
        let numbers: Vec<i16> = columns.iter().map(|column| column.number).collect();
        Ok(session.row(sqlx::query(SERVED).bind(self.oid).bind(numbers)).await?.try_get(0)?)
    }

    /// The materialized view or foreign table that it is or that it reads from.
    pub(super) async fn made_of(
        &self,
        session: &mut SourceSession,
    ) -> Result<Option<(RelationKind, String)>, SourceError> {
        let Some(row) = session.rows(sqlx::query(MADE_OF).bind(self.oid)).await?.pop() else { return Ok(None) };
        let name = format!("{}.{}", shown(&row.try_get::<String, _>(1)?), shown(&row.try_get::<String, _>(2)?));
        Ok(Some((kind_of(&row.try_get::<String, _>(0)?), name)))
    }

    pub(super) async fn estimated_rows(&self, session: &mut SourceSession) -> Result<Option<u64>, SourceError> {
        if self.kind == RelationKind::View {
            return Ok(None);
        }
        let rows: Option<i64> = session.row(sqlx::query(ESTIMATE).bind(self.oid)).await?.try_get(0)?;
        Ok(rows.and_then(|rows| u64::try_from(rows).ok()))
    }
}

async fn not_found(session: &mut SourceSession, configured: &str, name: &str) -> Result<SourceError, SourceError> {
    let mut names = Vec::new();
    let mut database = String::new();
    for row in session.rows(sqlx::query(SIMILAR).bind(name)).await? {
        let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        names.push((table.clone(), format!("{}.{}", shown(&schema), shown(&table))));
        database = row.try_get(2)?;
    }
    let known = names.iter().map(|(table, shown)| (table.as_str(), shown.as_str()));
    let hint = match nearest(name, known).as_slice() {
        [] if names.is_empty() => "the database has no tables that this role can see: is it the right one?".to_owned(),
        [] => format!("database {} has {} other tables", shown(&database), names.len()),
        near => format!("there is {}", near.join(", ")),
    };
    Ok(SourceError::Unsuitable(format!(
        "source.table = {configured:?}: there is no such table or view (or it is not in the search path); {hint}"
    )))
}

/// The names that are likely meant by `wanted`, at most three, as shown: those that are the same but for case; without
/// one, those within a third of its length in typing errors.
pub(super) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .map(|(name, shown)| (distance(&wanted, &name.to_lowercase()), shown))
        .filter(|(distance, _)| *distance <= wanted.chars().count().div_ceil(3))
        .collect();
    near.sort_unstable();
    if near.iter().any(|(distance, _)| *distance == 0) {
        near.retain(|(distance, _)| *distance == 0);
    }
    near.into_iter().take(3).map(|(_, shown)| shown).collect()
}

/// Levenshtein's distance: letters to insert, delete or replace.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, char) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = place + 1;
        for column in 0..other.len() {
            let replaced = diagonal + usize::from(other[column] != char);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn nearest_names_come_by_likeness() {
        let columns = ["city", "country", "gender", "updated_at", "created_at"];
        let near = |wanted| nearest(wanted, columns.iter().map(|name| (*name, *name)));
        assert_eq!(near("City"), ["city"]);
        assert_eq!(near("updatedat"), ["updated_at"]);
        assert_eq!(near("pdated_at"), ["updated_at", "created_at"]);
        assert!(near("zip").is_empty());
    }
}
