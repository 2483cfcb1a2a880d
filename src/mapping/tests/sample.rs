//! What a sample of rows would lose, by tables of cases.

use super::{attribute, config, gone_row, row, values};
use crate::config::{AccountFormat, Null};
use crate::mapping::{AccountProblem, Mapping, SampleSummary, ValueProblem, similar_texts};
use crate::model::Rows;

fn joined(parts: impl IntoIterator<Item = Rows>) -> Rows {
    let mut rows = Rows::default();
    for part in parts {
        rows.extend(&part);
    }
    rows
}

fn count(summary: &SampleSummary, problem: AccountProblem) -> usize {
    summary.accounts.get(&problem).map_or(0, |affected| affected.count)
}

#[test]
fn values_that_would_be_rejected_are_counted_by_reason() {
    let mut sex = attribute("sex", "gender");
    sex.values = Some(values(&[("m", "male")]));
    sex.null = Null::Keep;
    let mapping = Mapping::new(&config(vec![attribute("city", "city"), sex]));
    let long = "x".repeat(51);
    let rows = [
        row(Some("a"), &[Some(&long), Some("m")]),
        row(Some("b"), &[Some(&long), Some("f")]),
        row(Some("c"), &[None, None]),
        gone_row(Some("d"), &[Some(&long), Some("f")]),
        row(None, &[None, None]),
    ];
    let summary = mapping.summarize(&joined(rows), &[]);
    assert_eq!((summary.present, summary.gone, count(&summary, AccountProblem::None)), (3, 1, 1));
    let counts: Vec<_> = summary.values.iter().map(|((name, problem), count)| (&**name, *problem, *count)).collect();
    assert_eq!(counts, [("city", ValueProblem::TooLong, 2), ("sex", ValueProblem::Unlisted, 1)]);
}

#[test]
fn accounts_are_alike_that_differ_in_case_or_blanks() {
    let mapping = Mapping::new(&config(vec![attribute("city", "city")]));
    let rows = ["Anna", "bob", "carl", "dora"].map(|id| row(Some(id), &[None]));
    let others = [("Anna", false), ("ANNA", false), ("bob ", false), ("carl", false), ("carl", false), ("Dora", true)];
    let others = others.map(|(text, gone)| (text.to_owned(), gone));
    let summary = mapping.summarize(&joined(rows), &others);
    assert_eq!(summary.accounts[&AccountProblem::Similar].examples, ["\"ANNA\" and \"Anna\"", "\"bob\" and \"bob \""]);
    assert_eq!(summary.accounts[&AccountProblem::Twice].examples, ["carl"]);
}

#[test]
fn two_spellings_of_a_uuid_are_one_account_with_two_rows() {
    let mut config = config(vec![attribute("city", "city")]);
    config.source.account_format = AccountFormat::Hex;
    let mapping = Mapping::new(&config);
    let text = super::UUID;
    let others = [(text.to_owned(), false), (text.to_uppercase(), false)];
    let summary = mapping.summarize(&joined([row(Some(text), &[None]), row(Some("n/a"), &[None])]), &others);
    assert_eq!(count(&summary, AccountProblem::Twice), 1);
    assert_eq!(count(&summary, AccountProblem::Similar), 0);
    assert_eq!(summary.accounts[&AccountProblem::NotUuid].examples, ["n/a"]);
}

#[test]
fn the_usual_twins_of_an_account_are_looked_up() {
    assert_eq!(similar_texts("Anna"), [" Anna", "ANNA", "Anna ", "anna"]);
    assert_eq!(similar_texts("b "), [" b", "B", "b"]);
    assert_eq!(similar_texts(" "), Vec::<String>::new());
}
