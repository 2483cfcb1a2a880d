//! What a call to IM carries, and how it ends.
//!
//! Owns: the arguments and results of the client's methods. Must not know: JSON, HTTP, UserSigs.

use std::time::Duration;

use super::code::Code;

/// The vendor's commands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ApiCommand {
    /// Sets attributes of users.
    SetAttr,
    /// Reads the attributes of users.
    GetAttr,
    /// Removes attributes of users.
    RemoveAttr,
    /// Defines the app's attribute names.
    SetAttrName,
    /// Reads the app's attribute names.
    GetAttrName,
    /// Tells which accounts exist in Chat.
    AccountCheck,
    /// Creates accounts in Chat.
    AccountImport,
}

impl ApiCommand {
    /// The label of metrics and logs: the command's name in the URL, without the service's prefix.
    pub fn label(self) -> &'static str {
        match self {
            Self::SetAttr => "set_attr",
            Self::GetAttr => "get_attr",
            Self::RemoveAttr => "remove_attr",
            Self::SetAttrName => "set_attr_name",
            Self::GetAttrName => "get_attr_name",
            Self::AccountCheck => "account_check",
            Self::AccountImport => "account_import",
        }
    }
}

/// One user of a set call.
#[derive(Clone, Debug)]
pub struct SetUser<'a> {
    /// The user's account in IM.
    pub account: &'a str,
    /// Name and value of each attribute to set.
    pub attrs: Vec<(&'a str, &'a str)>,
}

/// One user of a remove call.
#[derive(Clone, Debug)]
pub struct RemoveUser<'a> {
    /// The user's account in IM.
    pub account: &'a str,
    /// The names of the attributes to remove.
    pub names: Vec<&'a str>,
}

/// One user in the answer to a get call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAttrs {
    /// The user's account in IM.
    pub account: String,
    /// Name and value of each attribute that IM holds.
    pub attrs: Vec<(String, String)>,
}

/// What IM holds of the accounts of a get call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsersRead {
    /// The users in the order of the answer, in the spelling in which they were asked for.
    pub users: Vec<UserAttrs>,
    /// The accounts that could not be read. Only `timpush` lists such accounts; they are not among the users.
    pub failed: Vec<FailedAccount>,
}

/// A call that IM accepted.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// The vendor's identifier of the call.
    pub request_id: Option<String>,
    /// The accounts to which the call was not applied. Only `timpush` lists such accounts, in its `ErrorList`.
    pub failed: Vec<FailedAccount>,
}

/// What Chat knows of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// The account exists.
    Imported,
    /// The account does not exist.
    NotImported,
    /// IM did not say, or could not check the account.
    Undetermined,
}

/// An account to which an accepted call was not applied.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedAccount {
    /// The user's account in IM.
    pub account: String,
    /// Why the call was not applied.
    pub code: Code,
    /// The vendor's `ErrorInfo`, redacted; empty where IM sent none.
    pub info: String,
}

/// A call that IM did not accept, or whose outcome is unknown. Its message contains no URL, no UserSig and no value.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{command} failed with {code}: {info}", command = .command.label())]
pub struct CallError {
    /// The command that was called.
    pub command: ApiCommand,
    /// How the call ended.
    pub code: Code,
    /// The vendor's `ErrorInfo`, redacted, or a message of the client about a fault of HTTP or the network.
    pub info: String,
    /// The vendor's identifier of the call.
    pub request_id: Option<String>,
    /// The value of a `Retry-After` header, at most 24 hours.
    pub retry_after: Option<Duration>,
    /// False only when the request certainly did not reach IM, or when IM refused it as a whole.
    pub maybe_applied: bool,
}
