//! The mapping of a whole row: its account, whether it is gone, its attributes.
//!
//! Owns: which columns are read, and which accounts can be sent. Must not know: how the text of one column is mapped.

use std::borrow::Cow;
use std::sync::Arc;

use super::attribute::AttributeMapping;
use super::fingerprint::mapping_fingerprint;
use crate::config;
use crate::model::{Account, DesiredAccount, DesiredText, LocalRefusal, MAX_STORED_ACCOUNT_BYTES, Row};

/// The configured mapping.
#[derive(Clone, Debug)]
pub struct Mapping {
    source: config::SourceConfig,
    columns: Vec<String>,
    names: Vec<Arc<str>>,
    attributes: Vec<AttributeMapping>,
    fingerprint: String,
    /// Bytes of an account that IM accepts.
    max_account_bytes: usize,
}

/// An account before its values are mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlinedAccount<'a> {
    /// The account.
    pub account: Cow<'a, str>,
    /// What is known of it.
    pub content: AccountContent<'a>,
}

/// What an account is, before its values are mapped.
#[derive(Clone, Debug, PartialEq)]
pub enum AccountContent<'a> {
    /// It has this row, whose values can be mapped.
    Present(Row<'a>),
    /// Its row is gone, or it has none; see [`MappedRow::Gone`].
    Gone,
    /// It cannot be sent at all.
    Refused(LocalRefusal),
}

/// The result of mapping a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappedRow {
    /// The account is NULL or empty, or too long to be stored. Such rows are counted and skipped.
    NoAccount,
    /// The account cannot be sent at all.
    Refused(Account, LocalRefusal),
    /// The row is soft-deleted or filtered out. That includes accounts that are too long to be sent: nothing was sent for
    /// them, so nothing has to be removed, and a rejection recorded while the row existed can be resolved.
    Gone(Account),
    /// The attributes that IM should hold.
    Present(DesiredAccount),
}

impl Mapping {
    /// The mapping of a checked configuration.
    pub fn new(config: &config::Config) -> Self {
        let mut columns: Vec<String> = Vec::new();
        let mut attributes = Vec::with_capacity(config.attributes.len());
        for attribute in &config.attributes {
            let column_index = columns.iter().position(|column| *column == attribute.column).unwrap_or_else(|| {
                columns.push(attribute.column.clone());
                columns.len() - 1
            });
            attributes.push(AttributeMapping::new(attribute, column_index));
        }
        Self {
            source: config.source.clone(),
            columns,
            names: config.attributes.iter().map(|attribute| Arc::from(attribute.name.as_str())).collect(),
            attributes,
            fingerprint: mapping_fingerprint(config),
            max_account_bytes: config.im.account_type.max_bytes(),
        }
    }

    /// The columns to read, each once, in the order of `Row::value`: that of their first use in the configuration.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The names of the attributes in the order of the configuration, which is also that of `DesiredAccount::values`.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The IM account of a row with this text in the account column.
    pub(super) fn account_of(&self, text: &str) -> Account {
        self.source.account_of(text)
    }

    /// The account of a row, and whether it has values to map; `None` for a row without an account, see
    /// [`MappedRow::NoAccount`].
    pub fn outline<'a>(&self, row: Row<'a>) -> Option<OutlinedAccount<'a>> {
        let text = row.account.filter(|text| !text.is_empty())?;
        let account = self.source.account_text(text);
        let (bytes, allowed) = (account.len(), self.max_account_bytes);
        if bytes > MAX_STORED_ACCOUNT_BYTES {
            return None;
        }
        let content = if row.gone {
            AccountContent::Gone
        } else if !self.source.is_in_format(&account) {
            AccountContent::Refused(LocalRefusal::NotUuid)
        } else if bytes > allowed {
            AccountContent::Refused(LocalRefusal::AccountTooLong { bytes, allowed })
        } else {
            AccountContent::Present(row)
        };
        Some(OutlinedAccount { account, content })
    }

    /// What IM should hold of the attribute at this position of [`Mapping::names`], for a row that was read with
    /// [`Mapping::columns`].
    ///
    /// # Panics
    /// For a row that was read with fewer columns.
    pub fn desired_text<'a>(&'a self, row: Row<'a>, position: usize) -> DesiredText<'a> {
        let attribute = &self.attributes[position];
        attribute.apply(row.value(attribute.column_index()))
    }

    /// Maps a row that was read with [`Mapping::columns`].
    ///
    /// # Panics
    /// For a row that was read with fewer columns: a missing column must not be mistaken for NULL, which removes the
    /// attribute.
    pub fn apply(&self, row: Row<'_>) -> MappedRow {
        self.outline(row).map_or(MappedRow::NoAccount, |outlined| self.complete(outlined))
    }

    /// Maps the values of an account.
    ///
    /// # Panics
    /// As [`Mapping::apply`].
    pub fn complete(&self, outlined: OutlinedAccount<'_>) -> MappedRow {
        let account = Account::new(&*outlined.account);
        match outlined.content {
            AccountContent::Gone => MappedRow::Gone(account),
            AccountContent::Refused(refusal) => MappedRow::Refused(account, refusal),
            AccountContent::Present(row) => {
                let desired = |position| self.desired_text(row, position).into();
                MappedRow::Present(DesiredAccount {
                    account,
                    values: (0..self.attributes.len()).map(desired).collect(),
                })
            }
        }
    }

    /// SHA-256 in hex over everything that decides how a row is mapped: attributes, filter, deleted column, removal of
    /// gone accounts and unmapped attributes, and [`super::MAPPING_VERSION`]. Settings with the same meaning have the
    /// same fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}
