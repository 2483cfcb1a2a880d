//! The vendor's REST API and nothing else: hosts, UserSig, requests, codes and their classes.
//!
//! Owns: one exchange with IM and what its answer means. Must not know: Postgres, batches, pace, retries, the state.
//! Usable as a client by itself.

use std::time::Duration;

use secrecy::SecretString;

use crate::model::{Region, Service};

mod code;

pub use code::{Class, Code};

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub endpoint: Endpoint,
    pub service: Service,
    pub sdk_app_id: u32,
    pub identifier: String,
    pub secret_key: SecretString,
    pub usersig_lifetime: Duration,
    /// For one exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub enum Endpoint {
    /// The region's host and its backup.
    Region(Region),
    /// A proxy or the simulator; there is no backup.
    BaseUrl(url::Url),
}

/// The vendor's five commands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    SetAttr,
    GetAttr,
    RemoveAttr,
    SetAttrName,
    GetAttrName,
}

impl Command {
    /// The label of metrics and logs, without the service's prefix.
    pub fn label(self) -> &'static str {
        match self {
            Self::SetAttr => "set_attr",
            Self::GetAttr => "get_attr",
            Self::RemoveAttr => "remove_attr",
            Self::SetAttrName => "set_attr_name",
            Self::GetAttrName => "get_attr_name",
        }
    }
}

/// One user of a set call: account, then name and value of each attribute.
#[derive(Clone, Debug)]
pub struct SetUser<'a> {
    pub account: &'a str,
    pub attrs: Vec<(&'a str, &'a str)>,
}

/// One user of a remove call: account and the names to remove.
#[derive(Clone, Debug)]
pub struct RemoveUser<'a> {
    pub account: &'a str,
    pub names: Vec<&'a str>,
}

/// One user of a get call's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAttrs {
    pub account: String,
    pub attrs: Vec<(String, String)>,
}

/// A call that IM accepted. `failed` is empty but for `timpush`, whose `ErrorList` names accounts that were not applied.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    pub request_id: Option<String>,
    pub failed: Vec<FailedAccount>,
}

#[derive(Clone, Debug)]
pub struct FailedAccount {
    pub account: String,
    pub code: Code,
    pub info: String,
}

/// A call that IM did not accept, or whose outcome is not known. Displays without the URL, the UserSig or any value.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{command} failed with {code}: {info}", command = .command.label())]
pub struct CallError {
    pub command: Command,
    pub code: Code,
    /// The vendor's `ErrorInfo`, or our words for a fault below it.
    pub info: String,
    pub request_id: Option<String>,
    /// From a `Retry-After` header.
    pub retry_after: Option<Duration>,
    /// False only when the request certainly did not reach IM, or IM refused it as a whole.
    pub maybe_applied: bool,
}

/// A client for one app and one service. Keeps its connections alive; share it in an `Arc`.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// Fails when the settings cannot make a client (an empty key, a base URL without a host).
    pub fn new(_settings: Settings) -> Result<Self, String> {
        unimplemented!()
    }

    pub async fn set_attr(&self, _users: &[SetUser<'_>]) -> Result<Accepted, CallError> {
        unimplemented!()
    }

    pub async fn remove_attr(&self, _users: &[RemoveUser<'_>]) -> Result<Accepted, CallError> {
        unimplemented!()
    }

    pub async fn get_attr(&self, _accounts: &[&str]) -> Result<Vec<UserAttrs>, CallError> {
        unimplemented!()
    }

    /// The app's attribute names by number ("0" to "9").
    pub async fn attr_names(&self) -> Result<std::collections::BTreeMap<u8, String>, CallError> {
        unimplemented!()
    }

    pub async fn set_attr_names(&self, _names: &std::collections::BTreeMap<u8, String>) -> Result<(), CallError> {
        unimplemented!()
    }
}
