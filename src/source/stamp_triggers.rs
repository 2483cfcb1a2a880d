//! Triggers that set the watermark column, and rows that arrive through a subscription without them.
//!
//! Owns: which triggers count, and a sentence with a remedy for each that leaves a change unstamped. Must not know: how pages
//! are read.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::hidden_changes::{HiddenChangeInputs, hidden, texts, with_parts};
use super::session::SourceSession;
use super::table::Column;
use crate::finding::Finding;
use crate::quote::shown;

const SUBSCRIBED: &str = with_parts!(
    "SELECT c.oid::regclass::text FROM part JOIN pg_catalog.pg_class AS c USING (oid)
     JOIN pg_catalog.pg_subscription_rel AS s ON s.srrelid = c.oid
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
       AND t.tgenabled IN ('A', 'R') AND t.tgtype & 19 = 19) ORDER BY 1"
);
/// Row triggers that run before and name the watermark column.
const STAMP_TRIGGERS: &str = with_parts!(
    "SELECT c.oid::regclass::text, t.tgname::text, t.tgenabled::text = 'D', t.tgtype::int4 & 16 = 16,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum = ANY (t.tgattr))
     FROM part JOIN pg_catalog.pg_class AS c USING (oid) JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = c.oid
     JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
     WHERE NOT t.tgisinternal AND t.tgtype & 3 = 3
       AND (pg_catalog.strpos(p.prosrc, $2) > 0 OR pg_catalog.strpos(pg_catalog.encode(t.tgargs, 'escape'), $2) > 0) ORDER BY 1, 2"
);

impl HiddenChangeInputs<'_> {
    /// A subscription that feeds a table without a trigger that stamps on arrival.
    pub(super) async fn subscription(&self, session: &mut SourceSession) -> Option<Finding> {
        let tables = texts(session, sqlx::query(SUBSCRIBED).bind(self.table.oid)).await;
        let first = tables.first()?;
        let names = tables.join(", ");
        let trigger = self.stamp_remedy;
        Some(hidden(
            "source.subscription",
            format!(
                "a subscription feeds {names}: rows arrive with the stamps of the publisher, which are older than what was read if they arrive later than source.watermark_grace, and {}",
                self.full_pass()
            ),
            format!(
                "stamp them on arrival. {trigger} Then let it fire for the subscription: ALTER TABLE {first} ENABLE ALWAYS TRIGGER followed by its name"
            ),
        ))
    }

    /// Triggers that set the watermark column, but not with every change.
    pub(super) async fn triggers(&self, session: &mut SourceSession, column: &Column) -> Vec<Finding> {
        let stamp = shown(&column.name);
        let question = sqlx::query(STAMP_TRIGGERS).bind(self.table.oid).bind(column.name.clone());
        let rows = session.advice(question).await.unwrap_or_default();
        let triggers: Vec<StampTrigger> = rows.iter().filter_map(StampTrigger::from_row).collect();
        let mut found = Vec::new();
        let mut add = |message: String, remedy: String| {
            found.push(hidden("source.stamp_trigger", message, remedy));
        };
        let mut tables: Vec<&str> = triggers.iter().map(|trigger| trigger.table.as_str()).collect();
        tables.dedup();
        for table in tables {
            let of_table = || triggers.iter().filter(move |trigger| trigger.table == table);
            if of_table()
                .any(|trigger| trigger.on_update && !trigger.disabled && trigger.misses(self.mapped).is_empty())
            {
                continue;
            }
            for StampTrigger { name, disabled, on_update, columns, .. } in of_table() {
                let name = shown(name);
                if *disabled {
                    add(
                        format!(
                            "the trigger {name} of {table}, which sets {stamp}, is disabled: changes are missed, and {}",
                            self.full_pass()
                        ),
                        format!("Enable it; run: ALTER TABLE {table} ENABLE TRIGGER {name};"),
                    );
                } else if !on_update {
                    add(
                        format!(
                            "the trigger {name} of {table} sets {stamp} for INSERT only: an UPDATE that leaves it is missed, and {}",
                            self.full_pass()
                        ),
                        self.stamp_remedy.to_owned(),
                    );
                } else {
                    let missed: Vec<&String> = self.mapped.iter().filter(|mapped| !columns.contains(mapped)).collect();
                    let missed = missed.into_iter().map(|column| shown(column)).collect::<Vec<_>>().join(", ");
                    add(
                        format!(
                            "the trigger {name} of {table} sets {stamp} for UPDATE OF some columns, not of {missed}: changes of these are missed, and {}",
                            self.full_pass()
                        ),
                        self.stamp_remedy.to_owned(),
                    );
                }
            }
        }
        found
    }
}

/// A row trigger that sets the watermark column, as far as its text tells.
struct StampTrigger {
    table: String,
    name: String,
    disabled: bool,
    on_update: bool,
    /// `UPDATE OF` these; empty for all.
    columns: Vec<String>,
}

impl StampTrigger {
    fn from_row(row: &PgRow) -> Option<Self> {
        Some(Self {
            table: row.try_get(0).ok()?,
            name: row.try_get(1).ok()?,
            disabled: row.try_get(2).ok()?,
            on_update: row.try_get(3).ok()?,
            columns: row.try_get(4).ok()?,
        })
    }

    /// Mapped columns whose change does not fire it.
    fn misses<'m>(&self, mapped: &'m [String]) -> Vec<&'m String> {
        if self.columns.is_empty() {
            return Vec::new();
        }
        mapped.iter().filter(|column| !self.columns.contains(column)).collect()
    }
}
