//! Triggers that set the watermark column, and rows that arrive through a subscription without them.
//!
//! Owns: which triggers count, and a sentence with a remedy for each that leaves a change unstamped. Must not know: how pages
//! are read.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::hidden_changes::{HiddenChangeInputs, hidden, texts, with_parts};
use super::session::SourceSession;
use super::stamp_remedy::trigger_name;
use super::table::Column;
use crate::finding::Finding;
use crate::quote::{identifier, shown};

const SUBSCRIBED: &str = with_parts!(
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM part JOIN pg_catalog.pg_class AS c USING (oid)
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     JOIN pg_catalog.pg_subscription_rel AS s ON s.srrelid = c.oid ORDER BY 1"
);
/// Row triggers that run before an INSERT or UPDATE, with the text of the function and the arguments.
const STAMP_TRIGGERS: &str = with_parts!(
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), t.tgname::text, t.tgenabled::text, t.tgtype::int4,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum = ANY (t.tgattr)),
       pg_catalog.concat(p.prosrc, ' ', pg_catalog.replace(pg_catalog.encode(t.tgargs, 'escape'), '\\000', ' ')),
       EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS s WHERE s.srrelid = c.oid)
     FROM part JOIN pg_catalog.pg_class AS c USING (oid) JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = c.oid JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
     WHERE NOT t.tgisinternal AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 ORDER BY 1, 2"
);
/// The bits of `pg_trigger.tgtype` (`catalog/pg_trigger.h`).
const ON_INSERT: i32 = 4;
const ON_UPDATE: i32 = 16;

impl HiddenChangeInputs<'_> {
    /// What the triggers of the tables leave unstamped.
    pub(super) async fn triggers(&self, session: &mut SourceSession, column: &Column) -> Vec<Finding> {
        let rows = session.advice(sqlx::query(STAMP_TRIGGERS).bind(self.table.oid)).await.unwrap_or_default();
        let triggers: Vec<StampTrigger> =
            rows.iter().filter_map(|row| StampTrigger::from_row(row, &column.name)).collect();
        let mut found = Vec::new();
        found.extend(self.subscription(session, &triggers).await);
        let mut tables: Vec<&str> = triggers.iter().map(|trigger| trigger.table.as_str()).collect();
        tables.dedup();
        for table in tables {
            let of_table = || triggers.iter().filter(move |trigger| trigger.table == table);
            if !of_table().any(|trigger| trigger.stamps_updates(self.mapped)) {
                found.extend(of_table().map(|trigger| self.partial_trigger(trigger, &column.name)));
            }
        }
        found
    }

    /// A subscription that feeds a table without a trigger that stamps on arrival.
    async fn subscription(&self, session: &mut SourceSession, triggers: &[StampTrigger]) -> Option<Finding> {
        let mut tables = texts(session, sqlx::query(SUBSCRIBED).bind(self.table.oid)).await;
        tables.retain(|table| {
            !triggers.iter().any(|trigger| trigger.table == *table && trigger.stamps_arrivals(self.mapped))
        });
        if tables.is_empty() {
            return None;
        }
        let remedy = if self.table.kind.has_row_triggers() {
            let (table, trigger) = (self.table.identifier(), identifier(&trigger_name(self.table)));
            format!("{} ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger};", self.stamp_remedy)
        } else {
            format!("{}, and let it fire for the subscription with ENABLE ALWAYS TRIGGER", self.stamp_remedy)
        };
        let message = format!(
            "a subscription feeds {}: rows arrive with the stamps of the publisher, which are older than what was read if they arrive later than source.watermark_grace, and {}",
            tables.join(", "),
            self.full_pass()
        );
        Some(hidden("source.subscription", message, remedy))
    }

    fn partial_trigger(&self, trigger: &StampTrigger, column: &str) -> Finding {
        let (table, name, stamp) = (&trigger.table, shown(&trigger.name), shown(column));
        let (what, remedy) = if !trigger.fires_for_writers() {
            let (state, always) =
                if trigger.enabled == "R" { ("fires for replication only", "ALWAYS ") } else { ("is disabled", "") };
            let quoted = identifier(&trigger.name);
            (
                format!(", which sets {stamp}, {state}: changes are missed"),
                format!("Enable it; run: ALTER TABLE {table} ENABLE {always}TRIGGER {quoted};"),
            )
        } else if trigger.events & ON_UPDATE == 0 {
            (format!(" sets {stamp} for INSERT only: an UPDATE that leaves it is missed"), self.stamp_remedy.to_owned())
        } else {
            let missed = trigger.misses(self.mapped).into_iter().map(|column| shown(column));
            let missed = missed.collect::<Vec<_>>().join(", ");
            (
                format!(" sets {stamp} for UPDATE OF some columns, not of {missed}: changes of these are missed"),
                self.stamp_remedy.to_owned(),
            )
        };
        hidden("source.stamp_trigger", format!("the trigger {name} of {table}{what}, and {}", self.full_pass()), remedy)
    }
}

/// The trigger that sets a column, as far as its text tells: `schema.table` and the name. Of several, one that fires for
/// every UPDATE.
pub(super) async fn stamping_trigger(session: &mut SourceSession, oid: i64, column: &str) -> Option<FoundTrigger> {
    let rows = session.advice(sqlx::query(STAMP_TRIGGERS).bind(oid)).await?;
    let triggers = rows.iter().filter_map(|row| StampTrigger::from_row(row, column));
    let found = triggers.map(|trigger| FoundTrigger {
        sets_every_update: trigger.stamps_updates(&[]) && trigger.columns.is_empty(),
        name: trigger.name,
        table: trigger.table,
    });
    found.max_by_key(|trigger| trigger.sets_every_update)
}

/// A trigger that sets a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTrigger {
    /// Its name.
    pub name: String,
    /// Its table, as SQL.
    pub table: String,
    /// It fires for every UPDATE of those who write to the table.
    pub sets_every_update: bool,
}

/// A row trigger that sets the watermark column, as far as its text tells.
struct StampTrigger {
    /// As SQL.
    table: String,
    name: String,
    /// `O` and `A` for ordinary writes, `A` and `R` for rows of a subscription, `D` for none.
    enabled: String,
    /// `pg_trigger.tgtype`.
    events: i32,
    /// `UPDATE OF` these; empty for all.
    columns: Vec<String>,
    /// A subscription feeds the table.
    is_subscribed: bool,
}

impl StampTrigger {
    /// `None` for a trigger that does not name the column.
    fn from_row(row: &PgRow, column: &str) -> Option<Self> {
        let text: String = row.try_get(5).ok()?;
        names_word(&text, column).then_some(())?;
        Some(Self {
            table: row.try_get(0).ok()?,
            name: row.try_get(1).ok()?,
            enabled: row.try_get(2).ok()?,
            events: row.try_get(3).ok()?,
            columns: row.try_get(4).ok()?,
            is_subscribed: row.try_get(6).ok()?,
        })
    }

    /// It fires for those who write to the table. That is the subscription alone, where one feeds it.
    fn fires_for_writers(&self) -> bool {
        matches!(self.enabled.as_str(), "O" | "A") || (self.is_subscribed && self.enabled == "R")
    }

    fn stamps_updates(&self, mapped: &[String]) -> bool {
        self.fires_for_writers() && self.events & ON_UPDATE != 0 && self.misses(mapped).is_empty()
    }

    /// Every row of a subscription gets a stamp on arrival.
    fn stamps_arrivals(&self, mapped: &[String]) -> bool {
        let both = ON_INSERT | ON_UPDATE;
        matches!(self.enabled.as_str(), "A" | "R") && self.events & both == both && self.misses(mapped).is_empty()
    }

    /// Mapped columns whose change does not fire it.
    fn misses<'m>(&self, mapped: &'m [String]) -> Vec<&'m String> {
        if self.columns.is_empty() {
            return Vec::new();
        }
        mapped.iter().filter(|column| !self.columns.contains(column)).collect()
    }
}

/// Whether a text contains a name that is not part of a longer one. Unquoted names may be in upper case.
fn names_word(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_ascii_lowercase(), name.to_ascii_lowercase());
    let is_part = |part: char| part.is_alphanumeric() || part == '_' || part == '$';
    text.match_indices(&name).any(|(start, _)| {
        let (before, after) = (&text[..start], &text[start + name.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::names_word;

    #[test]
    fn a_name_within_a_longer_one_does_not_count() {
        for text in ["NEW.ts := now()", "NEW.TS := now()", "NEW.\"ts\":=now()", " ts ", "rights ts"] {
            assert!(names_word(text, "ts"), "{text}");
        }
        for text in ["NEW.rights := 1", "counts", "ts_old", "", "$ts$"] {
            assert!(!names_word(text, "ts"), "{text}");
        }
        assert!(names_word("NEW.\"changed At\" := now()", "changed At"));
    }
}
