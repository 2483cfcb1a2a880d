//! A text that a poll reads instead of the fingerprint: where it is the same, so is the fingerprint.
//!
//! Owns: the query of the mark, and how a relation is found by its name. Must not know: what the parts of a fingerprint mean.
//!
//! The fingerprint follows views, functions, domains and labels, which takes PostgreSQL about four times as long as the rest
//! of a transaction list. The columns of a table depend on none of them except labels: the base of a domain never changes,
//! and a type is replaced only with the column. So one row of `pg_class`, the rows of `pg_attribute`, and the expressions of
//! generated columns show every change.

use crate::quote::literal;

/// A scalar query over the catalogs. It is NULL when the relation does not exist.
///
/// `identity`: two expressions, separated by a comma, for the server and its timeline. A row as text has one reading, unlike
/// texts that are put side by side.
pub(super) fn mark_query((schema, table): (&str, &str), columns: &[String], identity: &str) -> String {
    let columns: Vec<String> = columns.iter().map(|column| literal(column)).collect();
    format!(
        "SELECT ROW(c.oid, c.relkind, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()), \
         {identity}, \
         ARRAY(SELECT ROW(a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated, \
             (SELECT pg_catalog.hashtextextended(g.adbin::text, 0) FROM pg_catalog.pg_attrdef AS g \
              WHERE a.attgenerated <> '' AND g.adrelid = a.attrelid AND g.adnum = a.attnum))::text \
           FROM pg_catalog.pg_attribute AS a \
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (ARRAY[{}]::text[]) \
           ORDER BY a.attnum))::text \
         {}",
        columns.join(", "),
        from_relation(schema, table)
    )
}

/// `FROM … WHERE …`, whose row `c` of `pg_class` is the relation.
pub(super) fn from_relation(schema: &str, table: &str) -> String {
    format!(
        "FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = {} AND n.nspname = {}",
        literal(table),
        literal(schema)
    )
}
