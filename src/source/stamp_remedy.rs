//! The remedy for a watermark column that does not move with every change: a trigger, in SQL.
//!
//! Owns: its statements, with the names of the table, and the value of a stamp that is set now. Must not know: who found
//! that it is missing.

use super::column_type::WatermarkType;
use super::session::SourceSession;
use super::table::{Column, Table};
use crate::quote::{identifier, literal, shown};

/// A counter this large leaves no room for others.
pub(super) const LARGEST_COUNTER: i64 = 9_000_000_000_000_000_000;

/// The longest name of the function in bytes: PostgreSQL cuts a name at 63, and `_seq` follows for a sequence.
const MAX_NAME_BYTES: usize = 59;

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
    if !table.kind.has_row_triggers() {
        return format!(
            "Give each table that {} reads from a trigger that sets {name} with every change",
            table.qualified_name()
        );
    }
    let sequence = match kind {
        WatermarkType::Int8 => {
            let question = sqlx::query(SERIAL_SEQUENCE).bind(table.identifier()).bind(column.name.clone());
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

/// A stamp of this moment, as SQL of the type of the column; for a counter, the largest value of the table.
pub(super) fn stamp_now(table: &Table, column: &str, kind: WatermarkType, timezone: &str) -> String {
    let column = identifier(column);
    match kind {
        WatermarkType::Timestamptz => "now()".to_owned(),
        WatermarkType::Timestamp => format!("now() AT TIME ZONE {}", literal(timezone)),
        WatermarkType::Int8 => format!(
            "(SELECT coalesce(max({column}), 0) FROM {} WHERE {column} < {LARGEST_COUNTER})",
            table.identifier()
        ),
    }
}

/// The name of the function and of its trigger. The prefix keeps it apart from a function of the owner of the table, and
/// the oid from that of another table whose name begins alike.
pub(super) fn trigger_name(table: &Table) -> String {
    let whole = format!("imsync_touch_{}", table.name);
    if whole.len() <= MAX_NAME_BYTES {
        return whole;
    }
    let oid = format!("_{}", table.oid);
    let mut name = whole;
    while name.len() + oid.len() > MAX_NAME_BYTES {
        name.pop();
    }
    name + &oid
}

fn trigger(table: &Table, column: &str, kind: WatermarkType, timezone: &str, sequence: Option<&str>) -> String {
    let name = trigger_name(table);
    let in_schema = |name: &str| format!("{}.{}", identifier(&table.schema), identifier(name));
    let (relation, trigger, function) = (table.identifier(), identifier(&name), in_schema(&name));
    let created = in_schema(&format!("{name}_seq"));
    let (preparation, value, privileges) = match kind {
        WatermarkType::Int8 => {
            let create =
                if sequence.is_none() { format!("CREATE SEQUENCE IF NOT EXISTS {created}; ") } else { String::new() };
            let sequence = sequence.unwrap_or(&created);
            let text = literal(sequence);
            let newest = stamp_now(table, column, kind, timezone);
            (
                // Never back when the statements run again.
                format!("{create}SELECT setval({text}, greatest({newest} + 1, last_value)) FROM {sequence}; "),
                format!("pg_catalog.nextval({text})"),
                // The roles that write to the table need no privilege on the sequence.
                " SECURITY DEFINER SET search_path = pg_catalog, pg_temp",
            )
        }
        WatermarkType::Timestamptz | WatermarkType::Timestamp => {
            (String::new(), stamp_now(table, column, kind, timezone), "")
        }
    };
    format!(
        "{preparation}CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql{privileges} AS $imsync$ BEGIN NEW.{} := {value}; RETURN NEW; END $imsync$; CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {relation} FOR EACH ROW EXECUTE FUNCTION {function}();",
        identifier(column)
    )
}

#[cfg(test)]
mod tests {
    use super::{Table, WatermarkType, trigger, trigger_name};
    use crate::source::table::RelationKind;

    fn table(name: &str) -> Table {
        Table {
            oid: 4_294_967_295,
            schema: "app".to_owned(),
            name: name.to_owned(),
            kind: RelationKind::Table,
            columns: Vec::new(),
            role: String::new(),
            schema_usable: true,
            hidden_rows: None,
        }
    }

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(trigger_name(&table("users")), "imsync_touch_users");
        for name in ["n".repeat(63), "ü".repeat(31)] {
            let cut = trigger_name(&table(&name));
            assert!(cut.len() <= 59 && cut.ends_with("_4294967295"), "{cut}");
        }
    }

    #[test]
    fn names_are_quoted() {
        let sql = trigger(&table("user"), "order", WatermarkType::Timestamptz, "UTC", None);
        for part in ["ON \"app\".\"user\" ", "NEW.\"order\" := now();", "\"app\".\"imsync_touch_user\"()"] {
            assert!(sql.contains(part), "{sql}");
        }
    }
}
