//! Prints findings: as one JSON document, or one a line with its remedy.
//!
//! Owns: the form of both. Must not know: what was examined.
//!
//! On a terminal, the ids are aligned and the verdicts coloured. Elsewhere the output has neither, so that `grep` and
//! `diff` work on it.

use std::io::{self, IsTerminal as _};

use crate::commands::output::{colours, escape_for_terminal, ignore_broken_pipe, print_json, print_line};
use crate::finding::{Finding, Findings, Severity};

pub(super) fn findings(findings: &Findings, json: bool) -> io::Result<()> {
    if json {
        let ok = findings.worst() != Severity::Error;
        return ignore_broken_pipe(print_json(&serde_json::json!({ "ok": ok, "findings": findings.0 })));
    }
    let is_terminal = io::stdout().is_terminal();
    let colours = colours();
    let longest = findings.0.iter().map(|finding| finding.id().len()).max().unwrap_or_default();
    let width = if is_terminal { longest } else { 0 };
    for finding in &findings.0 {
        ignore_broken_pipe(print_line(line(finding, width, colours)))?;
    }
    Ok(())
}

fn line(finding: &Finding, width: usize, colours: bool) -> String {
    let (label, colour) = match finding.severity() {
        Severity::Ok => ("ok  ", 32),
        Severity::Warning => ("warn", 33),
        Severity::Error => ("FAIL", 31),
    };
    let label = if colours { format!("\u{1b}[{colour}m{label}\u{1b}[0m") } else { label.to_owned() };
    let id = format!("{}:", finding.id());
    // A line break in a message, for example in a filter, must not look like another finding.
    format!("{label}  {id:width$} {}", escape_for_terminal(&finding.to_string()), width = width + 1)
}

#[cfg(test)]
mod tests {
    use super::{Finding, line};

    #[test]
    fn a_finding_is_one_line_with_its_remedy() {
        let finding = Finding::warning("source.filter", "a\nb").remedy("correct it");
        assert_eq!(line(&finding, 0, false), "warn  source.filter: a\\u{a}b; correct it");
        assert_eq!(line(&finding, 15, true), "\u{1b}[33mwarn\u{1b}[0m  source.filter:   a\\u{a}b; correct it");
    }
}
