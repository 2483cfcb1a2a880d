//! Counts what would be rejected of a sample of rows.
//!
//! Owns: the counts, by attribute and reason, and which accounts look wrong. Pure. Must not know: how rows are chosen, and
//! how the counts are shown. Values never leave this file; accounts do, as examples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::row::{MappedRow, Mapping};
use crate::model::{Account, DesiredValue, LocalRefusal, Rows};

/// Accounts that are kept as examples of one problem.
const MAX_EXAMPLES: usize = 3;

/// Why values of an attribute would be rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueProblem {
    /// More than 50 bytes, with `too_long = "reject"`, or a first character that is longer.
    TooLong,
    /// Not listed in `values`, with `unlisted = "reject"`.
    Unlisted,
}

/// What is wrong with an account, or suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountProblem {
    /// NULL or empty, or too long to be listed as a rejection: the row is skipped.
    None,
    /// More bytes than IM accepts.
    TooLong,
    /// No uuid, which `account_format = "hex"` requires.
    NotUuid,
    /// Characters other than printable ASCII.
    Unusual,
    /// Blanks at the beginning or the end.
    Blanks,
    /// Another row has this account.
    Twice,
    /// Another account differs from it only in case or in blanks at the ends.
    Similar,
}

/// How many accounts have a problem, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// The number of rows; of groups of accounts for [`AccountProblem::Similar`].
    pub count: usize,
    /// At most three.
    pub examples: Vec<String>,
}

impl Affected {
    fn add(&mut self, example: &str) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(example.to_owned());
        }
    }
}

/// What would be rejected of a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleSummary {
    /// Rows that are gone.
    pub gone: usize,
    /// Rows whose attributes would be sent.
    pub present: usize,
    /// The numbers of values that would be rejected, by attribute and reason.
    pub values: BTreeMap<(Arc<str>, ValueProblem), usize>,
    /// The accounts with a problem.
    pub accounts: BTreeMap<AccountProblem, Affected>,
}

impl SampleSummary {
    fn add_account(&mut self, problem: AccountProblem, example: &str) {
        self.accounts.entry(problem).or_default().add(example);
    }
}

impl Mapping {
    /// Maps the rows and counts what would be rejected. `others`: texts of the account column that other rows have, as far
    /// as they were looked up, each with whether its row is gone; the rows of the sample may be among them.
    pub fn summarize(&self, rows: &Rows, others: &[(String, bool)]) -> SampleSummary {
        let mut summary = SampleSummary::default();
        for row in rows.iter() {
            match self.apply(row) {
                MappedRow::NoAccount => {
                    let text = row.account.unwrap_or_default();
                    let shown = if text.is_empty() { String::new() } else { format!("{} bytes", text.len()) };
                    summary.add_account(AccountProblem::None, &shown);
                }
                MappedRow::Gone(_) => summary.gone += 1,
                MappedRow::Refused(account, LocalRefusal::NotUuid) => {
                    summary.add_account(AccountProblem::NotUuid, account.as_str());
                }
                MappedRow::Refused(account, _) => summary.add_account(AccountProblem::TooLong, account.as_str()),
                MappedRow::Present(desired) => {
                    summary.present += 1;
                    self.add_values(&mut summary, &desired.values);
                    add_unusual(&mut summary, &desired.account);
                }
            }
        }
        self.add_similar(&mut summary, rows, others);
        summary
    }

    fn add_values(&self, summary: &mut SampleSummary, values: &[DesiredValue]) {
        for (name, value) in self.names().iter().zip(values) {
            let problem = match value {
                DesiredValue::Refused(LocalRefusal::Unlisted { .. }) => ValueProblem::Unlisted,
                DesiredValue::Refused(_) => ValueProblem::TooLong,
                DesiredValue::Value(_) | DesiredValue::Absent | DesiredValue::Keep => continue,
            };
            *summary.values.entry((Arc::clone(name), problem)).or_default() += 1;
        }
    }

    /// Accounts of the sample that other rows have too, exactly or nearly.
    fn add_similar(&self, summary: &mut SampleSummary, rows: &Rows, others: &[(String, bool)]) {
        let accounts = |texts: &mut dyn Iterator<Item = &str>| -> Vec<Account> {
            texts.filter(|text| !text.is_empty()).map(|text| self.account_of(text)).collect()
        };
        let sampled = accounts(&mut rows.iter().filter(|row| !row.gone).filter_map(|row| row.account));
        let looked_up = accounts(&mut others.iter().filter(|(_, gone)| !gone).map(|(text, _)| text.as_str()));
        let count = |accounts: &[Account]| {
            let mut counts: BTreeMap<Account, usize> = BTreeMap::new();
            for account in accounts {
                *counts.entry(account.clone()).or_default() += 1;
            }
            counts
        };
        // The rows of the sample are among those that were looked up, if these are known.
        let (in_sample, in_table) = (count(&sampled), count(&looked_up));
        let mut groups: BTreeMap<String, BTreeSet<&Account>> = BTreeMap::new();
        for account in in_sample.keys().chain(in_table.keys()) {
            groups.entry(account.as_str().trim().to_lowercase()).or_default().insert(account);
        }
        for (account, times) in &in_sample {
            if (*times).max(in_table.get(account).copied().unwrap_or_default()) > 1 {
                summary.add_account(AccountProblem::Twice, account.as_str());
            }
        }
        for group in groups.values().filter(|group| group.len() > 1) {
            let names: Vec<String> = group.iter().take(MAX_EXAMPLES).map(|account| format!("{account:?}")).collect();
            summary.add_account(AccountProblem::Similar, &names.join(" and "));
        }
    }
}

fn add_unusual(summary: &mut SampleSummary, account: &Account) {
    let text = account.as_str();
    if text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        summary.add_account(AccountProblem::Unusual, text);
    }
    if text.trim() != text {
        summary.add_account(AccountProblem::Blanks, text);
    }
}

/// Texts of the account column that differ from this one only in case or in blanks at the ends, as people and programs
/// write them. Not all that there can be: those that an index finds.
pub fn similar_texts(text: &str) -> Vec<String> {
    let trimmed = text.trim();
    let mut characters = trimmed.chars();
    let capitalized =
        characters.next().map(|first| first.to_uppercase().chain(characters.flat_map(char::to_lowercase)));
    let capitalized = capitalized.map(Iterator::collect::<String>).unwrap_or_default();
    let mut texts: BTreeSet<String> =
        [trimmed.to_owned(), trimmed.to_lowercase(), trimmed.to_uppercase(), capitalized].into_iter().collect();
    texts.insert(format!("{trimmed} "));
    texts.insert(format!(" {trimmed}"));
    texts.remove(text);
    texts.into_iter().filter(|text| !text.trim().is_empty()).collect()
}
