//! The findings about a sample of rows: what would be rejected, and accounts that look wrong.
//!
//! Owns: the sentences. A value is never shown; accounts are, as in every message that names a row. Must not know: how rows
//! are chosen and mapped.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::finding::{Finding, Findings};
use crate::mapping::{AccountProblem, Affected, Mapping, SampleSummary, ValueProblem, similar_texts};
use crate::quote::shown;
use crate::source::{RowSample, Source};

/// Reads a sample, maps it, and reports what is wrong.
pub(super) async fn check(config: &Arc<Config>, source: &mut Source, findings: &mut Findings) {
    let RowSample { rows, unreadable, method } = match source.sample().await {
        Ok(sample) => sample,
        Err(error) => {
            findings.push(Finding::unchecked("sample.rows", &format!("no sample of rows could be read: {error}")));
            let because = "no sample of rows could be read";
            return findings
                .extend(["sample.rejected_values", "sample.accounts"].map(|id| Finding::unchecked(id, because)));
        }
    };
    let mapping = Mapping::new(config);
    let texts = rows.iter().filter_map(|row| row.account).filter(|text| !text.is_empty());
    let others: Vec<String> = texts
        .flat_map(|text| {
            // Other spellings of a uuid are the same account; other texts are similar ones.
            let mut texts = config.source.texts_of(&config.source.account_of(text));
            texts.extend(similar_texts(text));
            texts
        })
        .collect();
    let looked_up = source.rows_among(others).await;
    let summary = mapping.summarize(&rows, looked_up.as_deref().unwrap_or_default());
    let of_sample = format!("{} rows of {}, {method}", rows.len() + unreadable.len(), source.resolved_table());
    findings.extend(about_rows(&of_sample, &summary, &unreadable));
    findings.extend(about_values(config, &summary));
    findings.extend(about_accounts(&summary, looked_up.is_some()));
}

fn about_rows(of_sample: &str, summary: &SampleSummary, unreadable: &[String]) -> Findings {
    let message = format!("a sample of {of_sample}: {} present, {} gone", summary.present, summary.gone);
    let mut findings = Findings::from(match summary.present {
        0 if summary.gone > 0 => Finding::warning("sample.rows", message)
            .remedy("nothing would be sent; correct source.filter or source.deleted_column if that is not intended"),
        _ => Finding::ok("sample.rows", message),
    });
    let mut raised: BTreeMap<&str, usize> = BTreeMap::new();
    for text in unreadable {
        *raised.entry(text).or_default() += 1;
    }
    findings.extend(raised.into_iter().map(|(raised, count)| {
        let message = format!("{count} of {of_sample}, cannot be read: the database raises {raised}");
        Finding::warning("sample.rows", message).remedy("correct the rows, source.filter or the view")
    }));
    findings
}

fn about_values(config: &Config, summary: &SampleSummary) -> Findings {
    if summary.values.is_empty() {
        return Finding::ok("sample.rejected_values", "no value of the sample would be rejected").into();
    }
    let mut findings = Findings::default();
    for ((name, problem), count) in &summary.values {
        let column = config.attributes.iter().find(|attribute| attribute.name == **name);
        let column = column.map_or(String::new(), |attribute| format!(" (column {})", shown(&attribute.column)));
        let (problem, remedy) = match problem {
            ValueProblem::TooLong => (
                "they have more than 50 bytes",
                format!(
                    "shorten them, map them with `values`, or set attributes.{}.too_long = \"truncate\"",
                    shown(name)
                ),
            ),
            ValueProblem::Unlisted => (
                "`values` does not list them",
                format!("add them, or set attributes.{}.unlisted to send, keep or remove", shown(name)),
            ),
        };
        let message = format!(
            "{count} of {} values of attribute {}{column} in the sample would be rejected: {problem}",
            summary.present,
            shown(name)
        );
        findings.push(Finding::warning("sample.rejected_values", message).remedy(remedy));
    }
    findings
}

fn about_accounts(summary: &SampleSummary, looked_up: bool) -> Findings {
    let mut findings = Findings::default();
    for (problem, affected) in &summary.accounts {
        let (is, remedy) = match problem {
            AccountProblem::None => (
                "row(s) have no account (NULL, empty, or over 1,000 bytes) and are skipped",
                "give the rows an account",
            ),
            AccountProblem::TooLong => (
                "account(s) have more bytes than IM accepts (32, and 36 for devices): their rows are rejected",
                "use a shorter account column or prefix; for uuids set account_format = \"hex\"",
            ),
            AccountProblem::NotUuid => (
                "account(s) are no uuid, which account_format = \"hex\" requires: their rows are rejected",
                "correct the rows, or leave them out with source.filter",
            ),
            AccountProblem::Unusual => (
                "account(s) have characters other than printable ASCII, which Chat may not accept",
                "compare them with the UserIDs that your app logs in with",
            ),
            AccountProblem::Blanks => (
                "account(s) begin or end with a blank, which Chat may not accept",
                "remove the blanks, or compare with the UserIDs that your app logs in with",
            ),
            AccountProblem::Twice => (
                "account(s) have several rows that are not gone: they are rejected",
                "leave one row of each, and make the account column unique",
            ),
            AccountProblem::Similar => (
                "group(s) of accounts differ only in case or in blanks at the ends: imsync sends each of them, and Chat may take them for one",
                "leave one of each group, or make sure that your app logs in with all of them",
            ),
        };
        let message = format!("in the sample, {} {is}{}", affected.count, examples(affected));
        findings.push(Finding::warning("sample.accounts", message).remedy(remedy));
    }
    if !looked_up {
        let because = "looking up similar accounts takes longer than five seconds (an index over the account column is missing, or the database is busy)";
        findings.push(Finding::unchecked("sample.accounts", because));
    }
    if findings.0.is_empty() {
        findings.push(Finding::ok("sample.accounts", "the accounts of the sample are valid and distinct"));
    }
    findings
}

/// `, for example u1, "u 2" and u3`.
fn examples(affected: &Affected) -> String {
    let examples: Vec<&str> =
        affected.examples.iter().map(String::as_str).filter(|example| !example.is_empty()).collect();
    if examples.is_empty() { String::new() } else { format!(", for example {}", examples.join(", ")) }
}
