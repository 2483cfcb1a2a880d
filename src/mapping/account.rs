//! The account column's text becomes the IM account.
//!
//! Owns: prefix and format. Must not know: limits, rows.

use crate::config::{AccountFormat, Source};
use crate::model::Account;

/// The IM account of a row: the configured prefix, then the account column's text in the configured format.
///
/// `hex` drops the text's hyphens (Postgres prints a uuid in lower case, 8-4-4-4-12); those of the prefix stay.
/// The length is not looked at here.
pub fn account_of(source: &Source, text: &str) -> Account {
    match (source.account_prefix.as_str(), source.account_format) {
        ("", AccountFormat::Text) => Account::new(text),
        (prefix, format) => {
            let mut account = String::with_capacity(prefix.len() + text.len());
            account.push_str(prefix);
            match format {
                AccountFormat::Text => account.push_str(text),
                AccountFormat::Hex => text.split('-').for_each(|part| account.push_str(part)),
            }
            Account::new(account)
        }
    }
}
