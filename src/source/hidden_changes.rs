//! Changes that no stamp shows: what in the table, its triggers or its view hides changes from incremental passes.
//!
//! Owns: the conditions, and a sentence with a remedy for each; those of stamps and of triggers are in
//! `unusual_stamps` and `stamp_triggers`. Must not know: how pages are read. Only a full pass finds
//! such changes. Nothing here stops a sync: whether rows ever change in that way, only the operator knows.

use std::time::Duration;

use sqlx::Row as _;

use super::clock_words::{called_functions, clock_words, union_branches};
use super::column_type::WatermarkType;
use super::session::SourceSession;
use super::table::{Column, Table};
use crate::finding::Finding;
use crate::quote::shown;

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

pub(super) use with_parts;

const VIEWS: &str = with_parts!(
    "SELECT pg_catalog.pg_get_viewdef(c.oid) FROM part JOIN pg_catalog.pg_class AS c USING (oid) WHERE c.relkind IN ('v', 'm')"
);
const TABLES: &str = with_parts!(
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
       EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped)
     FROM part JOIN pg_catalog.pg_class AS c USING (oid) JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS h JOIN part AS p ON p.oid = h.inhparent WHERE h.inhrelid = c.oid)
     ORDER BY 1"
);
const VIEW_FUNCTIONS: &str = with_parts!(
    "SELECT DISTINCT p.oid::regprocedure::text FROM part JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = part.oid
     JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_proc'::regclass
     JOIN pg_catalog.pg_proc AS p ON p.oid = d.refobjid WHERE p.provolatile <> 'i' ORDER BY 1"
);
const FILTER_FUNCTIONS: &str = "SELECT DISTINCT p.oid::regprocedure::text FROM pg_catalog.pg_proc AS p
     WHERE p.pronamespace <> 'pg_catalog'::regnamespace AND p.provolatile <> 'i' AND p.proname = ANY ($1) ORDER BY 1";
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
    /// All that applies, as far as the source answers in time. Rows are counted only if `counts_stamps`.
    pub(super) async fn collect(&self, session: &mut SourceSession, counts_stamps: bool) -> Vec<Finding> {
        let Some((column, kind)) = self.watermark else { return Vec::new() };
        let mut found = Vec::new();
        if counts_stamps {
            found.extend(self.unusual_stamps(session, column, kind).await);
        }
        found.extend(self.inverted_zone(kind));
        found.extend(self.clock_filter(session).await);
        found.extend(self.views(session, column).await);
        found.extend(self.triggers(session, column).await);
        found.extend(self.generated(session, column).await);
        found
    }

    /// How a change is found all the same, as a clause.
    pub(super) fn full_pass(&self) -> String {
        match self.full_every {
            Some(every) => format!(
                "only the full pass finds that, every {} h (schedule.full_every)",
                every.as_secs().div_ceil(3600)
            ),
            None => "only a full pass finds that, and schedule.full_every is \"never\"".to_owned(),
        }
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
        let definitions: Vec<String> = views.iter().filter_map(|view| view.try_get(0).ok()).collect();
        let mut words = definitions.iter().flat_map(|definition| clock_words(definition)).collect::<Vec<_>>();
        words.extend(texts(session, sqlx::query(VIEW_FUNCTIONS).bind(self.table.oid)).await);
        words.sort();
        words.dedup();
        let name = self.table.qualified_name();
        if !words.is_empty() {
            found.push(hidden("source.view_depends_on_clock", format!("the view {name} uses {}: its rows can change without a change of a table, and {}", words.join(", "), self.full_pass()), "let a job store the result in a column that moves the stamp, declare a function IMMUTABLE if it is, or lower schedule.full_every to the delay that is acceptable".to_owned()));
        }
        found.extend(self.stamp_of_one_table(session, column, &definitions).await);
        found
    }

    /// A view over several tables whose stamp is that of one of them.
    async fn stamp_of_one_table(
        &self,
        session: &mut SourceSession,
        column: &Column,
        definitions: &[String],
    ) -> Option<Finding> {
        let question = sqlx::query(TABLES).bind(self.table.oid).bind(column.name.clone());
        let rows = session.advice(question).await.unwrap_or_default();
        let tables: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        let are_stamped = rows.iter().all(|row| row.try_get(1).unwrap_or(false));
        // Of views that nest, the inner one takes the place of one branch of the outer one.
        let branches: Option<Vec<usize>> = definitions.iter().map(|definition| union_branches(definition)).collect();
        let branches = branches.map_or(0, |branches| branches.iter().sum::<usize>() + 1 - branches.len());
        let computes = definitions.iter().any(|definition| definition.to_lowercase().contains("greatest("));
        if tables.len() <= 1 || computes || (are_stamped && branches >= tables.len()) {
            return None;
        }
        let (name, stamp) = (self.table.qualified_name(), shown(&column.name));
        Some(hidden(
            "source.stamp_of_one_table",
            format!(
                "{name} reads from {}, and its {stamp} moves with one of them: a change of another one is missed, and {}",
                tables.join(", "),
                self.full_pass()
            ),
            format!("let the view compute {stamp} as greatest(…) of the stamps of all of them"),
        ))
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

/// The part of a remedy after `run:` is SQL.
pub(super) fn hidden(id: &'static str, message: String, remedy: impl Into<String>) -> Finding {
    let (finding, remedy) = (Finding::warning(id, message), remedy.into());
    match remedy.split_once("run: ") {
        Some((_, statements)) if statements.ends_with(';') => finding.sql(statements),
        _ => finding.remedy(remedy),
    }
}

/// The first column of all rows.
pub(super) async fn texts(
    session: &mut SourceSession,
    question: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
) -> Vec<String> {
    let answer = session.advice(question).await.unwrap_or_default();
    answer.iter().filter_map(|row| row.try_get(0).ok()).collect()
}
