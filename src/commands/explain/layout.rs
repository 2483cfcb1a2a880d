//! Lays the facts about an account out for a person: the row, a table of its attributes, rejections, the verdict.
//!
//! Owns: words, widths and colours. Must not know: how facts are gathered.

use std::io;

use super::values::{ActualValues, others};
use super::verdict::{refuser, why_gone};
use crate::commands::output::{colours, escape_for_terminal, print_line, time};
use crate::config::Config;
use crate::model::{AcknowledgedValue, DesiredValue};
use crate::pass::explain::{AttributeState, ExplainedAttribute, Explanation, Presence};
use crate::state::rejection::ListedRejection;

/// What stands for a value that was not read.
const NOT_READ: &str = "?";
const NONE: &str = "-";

pub(super) fn print(
    config: &Config,
    explanation: &Explanation,
    actual: Option<&ActualValues>,
    verdict: &str,
) -> io::Result<()> {
    print_line(format!("account       {}", escape_for_terminal(explanation.account.as_str())))?;
    print_line(format!("row           {}", row_line(config, explanation)))?;
    for (column, text) in explanation.row.iter().flatten() {
        print_line(format!("              {}: {}", escape_for_terminal(column), quoted(text.as_deref())))?;
    }
    let acknowledged_at = explanation.acknowledged_at.map_or("nothing yet".to_owned(), time);
    print_line(format!("acknowledged  {acknowledged_at}"))?;
    print_table(explanation, actual)?;
    let of_attributes = explanation.attributes.iter().filter_map(|attribute| attribute.rejection.as_ref());
    for rejection in explanation.rejection.iter().chain(of_attributes) {
        print_line(rejection_line(rejection))?;
    }
    for (name, value) in actual.map(|actual| others(explanation, actual)).unwrap_or_default() {
        print_line(format!("IM also holds {}: {}", escape_for_terminal(name), quoted(Some(value))))?;
    }
    print_line(format!("verdict       {verdict}"))
}

fn row_line(config: &Config, explanation: &Explanation) -> String {
    let table = &config.source.table;
    match &explanation.presence {
        Presence::Missing => format!("none in {table}"),
        Presence::Gone(why) => format!("in {table}, and counts as gone: {}", why_gone(config, *why)),
        Presence::Refused(refusal) => format!("in {table}, and cannot be sent: {refusal}"),
        Presence::Present => format!("in {table}"),
    }
}

fn print_table(explanation: &Explanation, actual: Option<&ActualValues>) -> io::Result<()> {
    let header = ["attribute", "the table requires", "IM acknowledged", "IM holds", "state"].map(str::to_owned);
    let rows: Vec<[String; 5]> = explanation.attributes.iter().map(|attribute| cells(attribute, actual)).collect();
    let width = |index: usize| {
        let cells = rows.iter().chain([&header]).map(|cells| cells[index].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; 4] = std::array::from_fn(width);
    for (number, cells) in std::iter::once(&header).chain(&rows).enumerate() {
        let mut line = String::from("  ");
        for (cell, width) in cells.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        let state = number.checked_sub(1).and_then(|number| explanation.attributes.get(number));
        line.push_str(&state.map_or(cells[4].clone(), |attribute| coloured(attribute.state, &cells[4])));
        print_line(line)?;
    }
    Ok(())
}

fn cells(attribute: &ExplainedAttribute, actual: Option<&ActualValues>) -> [String; 5] {
    let desired = match &attribute.desired {
        None => NONE.to_owned(),
        Some(DesiredValue::Value(value)) => quoted(Some(value)),
        Some(DesiredValue::Absent) => "no value".to_owned(),
        Some(DesiredValue::Keep) => "what IM holds".to_owned(),
        Some(DesiredValue::Refused(_)) => "(cannot be sent)".to_owned(),
    };
    let acknowledged = match &attribute.acknowledged {
        AcknowledgedValue::Unknown => "(unknown)".to_owned(),
        known => known.value().map_or(NONE.to_owned(), |value| quoted(Some(value))),
    };
    let actual = match actual {
        None => NOT_READ.to_owned(),
        Some(actual) => actual.get(&attribute.name).map_or(NONE.to_owned(), |value| quoted(Some(value))),
    };
    let state = match (&attribute.state, &attribute.desired) {
        (state, Some(DesiredValue::Refused(refusal))) => format!("{}: {refusal}", words(*state)),
        (state, _) => words(*state).to_owned(),
    };
    [escape_for_terminal(&attribute.name), desired, acknowledged, actual, state]
}

fn words(state: AttributeState) -> &'static str {
    if state == AttributeState::InDoubt { "in doubt" } else { state.label() }
}

fn coloured(state: AttributeState, text: &str) -> String {
    let colour = match state {
        AttributeState::Current => 32,
        AttributeState::Pending | AttributeState::InDoubt => 33,
        AttributeState::Rejected => 31,
        AttributeState::Kept | AttributeState::Absent => return text.to_owned(),
    };
    if colours() { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn quoted(text: Option<&str>) -> String {
    text.map_or("NULL".to_owned(), |text| format!("\"{}\"", escape_for_terminal(text)))
}

fn rejection_line(rejection: &ListedRejection) -> String {
    let what = rejection.attribute.as_deref().map_or("the account".to_owned(), escape_for_terminal);
    let times = if rejection.attempts == 1 { "once".to_owned() } else { format!("{} times", rejection.attempts) };
    format!(
        "rejected      {what} by {}, {times} since {}, next try {}: {}",
        refuser(rejection),
        time(rejection.first_at),
        time(rejection.next_at),
        escape_for_terminal(&rejection.reason)
    )
}
