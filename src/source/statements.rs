//! The SQL over the customer's table: the one place where statements are put together.
//!
//! Owns: select list, keyset conditions, order. Must not know: connections, the state of a scan.
//!
//! What goes in: identifiers, through [`identifier`]; type names of ours; the configured filter, which the operator
//! writes and the session can only read with; the page size. Every value is a parameter.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::account::AccountType;
use super::table::WatermarkType;
use crate::model::MAX_LOOKED_AT;
use crate::quote::{identifier, literal};

/// What the statements are made for, as introspected.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    pub(super) schema: &'a str,
    pub(super) table: &'a str,
    pub(super) account: (&'a str, AccountType),
    pub(super) watermark: Option<(&'a str, WatermarkType)>,
    /// The zone of a `timestamp` without time zone.
    pub(super) timezone: &'a str,
    /// Its name, and whether it is a boolean.
    pub(super) deleted: Option<(&'a str, bool)>,
    pub(super) filter: Option<&'a str>,
    pub(super) columns: &'a [String],
    /// Rows a page.
    pub(super) limit: u64,
}

/// The statements over the table, each `None` where there is no watermark column.
#[derive(Debug)]
pub(super) struct Statements {
    /// From `$1` (a time or a value, as text) on, in the order (watermark, account).
    pub(super) changed_from: Option<SqlStr>,
    /// After the row with watermark `$1` and account `$2`.
    pub(super) changed_after: Option<SqlStr>,
    /// After all rows with watermark `$1`.
    pub(super) changed_beyond: Option<SqlStr>,
    /// In the order of the account column, from the beginning.
    pub(super) all: SqlStr,
    /// The same after account `$1`.
    pub(super) all_after: SqlStr,
    /// Rows without an account: they have no place in that order.
    pub(super) without_account: SqlStr,
    /// The rows whose account is one of the texts `$1`.
    pub(super) of_accounts: SqlStr,
    /// The largest value of a counter.
    pub(super) largest: Option<SqlStr>,
    /// How far the newest finite stamp is ahead of the clock, in seconds, negative when it lies behind.
    pub(super) ahead: Option<SqlStr>,
}

fn sql(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

impl Shape<'_> {
    /// Qualified by the table: `ORDER BY "updated_at"` alone would mean the output column of that name, a text.
    fn column(&self, name: &str) -> String {
        format!("{}.{}", identifier(self.table), identifier(name))
    }

    fn from(&self) -> String {
        format!("{}.{}", identifier(self.schema), identifier(self.table))
    }

    fn gone(&self) -> String {
        let deleted = self
            .deleted
            .map(|(name, boolean)| format!("{} IS {}", self.column(name), if boolean { "TRUE" } else { "NOT NULL" }));
        // On a line of its own, so that a comment at its end takes nothing with it.
        let filtered = self.filter.map(|filter| format!("(\n{filter}\n) IS NOT TRUE"));
        let conditions: Vec<String> = deleted.into_iter().chain(filtered).collect();
        if conditions.is_empty() { "FALSE".to_owned() } else { conditions.join(" OR ") }
    }

    /// As a condition in WHERE: refuses what is not boolean, aggregates, and functions that return sets. Reads nothing.
    pub(super) fn filter_check(&self) -> Option<SqlStr> {
        let filter = self.filter?;
        Some(sql(format!("SELECT FROM {} WHERE (\n{filter}\n)", self.from())))
    }

    /// The zone is one that the server knows.
    pub(super) fn timezone_check(&self) -> SqlStr {
        sql(format!("SELECT (now() AT TIME ZONE {})::text", literal(self.timezone)))
    }

    /// The bound `$1` in the watermark column's type.
    fn bound(&self, kind: WatermarkType) -> String {
        match kind {
            WatermarkType::Timestamptz => "$1::text::pg_catalog.timestamptz".to_owned(),
            WatermarkType::Int8 => "$1::text::pg_catalog.int8".to_owned(),
            // Local times repeat in the autumn hour: the smaller of the zone's offsets at the bound and now, so that
            // what was written on either side of the change lies after it.
            WatermarkType::Timestamp => {
                let zone = literal(self.timezone);
                let bound = "$1::text::pg_catalog.timestamptz";
                format!(
                    "least({bound} AT TIME ZONE {zone}, ({bound} AT TIME ZONE 'UTC') + ((now() AT TIME ZONE {zone}) - (now() AT TIME ZONE 'UTC')))"
                )
            }
        }
    }

    pub(super) fn statements(&self) -> Statements {
        let from = self.from();
        let account = self.column(self.account.0);
        let account_type = self.account.1.sql();
        let watermark = self.watermark.map(|(name, kind)| (self.column(name), kind));
        let stamp = watermark.as_ref().map_or("NULL".to_owned(), |(column, _)| column.clone());
        let mut list = vec![format!("{account}::text"), format!("{stamp}::text"), format!("({})", self.gone())];
        // A page of long texts shall not fill the memory: no more is fetched than is looked at.
        let most = MAX_LOOKED_AT + 1;
        list.extend(
            self.columns.iter().map(|column| format!("pg_catalog.left({}::text, {most})", self.column(column))),
        );
        let list = list.join(", ");
        let page = |condition: &str, order: &str| {
            sql(format!("SELECT {list} FROM {from} WHERE {condition} ORDER BY {order} LIMIT {}", self.limit))
        };
        let changed = |condition: &dyn Fn(&str, WatermarkType) -> String| {
            let (column, kind) = watermark.as_ref()?;
            Some(page(&condition(column, *kind), &format!("{column}, {account}")))
        };
        Statements {
            changed_from: changed(&|column, kind| format!("{column} >= {}", self.bound(kind))),
            changed_after: changed(&|column, kind| {
                format!("({column}, {account}) > ($1::text::{}, $2::text::{account_type})", kind.sql())
            }),
            changed_beyond: changed(&|column, kind| format!("{column} > $1::text::{}", kind.sql())),
            all: page(&format!("{account} IS NOT NULL"), &account),
            all_after: page(&format!("{account} > $1::text::{account_type}"), &account),
            without_account: sql(format!("SELECT {list} FROM {from} WHERE {account} IS NULL LIMIT {}", self.limit)),
            of_accounts: sql(format!(
                "SELECT {list} FROM {from} WHERE {account} = ANY ($1::text[]::{account_type}[])"
            )),
            largest: watermark
                .as_ref()
                .filter(|(_, kind)| *kind == WatermarkType::Int8)
                .map(|(column, _)| sql(format!("SELECT max({column}) FROM {from}"))),
            ahead: watermark.as_ref().filter(|(_, kind)| *kind != WatermarkType::Int8).map(|(column, kind)| {
                let stamp = match kind {
                    WatermarkType::Timestamp => format!("{column} AT TIME ZONE {}", literal(self.timezone)),
                    _ => column.clone(),
                };
                sql(format!(
                    "SELECT extract(epoch FROM ({stamp}) - now())::int8 FROM {from} WHERE {column} < 'infinity' AND {column} > '-infinity' ORDER BY {column} DESC LIMIT 1"
                ))
            }),
        }
    }
}
