//! The relations of the database that can be the source, with their columns and keys.
//!
//! Owns: the statements over the system catalogs. Must not know: what imsync proposes, the rows of a table.

use std::cmp::Reverse;
use std::collections::HashMap;

use sqlx::Row as _;

use super::facts::{IntrospectedColumn, IntrospectedTable, RelationFacts};
use crate::source::error::SourceError;
use crate::source::session::SourceSession;
use crate::source::table::{RelationKind, columns_of, relation_kind};

/// Relations whose columns are read at most.
const MAX_RELATIONS: usize = 1000;

/// Every relation that the role may see, without partitions, without those of extensions, and without the schemas that have
/// all of the tables `$1`.
const RELATIONS: &str = "
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text,
       CASE WHEN c.relkind = 'p'
            THEN (SELECT sum(p.reltuples) FROM pg_catalog.pg_partition_tree(c.oid) AS t
                  JOIN pg_catalog.pg_class AS p ON p.oid = t.relid WHERE t.isleaf AND p.reltuples >= 0)
            WHEN c.relkind <> 'v' AND c.reltuples >= 0 THEN c.reltuples END::int8
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND (cardinality($1::text[]) = 0
       OR cardinality($1::text[]) > (SELECT count(*) FROM pg_catalog.pg_class AS s
                                     WHERE s.relnamespace = n.oid AND s.relname::text = ANY ($1)))
ORDER BY 2, 3";

/// Of each column with which an index begins: whether it alone is the primary key, whether a unique index over it alone covers
/// all rows (as `UNIQUE_INDEX` of `table` says), and whether a btree begins with it.
const KEYS: &str = "
SELECT i.indrelid::int8, i.indkey[0], bool_or(i.indisprimary AND i.indnkeyatts = 1),
       bool_or(i.indisunique AND i.indnkeyatts = 1 AND c.relkind IN ('r', 'p', 'm') AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_inherits AS h WHERE h.inhparent = c.oid AND c.relkind = 'r')),
       bool_or(m.amname = 'btree')
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid JOIN pg_catalog.pg_am AS m ON m.oid = x.relam
WHERE i.indrelid = ANY ($1::int8[]::oid[]) AND i.indisvalid AND i.indpred IS NULL
GROUP BY 1, 2";

/// The columns that are enums, and their number of labels.
const ENUMS: &str = "
SELECT a.attrelid::int8, a.attnum, count(*)::int4
FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_enum AS e ON e.enumtypid = a.atttypid
WHERE a.attrelid = ANY ($1::int8[]::oid[]) GROUP BY 1, 2";

/// The relations with their columns, and how many were left out because there are too many: those with the lowest `score` of
/// their name and the fewest rows. `excluded`: a schema that has all of these tables is left out.
pub(super) async fn relations(
    session: &mut SourceSession,
    excluded: &[&str],
    score: fn(&str) -> u32,
) -> Result<(Vec<IntrospectedTable>, usize), SourceError> {
    let mut found = Vec::new();
    for row in session.rows(sqlx::query(RELATIONS).bind(excluded)).await? {
        let rows = row.try_get::<Option<i64>, _>(4)?.and_then(|rows| u64::try_from(rows).ok());
        let kind = relation_kind(&row.try_get::<String, _>(3)?);
        let obstacle =
            matches!(kind, RelationKind::MaterializedView | RelationKind::Foreign).then(|| late_rows(kind, None));
        let relation = RelationFacts::new(row.try_get(1)?, row.try_get(2)?, kind, rows);
        found.push((row.try_get::<i64, _>(0)?, relation, obstacle));
    }
    // Nobody has counted the rows of a view, so its name has to suffice.
    found.sort_by_key(|(_, relation, _)| Reverse((score(&relation.name), relation.estimated_rows)));
    let left_out = found.split_off(found.len().min(MAX_RELATIONS)).len();
    let mut columns = introspected_columns(session, found.iter().map(|(oid, ..)| *oid).collect()).await?;
    let table = |(oid, relation, watermark_obstacle)| IntrospectedTable {
        relation,
        columns: columns.remove(&oid).unwrap_or_default(),
        watermark_obstacle,
        timezone: None,
    };
    Ok((found.into_iter().map(table).collect(), left_out))
}

/// Why no watermark is possible over a relation of this kind, or one that reads from it, as a clause.
pub(super) fn late_rows(kind: RelationKind, base: Option<&str>) -> String {
    let of = base.map_or(String::new(), |base| format!("{base}, "));
    format!("rows of {of}a {}, can appear with old timestamps and would be missed", kind.name())
}

/// The columns of these relations, by the oid of the relation.
pub(super) async fn introspected_columns(
    session: &mut SourceSession,
    oids: Vec<i64>,
) -> Result<HashMap<i64, Vec<IntrospectedColumn>>, SourceError> {
    let mut labels: HashMap<(i64, i16), u32> = HashMap::new();
    for row in session.rows(sqlx::query(ENUMS).bind(oids.clone())).await? {
        labels.insert((row.try_get(0)?, row.try_get(1)?), u32::try_from(row.try_get::<i32, _>(2)?).unwrap_or_default());
    }
    let mut keys: HashMap<(i64, i16), [bool; 3]> = HashMap::new();
    for row in session.rows(sqlx::query(KEYS).bind(oids.clone())).await? {
        keys.insert((row.try_get(0)?, row.try_get(1)?), [row.try_get(2)?, row.try_get(3)?, row.try_get(4)?]);
    }
    let mut found: HashMap<i64, Vec<IntrospectedColumn>> = HashMap::new();
    for (oid, column) in columns_of(session, oids).await? {
        let at = (oid, column.attnum);
        let [is_primary_key, is_unique, leads_index] = keys.get(&at).copied().unwrap_or_default();
        let described = IntrospectedColumn::new(&column, labels.get(&at).copied());
        found.entry(oid).or_default().push(IntrospectedColumn { is_primary_key, is_unique, leads_index, ..described });
    }
    Ok(found)
}
