//! Turns an IM account back into the text of the account column.
//!
//! Owns: how prefix and format are removed. Must not know: connections, which accounts IM accepts.

use super::column_type::AccountType;
use crate::config::{self, AccountFormat};
use crate::model::Account;

/// The text of the account column for this IM account: the inverse of [`config::SourceConfig::account_of`]. `None` when no
/// row can have this account.
pub(super) fn strip_account_format(
    config: &config::SourceConfig,
    column_type: AccountType,
    account: &Account,
) -> Option<String> {
    let text = account.as_str().strip_prefix(config.account_prefix.as_str())?;
    let text = match config.account_format {
        AccountFormat::Text => text.to_owned(),
        AccountFormat::Hex if text.len() == 32 && text.is_ascii() => {
            [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
        }
        AccountFormat::Hex => return None,
    };
    // Rows with an empty account are skipped everywhere.
    (!text.is_empty() && column_type.has_value(&text)).then_some(text)
}
