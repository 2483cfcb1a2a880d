//! Which columns become account, watermark and deleted column, and why. Pure.
//!
//! Owns: these choices and their reasons as sentences. Must not know: statements, the form of the file.

use super::names::{account_score, deleted_score, sensitive, table_score, watermark_score};
use crate::commands::output::thousands;
use crate::model::MAX_ACCOUNT_BYTES;
use crate::quote::shown;
use crate::source::{ColumnKind, IntrospectedColumn, IntrospectedTable};

/// A name alone suffices for a column that no unique index covers.
const PLAUSIBLE_NAME: u32 = 25;
/// Values of a sample from which on it shows something.
const TELLING_VALUES: u64 = 20;

/// The account column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProposedAccount {
    pub(super) column: String,
    /// `account_format = "hex"`.
    pub(super) is_hex: bool,
    /// What was found, as sentences.
    pub(super) why: String,
}

/// The watermark column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProposedWatermark {
    pub(super) column: String,
    /// The zone of a `timestamp` without time zone.
    pub(super) timezone: Option<String>,
    /// What was found, as sentences.
    pub(super) why: String,
    /// A trigger sets it with every UPDATE.
    pub(super) has_trigger: bool,
}

/// The deleted column, or a filter in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProposedDeletion {
    pub(super) column: Option<String>,
    /// A condition for a column whose values the key does not take.
    pub(super) filter: Option<String>,
    /// What was found, as sentences; empty when nothing was.
    pub(super) why: String,
}

/// Columns that may be proposed: those that the role may read. Where it may read none, all of them, because `check` then names
/// the missing privileges.
pub(super) fn usable(table: &IntrospectedTable) -> impl Iterator<Item = &IntrospectedColumn> {
    let any = table.columns.iter().any(|column| column.readable);
    table.columns.iter().filter(move |column| (column.readable || !any) && is_nameable(column))
}

/// The configuration refuses names with control characters.
pub(super) fn is_nameable(column: &IntrospectedColumn) -> bool {
    !column.name.chars().any(char::is_control)
}

/// The columns of which a sample is read: what could be proposed, and what the command line names.
pub(super) fn columns_to_sample(table: &IntrospectedTable, named: &[&str]) -> Vec<String> {
    let is_wanted = |column: &&IntrospectedColumn| {
        if named.contains(&column.name.as_str()) {
            return column.readable;
        }
        let kind = column.kind;
        let has_values =
            kind.is_text() || kind.is_integer() || matches!(kind, ColumnKind::Boolean | ColumnKind::Enum(_));
        column.readable && (has_values || deleted_score(&column.name) > 0) && sensitive(&column.name).is_none()
    };
    table.columns.iter().filter(is_wanted).map(|column| column.name.clone()).collect()
}

/// The account column, or why there is none.
pub(super) fn account(table: &IntrospectedTable) -> Result<ProposedAccount, String> {
    let mut fitting: Vec<(u32, &IntrospectedColumn)> = Vec::new();
    let mut refused = Vec::new();
    for column in usable(table) {
        match judge_account(table, column) {
            Ok(score) if score >= PLAUSIBLE_NAME || column.is_unique => fitting.push((score, column)),
            Err(reason) if column.is_unique || account_score(&table.relation.name, &column.name) > 0 => {
                refused.push(format!("{} {reason}", shown(&column.name)));
            }
            Ok(_) | Err(_) => {}
        }
    }
    // The first of equal ones: columns are in their order.
    fitting.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let Some((_, chosen)) = fitting.first() else { return Err(no_account(table, &refused)) };
    let others: Vec<String> = fitting[1..]
        .iter()
        .take(4)
        .map(|(_, column)| format!("{} ({})", shown(&column.name), column.type_name))
        .collect();
    let is_hex = is_hex(chosen);
    let values = if is_hex {
        "A uuid has 36 bytes with its hyphens, and IM takes at most 32, so account_format = \"hex\" leaves them out: the app must log in with the same 32 digits in lower case."
    } else {
        "The values must be the UserIDs with which the app logs in to IM."
    };
    let others = if others.is_empty() { String::new() } else { format!(" Also possible: {}.", others.join(", ")) };
    let why = format!("{}, {}. {values}{others}", chosen.type_name, evidence(table, chosen));
    Ok(ProposedAccount { column: chosen.name.clone(), is_hex, why })
}

/// How well a column suits, or why it does not.
fn judge_account(table: &IntrospectedTable, column: &IntrospectedColumn) -> Result<u32, String> {
    if let Some(what) = sensitive(&column.name) {
        return Err(format!("looks like {what}"));
    }
    if !column.has_account_type() {
        let collation = if column.deterministic { "" } else { " with a nondeterministic collation" };
        return Err(format!(
            "is {}{collation}, and an account column is text, varchar, char, smallint, integer, bigint or uuid",
            column.type_name
        ));
    }
    if let Some(sample) = column.sample {
        if !is_hex(column) && sample.max_bytes > MAX_ACCOUNT_BYTES as u64 {
            return Err(format!("has values of {} bytes, and IM takes at most {MAX_ACCOUNT_BYTES}", sample.max_bytes));
        }
        if !column.is_unique && sample.distinct < sample.values {
            return Err("has the same value in several rows".to_owned());
        }
        if sample.emails * 2 > sample.values || sample.secrets * 2 > sample.values {
            return Err("has values that look like e-mail addresses or tokens".to_owned());
        }
    }
    let key = match (column.is_primary_key, column.is_unique) {
        (true, _) => 18,
        (false, true) => 15,
        (false, false) => 0,
    };
    Ok(account_score(&table.relation.name, &column.name) + key)
}

fn is_hex(column: &IntrospectedColumn) -> bool {
    let spells_uuids = column.sample.is_some_and(|sample| sample.values > 0 && sample.uuids == sample.values);
    column.kind == ColumnKind::Uuid || (column.kind == ColumnKind::Text && spells_uuids)
}

fn evidence(table: &IntrospectedTable, column: &IntrospectedColumn) -> String {
    if column.is_primary_key {
        return "the primary key".to_owned();
    }
    if column.is_unique {
        return "a unique index covers it".to_owned();
    }
    let index = if table.relation.can_have_indexes { "no unique index covers it" } else { "chosen by its name" };
    match column.sample {
        Some(sample) if sample.values > 1 => {
            format!("{index}; no value repeats in a sample of {} rows", thousands(sample.rows))
        }
        _ => format!("{index}; make sure that no value repeats"),
    }
}

fn no_account(table: &IntrospectedTable, refused: &[String]) -> String {
    let found = if refused.is_empty() {
        "no column has a unique index of its own, or a name such as id or user_id".to_owned()
    } else {
        refused.iter().take(5).cloned().collect::<Vec<_>>().join("; ")
    };
    format!(
        "No column of {} suits as the account: {found}. Name the column that holds the UserIDs of IM, give it a unique index, or read from a view that computes it.",
        table.relation.qualified_name()
    )
}

/// The watermark column, or why there is none.
pub(super) fn watermark(table: &IntrospectedTable, account: Option<&str>) -> Result<ProposedWatermark, String> {
    if let Some(obstacle) = &table.watermark_obstacle {
        return Err(format!("No watermark is possible: {obstacle}."));
    }
    let mut fitting = Vec::new();
    let mut refused = Vec::new();
    for column in usable(table).filter(|column| Some(column.name.as_str()) != account) {
        match judge_watermark(column) {
            Some(Ok(score)) => fitting.push((score, column)),
            Some(Err(reason)) => refused.push(format!("{} {reason}.", shown(&column.name))),
            None => {}
        }
    }
    fitting.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let Some((_, chosen)) = fitting.first() else {
        refused.insert(0, "No column was found that moves with every change of a row.".to_owned());
        return Err(refused.join(" "));
    };
    let has_trigger = chosen.trigger.as_ref().is_some_and(|trigger| trigger.sets_every_update);
    let trigger = match &chosen.trigger {
        Some(trigger) if trigger.sets_every_update => {
            format!("The trigger {} of {} sets it with every UPDATE", shown(&trigger.name), trigger.table)
        }
        Some(trigger) => {
            format!("The trigger {} of {} sets it, but not with every UPDATE", shown(&trigger.name), trigger.table)
        }
        None => "No trigger sets it, so every writer has to".to_owned(),
    };
    let timezone = (chosen.kind == ColumnKind::Timestamp).then(|| zone(table.timezone.as_deref()));
    Ok(ProposedWatermark {
        column: chosen.name.clone(),
        timezone,
        why: format!("{}. {trigger}.", chosen.type_name),
        has_trigger,
    })
}

/// How well a column suits. `None` when neither its name nor a trigger suggests it; the error says why it does not suit.
fn judge_watermark(column: &IntrospectedColumn) -> Option<Result<u32, String>> {
    let sets = column.trigger.as_ref().map(|trigger| trigger.sets_every_update);
    let name = watermark_score(&column.name);
    if name == 0 && sets != Some(true) {
        return None;
    }
    if !column.has_watermark_type() {
        return Some(Err(format!(
            "is {}, and a watermark column is timestamptz, timestamp or bigint",
            column.type_name
        )));
    }
    if column.kind == ColumnKind::BigInteger && sets != Some(true) && !is_counter(column) {
        return Some(Err(
            "is a bigint that does not look like a counter over the whole table: a version that each row counts for itself is no watermark"
                .to_owned(),
        ));
    }
    let trigger = match sets {
        Some(true) => 60,
        Some(false) => 10,
        None => 0,
    };
    Some(Ok(name + trigger + if column.leads_index { 30 } else { 0 }))
}

/// A counter over the whole table has hardly any value twice.
fn is_counter(column: &IntrospectedColumn) -> bool {
    let by_statistics = column.statistics.is_some_and(|statistics| statistics.distinct < -0.9);
    let by_sample = column
        .sample
        .is_some_and(|sample| sample.values >= TELLING_VALUES && sample.distinct * 20 >= sample.values * 19);
    column.is_unique || by_statistics || by_sample
}

/// A zone that the configuration accepts.
fn zone(of_database: Option<&str>) -> String {
    let is_name = |zone: &&str| {
        let is_part = |part: char| part.is_ascii_alphanumeric() || matches!(part, '/' | '_' | '+' | '-');
        zone.contains('/') && zone.chars().all(is_part)
    };
    of_database.filter(is_name).filter(|zone| *zone != "Etc/UTC").unwrap_or("UTC").to_owned()
}

/// The deleted column.
pub(super) fn deletion(table: &IntrospectedTable, taken: &[&str]) -> ProposedDeletion {
    let mut columns: Vec<(u32, &IntrospectedColumn)> = usable(table)
        .filter(|column| !taken.contains(&column.name.as_str()))
        .map(|column| (deleted_score(&column.name), column))
        .filter(|(score, _)| *score > 0)
        .collect();
    columns.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let (mut proposed, mut refused) = (ProposedDeletion::default(), Vec::new());
    for (_, column) in columns {
        let name = shown(&column.name);
        match judge_deletion(column) {
            Ok(why) => {
                return ProposedDeletion {
                    column: Some(column.name.clone()),
                    filter: None,
                    why: format!("{name} is {why}."),
                };
            }
            Err(reason) => {
                if column.kind.is_integer() && proposed.filter.is_none() {
                    proposed.filter = Some(format!("{name} IS NOT DISTINCT FROM 0"));
                }
                refused.push(format!("{name} is not proposed: {reason}."));
            }
        }
    }
    ProposedDeletion { why: refused.join(" "), ..proposed }
}

fn judge_deletion(column: &IntrospectedColumn) -> Result<String, String> {
    match column.kind {
        ColumnKind::Boolean => Ok("boolean: true means gone".to_owned()),
        ColumnKind::Timestamptz | ColumnKind::Timestamp | ColumnKind::Date if column.not_null => {
            Err(format!("it is {} NOT NULL, so every row would count as gone", column.type_name))
        }
        ColumnKind::Timestamptz | ColumnKind::Timestamp | ColumnKind::Date => {
            if share_with_value(column).is_some_and(|share| share > 0.5) {
                return Err("most rows have a value there, and would count as gone".to_owned());
            }
            Ok(format!("{}: a row with a value there counts as gone", column.type_name))
        }
        _ => {
            Err(format!("it is {}, where every value but NULL would mean gone; use a filter instead", column.type_name))
        }
    }
}

/// The share of rows without NULL, if enough rows were seen.
fn share_with_value(column: &IntrospectedColumn) -> Option<f64> {
    if let Some(statistics) = column.statistics {
        return Some(1.0 - statistics.null_fraction);
    }
    let sample = column.sample.filter(|sample| sample.rows >= TELLING_VALUES)?;
    #[expect(clippy::cast_precision_loss, reason = "a sample has at most 1,000 rows")]
    Some(sample.values as f64 / sample.rows as f64)
}

/// How likely a table is the one with the users; `None` when no column suits as the account.
pub(super) fn likeliness(table: &IntrospectedTable) -> Option<u32> {
    let account = account(table).ok()?;
    let name = table_score(&table.relation.name);
    let is_unique = table.column(&account.column).is_some_and(|column| column.is_unique);
    let watermark = watermark(table, Some(&account.column)).is_ok();
    let rows = table.relation.estimated_rows.map_or(0, |rows| rows.checked_ilog10().unwrap_or_default());
    let readable = table.columns.iter().any(|column| column.readable);
    let points = [(is_unique, 20), (watermark, 15), (readable, 20)];
    Some(name + rows * 2 + points.iter().filter(|(applies, _)| *applies).map(|(_, points)| points).sum::<u32>())
}
