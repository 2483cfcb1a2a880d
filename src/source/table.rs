//! Introspection: the configured relation, its columns and their types, its indexes, the privileges of the role.
//!
//! Owns: the statements over the system catalogs. Must not know: what imsync requires of them (see `requirements`).

use sqlx::Row;

use super::error::SourceError;
use super::row_security::{HiddenRows, find_hidden_rows};
use super::session::SourceSession;
use super::similar_names::similar_names;
use crate::config::{TableName, parse_table_name};
use crate::finding::Finding;
use crate::quote::{identifier, shown};

/// The kind of a relation (`pg_class.relkind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
}

impl RelationKind {
    /// As the manual calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Partitioned => "partitioned table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Foreign => "foreign table",
        }
    }

    /// Indexes can be created on it.
    pub(super) fn can_have_indexes(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned | Self::MaterializedView)
    }

    /// Row triggers that run before can be created on it.
    pub(super) fn has_row_triggers(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned)
    }
}

/// A column of the relation.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) attnum: i16,
    /// The name of the type as psql shows it.
    pub(super) type_name: String,
    /// `pg_type.typname` of the type below all domains; empty when it is not a type of `pg_catalog`.
    pub(super) base_type: String,
    /// No row has NULL here, for certain: a constraint that was never validated (PostgreSQL 18) does not count.
    pub(super) not_null: bool,
    /// It is computed whenever it is read (PostgreSQL 18), so that no index can contain it.
    pub(super) is_virtual: bool,
    /// Its collation is deterministic: only identical texts are equal.
    pub(super) deterministic: bool,
    /// The role has SELECT on it.
    pub(super) readable: bool,
}

/// The configured relation.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) oid: i64,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: RelationKind,
    pub(super) columns: Vec<Column>,
    /// `current_user`.
    pub(super) role: String,
    /// The role has USAGE on the schema.
    pub(super) schema_usable: bool,
    /// Row-level security may hide rows, of the relation itself or of one below a view.
    pub(super) hidden_rows: Option<HiddenRows>,
}

/// The number of columns that a message lists.
const MAX_LISTED_COLUMNS: usize = 20;

const FIND_RELATION: &str = "
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, current_user::text,
       has_schema_privilege(n.oid, 'USAGE')
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = $1
  AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $2 END";

/// Relations that may be meant instead; those that differ only in case come first.
const OTHER_RELATIONS: &str = "
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
       a.attnotnull AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_constraint AS k
         WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey)),
       coalesce(l.collisdeterministic, true), has_column_privilege(a.attrelid, a.attnum, 'SELECT'), a.attgenerated = 'v',
       a.attrelid::int8
FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
WHERE a.attrelid = ANY ($1::int8[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

/// A unique index over one column and all rows. The index of an inheritance parent (not a partitioned table) does not
/// cover the rows of its children.
const UNIQUE_INDEX: &str = "
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_index AS i
  WHERE i.indrelid = $1::int8::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
    AND i.indnkeyatts = 1 AND i.indkey[0] = $2)
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS c ON c.oid = h.inhparent
    WHERE h.inhparent = $1::int8::oid AND c.relkind = 'r')";

/// Why no index can ensure that an account has one row: what a unique index over the column would lack of the keys of
/// partitions, a partition that is a foreign table, and whether children inherit from the table.
const UNIQUE_INDEX_OBSTACLES: &str = "
WITH RECURSIVE part (oid) AS (
  SELECT $1::int8::oid UNION SELECT h.inhrelid FROM part JOIN pg_catalog.pg_inherits AS h ON h.inhparent = part.oid)
SELECT
  (SELECT string_agg(DISTINCT pg_catalog.pg_get_partkeydef(p.partrelid), ', ')
   FROM part JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = part.oid
   WHERE EXISTS (SELECT FROM unnest(p.partattrs) AS k (attnum)
                 LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = k.attnum AND k.attnum > 0
                 WHERE a.attname IS DISTINCT FROM $2)),
  (SELECT min(c.relname)::text FROM part JOIN pg_catalog.pg_class AS c USING (oid) WHERE c.relkind = 'f'),
  EXISTS (SELECT FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS c ON c.oid = h.inhparent
          WHERE h.inhparent = $1::int8::oid AND c.relkind = 'r')";

/// A btree index over all rows that begins with these columns, with their default operator class and own collation, all
/// in one direction.
const INDEX_FOR_ORDER: &str = "
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_index AS i
  JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
  WHERE i.indrelid = $1::int8::oid AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree'
    AND i.indnkeyatts >= cardinality($2::int2[])
    AND NOT EXISTS (
      SELECT FROM unnest($2::int2[]) WITH ORDINALITY AS wanted (attnum, position)
      LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = wanted.attnum
      LEFT JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[wanted.position - 1]
      WHERE i.indkey[wanted.position - 1] <> wanted.attnum OR NOT o.opcdefault
        OR i.indcollation[wanted.position - 1] <> a.attcollation
        OR i.indoption[wanted.position - 1] <> i.indoption[0] OR i.indoption[wanted.position - 1] NOT IN (0, 3)))";

/// The first materialized view or foreign table that a relation is or reads from, through views, partitions and
/// inheritance children.
const MATERIALIZED_OR_FOREIGN_BASE: &str = "
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

/// The number of rows at the last ANALYZE, children and partitions included; NULL when none of them was ever analyzed.
const ESTIMATED_ROWS: &str = "
WITH RECURSIVE part (oid) AS (
  SELECT $1::int8::oid UNION SELECT h.inhrelid FROM part JOIN pg_catalog.pg_inherits AS h ON h.inhparent = part.oid)
SELECT sum(c.reltuples)::int8 FROM part JOIN pg_catalog.pg_class AS c USING (oid)
WHERE c.relkind IN ('r', 'm', 'f') AND c.reltuples >= 0";

pub(super) fn relation_kind(relkind: &str) -> RelationKind {
    match relkind {
        "p" => RelationKind::Partitioned,
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "f" => RelationKind::Foreign,
        _ => RelationKind::Table,
    }
}

/// The columns of these relations in their order, each with the oid of its relation.
pub(super) async fn columns_of(session: &mut SourceSession, oids: Vec<i64>) -> Result<Vec<(i64, Column)>, SourceError> {
    let mut columns = Vec::new();
    for column in session.rows(sqlx::query(COLUMNS).bind(oids)).await? {
        let found = Column {
            name: column.try_get(0)?,
            attnum: column.try_get(1)?,
            type_name: column.try_get(2)?,
            base_type: column.try_get::<Option<String>, _>(3)?.unwrap_or_default(),
            not_null: column.try_get(4)?,
            deterministic: column.try_get(5)?,
            readable: column.try_get(6)?,
            is_virtual: column.try_get(7)?,
        };
        columns.push((column.try_get(8)?, found));
    }
    Ok(columns)
}

impl Table {
    /// Finds the configured relation. The error suggests similar names when it does not exist.
    pub(super) async fn find(session: &mut SourceSession, configured: &str) -> Result<Self, SourceError> {
        let TableName { schema, table: name, folded: _ } = parse_table_name(configured).map_err(|reason| {
            Finding::error(
                "source.table",
                format!("source.table = {configured:?} is not the name of a table: {reason}"),
            )
        })?;
        let relation = session.rows(sqlx::query(FIND_RELATION).bind(&name).bind(schema.as_deref())).await?.pop();
        let Some(row) = relation else { return Err(not_found(session, configured, &name).await?) };
        let oid: i64 = row.try_get(0)?;
        let columns = columns_of(session, vec![oid]).await?.into_iter().map(|(_, column)| column).collect();
        Ok(Self {
            oid,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            kind: relation_kind(&row.try_get::<String, _>(3)?),
            columns,
            role: row.try_get(4)?,
            schema_usable: row.try_get(5)?,
            hidden_rows: find_hidden_rows(session, oid).await?,
        })
    }

    /// `schema.table`, quoted where needed.
    pub(super) fn qualified_name(&self) -> String {
        format!("{}.{}", shown(&self.schema), shown(&self.name))
    }

    /// The names of its columns, for messages.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<String> =
            self.columns.iter().take(MAX_LISTED_COLUMNS).map(|column| shown(&column.name)).collect();
        let more = self.columns.len().saturating_sub(MAX_LISTED_COLUMNS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", names.join(", "))
    }

    /// `"schema"."table"`, for statements.
    pub(super) fn identifier(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    /// `CREATE INDEX CONCURRENTLY` does not exist for a partitioned table.
    pub(super) fn concurrently(&self) -> &'static str {
        if self.kind == RelationKind::Partitioned { "" } else { " CONCURRENTLY" }
    }

    /// The column with exactly this name.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// A unique index ensures that no two rows have the same value in this column.
    pub(super) async fn has_unique_index(
        &self,
        session: &mut SourceSession,
        column: &Column,
    ) -> Result<bool, SourceError> {
        let row = session.row(sqlx::query(UNIQUE_INDEX).bind(self.oid).bind(column.attnum)).await?;
        Ok(self.kind.can_have_indexes() && row.try_get(0)?)
    }

    /// Why no unique index over this column alone can cover all rows, as a clause; `None` when one can, or when that could
    /// not be found out.
    pub(super) async fn unique_index_obstacle(&self, session: &mut SourceSession, column: &Column) -> Option<String> {
        let rows = session.advice(sqlx::query(UNIQUE_INDEX_OBSTACLES).bind(self.oid).bind(&column.name)).await?;
        let row = rows.first()?;
        let (keys, foreign): (Option<String>, Option<String>) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
        if let Some(keys) = keys {
            return Some(format!("the table is partitioned by {keys}, which a unique index would have to contain"));
        }
        match foreign {
            Some(partition) => Some(format!("the partition {} is a foreign table", shown(&partition))),
            None if row.try_get(2).ok()? => Some("an index does not cover the tables that inherit from it".to_owned()),
            None => None,
        }
    }

    /// An index returns the rows in the order of these columns; `None` when that could not be found out.
    pub(super) async fn has_index_for_order(&self, session: &mut SourceSession, columns: &[&Column]) -> Option<bool> {
        let numbers: Vec<i16> = columns.iter().map(|column| column.attnum).collect();
        let rows = session.advice(sqlx::query(INDEX_FOR_ORDER).bind(self.oid).bind(numbers)).await?;
        rows.first()?.try_get(0).ok()
    }

    /// The kind and name of the materialized view or foreign table that it is or reads from.
    pub(super) async fn materialized_or_foreign_base(
        &self,
        session: &mut SourceSession,
    ) -> Result<Option<(RelationKind, String)>, SourceError> {
        let Some(row) = session.rows(sqlx::query(MATERIALIZED_OR_FOREIGN_BASE).bind(self.oid)).await?.pop() else {
            return Ok(None);
        };
        let name = format!("{}.{}", shown(&row.try_get::<String, _>(1)?), shown(&row.try_get::<String, _>(2)?));
        Ok(Some((relation_kind(&row.try_get::<String, _>(0)?), name)))
    }

    /// The number of rows at the last ANALYZE; `None` for a view, for a table that was never analyzed, and when it could
    /// not be found out.
    pub(super) async fn estimated_rows(&self, session: &mut SourceSession) -> Option<u64> {
        if self.kind == RelationKind::View {
            return None;
        }
        let rows = session.advice(sqlx::query(ESTIMATED_ROWS).bind(self.oid)).await?;
        let rows: Option<i64> = rows.first()?.try_get(0).ok()?;
        u64::try_from(rows?).ok()
    }
}

async fn not_found(session: &mut SourceSession, configured: &str, name: &str) -> Result<SourceError, SourceError> {
    let mut names = Vec::new();
    let mut database = String::new();
    for row in session.rows(sqlx::query(OTHER_RELATIONS).bind(name)).await? {
        let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        names.push((table.clone(), format!("{}.{}", shown(&schema), shown(&table))));
        database = row.try_get(2)?;
    }
    let known = names.iter().map(|(table, displayed)| (table.as_str(), displayed.as_str()));
    let hint = match similar_names(name, known).as_slice() {
        [] if names.is_empty() => {
            "this role sees no tables in the database; check the database name in source.url".to_owned()
        }
        [] => format!("database {} has {} other tables", shown(&database), names.len()),
        similar => format!("similar: {}", similar.join(", ")),
    };
    Ok(Finding::error(
        "source.table",
        format!("source.table = {configured:?}: no such table or view exists, or it is not in the search path; {hint}"),
    )
    .remedy("correct source.table, with its schema, or the database in source.url")
    .into())
}
