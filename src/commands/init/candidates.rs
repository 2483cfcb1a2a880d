//! The tables and views that may hold the users, the likeliest first.
//!
//! Owns: the listing. Must not know: statements, what makes a table likely.

use std::cmp::Reverse;
use std::io;

use super::proposal::{account, likeliness, watermark};
use crate::commands::output::{escape_for_terminal, print_line, thousands};
use crate::quote::shown;
use crate::source::IntrospectedTable;

/// Tables that are listed.
const MAX_LISTED: usize = 20;
const HEADER: [&str; 5] = ["table", "kind", "rows", "account", "watermark"];
/// What stands for a number of rows that nobody has counted, and for a column that there is not.
const UNKNOWN: &str = "?";
const NONE: &str = "-";

/// Prints the listing. Notes go to stderr. `left_out`: tables that were not looked at. `database`: for messages.
pub(super) fn print(tables: &[IntrospectedTable], left_out: usize, database: &str) -> io::Result<()> {
    let mut candidates: Vec<(u32, &IntrospectedTable)> =
        tables.iter().filter_map(|table| Some((likeliness(table)?, table))).collect();
    candidates.sort_by_key(|(score, _)| Reverse(*score));
    if left_out > 0 {
        eprintln!(
            "there are so many tables that {} with other names or fewer rows were not looked at",
            thousands(u64::try_from(left_out).unwrap_or(u64::MAX))
        );
    }
    if candidates.is_empty() {
        return print_line(match tables.len() {
            0 => format!(
                "{database} has no table that this role sees; check the name of the database in the URL, and the grants of the role"
            ),
            count => format!(
                "none of the {count} tables and views of {database} has a column that suits as the account: a unique text, integer or uuid column, or one with a name such as id or user_id; create a view that has one"
            ),
        });
    }
    let rows: Vec<[String; 5]> = candidates.iter().take(MAX_LISTED).map(|(_, table)| cells(table)).collect();
    let header = HEADER.map(str::to_owned);
    let widths: [usize; 5] = std::array::from_fn(|index| {
        rows.iter().chain([&header]).map(|cells| cells[index].chars().count()).max().unwrap_or_default()
    });
    for cells in std::iter::once(&header).chain(&rows) {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        print_line(padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    let more = candidates.len().saturating_sub(MAX_LISTED);
    let others = tables.len() - candidates.len();
    let more = if more > 0 { format!("{more} more may hold users. ") } else { String::new() };
    let others = match others {
        0 => String::new(),
        1 => "1 other has no column that suits as the account. ".to_owned(),
        others => format!("{others} others have no column that suits as the account. "),
    };
    eprintln!("{more}{others}To write a configuration for one of them, add its name: imsync init [URL] TABLE");
    Ok(())
}

fn cells(table: &IntrospectedTable) -> [String; 5] {
    let account = account(table).ok().map(|account| account.column);
    let watermark = watermark(table, account.as_deref()).ok().map(|watermark| watermark.column);
    let column = |name: Option<String>| name.map_or(NONE.to_owned(), |name| escape_for_terminal(&shown(&name)));
    [
        escape_for_terminal(&table.relation.qualified_name()),
        table.relation.kind.to_owned(),
        table.relation.estimated_rows.map_or(UNKNOWN.to_owned(), thousands),
        column(account),
        column(watermark),
    ]
}
