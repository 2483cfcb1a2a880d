//! The words that several rooms share: accounts, attributes, values, changes, outcomes.
//!
//! Owns: plain data and nothing else. Must not know: Postgres, HTTP, the configuration file.
//! Everything here is a bottom word, so that the stages can speak to each other without importing each other.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Bytes of UTF-8 that IM takes at most as a UserID.
/// Source: the vendor's limits, `To_Account`.
pub const MAX_ACCOUNT_BYTES: usize = 32;
/// Bytes of UTF-8 that IM takes at most as an attribute's value.
pub const MAX_VALUE_BYTES: usize = 50;
/// Characters of a column's text that decide what becomes of it: values are 50 bytes, and no text in `values` has more
/// bytes than this. One character more than this is read, whatever the column holds.
pub const MAX_LOOKED_AT: usize = 1000;
/// Bytes of UTF-8 of an account that is still recorded as refused: an index of the state tables takes 2,700 in all.
pub const MAX_RECORDED_ACCOUNT_BYTES: usize = 1000;
/// Bytes of UTF-8 that IM takes at most as an attribute's name.
pub const MAX_NAME_BYTES: usize = 50;
/// Attribute names an app can hold, numbered "0" to "9".
pub const MAX_ATTRIBUTES: usize = 10;
/// Users that one set, get or remove call carries at most.
pub const MAX_USERS_PER_CALL: usize = 100;

/// An IM account: what goes into `To_Account`, prefix and format applied. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Account(Arc<str>);

impl Account {
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Account {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The place of an attribute name in the sync's list of names (`sync.attribute_names`).
///
/// Names are appended to that list at first use and never move, so an account's values can be stored
/// by place instead of by name. It has nothing to do with the vendor's numbering "0" to "9".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AttributeIndex(pub u16);

impl AttributeIndex {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Attribute names by attribute.
pub type AttributeNames = Arc<[Arc<str>]>;

/// A row of the customer's table, every value as the text that psql would show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The account column's text, without prefix and format; `None` for NULL.
    pub account: Option<Box<str>>,
    /// The watermark column's text; `None` for NULL or where there is no watermark column.
    pub watermark: Option<Box<str>>,
    /// Soft-deleted, or the filter is not true for it.
    pub gone: bool,
    /// The mapped columns' texts, in the order of `Mapping::columns`; of a longer one the first [`MAX_LOOKED_AT`] and one
    /// characters.
    pub values: Vec<Option<Box<str>>>,
}

/// What the mapping values of one attribute of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredValue {
    /// IM shall hold this value (1 to 50 bytes of UTF-8).
    Value(Box<str>),
    /// IM shall hold no value.
    Absent,
    /// What IM holds stays, whatever it is.
    Keep,
    /// The value cannot be sent; the account's other attributes go all the same.
    Refused(LocalRefusal),
}

/// Why a value or an account cannot be sent. Displayed as a sentence that never contains the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalRefusal {
    /// More than 50 bytes of UTF-8, and `too_long = "reject"`.
    ValueTooLong { column: Arc<str>, bytes: usize },
    /// A text that `values` does not list, and `unlisted = "reject"`.
    Unlisted { column: Arc<str> },
    /// The account's text is over 32 bytes.
    AccountTooLong { bytes: usize },
    /// Several rows carry this account; which one is meant cannot be known.
    AccountTwice,
}

impl fmt::Display for LocalRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueTooLong { column, bytes } if *bytes > MAX_LOOKED_AT => write!(
                f,
                "the text of column {column} is more than {MAX_LOOKED_AT} bytes, IM takes at most {MAX_VALUE_BYTES}; shorten it, map it with `values`, or set too_long = \"truncate\""
            ),
            Self::ValueTooLong { column, bytes } => write!(
                f,
                "the text of column {column} is {bytes} bytes, IM takes at most {MAX_VALUE_BYTES}; shorten it, map it with `values`, or set too_long = \"truncate\""
            ),
            Self::Unlisted { column } => write!(
                f,
                "`values` does not list the text of column {column}; add it there, or set `unlisted` to send, keep or remove"
            ),
            Self::AccountTooLong { bytes } => write!(
                f,
                "the account is {bytes} bytes, IM takes at most {MAX_ACCOUNT_BYTES}; use a shorter account column or prefix"
            ),
            Self::AccountTwice => {
                f.write_str("several rows of the table carry this account; make the account column unique")
            }
        }
    }
}

/// What the table values IM to hold for one account: one [`DesiredValue`] for each configured attribute, in the mapping's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredAccount {
    pub account: Account,
    pub values: Vec<DesiredValue>,
}

/// What IM is known to hold for one attribute of one account.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum AcknowledgedValue {
    /// IM acknowledged that there is no value, or none was ever sent.
    #[default]
    Absent,
    /// IM acknowledged this value.
    Value(Box<str>),
    /// In doubt: a call's outcome is not known, or the ground of the state changed.
    Unknown,
    /// IM acknowledged this value, or that there is none, but an earlier call may still land over it (a late write). In doubt
    /// until that cannot be any more; then it is sent once more.
    Provisional(Option<Box<str>>),
}

impl AcknowledgedValue {
    /// IM may hold something else than it acknowledged.
    pub fn in_doubt(&self) -> bool {
        matches!(self, Self::Unknown | Self::Provisional(_))
    }

    /// IM is not known to be without it.
    pub fn may_be_held(&self) -> bool {
        !matches!(self, Self::Absent | Self::Provisional(None))
    }

    /// The value that IM acknowledged last, where one is held.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Value(value) | Self::Provisional(Some(value)) => Some(value),
            Self::Absent | Self::Unknown | Self::Provisional(None) => None,
        }
    }
}

/// What to send for one account. `set` and `remove` never name the same attribute; attributes are in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub account: Account,
    pub set: Vec<(AttributeIndex, Box<str>)>,
    pub remove: Vec<AttributeIndex>,
}

/// What became of one attribute of a [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeOutcome {
    /// IM acknowledged it.
    Done,
    /// IM acknowledged it, but an earlier call that carried it has no known outcome and may still land.
    Provisional,
    /// IM refused it with a code of the row or request class, standing alone.
    Refused(Arc<VendorRefusal>),
    /// It may or may not have been applied.
    Unknown,
    /// No call carried it, or every call that did was certainly not applied: nothing changed in IM.
    NotSent,
}

/// A refusal of the vendor, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorRefusal {
    pub code: i64,
    /// A sentence of ours with the vendor's `ErrorInfo` and `RequestId`; never a value.
    pub reason: String,
    /// The code speaks of the account, not of one attribute.
    pub of_account: bool,
}

/// What became of one account's change, attribute by attribute, in the order `set` then `remove`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountOutcome {
    pub account: Account,
    pub attributes: Vec<(AttributeIndex, AttributeOutcome)>,
    /// Some call with this account has no known outcome: it may still land.
    pub may_be_overwritten: bool,
}

/// The two push services of the vendor, with the same five commands and bodies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    AllMemberPush,
    Timpush,
}

/// The vendor's data centres.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Region {
    China,
    Singapore,
    Seoul,
    Tokyo,
    Frankfurt,
    Mumbai,
    SiliconValley,
    Jakarta,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As it is written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
    Journald,
}
