//! What the stored watermark and the stored values depend on in the source, and whether it has changed.
//!
//! Owns: the parts of the fingerprint, the statement that reads them, and which parts the watermark depends on.
//! Must not know: where a fingerprint is stored, what follows from a change.
//!
//! A position in `updated_at` means nothing in another table, on another server, or in a column of another type, although
//! all names are the same. What leaves the meaning alone is not in the fingerprint: the file of the table (`VACUUM FULL`),
//! its statistics, its indexes and partitions, columns that imsync does not read, a restart of the server.

use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr};

use super::error::SourceError;
use super::fingerprint_mark::{from_relation, mark_query};
use super::session::SourceSession;
use crate::quote::literal;

const SERVER: &str = "server";
const TIMELINE: &str = "timeline of the server";
const DATABASE: &str = "database";
const TABLE: &str = "table";
const DEFINITION: &str = "definition of the view";
const WATERMARK: &str = "watermark column ";
const COLUMN: &str = "column ";
const LABELS: &str = "labels of ";

/// The server: its identifier, whether it is a standby, and its timeline, in this order. A managed server may not let the
/// role see them, so each further statement asks for less. On a standby, the timeline is that of the WAL replayed.
const IDENTITIES: [&str; 4] = [
    "(SELECT system_identifier::text FROM pg_catalog.pg_control_system()) || CASE WHEN pg_catalog.pg_is_in_recovery() THEN ' standby' ELSE '' END, \
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT greatest(r.min_recovery_end_timeline, c.timeline_id)::text \
       FROM pg_catalog.pg_control_recovery() AS r, pg_catalog.pg_control_checkpoint() AS c) \
     ELSE ('x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::int::text END",
    "(SELECT system_identifier::text FROM pg_catalog.pg_control_system()) || CASE WHEN pg_catalog.pg_is_in_recovery() THEN ' standby' ELSE '' END, \
     NULL::text",
    "NULL::text, CASE WHEN NOT pg_catalog.pg_is_in_recovery() \
     THEN ('x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::int::text END",
    "NULL::text, NULL::text",
];

/// One row for each column `$3` of the table `$1` in the schema `$2`, whose names are put in as literals: without a parameter
/// the statement is planned once for each session. The definition of a view consists of the rules of all views below it, without the places
/// in their texts, of the bodies of the functions that they call, and of the expressions of the generated columns that they
/// read. The type of a column is its chain of domains; the length of a text type does not change a text. The expression of a
/// generated column can be replaced (PostgreSQL 17), which moves no stamp. Labels of an enum change a text when they are
/// renamed.
const PARTS: &str = "
WITH RECURSIVE relation AS (
  SELECT c.oid, c.relkind FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = $1 AND n.nspname = $2),
part (oid) AS (
  SELECT oid FROM relation WHERE relkind IN ('v', 'm')
  UNION
  SELECT d.refobjid FROM part
  JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = part.oid AND r.ev_type = '1'
  JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass),
rule AS (
  SELECT r.oid, r.ev_class, r.ev_action::text AS body
  FROM part JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = part.oid AND r.ev_type = '1'),
body AS (
  SELECT 1 AS kind, ev_class AS oid, body FROM rule
  UNION
  SELECT 2, p.oid, concat_ws(' ', p.prosrc, p.probin, p.prosqlbody::text)
  FROM rule JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = rule.oid
    AND d.refclassid = 'pg_catalog.pg_proc'::regclass
  JOIN pg_catalog.pg_proc AS p ON p.oid = d.refobjid
  UNION
  SELECT 3, g.oid, g.adbin::text
  FROM rule JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = rule.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass
  JOIN pg_catalog.pg_attribute AS c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid AND c.attgenerated <> ''
  JOIN pg_catalog.pg_attrdef AS g ON g.adrelid = c.attrelid AND g.adnum = c.attnum)
SELECT concat(relation.oid, ' ', relation.relkind),
  (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
  (SELECT pg_catalog.hashtextextended(string_agg(concat(kind, ' ', body.oid, ' ',
     regexp_replace(body, ':(location|stmt_location|stmt_len) -?[0-9]+', '', 'g')), E'\\n' ORDER BY kind, body.oid), 0)::text
   FROM body),
  a.attname::text,
  concat_ws(' ', a.attnum, below.oids, a.attcollation, CASE WHEN t.typcategory <> 'S' THEN a.atttypmod END,
    (SELECT pg_catalog.hashtextextended(regexp_replace(g.adbin::text, ':location -?[0-9]+', '', 'g'), 0)
     FROM pg_catalog.pg_attrdef AS g WHERE a.attgenerated <> '' AND g.adrelid = a.attrelid AND g.adnum = a.attnum)),
  (SELECT json_object_agg(e.oid, e.enumlabel ORDER BY e.oid)::text FROM pg_catalog.pg_enum AS e
   JOIN pg_catalog.pg_type AS b ON b.oid = below.base WHERE e.enumtypid IN (b.oid, b.typelem))
FROM relation JOIN pg_catalog.pg_attribute AS a ON a.attrelid = relation.oid
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
CROSS JOIN LATERAL (
  SELECT string_agg(oid::text, '/' ORDER BY depth) AS oids, (array_agg(oid ORDER BY depth DESC))[1] AS base
  FROM (WITH RECURSIVE below (oid, depth) AS (
          SELECT a.atttypid, 0
          UNION ALL
          SELECT t.typbasetype, depth + 1 FROM below JOIN pg_catalog.pg_type AS t USING (oid) WHERE t.typtype = 'd')
        SELECT oid, depth FROM below) AS below) AS below
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($3::text[])";

/// What the stored watermark and the stored values depend on, part by part. The names of the parts are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFingerprint(Map<String, Value>);

impl SourceFingerprint {
    /// The fingerprint that was stored as this document.
    pub fn from_json(document: &Value) -> Self {
        Self(document.as_object().cloned().unwrap_or_default())
    }

    /// The document to store.
    pub fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// What the relation is: its number and its kind.
    pub(super) fn relation(&self) -> Option<&str> {
        self.0.get(TABLE).and_then(Value::as_str)
    }

    /// A mark shows every change: the relation is no view, and no column has labels.
    pub(super) fn is_covered_by_mark(&self) -> bool {
        !self.0.keys().any(|part| part == DEFINITION || part.starts_with(LABELS))
    }

    /// No part of the earlier fingerprint is missing.
    pub(super) fn names_all_parts_of(&self, earlier: &Self) -> bool {
        earlier.0.keys().all(|name| self.0.contains_key(name))
    }

    /// The parts that are different now. A part that only one of the two has cannot be compared: the role may not have
    /// been allowed to see it, or the configuration did not name the column.
    pub fn changes_since(&self, earlier: &Self) -> SourceChanges {
        let differs = |(name, before): (&String, &Value)| {
            let now = self.0.get(name)?;
            let is_same = match (before, now) {
                // A label that was added is in no stored value.
                (Value::Object(before), Value::Object(now)) => {
                    before.iter().all(|(label, text)| now.get(label) == Some(text))
                }
                _ => before == now,
            };
            (!is_same).then(|| name.clone())
        };
        SourceChanges(earlier.0.iter().filter_map(differs).collect())
    }
}

/// The parts of the source that have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceChanges(Vec<String>);

impl SourceChanges {
    /// Nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A watermark that was stored before means nothing any more.
    pub fn invalidate_watermark(&self) -> bool {
        self.0.iter().any(|part| {
            part.starts_with(WATERMARK) || [SERVER, TIMELINE, DATABASE, TABLE, DEFINITION].contains(&part.as_str())
        })
    }
}

/// The names of the parts: `table, column city`.
impl std::fmt::Display for SourceChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// One row of [`PARTS`].
#[derive(Debug, Deserialize)]
struct ColumnParts {
    relation: Option<String>,
    database: Option<String>,
    definition: Option<String>,
    column: String,
    column_type: Option<String>,
    labels: Option<String>,
    server: Option<String>,
    timeline: Option<String>,
}

/// A fingerprint, and the mark that was read in the same snapshot.
#[derive(Debug)]
pub(super) struct MarkedFingerprint {
    pub(super) fingerprint: SourceFingerprint,
    /// `None` where no mark shows every change of this fingerprint.
    pub(super) mark: Option<String>,
}

/// Reads the fingerprint of one relation.
#[derive(Debug)]
pub(super) struct FingerprintReader {
    parts: String,
    mark: String,
    watermark: Option<String>,
}

impl FingerprintReader {
    /// `columns`: all columns that are read, the watermark column among them.
    ///
    /// Returns the reader with the fingerprint as it is now.
    pub(super) async fn prepare(
        session: &mut SourceSession,
        table: (&str, &str),
        watermark: Option<&str>,
        columns: &[String],
    ) -> Result<(Self, MarkedFingerprint), SourceError> {
        let mut refused = None;
        for identity in IDENTITIES {
            let reader = Self {
                parts: parts_query(table, columns, identity),
                mark: mark_query(table, columns, identity),
                watermark: watermark.map(str::to_owned),
            };
            match reader.read(session).await {
                Ok(fingerprint) => return Ok((reader, fingerprint)),
                Err(error @ SourceError::Unreachable(_)) => return Err(error),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| SourceError::Refused("the system catalogs cannot be read".to_owned())))
    }

    /// The scalar query whose text shows whether the fingerprint is still the same: the mark, or else all parts, for
    /// [`FingerprintReader::parse`].
    pub(super) fn query(&self, is_marked: bool) -> &str {
        if is_marked { &self.mark } else { &self.parts }
    }

    /// The fingerprint as it is now. Without any part, when the relation does not exist.
    pub(super) async fn read(&self, session: &mut SourceSession) -> Result<MarkedFingerprint, SourceError> {
        let statement = AssertSqlSafe(format!("SELECT ({}), ({})", self.parts, self.mark)).into_sql_str();
        let row = session.row(sqlx::query(statement)).await?;
        let fingerprint = self.parse(row.try_get(0)?)?;
        let mark = if fingerprint.is_covered_by_mark() { row.try_get(1)? } else { None };
        Ok(MarkedFingerprint { fingerprint, mark })
    }

    /// The fingerprint that the statement has returned.
    pub(super) fn parse(&self, returned: Option<&str>) -> Result<SourceFingerprint, SourceError> {
        let unreadable = |_| SourceError::Refused("the system catalogs cannot be read".to_owned());
        let columns: Vec<ColumnParts> = serde_json::from_str(returned.unwrap_or("[]")).map_err(unreadable)?;
        let mut parts = Map::new();
        for ColumnParts { relation, database, definition, column, column_type, labels, server, timeline } in columns {
            let mut add = |name: String, text: Option<String>| {
                text.map(|text| parts.insert(name, Value::String(text)));
            };
            add(SERVER.to_owned(), server);
            add(TIMELINE.to_owned(), timeline);
            add(DATABASE.to_owned(), database);
            add(TABLE.to_owned(), relation);
            add(DEFINITION.to_owned(), definition);
            let role = if self.watermark.as_ref() == Some(&column) { WATERMARK } else { COLUMN };
            add(format!("{role}{column}"), column_type);
            if let Some(labels) = labels {
                let labels = serde_json::from_str(&labels).unwrap_or(Value::Null);
                parts.insert(format!("{LABELS}{column}"), labels);
            }
        }
        Ok(SourceFingerprint(parts))
    }
}

/// Reads what a relation is, as [`SourceFingerprint::relation`] has it; no row when it does not exist. A statement that reads
/// the relation too shows the one that it reads.
pub(super) fn relation_statement(schema: &str, table: &str) -> String {
    format!("SELECT concat(c.oid, ' ', c.relkind) {}", from_relation(schema, table))
}

/// [`PARTS`] with one of [`IDENTITIES`], as one text.
fn parts_query((schema, table): (&str, &str), columns: &[String], identity: &str) -> String {
    let columns: Vec<String> = columns.iter().map(|column| literal(column)).collect();
    // From the last place to the first, because a name may contain what stands for another one. The identity is put in front
    // of the FROM that stands at the beginning of a line; subqueries are indented or in parentheses.
    let parts = PARTS
        .replacen("$3", &format!("ARRAY[{}]", columns.join(", ")), 1)
        .replacen("\nFROM relation JOIN", &format!(",\n  {identity}\nFROM relation JOIN"), 1)
        .replacen("$2", &literal(schema), 1)
        .replacen("$1", &literal(table), 1);
    format!(
        "SELECT json_agg(part)::text FROM ({parts}) AS part \
         (relation, database, definition, \"column\", column_type, labels, server, timeline)"
    )
}

/// The columns of a table that a filter names, quoted or not. One too many only compares more.
pub(super) fn columns_in_filter<'a>(filter: &str, columns: impl Iterator<Item = &'a str>) -> Vec<String> {
    let words: Vec<String> =
        filter.split(|sign: char| !sign.is_alphanumeric() && sign != '_').map(str::to_lowercase).collect();
    let is_named = |name: &&str| {
        let lower = name.to_lowercase();
        words.contains(&lower) || filter.contains(&crate::quote::identifier(name))
    };
    columns.filter(is_named).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{SourceFingerprint, columns_in_filter};

    fn changes(before: &serde_json::Value, now: &serde_json::Value) -> super::SourceChanges {
        SourceFingerprint::from_json(now).changes_since(&SourceFingerprint::from_json(before))
    }

    #[test]
    fn only_parts_that_both_have_are_compared() {
        let changed = changes(&json!({"table": "1 r", "column a": "1"}), &json!({"table": "2 r", "server": "9"}));
        assert_eq!((changed.to_string().as_str(), changed.invalidate_watermark()), ("table", true));
        let typed = changes(&json!({"column a": "1 25"}), &json!({"column a": "1 23"}));
        assert_eq!((typed.to_string().as_str(), typed.invalidate_watermark()), ("column a", false));
        assert!(
            changes(&json!({"watermark column a": "1"}), &json!({"watermark column a": "2"})).invalidate_watermark()
        );
        assert!(changes(&json!(null), &json!({"table": "1 r"})).is_empty());
    }

    #[test]
    fn a_label_that_is_added_changes_nothing() {
        let labels = |labels: serde_json::Value| json!({ "labels of mood": labels });
        assert!(changes(&labels(json!({"1": "sad"})), &labels(json!({"1": "sad", "2": "ok"}))).is_empty());
        assert!(!changes(&labels(json!({"1": "sad"})), &labels(json!({"1": "blue"}))).is_empty());
    }

    #[test]
    fn the_columns_of_a_filter_are_found() {
        let columns = ["kind", "Extra", "id", "a b"];
        assert_eq!(columns_in_filter("KIND <> 'bot' AND \"a b\" > 1", columns.into_iter()), ["kind", "a b"]);
    }
}
