//! A row's column texts become desired attributes, or refusals. Pure.
//!
//! Owns: `values`, `unlisted`, `too_long`, `null`, the limits of 50 and 32 bytes. Must not know: Postgres, IM, what was sent before.

use std::sync::Arc;

use crate::config;
use crate::model::{Account, DesiredAccount, LocalRefusal, MAX_ACCOUNT_BYTES, MAX_RECORDED_ACCOUNT_BYTES, Row};

mod fingerprint;
mod rule;

#[cfg(test)]
mod tests;

use rule::Rule;

/// Raised when the rules of this module change, so that a new release compares everything once. Part of the mapping's fingerprint.
pub const VERSION: u32 = 1;

/// The configured mapping, ready to apply.
#[derive(Clone, Debug)]
pub struct Mapping {
    source: config::Source,
    columns: Vec<String>,
    names: Vec<Arc<str>>,
    rules: Vec<Rule>,
    fingerprint: String,
}

/// What a row means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// NULL or empty account, or one so long that it cannot even be recorded: counted and skipped.
    NoAccount,
    /// The account cannot be sent at all.
    Refused(Account, LocalRefusal),
    /// Soft-deleted or filtered out. An account that is too long is reported like this too, not as refused: nothing was
    /// ever sent for it, so its going sends nothing, and a rejection that stood while its row was there can end.
    Gone(Account),
    Present(DesiredAccount),
}

impl Mapping {
    pub fn new(config: &config::Config) -> Self {
        let mut columns: Vec<String> = Vec::new();
        let mut rules = Vec::with_capacity(config.attributes.len());
        for attribute in &config.attributes {
            let place = columns.iter().position(|column| *column == attribute.column).unwrap_or_else(|| {
                columns.push(attribute.column.clone());
                columns.len() - 1
            });
            rules.push(Rule::new(attribute, place));
        }
        Self {
            source: config.source.clone(),
            columns,
            names: config.attributes.iter().map(|attribute| Arc::from(attribute.name.as_str())).collect(),
            rules,
            fingerprint: fingerprint::of(config),
        }
    }

    /// The distinct columns to read, in the order in which `Row::values` holds them: that of their first use.
    /// Several attributes may read one column.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The attribute names, in the order of `DesiredAccount::values`, which is the configuration's.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// What this row, read with [`Mapping::columns`], values IM to hold.
    ///
    /// Panics on a row that was read with fewer columns: a column that is missing must not pass for NULL, which removes.
    pub fn apply(&self, row: &Row) -> Mapped {
        let Some(text) = row.account.as_deref().filter(|text| !text.is_empty()) else {
            return Mapped::NoAccount;
        };
        let account = self.source.account_of(text);
        if account.as_str().len() > MAX_RECORDED_ACCOUNT_BYTES {
            return Mapped::NoAccount;
        }
        if row.gone {
            return Mapped::Gone(account);
        }
        let bytes = account.as_str().len();
        if bytes > MAX_ACCOUNT_BYTES {
            return Mapped::Refused(account, LocalRefusal::AccountTooLong { bytes });
        }
        let values = self.rules.iter().map(|rule| rule.apply(row.values[rule.place].as_deref())).collect();
        Mapped::Present(DesiredAccount { account, values })
    }

    /// SHA-256 (hex) over everything that decides what a row becomes: attributes, filter, deleted column, removal of gone
    /// and unmapped, [`VERSION`]. Spelling that means the same gives the same.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}
