//! Warnings at start: what works, but not as well as it could.
//!
//! Owns: their conditions and sentences, each with its remedy. Must not know: how pages are read.

use sqlx::Row;

use super::column_type::WatermarkType;
use super::session::SourceSession;
use super::statements::Statements;
use super::table::{Column, Table};
use crate::finding::{Finding, Findings};
use crate::quote::{identifier, shown};

/// A newest stamp may be this many seconds off the clock without a warning.
const MAX_STAMP_OFFSET: i64 = 3600;
/// The largest distance of two time zones in seconds (UTC-12 to UTC+14). A stamp that is older is an old one, not one of
/// another zone.
const MAX_ZONE_DISTANCE: i64 = 26 * 3600;

/// What the warnings are about.
pub(super) struct WarningInputs<'a> {
    pub(super) table: &'a Table,
    pub(super) account: &'a Column,
    pub(super) watermark: Option<(&'a Column, WatermarkType)>,
    /// The mapped columns.
    pub(super) mapped: &'a [String],
    pub(super) statements: &'a Statements,
    /// A unique index over the account column exists.
    pub(super) account_unique: bool,
}

impl WarningInputs<'_> {
    /// All warnings that apply, as far as the source answers in time. Whether to run does not depend on them.
    pub(super) async fn collect(&self, session: &mut SourceSession) -> Findings {
        let mut warnings = Findings::default();
        warnings.extend(self.replica(session).await);
        warnings.extend(self.money_columns());
        warnings.extend(encoding(session).await);
        warnings.extend(self.watermark_index(session).await);
        warnings.extend(self.account_index(session).await);
        warnings.extend(self.newest_stamp(session).await);
        warnings
    }

    async fn replica(&self, session: &mut SourceSession) -> Option<Finding> {
        let rows = session.advice(sqlx::query("SELECT pg_catalog.pg_is_in_recovery()")).await?;
        let standby: bool = rows.first()?.try_get(0).ok()?;
        (standby && self.watermark.is_some()).then(|| {
            Finding::warning(
                "source.replica",
                "the source is a replica, where the primary's open transactions cannot be seen: only source.watermark_grace protects against late commits",
            )
            .remedy("make it longer than the longest transaction, or read from the primary")
        })
    }

    fn money_columns(&self) -> Vec<Finding> {
        let mapped = self.mapped.iter().filter_map(|name| self.table.column(name));
        let money = mapped.filter(|column| column.base_type == "money");
        money
            .map(|column| {
                let name = shown(&column.name);
                Finding::warning(
                    "source.money",
                    format!(
                        "column {name} is money, whose text depends on lc_monetary: another setting of the server, database or role would change every value"
                    ),
                )
                .remedy(format!("read it from a view, as {name}::numeric"))
            })
            .collect()
    }

    async fn watermark_index(&self, session: &mut SourceSession) -> Option<Finding> {
        let account = self.account;
        let (watermark, _) = self.watermark.filter(|_| self.table.kind.can_have_indexes())?;
        if self.table.has_index_for_order(session, &[watermark, account]).await? {
            return None;
        }
        let message = "no index supports the incremental passes, so each page sorts all rows";
        Some(self.index_finding("source.watermark_index", message, "", &[watermark, account]))
    }

    async fn account_index(&self, session: &mut SourceSession) -> Vec<Finding> {
        if !self.table.kind.can_have_indexes() {
            return Vec::new();
        }
        let (account, name) = (self.account, self.table.qualified_name());
        let Some(ordered) = self.table.has_index_for_order(session, &[account]).await else { return Vec::new() };
        let obstacle =
            if self.account_unique { None } else { self.table.unique_index_obstacle(session, account).await };
        let mut findings = Vec::new();
        if !ordered {
            let unique = if self.account_unique || obstacle.is_some() { "" } else { "UNIQUE " };
            let message = "no index supports the full passes and look-ups";
            findings.push(self.index_finding("source.account_index", message, unique, &[account]));
        } else if !self.account_unique && obstacle.is_none() {
            let message = format!(
                "no unique index ensures that an account has one row in {name} (an account with several rows is rejected)"
            );
            findings.push(self.index_finding("source.account_index", &message, "UNIQUE ", &[account]));
        }
        findings.extend(obstacle.map(|obstacle| {
            let column = shown(&account.name);
            let message = format!(
                "nothing ensures that an account has one row in {name}, and no unique index over {column} alone is possible: {obstacle}; so imsync reads the accounts of each page again, and rejects an account with several rows"
            );
            Finding::warning("source.account_unique", message)
                .remedy(format!("make sure that no two rows have the same {column}"))
        }));
        findings
    }

    /// A missing index over these columns. No index can contain a virtual generated column.
    fn index_finding(&self, id: &'static str, message: &str, unique: &str, columns: &[&Column]) -> Finding {
        match columns.iter().find(|column| column.is_virtual) {
            None => Finding::warning(id, message).sql(create_index(self.table, unique, columns)),
            Some(column) => Finding::warning(id, message).remedy(format!(
                "column {} is a virtual generated column, which no index can contain: use a column that is GENERATED ALWAYS AS (...) STORED instead",
                shown(&column.name)
            )),
        }
    }

    /// A newest stamp far from the clock, which suggests a wrong clock or time zone.
    async fn newest_stamp(&self, session: &mut SourceSession) -> Option<Finding> {
        let (statement, (watermark, kind)) = (self.statements.newest_stamp_offset.clone()?, self.watermark?);
        let ahead: i64 = session.advice(sqlx::query(statement)).await?.first()?.try_get(0).ok()?;
        let (column, name) = (shown(&watermark.name), self.table.qualified_name());
        if ahead > MAX_STAMP_OFFSET {
            Some(
                Finding::warning(
                    "source.newest_stamp",
                    format!(
                        "the newest {column} of {name} is {} ahead of the database clock: rows stamped in the future are read again by every pass",
                        hours(ahead)
                    ),
                )
                .remedy("check the clocks of the writers and source.watermark_timezone"),
            )
        } else if kind == WatermarkType::Timestamp && (MAX_STAMP_OFFSET..MAX_ZONE_DISTANCE).contains(&-ahead) {
            Some(
                Finding::warning(
                    "source.newest_stamp",
                    format!(
                        "the newest {column} of {name} is {} behind the database clock: if rows have changed since, source.watermark_timezone is not the time zone of the writers, and changes are missed",
                        hours(-ahead)
                    ),
                )
                .remedy("set source.watermark_timezone to the zone in which the writers write the column"),
            )
        } else {
            None
        }
    }
}

/// `unique` is `UNIQUE ` or empty.
pub(super) fn create_index(table: &Table, unique: &str, columns: &[&Column]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| identifier(&column.name)).collect();
    format!("CREATE {unique}INDEX{} ON {} ({});", table.concurrently(), table.identifier(), columns.join(", "))
}

async fn encoding(session: &mut SourceSession) -> Option<Finding> {
    let query = sqlx::query("SELECT pg_catalog.current_setting('server_encoding')");
    let encoding: String = session.advice(query).await?.first()?.try_get(0).ok()?;
    (encoding == "SQL_ASCII").then(|| {
        Finding::warning(
            "source.encoding",
            "the encoding of the database is SQL_ASCII, which accepts any bytes: a row with a text that is not UTF-8 is rejected, and one whose account is not UTF-8 fails the pass",
        )
        .remedy("convert the database to UTF8")
    })
}

fn hours(seconds: i64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
