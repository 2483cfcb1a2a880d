//! What imsync requires of the source: columns, types, privileges, the filter, the time zone.
//!
//! Owns: the messages for what is missing, each with its remedy. Must not know: how pages are read.

use sqlx::Row as _;

use super::column_type::{AccountType, WatermarkType};
use super::error::SourceError;
use super::filter_check::check_filter;
use super::row_security::HiddenRows;
use super::session::SourceSession;
use super::similar_names::similar_names;
use super::statements::StatementInputs;
use super::table::{Column, Table};
use crate::config::{self, AccountFormat};
use crate::finding::{Finding, Findings};
use crate::model::ImAccountType;
use crate::quote::{identifier, shown};

/// Names of zones are compared as PostgreSQL does.
const KNOWN_TIMEZONE: &str =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_timezone_names WHERE pg_catalog.lower(name) = pg_catalog.lower($1))";

/// The configured columns, as far as they were found and have accepted types.
#[derive(Debug)]
pub(super) struct FoundColumns<'a> {
    pub(super) table: &'a Table,
    pub(super) account: Option<(&'a Column, AccountType)>,
    pub(super) watermark: Option<(&'a Column, WatermarkType)>,
    /// The name of the deleted column, and whether it is a boolean.
    pub(super) deleted: Option<(&'a str, bool)>,
    /// The mapped columns that exist, in their order.
    pub(super) mapped: Vec<String>,
}

impl FoundColumns<'_> {
    /// What the statements are made of; `None` without an account column. `limit`: of a page. `is_indexed`: an index returns
    /// the rows in the order of the polls.
    pub(super) fn statement_inputs<'a>(
        &'a self,
        source: &'a config::SourceConfig,
        limit: u64,
        is_indexed: bool,
    ) -> Option<StatementInputs<'a>> {
        let (account, account_type) = self.account?;
        Some(StatementInputs {
            schema: &self.table.schema,
            table: &self.table.name,
            account: (&account.name, account_type),
            watermark: self.watermark.map(|(column, kind)| (column.name.as_str(), kind)),
            timezone: &source.watermark_timezone,
            deleted: self.deleted,
            filter: source.filter.as_deref(),
            columns: self.mapped_types(),
            limit,
            is_indexed,
            may_lack_stamps: self.watermark.is_some_and(|(column, _)| !column.not_null),
        })
    }

    /// The mapped columns, each with its type below all domains.
    pub(super) fn mapped_types(&self) -> Vec<(&str, &str)> {
        let base_type = |name: &str| self.table.column(name).map_or("", |column| column.base_type.as_str());
        self.mapped.iter().map(|name| (name.as_str(), base_type(name))).collect()
    }
}

/// Finds the configured columns and checks their types and the privileges of the role. All problems are returned.
pub(super) fn find_columns<'a>(
    table: &'a Table,
    config: &config::Config,
    mapped: &[String],
) -> (FoundColumns<'a>, Findings) {
    let source = &config.source;
    let mut problems = Findings::default();
    let mut find = |key: &str, name: &str| {
        let column = table.column(name);
        if column.is_none() {
            problems.push(column_not_found(table, key, name));
        }
        column
    };
    let account = find("source.account_column", &source.account_column);
    let watermark = source.watermark_column.as_ref().and_then(|name| find("source.watermark_column", name));
    let deleted = source.deleted_column.as_ref().and_then(|name| find("source.deleted_column", name));
    let mut read: Vec<&Column> = [account, watermark, deleted].into_iter().flatten().collect();
    let mut found_mapped = Vec::new();
    for name in mapped {
        let attribute = config.attributes.iter().find(|attribute| attribute.column == *name);
        let key =
            attribute.map_or("attributes".to_owned(), |attribute| format!("attributes.{}", shown(&attribute.name)));
        if let Some(column) = find(&key, name) {
            read.push(column);
            found_mapped.push(name.clone());
        }
    }
    let account = account.map(|column| (column, account_type(table, column, config)));
    let account = keep_typed(account, &mut problems);
    let watermark = watermark.map(|column| (column, watermark_type(table, column)));
    let watermark = keep_typed(watermark, &mut problems);
    problems.extend(missing_privileges(table, &read));
    let deleted = deleted.map(|column| (column.name.as_str(), column.base_type == "bool"));
    (FoundColumns { table, account, watermark, deleted, mapped: found_mapped }, problems)
}

/// The column with its type; a type that is not accepted becomes a problem.
fn keep_typed<'a, T>(
    column: Option<(&'a Column, Result<T, Finding>)>,
    problems: &mut Findings,
) -> Option<(&'a Column, T)> {
    match column? {
        (column, Ok(accepted)) => Some((column, accepted)),
        (_, Err(problem)) => {
            problems.push(problem);
            None
        }
    }
}

/// `key`: what names the column.
pub(super) fn column_not_found(table: &Table, key: &str, name: &str) -> Finding {
    let quoted: Vec<String> = table.columns.iter().map(|column| shown(&column.name)).collect();
    let known = table.columns.iter().zip(&quoted).map(|(column, quoted)| (column.name.as_str(), quoted.as_str()));
    let hint = match similar_names(name, known).as_slice() {
        [] => format!("its columns are {}", table.column_list()),
        similar if table.columns.iter().any(|column| column.name.to_lowercase() == name.to_lowercase()) => {
            format!("similar: {} (upper and lower case differ)", similar.join(", "))
        }
        similar => format!("similar: {}", similar.join(", ")),
    };
    Finding::error(
        "source.columns",
        format!("{key} = {name:?}: {} has no column {}; {hint}", table.qualified_name(), shown(name)),
    )
    .remedy(format!("correct {key}, or add the column"))
}

fn account_type(table: &Table, column: &Column, config: &config::Config) -> Result<AccountType, Finding> {
    let key = format!("source.account_column = {:?}", column.name);
    let column_is = format!("column {} of {} is {}", shown(&column.name), table.qualified_name(), column.type_name);
    let refused = |message: String| Finding::error("source.account_column", message);
    let Some(found) = AccountType::from_typname(&column.base_type) else {
        return Err(refused(format!(
            "{key}: {column_is}; allowed are text, varchar, char, smallint, integer, bigint, uuid and domains over them"
        ))
        .remedy(format!(
            "read from a view that casts it: {0}::text{1}",
            shown(&column.name),
            if column.type_name == "citext" {
                // Without it, each look-up of an account through the view reads the whole table.
                format!(", and create a unique index over (({}::text)), which serves the view", shown(&column.name))
            } else {
                String::new()
            }
        )));
    };
    if !column.deterministic {
        return Err(refused(format!(
            "{key}: {column_is} with a nondeterministic collation, under which different texts are equal although they are different accounts in IM"
        ))
        .remedy(format!(
            "give the column another collation, or read from a view with {} COLLATE \"C\"",
            shown(&column.name)
        )));
    }
    match (found, config.source.account_format) {
        // A RegistrationID is a uuid as text.
        (AccountType::Uuid, AccountFormat::Text) if config.im.account_type == ImAccountType::UserId => {
            Err(refused(format!("{key}: {column_is}, 36 bytes as text, and IM accepts at most 32"))
                .remedy("set account_format = \"hex\" (32 bytes, without the hyphens)"))
        }
        (AccountType::Int2 | AccountType::Int4 | AccountType::Int8, AccountFormat::Hex) => Err(refused(format!(
            "source.account_format = \"hex\" requires a uuid, or a text that spells one, but {column_is}"
        ))
        .remedy("set account_format = \"text\"")),
        (_, AccountFormat::Hex | AccountFormat::Text) => Ok(found),
    }
}

fn watermark_type(table: &Table, column: &Column) -> Result<WatermarkType, Finding> {
    WatermarkType::from_typname(&column.base_type).ok_or_else(|| {
        Finding::error(
            "source.watermark_column",
            format!(
                "source.watermark_column = {:?}: column {} of {} is {}; allowed are timestamptz, timestamp and bigint",
                column.name,
                shown(&column.name),
                table.qualified_name(),
                column.type_name
            ),
        )
        .remedy("name another column, or remove watermark_column (every pass then compares the whole table)")
    })
}

fn missing_privileges(table: &Table, read: &[&Column]) -> Findings {
    let (role, name) = (shown(&table.role), table.qualified_name());
    let mut problems = Findings::default();
    if !table.schema_usable {
        let schema = shown(&table.schema);
        problems.push(
            Finding::error("source.schema_privilege", format!("role {role} lacks USAGE on schema {schema}"))
                .sql(format!("GRANT USAGE ON SCHEMA {} TO {};", identifier(&table.schema), identifier(&table.role))),
        );
    }
    let mut denied: Vec<&str> =
        read.iter().filter(|column| !column.readable).map(|column| column.name.as_str()).collect();
    denied.sort_unstable();
    denied.dedup();
    if !denied.is_empty() {
        let list = |quote: fn(&str) -> String| denied.iter().copied().map(quote).collect::<Vec<_>>().join(", ");
        problems.push(
            Finding::error("source.select_privilege", format!("role {role} lacks SELECT on {} of {name}", list(shown)))
                .sql(format!(
                    "GRANT SELECT ({}) ON {} TO {};",
                    list(identifier),
                    table.identifier(),
                    identifier(&table.role)
                )),
        );
    }
    problems.extend(table.hidden_rows.as_ref().map(|hidden| hidden_rows(table, hidden)));
    problems
}

fn hidden_rows(table: &Table, hidden: &HiddenRows) -> Finding {
    let HiddenRows { table: base, is_configured, role, is_session_role } = hidden;
    let read_from =
        if *is_configured { String::new() } else { format!(", from which {} reads", table.qualified_name()) };
    let hides = format!("row-level security hides rows of {base}{read_from}");
    let shown_role = shown(role);
    if *is_session_role {
        let message = format!(
            "{hides}, from role {shown_role}, and hidden rows would look deleted (alternatively, read from a view without security_invoker that the owner of {base} created)"
        );
        return Finding::error("source.row_security", message)
            .sql(format!("ALTER ROLE {} BYPASSRLS;", identifier(role)));
    }
    // The owner may be the role of the application, whose policies have to stay in force.
    let message = format!("{hides}, from the owner of the view, {shown_role}, and hidden rows would look deleted");
    Finding::error("source.row_security", message).remedy(format!(
        "read from a view whose owner the policies do not apply to, for example the owner of {base} unless it forces row-level security"
    ))
}

/// Refuses a watermark over a materialized view or a foreign table: a refresh makes rows visible long after their stamp.
pub(super) async fn check_watermark_relation(session: &mut SourceSession, table: &Table) -> Result<(), SourceError> {
    let Some((kind, name)) = table.materialized_or_foreign_base(session).await? else { return Ok(()) };
    let relation = table.qualified_name();
    let kind_name = kind.name();
    let relation_is = if kind == table.kind {
        format!("{relation} is a {kind_name}")
    } else {
        format!("{relation} reads from {name}, a {kind_name}")
    };
    Err(Finding::error(
        "source.watermark_relation",
        format!("source.watermark_column cannot be used: {relation_is}, where rows with old stamps appear late and would be missed"),
    )
    .remedy("remove watermark_column (every pass then compares the whole table), or read from the underlying table")
    .into())
}

/// Lets the server check the filter and the time zone.
pub(super) async fn check_expressions(
    session: &mut SourceSession,
    table: &Table,
    inputs: &StatementInputs<'_>,
) -> Result<(), SourceError> {
    if let (Some(check), Some(filter)) = (inputs.filter_check(), inputs.filter) {
        check_filter(session, table, check, filter).await?;
    }
    if inputs.watermark.is_some_and(|(_, kind)| kind == WatermarkType::Timestamp) {
        check_timezone(session, inputs).await?;
    }
    Ok(())
}

/// PostgreSQL takes a name that it does not know as a zone of POSIX if digits follow: "Asia/Shangai+8" is eight hours west.
async fn check_timezone(session: &mut SourceSession, inputs: &StatementInputs<'_>) -> Result<(), SourceError> {
    let zone = inputs.timezone;
    let refused = |reason: String| {
        Finding::error("source.watermark_timezone", format!("source.watermark_timezone = {zone:?}: {reason}"))
            .remedy("use one of the names of pg_timezone_names, like UTC or Europe/Berlin")
    };
    session.row(sqlx::query(inputs.timezone_check())).await.map_err(|error| match error {
        SourceError::Raised(_) => refused(format!("time zone {zone:?} not recognized")).into(),
        other => other,
    })?;
    if zone == "UTC" {
        return Ok(());
    }
    let answer = session.advice(sqlx::query(KNOWN_TIMEZONE).bind(zone.to_owned())).await;
    match answer.and_then(|rows| rows.first()?.try_get(0).ok()) {
        Some(false) => Err(refused(
            "pg_timezone_names does not contain it, and PostgreSQL reads it as an offset with the sign reversed"
                .to_owned(),
        )
        .into()),
        Some(true) | None => Ok(()),
    }
}
