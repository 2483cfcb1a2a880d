//! Why imsync itself does not send a value or an account.
//!
//! Owns: the sentences, each with what to do. They never contain a value. Must not know: when a text is refused.

use std::fmt;
use std::sync::Arc;

use super::limits::{MAX_COLUMN_TEXT_CHARS, MAX_VALUE_BYTES};

/// Why imsync does not send a value or an account. The message never contains the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalRefusal {
    /// The text has more than 50 bytes of UTF-8, and `too_long = "reject"`.
    ValueTooLong {
        /// The mapped column.
        column: Arc<str>,
        /// The length of the text as far as it was read.
        bytes: usize,
    },
    /// `values` does not list the text, and `unlisted = "reject"`.
    Unlisted {
        /// The mapped column.
        column: Arc<str>,
    },
    /// The account has more bytes of UTF-8 than IM accepts.
    AccountTooLong {
        /// The length of the account.
        bytes: usize,
        /// What IM accepts.
        allowed: usize,
    },
    /// `account_format = "hex"`, and the text of the account column spells no uuid.
    NotUuid,
    /// Several rows have this account, so its values are ambiguous.
    DuplicateAccount,
    /// An expression of the row raises an error: the error's code with its meaning.
    Unreadable {
        /// For example `22P02 (a text is not a valid value of its type)`.
        raised: Arc<str>,
    },
}

impl fmt::Display for LocalRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueTooLong { column, bytes } if *bytes > MAX_COLUMN_TEXT_CHARS => write!(
                f,
                "the text of column {column} is more than {MAX_COLUMN_TEXT_CHARS} bytes, IM accepts at most {MAX_VALUE_BYTES}; shorten it, map it with `values`, or set too_long = \"truncate\""
            ),
            Self::ValueTooLong { column, bytes } => write!(
                f,
                "the text of column {column} is {bytes} bytes, IM accepts at most {MAX_VALUE_BYTES}; shorten it, map it with `values`, or set too_long = \"truncate\""
            ),
            Self::Unlisted { column } => write!(
                f,
                "`values` does not list the text of column {column}; add it there, or set `unlisted` to send, keep or remove"
            ),
            Self::AccountTooLong { bytes, allowed } => write!(
                f,
                "the account is {bytes} bytes, IM accepts at most {allowed}; use a shorter account column or prefix"
            ),
            Self::NotUuid => f.write_str(
                "the text of the account column is no uuid, which account_format = \"hex\" requires: 32 hexadecimal digits, with hyphens or without, bare or in braces, all letters in lower or all in upper case; correct the row, or leave it out with source.filter",
            ),
            Self::DuplicateAccount => f.write_str(
                "several rows of the table have this account (spellings of one uuid are one account); make the account column unique",
            ),
            Self::Unreadable { raised } => write!(
                f,
                "the row cannot be read: the database raises {raised} while it evaluates the row; correct the row, source.filter or the view"
            ),
        }
    }
}
