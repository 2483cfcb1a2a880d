//! The SQL over the customer's table. Only this file puts statements together, apart from the sample of `introspect`.
//!
//! Owns: select list, keyset conditions, order. Must not know: connections, the state of a scan.
//!
//! A statement contains identifiers, quoted by [`identifier`]; type names from `column_type`; the configured filter, which
//! the operator writes and a read-only session runs; and the page size. Every value is a parameter.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::column_text::{ColumnForm, RowForm, selected};
use super::column_type::{AccountType, WatermarkType};
use super::fingerprint::relation_statement;
use super::watermark::NEWEST_ROWS;
use crate::quote::{identifier, literal};

/// Rows of a sample.
pub(super) const SAMPLE_ROWS: u64 = 1_000;
/// Rows of the first page of a scan of the whole table, at most: enough for the first calls, which wait for no other page. More
/// than the thousand accounts after which the share of refusals is judged, so that they are answered within one delivery.
const FIRST_PAGE_ROWS: u64 = 2_000;

/// What the statements are made from.
#[derive(Debug)]
pub(super) struct StatementInputs<'a> {
    pub(super) schema: &'a str,
    pub(super) table: &'a str,
    pub(super) account: (&'a str, AccountType),
    pub(super) watermark: Option<(&'a str, WatermarkType)>,
    /// The zone of a `timestamp` without time zone.
    pub(super) timezone: &'a str,
    /// The name of the deleted column, and whether it is a boolean.
    pub(super) deleted: Option<(&'a str, bool)>,
    pub(super) filter: Option<&'a str>,
    /// The mapped columns, each with its type below all domains.
    pub(super) columns: Vec<(&'a str, &'a str)>,
    /// Rows of a page.
    pub(super) limit: u64,
    /// An index returns the rows in the order (watermark, account).
    pub(super) is_indexed: bool,
    /// The watermark column may be NULL.
    pub(super) may_lack_stamps: bool,
}

/// A page: with all columns, and with account and watermark alone, which no expression of the row can fail.
#[derive(Clone, Debug)]
pub(super) struct PageStatement {
    pub(super) rows: SqlStr,
    /// Its select list is account, watermark and FALSE.
    pub(super) keys: SqlStr,
    /// At most so many rows.
    pub(super) limit: u64,
}

/// The statements over the table. The optional ones are `None` without a watermark column of the type they need.
#[derive(Debug)]
pub(super) struct Statements {
    /// How the columns of the select list arrive.
    pub(super) form: RowForm,
    /// The first pages of `changed_from`, `unstamped` and `far_future`, followed by a [`PollPart`] and, in a row of its own, what the
    /// relation is.
    pub(super) poll: Option<SqlStr>,
    /// Rows from `$1` (a time or a value, as text) on, in the order (watermark, account).
    pub(super) changed_from: Option<PageStatement>,
    /// Rows after the one with watermark `$1` and account `$2`, in the same order.
    pub(super) changed_after: Option<PageStatement>,
    /// Rows after all those with watermark `$1`, in the same order.
    pub(super) changed_after_watermark: Option<PageStatement>,
    /// Rows without a watermark, in the order of the account; `None` where no index serves it.
    pub(super) unstamped: Option<PageStatement>,
    /// Rows without a watermark after account `$1`.
    pub(super) unstamped_after: Option<PageStatement>,
    /// Rows stamped at or after the horizon, in the order (watermark, account); `None` where `changed_from` reads them.
    pub(super) far_future: Option<PageStatement>,
    /// Rows after the one with watermark `$1` and account `$2`, however far in the future.
    pub(super) far_future_after: Option<PageStatement>,
    /// All rows in the order of the account column.
    pub(super) all: PageStatement,
    /// As `all`, for the first page of a scan, which is small.
    pub(super) first_of_all: PageStatement,
    /// Rows after account `$1`, in the same order.
    pub(super) all_after: PageStatement,
    /// The keys of rows without an account, which are not in that order. Nothing else of them is used.
    pub(super) without_account: SqlStr,
    /// The rows whose account is one of the texts `$1`.
    pub(super) rows_of_accounts: SqlStr,
    /// The accounts among the texts `$2` with a row from `$1` (a time or a value, as text) on.
    pub(super) stamped_since: Option<SqlStr>,
    /// Account, watermark and whether the row is gone, of the rows whose account is one of the texts `$1`.
    pub(super) keys_of_accounts: SqlStr,
    /// Whether one of the rows whose account is one of the texts `$1` is marked as deleted, and whether the filter leaves one
    /// out.
    pub(super) gone_reasons: SqlStr,
    /// Rows at random from `$1` percent of the blocks of the table.
    pub(super) sample: PageStatement,
    /// The accounts of the rows at the positions `$1` (`ctid`, as texts). Only for relations that store rows themselves.
    pub(super) at_positions: SqlStr,
    /// The first rows that the relation returns.
    pub(super) first_rows: PageStatement,
    /// The largest values of a counter with 16 bits of a hash of their accounts, the largest first.
    pub(super) newest_counters: Option<SqlStr>,
    /// By how many seconds the newest finite stamp is ahead of the clock; negative when it is behind.
    pub(super) newest_stamp_offset: Option<SqlStr>,
}

/// Which part of the statement of a poll a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollPart {
    Changed,
    Unstamped,
    FarFuture,
    /// One row, whose last column is the relation as the fingerprint has it.
    Relation,
}

fn sql(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

impl StatementInputs<'_> {
    /// Qualified with the table, because `ORDER BY "updated_at"` alone means the output column of that name, a text.
    fn column(&self, name: &str) -> String {
        format!("{}.{}", identifier(self.table), identifier(name))
    }

    fn relation(&self) -> String {
        format!("{}.{}", identifier(self.schema), identifier(self.table))
    }

    /// The conditions under which a row counts as gone: that of the deleted column, and that of the filter.
    fn gone_conditions(&self) -> [Option<String>; 2] {
        let deleted = self
            .deleted
            .map(|(name, boolean)| format!("{} IS {}", self.column(name), if boolean { "TRUE" } else { "NOT NULL" }));
        // On a line of its own, so that a comment at its end does not swallow the parenthesis.
        let filtered = self.filter.map(|filter| format!("(\n{filter}\n) IS NOT TRUE"));
        [deleted, filtered]
    }

    /// The condition under which a row counts as gone.
    fn gone_condition(&self) -> String {
        let conditions: Vec<String> = self.gone_conditions().into_iter().flatten().collect();
        if conditions.is_empty() { "FALSE".to_owned() } else { conditions.join(" OR ") }
    }

    /// The filter in a WHERE clause, to be prepared only: the server refuses what is not a boolean, aggregates, and
    /// set-returning functions.
    pub(super) fn filter_check(&self) -> Option<SqlStr> {
        let filter = self.filter?;
        Some(sql(format!("SELECT FROM {} WHERE (\n{filter}\n)", self.relation())))
    }

    /// Fails when the server does not know the time zone.
    pub(super) fn timezone_check(&self) -> SqlStr {
        sql(format!("SELECT (now() AT TIME ZONE {})::text", literal(self.timezone)))
    }

    /// The bound `$1` in the watermark column's type.
    fn bound(&self, kind: WatermarkType) -> String {
        match kind {
            WatermarkType::Timestamptz => "$1::text::pg_catalog.timestamptz".to_owned(),
            WatermarkType::Int8 => "$1::text::pg_catalog.int8".to_owned(),
            // Local times repeat at the end of daylight saving time. The smaller of the zone's offsets at the bound and
            // now is used, so that rows written on either side of the change are not below the bound.
            WatermarkType::Timestamp => {
                let zone = literal(self.timezone);
                let bound = "$1::text::pg_catalog.timestamptz";
                format!(
                    "least({bound} AT TIME ZONE {zone}, ({bound} AT TIME ZONE 'UTC') + ((now() AT TIME ZONE {zone}) - (now() AT TIME ZONE 'UTC')))"
                )
            }
        }
    }

    /// Stamps from here on are far in the future, in the watermark column's type. A counter has no future.
    pub(super) fn horizon(&self, kind: WatermarkType) -> Option<String> {
        match kind {
            WatermarkType::Timestamptz => Some("(now() + interval '1 day')".to_owned()),
            WatermarkType::Timestamp => {
                Some(format!("((now() + interval '1 day') AT TIME ZONE {})", literal(self.timezone)))
            }
            WatermarkType::Int8 => None,
        }
    }

    /// The select lists with each of these expressions as the watermark: account, watermark, gone, mapped columns.
    fn select_lists(&self, account: &str, stamps: [&str; 2]) -> (RowForm, [String; 2]) {
        let (account_form, account) = match self.account.1 {
            AccountType::Int2 | AccountType::Int4 | AccountType::Int8 => (ColumnForm::Integer, account.to_owned()),
            _ => (ColumnForm::Text, format!("{account}::text")),
        };
        let selected = self.columns.iter().map(|(column, base_type)| selected(&self.column(column), base_type));
        let (forms, columns): (Vec<ColumnForm>, Vec<String>) = selected.unzip();
        let gone = self.gone_condition();
        let list = |stamp: &str| {
            let keys = [account.clone(), format!("{stamp}::text"), format!("({gone})")];
            keys.iter().chain(&columns).map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        (RowForm::new(account_form, forms), stamps.map(list))
    }

    fn select(&self, [list, keys]: [&str; 2], rest: &str, limit: u64) -> PageStatement {
        let select = |list: &str| sql(format!("SELECT {list} FROM {} {rest} LIMIT {limit}", self.relation()));
        PageStatement { rows: select(list), keys: select(keys), limit }
    }

    /// All statements.
    pub(super) fn statements(&self) -> Statements {
        let relation = self.relation();
        let account = self.column(self.account.0);
        let account_type = self.account.1.sql();
        let watermark = self.watermark.map(|(name, kind)| (self.column(name), kind));
        let stamp = watermark.as_ref().map_or("NULL".to_owned(), |(column, _)| column.clone());
        // In the order of the account nobody needs the stamps, and their texts cost the server more than the other columns.
        let (form, [list, list_by_account]) = self.select_lists(&account, [&stamp, "NULL"]);
        let keys = format!("{account}::text, {stamp}::text, FALSE");
        let of = |list: &str, rest: &str, limit: u64| self.select([list, &keys], rest, limit);
        let ordered = |condition: &str, order: &str| format!("WHERE {condition} ORDER BY {order}");
        let page_of = |list: &str, condition: &str, order: &str| of(list, &ordered(condition, order), self.limit);
        let page = |condition: &str, order: &str| page_of(&list, condition, order);
        let sampled = |rest: &str| of(&list, rest, SAMPLE_ROWS);
        let first = ordered(&format!("{account} IS NOT NULL"), &account);
        let changed = |condition: &dyn Fn(&str, WatermarkType) -> String| {
            let (column, kind) = watermark.as_ref()?;
            Some(page(&condition(column, *kind), &format!("{column}, {account}")))
        };
        // Rows beyond the horizon are read apart, so that thousands of them are not read by every poll.
        let horizon = |kind| if self.is_indexed { self.horizon(kind) } else { None };
        let near = |column: &str, kind| horizon(kind).map_or(String::new(), |end| format!(" AND {column} < {end}"));
        let after = |column: &str, kind: WatermarkType| {
            format!("({column}, {account}) > ($1::text::{}, $2::text::{account_type})", kind.sql())
        };
        let is_split = watermark.as_ref().is_some_and(|(_, kind)| horizon(*kind).is_some());
        let without_stamp = |condition: &str| {
            let (column, _) = watermark.as_ref().filter(|_| self.is_indexed && self.may_lack_stamps)?;
            Some(page(&format!("{column} IS NULL AND {condition}"), &format!("{column}, {account}")))
        };
        Statements {
            form,
            poll: self.poll(&list),
            changed_from: changed(&|column, kind| format!("{column} >= {}{}", self.bound(kind), near(column, kind))),
            changed_after: changed(&|column, kind| format!("{}{}", after(column, kind), near(column, kind))),
            changed_after_watermark: changed(&|column, kind| {
                format!("{column} > $1::text::{}{}", kind.sql(), near(column, kind))
            }),
            unstamped: without_stamp(&format!("{account} IS NOT NULL")),
            unstamped_after: without_stamp(&format!("{account} > $1::text::{account_type}")),
            far_future: changed(&|column, kind| {
                format!("{column} >= {} AND {account} IS NOT NULL", horizon(kind).unwrap_or_default())
            })
            .filter(|_| is_split),
            far_future_after: changed(&|column, kind| format!("{} AND {account} IS NOT NULL", after(column, kind)))
                .filter(|_| is_split),
            all: page_of(&list_by_account, &format!("{account} IS NOT NULL"), &account),
            first_of_all: of(&list_by_account, &first, self.limit.min(FIRST_PAGE_ROWS)),
            all_after: page_of(&list_by_account, &format!("{account} > $1::text::{account_type}"), &account),
            without_account: sql(format!("SELECT {keys} FROM {relation} WHERE {account} IS NULL LIMIT {}", self.limit)),
            rows_of_accounts: sql(format!(
                "SELECT {list} FROM {relation} WHERE {account} = ANY ($1::text[]::{account_type}[])"
            )),
            stamped_since: watermark.as_ref().map(|(column, kind)| {
                sql(format!(
                    "SELECT {account}::text FROM {relation} WHERE ({column} >= {}{}) AND {account} = ANY ($2::text[]::{account_type}[])",
                    self.bound(*kind),
                    if self.is_indexed { format!(" OR {column} IS NULL") } else { String::new() }
                ))
            }),
            keys_of_accounts: sql(format!(
                "SELECT {account}::text, {stamp}::text, ({}) FROM {relation} WHERE {account} = ANY ($1::text[]::{account_type}[])",
                self.gone_condition()
            )),
            gone_reasons: self.gone_reasons(&account),
            sample: sampled("TABLESAMPLE SYSTEM ($1::text::pg_catalog.float4) ORDER BY pg_catalog.random()"),
            at_positions: self.at_positions(&account),
            first_rows: sampled(""),
            newest_counters: self.newest_counters(),
            newest_stamp_offset: self.newest_stamp_offset(),
        }
    }

    /// A bound in a sub-select is not known to the planner, which then takes the range between two of them for small. So it
    /// uses the index whatever the statistics say, and does not read the newest rows in order to estimate.
    fn poll(&self, list: &str) -> Option<SqlStr> {
        let (name, kind) = self.watermark?;
        let (relation, column, account) = (self.relation(), self.column(name), self.column(self.account.0));
        let part = |part: PollPart, condition: String| {
            format!(
                "(SELECT {list}, {}, NULL FROM {relation} WHERE {condition} ORDER BY {column}, {account} LIMIT {})",
                part as i32, self.limit
            )
        };
        let bound = self.bound(kind);
        let mut parts = Vec::new();
        if self.is_indexed {
            let largest = if kind == WatermarkType::Int8 { i64::MAX.to_string() } else { "'infinity'".to_owned() };
            let largest = format!("{column} <= (SELECT {largest}::{})", kind.sql());
            let horizon = self.horizon(kind);
            let end = horizon.as_ref().map_or(largest.clone(), |horizon| format!("{column} < (SELECT {horizon})"));
            parts.push(part(PollPart::Changed, format!("{column} >= (SELECT {bound}) AND {end}")));
            if self.may_lack_stamps {
                parts.push(part(PollPart::Unstamped, format!("{column} IS NULL AND {account} IS NOT NULL")));
            }
            if let Some(horizon) = horizon {
                let condition = format!("{column} >= (SELECT {horizon}) AND {largest} AND {account} IS NOT NULL");
                parts.push(part(PollPart::FarFuture, condition));
            }
        } else {
            parts.push(part(PollPart::Changed, format!("{column} >= {bound}")));
        }
        let nulls = "NULL, ".repeat(self.columns.len());
        let identity = relation_statement(self.schema, self.table);
        parts.push(format!("(SELECT NULL, NULL, FALSE, {nulls}{}, ({identity}))", PollPart::Relation as i32));
        Some(sql(parts.join(" UNION ALL ")))
    }

    fn at_positions(&self, account: &str) -> SqlStr {
        let (relation, position) = (self.relation(), self.column("ctid"));
        sql(format!(
            "SELECT {account}::text FROM {relation} WHERE {position} = ANY ($1::text[]::pg_catalog.tid[]) AND {account} IS NOT NULL"
        ))
    }

    fn gone_reasons(&self, account: &str) -> SqlStr {
        let [deleted, filtered] = self.gone_conditions().map(|condition| condition.unwrap_or("FALSE".to_owned()));
        // The filter may raise an error for a row whose values were blanked when it was marked as deleted.
        let filtered = format!("CASE WHEN {deleted} THEN FALSE ELSE {filtered} END");
        let reasons = [deleted, filtered].map(|reason| format!("coalesce(pg_catalog.bool_or({reason}), FALSE)"));
        sql(format!(
            "SELECT {} FROM {} WHERE {account} = ANY ($1::text[]::{}[])",
            reasons.join(", "),
            self.relation(),
            self.account.1.sql()
        ))
    }

    fn newest_counters(&self) -> Option<SqlStr> {
        let (name, _) = self.watermark.filter(|(_, kind)| *kind == WatermarkType::Int8)?;
        let (relation, column, account) = (self.relation(), self.column(name), self.column(self.account.0));
        Some(sql(format!(
            "SELECT {column}, coalesce(pg_catalog.hashtextextended({account}::text, 0) & 65535, 0)::int4 FROM {relation} WHERE {column} IS NOT NULL ORDER BY {column} DESC LIMIT {NEWEST_ROWS}"
        )))
    }

    fn newest_stamp_offset(&self) -> Option<SqlStr> {
        let (name, kind) = self.watermark.filter(|(_, kind)| *kind != WatermarkType::Int8)?;
        let (relation, column) = (self.relation(), self.column(name));
        let stamp = match kind {
            WatermarkType::Timestamp => format!("{column} AT TIME ZONE {}", literal(self.timezone)),
            _ => column.clone(),
        };
        Some(sql(format!(
            "SELECT extract(epoch FROM ({stamp}) - now())::int8 FROM {relation} WHERE {column} < 'infinity' AND {column} > '-infinity' ORDER BY {column} DESC LIMIT 1"
        )))
    }
}
