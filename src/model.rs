//! The types that several modules share: accounts, attributes, values, changes, outcomes.
//!
//! Owns: plain data. Must not know: PostgreSQL, HTTP, the configuration file.
//!
//! This module imports nothing else of the crate, so that the stages can exchange these types without importing each other.

mod limits;
mod local_refusal;
mod rows;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use limits::{
    MAX_ACCOUNT_BYTES, MAX_ATTRIBUTE_NAME_BYTES, MAX_ATTRIBUTES, MAX_COLUMN_TEXT_CHARS, MAX_STORED_ACCOUNT_BYTES,
    MAX_USERS_PER_CALL, MAX_VALUE_BYTES,
};
pub use local_refusal::LocalRefusal;
pub use rows::{Row, Rows};

/// An IM account, as sent in `To_Account`: with prefix and format applied. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Account(Arc<str>);

impl Account {
    /// The account with this UserID. Its length is not checked.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The UserID.
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

impl Borrow<str> for Account {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Account {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The index of an attribute in the list of attribute names of the sync (`sync.attribute_names`).
///
/// Names are appended to that list at first use and never move, so the values of an account can be stored by index instead
/// of by name. A variable `attribute` or `index` of this type is a number; names are `name` or `names`. The index is not
/// the vendor's number "0" to "9".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AttributeIndex(pub u16);

impl AttributeIndex {
    /// The index as a position in a slice.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The attribute names of the sync, indexed by [`AttributeIndex`].
pub type AttributeNames = Arc<[Arc<str>]>;

/// What IM should hold for one attribute of one account, according to the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired<T> {
    /// This value (1 to 50 bytes of UTF-8).
    Value(T),
    /// No value.
    Absent,
    /// Whatever IM holds now.
    Keep,
    /// The value cannot be sent. The other attributes of the account are sent all the same.
    Refused(LocalRefusal),
}

/// Its text is shared by the change, the call and the record.
pub type DesiredValue = Desired<Arc<str>>;

/// Its text is that of the row or of the mapping.
pub type DesiredText<'a> = Desired<&'a str>;

impl From<DesiredText<'_>> for DesiredValue {
    fn from(desired: DesiredText<'_>) -> Self {
        match desired {
            Desired::Value(value) => Self::Value(value.into()),
            Desired::Absent => Self::Absent,
            Desired::Keep => Self::Keep,
            Desired::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

/// What IM should hold for one account: a [`DesiredValue`] for each configured attribute, in the order of the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredAccount {
    /// The account.
    pub account: Account,
    /// One for each configured attribute, in the order of `Mapping::names`.
    pub values: Vec<DesiredValue>,
}

/// What IM is known to hold for one attribute of one account, from its answers to calls.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum AcknowledgedValue {
    /// IM acknowledged a removal, or no value was ever sent.
    #[default]
    Absent,
    /// IM acknowledged this value.
    Value(Arc<str>),
    /// In doubt: the outcome of a call is unknown, or the state is bound to another app now.
    Unknown,
    /// IM acknowledged this value or its removal, but an earlier call may still be applied after it (a late write). In
    /// doubt until that is no longer possible; then it is sent once more.
    Provisional(Option<Arc<str>>),
}

impl AcknowledgedValue {
    /// IM may hold something other than what it acknowledged last.
    pub fn in_doubt(&self) -> bool {
        matches!(self, Self::Unknown | Self::Provisional(_))
    }

    /// IM holds a value, or may hold one.
    pub fn may_be_held(&self) -> bool {
        !matches!(self, Self::Absent | Self::Provisional(None))
    }

    /// The value that IM acknowledged last; `None` without one, and when the outcome of a call is unknown.
    pub fn value(&self) -> Option<&str> {
        self.shared_value().map(|value| &**value)
    }

    /// [`AcknowledgedValue::value`], to be shared.
    pub fn shared_value(&self) -> Option<&Arc<str>> {
        match self {
            Self::Value(value) | Self::Provisional(Some(value)) => Some(value),
            Self::Absent | Self::Unknown | Self::Provisional(None) => None,
        }
    }
}

/// What to send for one account. `set` and `remove` have no attribute in common; each is in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The account.
    pub account: Account,
    /// The values to set.
    pub set: Vec<(AttributeIndex, Arc<str>)>,
    /// The attributes to remove.
    pub remove: Vec<AttributeIndex>,
}

/// The outcome of one attribute of a [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeOutcome {
    /// IM acknowledged it.
    Done,
    /// IM acknowledged it, but the outcome of an earlier call with it is unknown: that call may still be applied.
    Provisional,
    /// IM refused it with a code of the account or request class, in a call with nothing else in it.
    Refused(Arc<VendorRefusal>),
    /// The outcome of a call is unknown: it may have been applied.
    Unknown,
    /// Nothing changed in IM: it was in no call, or only in calls that were certainly not applied.
    NotSent,
}

/// A refusal of the vendor, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorRefusal {
    /// The vendor's error code.
    pub code: i64,
    /// imsync's sentence for the code with the vendor's `ErrorInfo` and `RequestId`. Never contains a value.
    pub reason: String,
    /// The code concerns the whole account, not one attribute.
    pub of_account: bool,
}

/// The outcome of the change of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountOutcome {
    /// The account.
    pub account: Account,
    /// The outcome of each attribute, those of `Change::set` before those of `Change::remove`.
    pub attributes: Vec<(AttributeIndex, AttributeOutcome)>,
    /// The outcome of a call with this account is unknown: it may still be applied and overwrite a later one.
    pub may_be_overwritten: bool,
    /// The account was alone in its call, and IM gave no answer although it answered other calls meanwhile.
    pub unanswered_alone: bool,
}

/// The two push services of the vendor, with the same five commands and bodies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// `all_member_push`. A call applies completely or not at all (assumed).
    AllMemberPush,
    /// `timpush`. A call may apply in part: its `ErrorList` names the accounts that failed.
    Timpush,
}

impl Service {
    /// All services, in the order in which messages list them.
    pub const ALL: [Self; 2] = [Self::AllMemberPush, Self::Timpush];

    /// The name in the vendor's URLs, in the configuration and in the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllMemberPush => "all_member_push",
            Self::Timpush => "timpush",
        }
    }
}

/// What the accounts are (`im.account_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImAccountType {
    /// `UserIDs`, at most 32 bytes.
    UserId,
    /// `RegistrationIDs` of devices, 36 bytes. Only `timpush` has them.
    RegistrationId,
}

impl ImAccountType {
    /// Bytes of an account, at most.
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::UserId => MAX_ACCOUNT_BYTES,
            Self::RegistrationId => 36,
        }
    }
}

/// What imsync does about an account that Chat does not know (`im.unknown_accounts`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownAccounts {
    /// The account is rejected with the code 70107 and checked again later.
    Reject,
    /// The account is created in Chat, and its attributes are sent.
    Import,
}

/// The vendor's data centers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Region {
    /// Mainland China.
    China,
    /// Singapore.
    Singapore,
    /// Seoul.
    Seoul,
    /// Tokyo.
    Tokyo,
    /// Frankfurt.
    Frankfurt,
    /// Mumbai.
    Mumbai,
    /// Silicon Valley.
    SiliconValley,
    /// Jakarta.
    Jakarta,
    /// Saudi Arabia.
    Ksa,
}

impl Region {
    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::China => "china",
            Self::Singapore => "singapore",
            Self::Seoul => "seoul",
            Self::Tokyo => "tokyo",
            Self::Frankfurt => "frankfurt",
            Self::Mumbai => "mumbai",
            Self::SiliconValley => "silicon-valley",
            Self::Jakarta => "jakarta",
            Self::Ksa => "ksa",
        }
    }
}

/// The least severe level that is logged (`log.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warn,
    /// The default: also what a pass did.
    Info,
    /// Also every call to IM (`-v`).
    Debug,
    /// Everything (`-vv`).
    Trace,
}

impl LogLevel {
    /// The name in the configuration.
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

/// The format of log lines (`log.format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// [`LogFormat::Journald`] when standard error is connected to the journal, else [`LogFormat::Text`].
    Auto,
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
    /// Entries of the systemd journal with their fields.
    Journald,
}
