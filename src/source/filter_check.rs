//! Lets the server check `source.filter` before it is used.
//!
//! Owns: what is said about a filter that the server refuses, and the remedy. Must not know: how pages are read.

use super::error::SourceError;
use super::session::SourceSession;
use super::table::Table;
use crate::finding::Finding;

/// Lets the server parse the filter.
pub(super) async fn check_filter(
    session: &mut SourceSession,
    table: &Table,
    check: sqlx::SqlStr,
    filter: &str,
) -> Result<(), SourceError> {
    let refused = |reason: &str, remedy: &str| {
        let finding = Finding::error("source.filter", format!("source.filter = {filter:?}: {reason}"));
        SourceError::from(finding.remedy(remedy))
    };
    match session.count_parameters(check).await {
        Ok(0) => Ok(()),
        Ok(_) => {
            Err(refused("parameters such as $1 are not allowed here", "write the value itself into source.filter"))
        }
        Err(error) => {
            let said = error.as_database_error().map(|error| {
                (filter_reason(error.message(), filter), filter_remedy(&error.code().unwrap_or_default(), table))
            });
            Err(match (SourceError::from(error), said) {
                (SourceError::Unreachable(reason), _) => SourceError::Unreachable(reason),
                (_, Some((message, remedy))) => refused(&message, &remedy),
                (other, None) => other,
            })
        }
    }
}

/// What the server says about the filter. The statement goes on after it, with a line break and a parenthesis.
fn filter_reason(message: &str, filter: &str) -> String {
    if message.ends_with("\")\"") && !filter.contains(')') {
        return "the condition is not complete".to_owned();
    }
    message.split_once('\n').map_or_else(|| message.to_owned(), |(message, _)| format!("{message}\""))
}

/// What to do about an error of the filter.
fn filter_remedy(code: &str, table: &Table) -> String {
    match code {
        "42703" => format!("correct the name; the columns of {} are {}", table.qualified_name(), table.column_list()),
        "42883" => {
            "compare values of one type: put a text in single quotes, or cast the column, as in column::bigint > 7"
                .to_owned()
        }
        "42803" => "the condition is about one row: count in a view, and read from it".to_owned(),
        _ => "correct source.filter; it is one SQL condition over the columns of the table".to_owned(),
    }
}
