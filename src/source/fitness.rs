//! What imsync accepts of a table, and what it warns of: each with the way out.
//!
//! Owns: the sentences about table, columns, privileges, filter, indexes. Must not know: how pages are read.

use sqlx::Row;

use super::account::AccountType;
use super::error::SourceError;
use super::session::SourceSession;
use super::statements::{Shape, Statements};
use super::table::{Column, RelationKind, Table, WatermarkType, nearest};
use crate::config::{self, AccountFormat};
use crate::quote::shown;

/// Seconds that the newest stamp may be off the clock before it is worth a warning.
const STAMP_OFF: i64 = 3600;
/// No two zones are further apart (UTC-12 to UTC+14): a stamp older than this is old, not in another zone.
const ZONES_APART: i64 = 26 * 3600;

/// The columns that imsync reads, found and of types it can work with.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) account: (&'a Column, AccountType),
    pub(super) watermark: Option<(&'a Column, WatermarkType)>,
    /// The deleted column's name, and whether it is a boolean.
    pub(super) deleted: Option<(&'a str, bool)>,
}

/// Finds the configured columns and checks their types and the role's privileges; all that is wrong at once, a line each.
pub(super) fn columns<'a>(
    table: &'a Table,
    config: &config::Config,
    mapped: &[String],
) -> Result<Found<'a>, SourceError> {
    let source = &config.source;
    let mut wrong: Vec<String> = Vec::new();
    let mut find = |key: &str, name: &str| {
        let column = table.column(name);
        if column.is_none() {
            wrong.push(no_column(table, key, name));
        }
        column
    };
    let account = find("source.account_column", &source.account_column);
    let watermark = source.watermark_column.as_ref().and_then(|name| find("source.watermark_column", name));
    let deleted = source.deleted_column.as_ref().and_then(|name| find("source.deleted_column", name));
    let mut read: Vec<&Column> = [account, watermark, deleted].into_iter().flatten().collect();
    for name in mapped {
        let attribute = config.attributes.iter().find(|attribute| attribute.column == *name);
        let key =
            attribute.map_or("attributes".to_owned(), |attribute| format!("attributes.{}", shown(&attribute.name)));
        read.extend(find(&key, name));
    }
    let account_type = account.and_then(|column| match account_type(table, column, source.account_format) {
        Ok(found) => Some((column, found)),
        Err(sentence) => {
            wrong.push(sentence);
            None
        }
    });
    let watermark = watermark.and_then(|column| match watermark_type(table, column) {
        Ok(found) => Some((column, found)),
        Err(sentence) => {
            wrong.push(sentence);
            None
        }
    });
    wrong.extend(privileges(table, &read));
    match account_type {
        Some(account) if wrong.is_empty() => Ok(Found {
            account,
            watermark,
            deleted: deleted.map(|column| (column.name.as_str(), column.base == "bool")),
        }),
        _ => Err(SourceError::Unsuitable(wrong.join("\n"))),
    }
}

fn no_column(table: &Table, key: &str, name: &str) -> String {
    let quoted: Vec<String> = table.columns.iter().map(|column| shown(&column.name)).collect();
    let known = table.columns.iter().zip(&quoted).map(|(column, quoted)| (column.name.as_str(), quoted.as_str()));
    let hint = match nearest(name, known).as_slice() {
        [] => {
            let more = quoted.len().saturating_sub(20);
            let list = quoted.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("its columns are {list}{more}")
        }
        near if table.columns.iter().any(|column| column.name.to_lowercase() == name.to_lowercase()) => {
            format!("there is {} (capitals matter here)", near.join(", "))
        }
        near => format!("there is {}", near.join(", ")),
    };
    format!("{key} = {name:?}: column {} not found in {}; {hint}", shown(name), table.shown())
}

fn account_type(table: &Table, column: &Column, format: AccountFormat) -> Result<AccountType, String> {
    let name = format!("source.account_column = {:?}", column.name);
    let of = format!("column {} of {} is {}", shown(&column.name), table.shown(), column.type_name);
    let Some(found) = AccountType::named(&column.base) else {
        return Err(format!(
            "{name}: {of}; allowed are text, varchar, char, smallint, integer, bigint, uuid and domains over them (in a view, cast it: {}::text)",
            shown(&column.name)
        ));
    };
    if !column.deterministic {
        return Err(format!(
            "{name}: {of} with a nondeterministic collation, where different texts count as equal and IM's accounts would not; give the column another collation, or read from a view with {} COLLATE \"C\"",
            shown(&column.name)
        ));
    }
    match (found, format) {
        (AccountType::Uuid, AccountFormat::Text) => Err(format!(
            "{name}: {of}, 36 bytes as text, and IM takes at most 32; set account_format = \"hex\" (32 bytes, without the hyphens)"
        )),
        (AccountType::Uuid, AccountFormat::Hex) | (_, AccountFormat::Text) => Ok(found),
        (_, AccountFormat::Hex) => {
            Err(format!("source.account_format = \"hex\" is for a uuid, but {of}; set account_format = \"text\""))
        }
    }
}

fn watermark_type(table: &Table, column: &Column) -> Result<WatermarkType, String> {
    match column.base.as_str() {
        "timestamptz" => Ok(WatermarkType::Timestamptz),
        "timestamp" => Ok(WatermarkType::Timestamp),
        "int8" => Ok(WatermarkType::Int8),
        _ => Err(format!(
            "source.watermark_column = {:?}: column {} of {} is {}; allowed are timestamptz, timestamp and bigint; without watermark_column every pass compares the whole table",
            column.name,
            shown(&column.name),
            table.shown(),
            column.type_name
        )),
    }
}

fn privileges(table: &Table, read: &[&Column]) -> Vec<String> {
    let (role, shown_table) = (shown(&table.role), table.shown());
    let mut wrong = Vec::new();
    if !table.schema_usable {
        let schema = shown(&table.schema);
        wrong.push(format!("role {role} may not use schema {schema}; run: GRANT USAGE ON SCHEMA {schema} TO {role};"));
    }
    let mut closed: Vec<String> =
        read.iter().filter(|column| !column.readable).map(|column| shown(&column.name)).collect();
    closed.sort_unstable();
    closed.dedup();
    if !closed.is_empty() {
        wrong.push(format!(
            "role {role} may not read {} of {shown_table}; run: GRANT SELECT ON {shown_table} TO {role};",
            closed.join(", ")
        ));
    }
    if table.row_security {
        wrong.push(format!(
            "row-level security hides rows of {shown_table} from role {role}, and hidden rows would look deleted; run: ALTER ROLE {role} BYPASSRLS; (or read from a view of the table's owner)"
        ));
    }
    wrong
}

/// A watermark has to say when a row became visible; a refresh publishes rows with old stamps.
pub(super) async fn watermark_moves(session: &mut SourceSession, table: &Table) -> Result<(), SourceError> {
    let Some((kind, name)) = table.made_of(session).await? else { return Ok(()) };
    let what = kind.name();
    let place = if kind == table.kind { "is".to_owned() } else { format!("reads from {name},") };
    Err(SourceError::Unsuitable(format!(
        "source.watermark_column cannot be used: {} {place} a {what}, where old stamps appear late and their rows would be missed; remove watermark_column (every pass then compares the whole table), or read from the table itself",
        table.shown()
    )))
}

/// Lets the server judge what only it can: the filter and the zone.
pub(super) async fn expressions(session: &mut SourceSession, shape: &Shape<'_>) -> Result<(), SourceError> {
    if let (Some(check), Some(filter)) = (shape.filter_check(), shape.filter) {
        let refused = |reason: &str| SourceError::Unsuitable(format!("source.filter = {filter:?}: {reason}"));
        match session.prepare(check).await {
            Ok(0) => {}
            Ok(_) => return Err(refused("parameters like $1 cannot be used here")),
            Err(error) => {
                let own = error.as_database_error().map(|error| error.message().to_owned());
                return Err(match (SourceError::from(error), own) {
                    (SourceError::Unreachable(reason), _) => SourceError::Unreachable(reason),
                    (_, Some(message)) => refused(&message),
                    (other, None) => other,
                });
            }
        }
    }
    if shape.watermark.is_some_and(|(_, kind)| kind == WatermarkType::Timestamp) {
        session.row(sqlx::query(shape.timezone_check())).await.map_err(|error| match error {
            SourceError::Refused(reason) => SourceError::Unsuitable(format!(
                "source.watermark_timezone = {:?}: {reason}; allowed are the names of pg_timezone_names, like UTC or Europe/Berlin",
                shape.timezone
            )),
            other => other,
        })?;
    }
    Ok(())
}

/// What works, but not as well as it could.
pub(super) async fn warnings(
    session: &mut SourceSession,
    table: &Table,
    found: &Found<'_>,
    mapped: &[String],
    statements: &Statements,
    unique: bool,
) -> Result<Vec<String>, SourceError> {
    let mut warnings = Vec::new();
    let name = table.shown();
    let standby: bool = session.row(sqlx::query("SELECT pg_catalog.pg_is_in_recovery()")).await?.try_get(0)?;
    if standby && found.watermark.is_some() {
        warnings.push("the source is a replica, where the primary's open transactions cannot be seen: only source.watermark_grace protects against late commits; make it longer than the longest transaction, or read from the primary".to_owned());
    }
    for column in mapped.iter().filter_map(|name| table.column(name)).filter(|column| column.base == "money") {
        let shown_column = shown(&column.name);
        warnings.push(format!(
            "column {shown_column} is money, whose text and decimals follow lc_monetary: another setting of server, database or role would change every value; read it from a view, as {shown_column}::numeric"
        ));
    }
    let encoding: String =
        session.row(sqlx::query("SELECT pg_catalog.current_setting('server_encoding')")).await?.try_get(0)?;
    if encoding == "SQL_ASCII" {
        warnings.push("the database's encoding is SQL_ASCII, which lets any bytes in: a text that is not UTF-8 fails the page that it is on, and with it the pass".to_owned());
    }
    let concurrently = if table.kind == RelationKind::Partitioned { "" } else { " CONCURRENTLY" };
    let account = found.account.0;
    if table.kind.indexed() {
        if let Some((watermark, _)) = found.watermark
            && !table.is_served(session, &[watermark, account]).await?
        {
            warnings.push(format!(
                "no index serves the incremental passes, each page sorts all rows; run: CREATE INDEX{concurrently} ON {name} ({}, {});",
                shown(&watermark.name),
                shown(&account.name)
            ));
        }
        if !table.is_served(session, &[account]).await? {
            warnings.push(format!(
                "no index serves the full passes and look-ups; run: CREATE {}INDEX{concurrently} ON {name} ({});",
                if unique { "" } else { "UNIQUE " },
                shown(&account.name)
            ));
        } else if !unique {
            warnings.push(format!(
                "no unique index makes sure that an account is in {name} once (twice, it is rejected); run: CREATE UNIQUE INDEX{concurrently} ON {name} ({});",
                shown(&account.name)
            ));
        }
    }
    if let (Some(ahead), Some((watermark, kind))) = (&statements.ahead, found.watermark)
        && let Some(row) = session.rows(sqlx::query(ahead.clone())).await?.pop()
    {
        let ahead: i64 = row.try_get(0)?;
        let column = shown(&watermark.name);
        if ahead > STAMP_OFF {
            warnings.push(format!(
                "the newest {column} of {name} lies {} ahead of the database clock: rows dated in the future are read again with each pass; check the writers' clocks and source.watermark_timezone",
                hours(ahead)
            ));
        } else if kind == WatermarkType::Timestamp && (STAMP_OFF..ZONES_APART).contains(&-ahead) {
            warnings.push(format!(
                "the newest {column} of {name} lies {} behind the database clock: if rows have changed since, source.watermark_timezone is not the zone they are written in, and changes are missed",
                hours(-ahead)
            ));
        }
    }
    Ok(warnings)
}

fn hours(seconds: i64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
