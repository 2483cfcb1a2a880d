//! Turns an IM account back into the texts of the account column.
//!
//! Owns: which of the texts the column can have. Must not know: connections, which accounts IM accepts, how an account is
//! made from a text.

use super::column_type::AccountType;
use crate::config::{self, AccountFormat};
use crate::model::Account;

/// The texts that the account column of this type has in the rows of this IM account: the inverse of
/// [`config::SourceConfig::account_of`]. None when no row can have this account.
pub(super) fn account_texts(
    config: &config::SourceConfig,
    column_type: AccountType,
    account: &Account,
) -> impl Iterator<Item = String> {
    // Rows with an empty account are skipped everywhere.
    config.texts_of(account).into_iter().filter(move |text| !text.is_empty() && column_type.has_value(text))
}

/// Rows with different texts may have the same account.
pub(super) fn has_spellings(config: &config::SourceConfig, column_type: AccountType) -> bool {
    config.account_format == AccountFormat::Hex && column_type != AccountType::Uuid
}
