//! Compares the texts that `values` lists with those that the column can have.
//!
//! Owns: the texts of booleans, enums, integers and `char`, domains over them included, and the findings. Must not know:
//! how a row is mapped.

use sqlx::Row;

use super::session::SourceSession;
use super::table::{Column, Table};
use crate::config::{AttributeConfig, Unlisted};
use crate::finding::Finding;
use crate::quote::{quoted_list, shown};

/// Labels that a message lists.
const MAX_LISTED: usize = 20;

/// The labels of the enums that are the types of these columns, in their order.
const LABELS: &str = "
SELECT a.attname::text, e.enumlabel::text
FROM pg_catalog.pg_attribute AS a CROSS JOIN LATERAL (
  WITH RECURSIVE below (oid) AS (
    SELECT a.atttypid
    UNION ALL
    SELECT t.typbasetype FROM below JOIN pg_catalog.pg_type AS t USING (oid) WHERE t.typtype = 'd')
  SELECT oid FROM below) AS below
JOIN pg_catalog.pg_enum AS e ON e.enumtypid = below.oid
WHERE a.attrelid = $1::int8::oid AND a.attname = ANY ($2::text[])
ORDER BY a.attnum, e.enumsortorder";

/// The texts that a column can have.
enum ColumnTexts {
    /// These and no others.
    These(Vec<String>),
    /// Integers of this range.
    Integers(i64, i64),
    /// Any text without blanks at its end.
    Padded,
}

impl ColumnTexts {
    fn of(column: &Column, labels: Vec<String>) -> Option<Self> {
        if !labels.is_empty() {
            return Some(Self::These(labels));
        }
        Some(match column.base_type.as_str() {
            "bool" => Self::These(["true", "false"].map(str::to_owned).to_vec()),
            "int2" => Self::Integers(i16::MIN.into(), i16::MAX.into()),
            "int4" => Self::Integers(i32::MIN.into(), i32::MAX.into()),
            "int8" => Self::Integers(i64::MIN, i64::MAX),
            "bpchar" => Self::Padded,
            _ => return None,
        })
    }

    fn contains(&self, text: &str) -> bool {
        match self {
            Self::These(texts) => texts.iter().any(|known| known == text),
            Self::Integers(low, high) => {
                text.parse::<i64>().is_ok_and(|number| (*low..=*high).contains(&number) && number.to_string() == text)
            }
            Self::Padded => !text.ends_with(' '),
        }
    }

    fn described(&self) -> String {
        match self {
            Self::These(texts) => {
                let more = texts.len().saturating_sub(MAX_LISTED);
                let list = quoted_list(texts.iter().take(MAX_LISTED));
                if more > 0 { format!("its texts are {list} and {more} more") } else { format!("its texts are {list}") }
            }
            Self::Integers(..) => "its texts are integers such as \"7\" and \"-1\"".to_owned(),
            Self::Padded => "its texts have no blanks at the end".to_owned(),
        }
    }
}

/// Warnings about texts that can never occur, and about texts that would be rejected because they are not listed.
pub(super) async fn check_listed_texts(
    session: &mut SourceSession,
    table: &Table,
    attributes: &[AttributeConfig],
) -> Vec<Finding> {
    let mapped: Vec<&AttributeConfig> = attributes.iter().filter(|attribute| attribute.values.is_some()).collect();
    if mapped.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = mapped.iter().map(|attribute| attribute.column.clone()).collect();
    let rows = session.advice(sqlx::query(LABELS).bind(table.oid).bind(names)).await.unwrap_or_default();
    let labels: Vec<(String, String)> =
        rows.iter().filter_map(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?))).collect();
    let mut findings = Vec::new();
    for attribute in mapped {
        let Some(column) = table.column(&attribute.column) else { continue };
        let labels = labels.iter().filter(|(name, _)| *name == column.name).map(|(_, label)| label.clone()).collect();
        if let Some(texts) = ColumnTexts::of(column, labels) {
            findings.extend(compare(attribute, column, &texts));
        }
    }
    findings
}

fn compare(attribute: &AttributeConfig, column: &Column, texts: &ColumnTexts) -> Vec<Finding> {
    let Some(values) = &attribute.values else { return Vec::new() };
    let key = format!("attributes.{}.values", shown(&attribute.name));
    let column_is = format!("column {} ({})", shown(&column.name), column.type_name);
    let mut findings = Vec::new();
    let never: Vec<&String> = values.keys().filter(|text| !text.is_empty() && !texts.contains(text)).collect();
    if !never.is_empty() {
        let psql = if column.base_type == "bool" { " (psql shows them as t and f)" } else { "" };
        let message =
            format!("{key} lists {}, which {column_is} never has; {}{psql}", quoted_list(&never), texts.described());
        findings.push(Finding::warning("attributes.values", message).remedy(format!("correct {key}")));
    }
    if let ColumnTexts::These(all) = texts
        && attribute.unlisted == Unlisted::Reject
    {
        let unlisted: Vec<&String> =
            all.iter().filter(|text| !text.is_empty() && !values.contains_key(*text)).take(MAX_LISTED).collect();
        if !unlisted.is_empty() {
            let message = format!(
                "{key} does not list {}, which {column_is} can have: such values are rejected",
                quoted_list(&unlisted)
            );
            let remedy = format!("add them to {key}, or set `unlisted` to send, keep or remove");
            findings.push(Finding::warning("attributes.values", message).remedy(remedy));
        }
    }
    findings
}
