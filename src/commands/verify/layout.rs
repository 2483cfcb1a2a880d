//! The result of a verification, for people and as JSON.
//!
//! Owns: the layout, the JSON document. Must not know: how the result came about.

use serde_json::json;

use crate::commands::exit::CommandFailure;
use crate::commands::output::{accounts, escape_for_terminal, ignore_broken_pipe, print_json, print_line, thousands};
use crate::pass::verify::{DriftedValue, VerifyReport};

/// So many values are shown to a person.
const SHOWN: usize = 20;

/// How a result is shown.
#[derive(Clone, Copy)]
pub(super) struct VerifyLayout {
    /// One JSON document.
    pub(super) json: bool,
    /// Only a sample was compared.
    pub(super) is_sample: bool,
}

/// Prints the result. `after`: what a repair has left.
pub(super) fn print(
    found: &VerifyReport,
    after: Option<&VerifyReport>,
    layout: VerifyLayout,
) -> Result<(), CommandFailure> {
    let repaired = after.map_or(0, |after| after.matching);
    if layout.json {
        ignore_broken_pipe(print_json(&json!({
            "checked": found.checked,
            "matching": found.matching,
            "drifted": found.drifted,
            "repaired": repaired,
            "drifted_accounts": found.drifted_accounts,
            "attributes": found.by_attribute,
            "pending": found.pending,
            "in_flight": found.in_flight,
            "in_doubt": found.in_doubt,
            "rejected": found.rejected,
            "unreadable": found.unreadable,
        })))?;
        return Ok(());
    }
    for line in lines(found, layout.is_sample) {
        ignore_broken_pipe(print_line(line))?;
    }
    if let Some(after) = after {
        ignore_broken_pipe(print_line(repair_line(found, after)))?;
    } else if found.drifted_accounts > 0 {
        ignore_broken_pipe(print_line(
            "`imsync verify --repair` sends what the table says; `imsync explain ID` explains one account",
        ))?;
    }
    Ok(())
}

fn lines(found: &VerifyReport, is_sample: bool) -> Vec<String> {
    let how = if is_sample { "rows drawn at random" } else { "the whole table, and accounts that have left it" };
    let mut lines = vec![format!("{} compared with IM ({how})", accounts(found.checked))];
    let counts = [
        (found.matching, "match: IM holds what the table says"),
        (found.pending, "wait for the next pass, which sends the change"),
        (found.in_flight, "changed while they were read"),
        (found.in_doubt, "in doubt: a call had no known outcome, and the next passes send it again"),
        (found.rejected, "rejected: `imsync rejected` lists the reasons"),
        (found.unreadable, "not readable"),
        (found.drifted_accounts, "differ"),
    ];
    let shown = counts.iter().enumerate().filter(|(index, (count, _))| *count > 0 || [0, 6].contains(index));
    lines.extend(shown.map(|(_, (count, what))| format!("{:>12}  {what}", thousands(*count))));
    for (name, count) in &found.by_attribute {
        lines.push(format!("{:>12}  differ in {}", thousands(*count), escape_for_terminal(name)));
    }
    lines.extend(found.drifted.iter().take(SHOWN).map(line));
    let more = found.by_attribute.values().sum::<u64>().saturating_sub(SHOWN as u64);
    if more > 0 {
        lines.push(format!("  and {} more values; --json lists the first 10,000", thousands(more)));
    }
    lines
}

fn line(drifted: &DriftedValue) -> String {
    let DriftedValue { account, attribute, expected, acknowledged, actual } = drifted;
    let shown = |value: &Option<String>| match value {
        Some(value) => format!("\"{}\"", escape_for_terminal(value)),
        None => "(none)".to_owned(),
    };
    format!(
        "  {}  {}: the table says {}, IM holds {} and acknowledged {}",
        escape_for_terminal(account.as_str()),
        escape_for_terminal(attribute),
        shown(expected),
        shown(actual),
        shown(acknowledged)
    )
}

fn repair_line(found: &VerifyReport, after: &VerifyReport) -> String {
    let left = found.drifted_accounts.saturating_sub(after.matching);
    if left == 0 {
        format!("{} repaired: IM holds what the table says now", accounts(after.matching))
    } else {
        format!(
            "{} repaired, {} not: {} rejected, {} in doubt, {} wait, {} differ still",
            accounts(after.matching),
            thousands(left),
            thousands(after.rejected),
            thousands(after.in_doubt),
            thousands(after.pending + after.in_flight),
            thousands(after.drifted_accounts)
        )
    }
}
