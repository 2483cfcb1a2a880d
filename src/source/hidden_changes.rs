//! Changes that no stamp shows: what in the table, its triggers or its view hides changes from incremental passes.
//!
//! Owns: the conditions, and a sentence with a remedy for each. Must not know: how pages are read. Only a full pass finds
//! such changes. Nothing here stops a sync: whether rows ever change in that way, only the operator knows.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _};

use super::clock_words::{called_functions, clock_words};
use super::column_type::WatermarkType;
use super::session::SourceSession;
use super::table::{Column, RelationKind, Table};
use crate::finding::Finding;
use crate::quote::{identifier, shown};

/// Rows are counted up to here.
const MAX_COUNTED: u32 = 100_000;

/// A counter this large leaves no room for others.
const LARGEST_COUNTER: i64 = 9_000_000_000_000_000_000;

/// The relation, and what it reads from through views, partitions and inheritance children.
macro_rules! with_parts {
    ($rest:literal) => {
        concat!(
            "WITH RECURSIVE part (oid) AS (
               SELECT $1::int8::oid
               UNION
               SELECT next.oid FROM part CROSS JOIN LATERAL (
                 SELECT d.refobjid AS oid FROM pg_catalog.pg_rewrite AS r
                 JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
                   AND d.refclassid = 'pg_catalog.pg_class'::regclass
                 WHERE r.ev_class = part.oid AND r.ev_type = '1'
                 UNION ALL
                 SELECT h.inhrelid FROM pg_catalog.pg_inherits AS h WHERE h.inhparent = part.oid) AS next) ",
            $rest
        )
    };
}

const VIEWS: &str = with_parts!(
    "SELECT c.oid::regclass::text, pg_catalog.pg_get_viewdef(c.oid) FROM part JOIN pg_catalog.pg_class AS c USING (oid) WHERE c.relkind IN ('v', 'm')"
);
const TABLES: &str = with_parts!(
    "SELECT c.oid::regclass::text FROM part JOIN pg_catalog.pg_class AS c USING (oid) WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
);
const VIEW_FUNCTIONS: &str = with_parts!(
    "SELECT DISTINCT p.oid::regprocedure::text FROM part JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = part.oid
     JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_proc'::regclass
     JOIN pg_catalog.pg_proc AS p ON p.oid = d.refobjid WHERE p.provolatile <> 'i' ORDER BY 1"
);
const FILTER_FUNCTIONS: &str = "SELECT DISTINCT p.oid::regprocedure::text FROM pg_catalog.pg_proc AS p
     WHERE p.pronamespace <> 'pg_catalog'::regnamespace AND p.provolatile <> 'i' AND p.proname = ANY ($1) ORDER BY 1";
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
const IS_GENERATED: &str =
    "SELECT attgenerated::text <> '' FROM pg_catalog.pg_attribute WHERE attrelid = $1::int8::oid AND attnum = $2";

/// What is examined.
pub(super) struct HiddenChangeInputs<'a> {
    pub(super) table: &'a Table,
    pub(super) watermark: Option<(&'a Column, WatermarkType)>,
    pub(super) mapped: &'a [String],
    pub(super) filter: Option<&'a str>,
    pub(super) timezone: &'a str,
    /// Where rows far in the future begin, as SQL; `None` for a counter.
    pub(super) horizon: Option<String>,
    /// An index serves the polls, so that rows without a stamp are read by each.
    pub(super) is_indexed: bool,
    pub(super) full_every: Option<Duration>,
    /// The trigger that moves the watermark column.
    pub(super) stamp_remedy: &'a str,
}

impl HiddenChangeInputs<'_> {
    /// All that applies, as far as the source answers in time.
    pub(super) async fn collect(&self, session: &mut SourceSession) -> Vec<Finding> {
        let Some((column, kind)) = self.watermark else { return Vec::new() };
        let mut found = Vec::new();
        found.extend(self.unusual_stamps(session, column, kind).await);
        found.extend(self.inverted_zone(kind));
        found.extend(self.clock_filter(session).await);
        found.extend(self.views(session, column).await);
        found.extend(self.subscription(session).await);
        found.extend(self.triggers(session, column).await);
        found.extend(self.generated(session, column).await);
        found
    }

    fn full_pass(&self) -> String {
        match self.full_every {
            Some(every) => format!(
                "only the full pass finds that, every {} h (schedule.full_every)",
                every.as_secs().div_ceil(3600)
            ),
            None => "only a full pass finds that, and schedule.full_every is \"never\"".to_owned(),
        }
    }

    async fn unusual_stamps(&self, session: &mut SourceSession, column: &Column, kind: WatermarkType) -> Vec<Finding> {
        let name = self.table.qualified_name();
        let relation = format!("{}.{}", identifier(&self.table.schema), identifier(&self.table.name));
        let (quoted, stamp) = (identifier(&column.name), shown(&column.name));
        let count = |condition: String| {
            let text = format!(
                "SELECT count(*) FROM (SELECT FROM {relation} WHERE {condition} LIMIT {MAX_COUNTED}) AS counted"
            );
            AssertSqlSafe(text).into_sql_str()
        };
        let future = match (&self.horizon, kind) {
            (Some(horizon), _) => format!("{quoted} >= {horizon}"),
            (None, _) => format!("{quoted} >= {LARGEST_COUNTER}"),
        };
        let mut found = Vec::new();
        let nulls = if column.not_null { 0 } else { number(session, count(format!("{quoted} IS NULL"))).await };
        if nulls > 0 {
            let read = if self.is_indexed {
                "every poll reads a page of them again (source.page_size)".to_owned()
            } else {
                format!("no index leads to them, and {}", self.full_pass())
            };
            let table = if matches!(self.table.kind, RelationKind::Table | RelationKind::Partitioned) {
                let now = if kind == WatermarkType::Int8 { "0" } else { "now()" };
                format!(
                    "Fill them; run: UPDATE {name} SET {stamp} = {now} WHERE {stamp} IS NULL; ALTER TABLE {name} ALTER COLUMN {stamp} SET NOT NULL;"
                )
            } else {
                format!("fill {stamp} in the table below the view")
            };
            found.push(hidden(
                "source.null_stamps",
                format!("{} of {name} have no {stamp}: {read}", rows(nulls)),
                table,
            ));
        }
        let ahead = number(session, count(future)).await;
        if ahead > 0 {
            let (message, remedy) = if kind == WatermarkType::Int8 {
                (
                    format!(
                        "{} of {name} have a {stamp} near the largest bigint: rows with smaller values that come later are missed, and {}",
                        rows(ahead),
                        self.full_pass()
                    ),
                    "give these rows values of the counter".to_owned(),
                )
            } else {
                (
                    format!(
                        "{} of {name} have a {stamp} more than a day ahead or infinity: polls read them a page at a time, so a change of one may wait",
                        rows(ahead)
                    ),
                    format!(
                        "Correct them; run: UPDATE {name} SET {stamp} = now() WHERE {stamp} > now() + interval '1 day';"
                    ),
                )
            };
            found.push(hidden("source.future_stamps", message, remedy));
        }
        if kind != WatermarkType::Int8 {
            let behind = number(session, count(format!("{quoted} = '-infinity'"))).await;
            found.extend(self.infinite_past(behind, &stamp));
        }
        found
    }

    fn infinite_past(&self, behind: i64, stamp: &str) -> Option<Finding> {
        let name = self.table.qualified_name();
        (behind > 0).then(|| {
            hidden(
                "source.infinite_past_stamps",
                format!(
                    "{} of {name} have a {stamp} of -infinity: a row that comes with it is missed, and {}",
                    rows(behind),
                    self.full_pass()
                ),
                format!("run: UPDATE {name} SET {stamp} = now() WHERE {stamp} = '-infinity';"),
            )
        })
    }

    /// `Etc/GMT+5` is five hours west of Greenwich, as POSIX counts.
    fn inverted_zone(&self, kind: WatermarkType) -> Option<Finding> {
        let offset = self.timezone.to_lowercase().strip_prefix("etc/gmt").map(str::to_owned)?;
        let (sign, hours) = offset.split_at_checked(1)?;
        let is_used = kind == WatermarkType::Timestamp && !matches!(hours, "" | "0");
        let direction = match sign {
            "+" => "behind",
            "-" => "ahead of",
            _ => return None,
        };
        is_used.then(|| hidden("source.watermark_timezone", format!("source.watermark_timezone = {:?} is {hours} h {direction} UTC: the sign is the reverse of the usual one", self.timezone), "make sure that it is meant, or name a place, such as America/Bogota".to_owned()))
    }

    async fn clock_filter(&self, session: &mut SourceSession) -> Option<Finding> {
        let filter = self.filter?;
        let mut words = clock_words(filter);
        words.extend(texts(session, sqlx::query(FILTER_FUNCTIONS).bind(called_functions(filter))).await);
        (!words.is_empty()).then(|| hidden("source.filter_depends_on_clock", format!("source.filter uses {}: a row can enter or leave it without any change of its own, and {}", words.join(", "), self.full_pass()), "let a job store the result in a column that moves the stamp, or lower schedule.full_every to the delay that is acceptable".to_owned()))
    }

    async fn views(&self, session: &mut SourceSession, column: &Column) -> Vec<Finding> {
        let mut found = Vec::new();
        let views = session.advice(sqlx::query(VIEWS).bind(self.table.oid)).await.unwrap_or_default();
        if views.is_empty() {
            return found;
        }
        let definitions: Vec<String> = views.iter().filter_map(|view| view.try_get(1).ok()).collect();
        let mut words = definitions.iter().flat_map(|definition| clock_words(definition)).collect::<Vec<_>>();
        words.extend(texts(session, sqlx::query(VIEW_FUNCTIONS).bind(self.table.oid)).await);
        words.sort();
        words.dedup();
        let name = self.table.qualified_name();
        if !words.is_empty() {
            found.push(hidden("source.view_depends_on_clock", format!("the view {name} uses {}: its rows can change without a change of a table, and {}", words.join(", "), self.full_pass()), "let a job store the result in a column that moves the stamp, declare a function IMMUTABLE if it is, or lower schedule.full_every to the delay that is acceptable".to_owned()));
        }
        let tables = texts(session, sqlx::query(TABLES).bind(self.table.oid)).await;
        if tables.len() > 1 && !definitions.iter().any(|definition| definition.to_lowercase().contains("greatest(")) {
            let stamp = shown(&column.name);
            found.push(hidden("source.stamp_of_one_table", format!("{name} reads from {}, and its {stamp} moves with one of them: a change of another one is missed, and {}", tables.join(", "), self.full_pass()), format!("let the view compute {stamp} as greatest(…) of the stamps of all of them")));
        }
        found
    }

    async fn subscription(&self, session: &mut SourceSession) -> Option<Finding> {
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

    async fn triggers(&self, session: &mut SourceSession, column: &Column) -> Vec<Finding> {
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

    async fn generated(&self, session: &mut SourceSession, column: &Column) -> Option<Finding> {
        let question = sqlx::query(IS_GENERATED).bind(self.table.oid).bind(column.attnum);
        let generated: bool = session.advice(question).await?.first()?.try_get(0).ok()?;
        generated.then(|| {
            hidden(
                "source.generated_stamp",
                format!(
                    "{} of {} is a generated column: it moves only with the columns that it is computed from, and {}",
                    shown(&column.name),
                    self.table.qualified_name(),
                    self.full_pass()
                ),
                "use a column that a trigger sets with every change".to_owned(),
            )
        })
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

/// The part of a remedy after `run:` is SQL.
fn hidden(id: &'static str, message: String, remedy: impl Into<String>) -> Finding {
    let (finding, remedy) = (Finding::warning(id, message), remedy.into());
    match remedy.split_once("run: ") {
        Some((_, statements)) if statements.ends_with(';') => finding.sql(statements),
        _ => finding.remedy(remedy),
    }
}

fn rows(count: i64) -> String {
    match count {
        1 => "1 row".to_owned(),
        count if count >= i64::from(MAX_COUNTED) => format!("{count} or more rows"),
        count => format!("{count} rows"),
    }
}

async fn number(session: &mut SourceSession, statement: sqlx::SqlStr) -> i64 {
    let answer = session.advice(sqlx::query(statement)).await.unwrap_or_default();
    answer.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0)
}

/// The first column of all rows.
async fn texts(
    session: &mut SourceSession,
    question: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
) -> Vec<String> {
    let answer = session.advice(question).await.unwrap_or_default();
    answer.iter().filter_map(|row| row.try_get(0).ok()).collect()
}
