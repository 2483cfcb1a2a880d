//! The remedy for a watermark column that does not move with every change: a trigger, in SQL.
//!
//! Owns: its statements, with the names of the table. Must not know: who found that it is missing.

use super::column_type::WatermarkType;
use super::session::SourceSession;
use super::table::{Column, RelationKind, Table};
use crate::quote::{identifier, literal, shown};

/// The longest name of the function, in bytes; PostgreSQL cuts a name at 63.
const MAX_NAME_BYTES: usize = 60;

/// The sequence of a counter, as `pg_get_serial_sequence` names it.
const SERIAL_SEQUENCE: &str = "SELECT pg_catalog.pg_get_serial_sequence($1, $2)";

/// A sentence with the trigger that moves the watermark column with every change.
pub(super) async fn stamp_remedy(
    session: &mut SourceSession,
    table: &Table,
    watermark: Option<(&Column, WatermarkType)>,
    timezone: &str,
) -> String {
    let Some((column, kind)) = watermark else { return String::new() };
    let name = shown(&column.name);
    if !matches!(table.kind, RelationKind::Table | RelationKind::Partitioned) {
        return format!(
            "Give each table that {} reads from a trigger that sets {name} with every change",
            table.qualified_name()
        );
    }
    let sequence = match kind {
        WatermarkType::Int8 => {
            let question = sqlx::query(SERIAL_SEQUENCE).bind(quoted_name(table)).bind(column.name.clone());
            let answer = session.advice(question).await;
            answer.and_then(|rows| sqlx::Row::try_get::<Option<String>, _>(rows.first()?, 0).ok()?)
        }
        _ => None,
    };
    format!(
        "A trigger moves it with every change; run: {}",
        trigger(table, &column.name, kind, timezone, sequence.as_deref())
    )
}

fn quoted_name(table: &Table) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
}

fn trigger(table: &Table, column: &str, kind: WatermarkType, timezone: &str, sequence: Option<&str>) -> String {
    let mut name = format!("touch_{}", table.name);
    while name.len() > MAX_NAME_BYTES {
        name.pop();
    }
    let (relation, trigger) = (table.qualified_name(), shown(&name));
    let function = format!("{}.{trigger}", shown(&table.schema));
    let created = format!("{}.{}", identifier(&table.schema), identifier(&format!("{name}_seq")));
    let value = match kind {
        WatermarkType::Timestamptz => "now()".to_owned(),
        WatermarkType::Timestamp => format!("now() AT TIME ZONE {}", literal(timezone)),
        WatermarkType::Int8 => format!("nextval({})", literal(sequence.unwrap_or(&created))),
    };
    let preparation = if kind == WatermarkType::Int8 && sequence.is_none() {
        let (text, column) = (literal(&created), shown(column));
        format!(
            "CREATE SEQUENCE {created}; SELECT setval({text}, (SELECT coalesce(max({column}), 0) + 1 FROM {relation})); "
        )
    } else {
        String::new()
    };
    format!(
        "{preparation}CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.{} := {value}; RETURN NEW; END $$; CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {relation} FOR EACH ROW EXECUTE FUNCTION {function}();",
        identifier(column)
    )
}
