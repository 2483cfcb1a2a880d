//! From the account column's text to the IM account, and back.
//!
//! Owns: prefix, format, and which texts can be a value of the column. Must not know: connections, what IM allows.

use crate::config::{self, AccountFormat};
use crate::model::Account;

/// The types that an account column can have (domains over them resolved).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccountType {
    Text,
    Varchar,
    /// `char(n)`: blanks at the end are no part of the text.
    Char,
    Int2,
    Int4,
    Int8,
    Uuid,
}

impl AccountType {
    /// By the type's name in `pg_type`.
    pub(super) fn named(typname: &str) -> Option<Self> {
        Some(match typname {
            "text" => Self::Text,
            "varchar" => Self::Varchar,
            "bpchar" => Self::Char,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    /// The type to cast a text to. Without a length: a cast to `varchar(10)` would cut a longer text to another's.
    /// The base type, not a domain: a domain's check would fail a whole look-up for one account.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Text => "pg_catalog.text",
            Self::Varchar => "pg_catalog.varchar",
            Self::Char => "pg_catalog.bpchar",
            Self::Int2 => "pg_catalog.int2",
            Self::Int4 => "pg_catalog.int4",
            Self::Int8 => "pg_catalog.int8",
            Self::Uuid => "pg_catalog.uuid",
        }
    }

    /// A value of this type has exactly this text. Parsed here, since a cast in `PostgreSQL` fails the whole statement.
    fn takes(self, text: &str) -> bool {
        let integer = |low: i64, high: i64| {
            text.parse::<i64>().is_ok_and(|value| (low..=high).contains(&value) && value.to_string() == text)
        };
        match self {
            Self::Text | Self::Varchar => !text.contains('\0'),
            Self::Char => !text.contains('\0') && !text.ends_with(' '),
            Self::Int2 => integer(i16::MIN.into(), i16::MAX.into()),
            Self::Int4 => integer(i32::MIN.into(), i32::MAX.into()),
            Self::Int8 => integer(i64::MIN, i64::MAX),
            Self::Uuid => {
                text.len() == 36
                    && text.bytes().enumerate().all(|(place, byte)| match place {
                        8 | 13 | 18 | 23 => byte == b'-',
                        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                    })
            }
        }
    }
}

/// The column's text of an IM account: the inverse of [`config::SourceConfig::account_of`]; `None` when no row can have it.
pub(super) fn text_of(config: &config::SourceConfig, kind: AccountType, account: &Account) -> Option<String> {
    let text = account.as_str().strip_prefix(config.account_prefix.as_str())?;
    let text = match config.account_format {
        AccountFormat::Text => text.to_owned(),
        AccountFormat::Hex if text.len() == 32 && text.is_ascii() => {
            [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
        }
        AccountFormat::Hex => return None,
    };
    // An empty account is no account: such rows are skipped wherever they are met.
    (!text.is_empty() && kind.takes(&text)).then_some(text)
}
