//! The vendor's REST API and nothing else: hosts, UserSig, requests, codes and their classes.
//!
//! Owns: one exchange with IM and what its answer means. Must not know: Postgres, batches, pace, retries, the state.
//! Usable as a client by itself:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use imsync::im::{Client, ApiBase, SetUser, ClientSettings};
//! use imsync::model::{Region, Service};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(ClientSettings {
//!     endpoint: ApiBase::Region(Region::Singapore),
//!     service: Service::AllMemberPush,
//!     sdk_app_id: 1_400_000_000,
//!     identifier: "administrator".to_owned(),
//!     secret_key: std::env::var("IMSYNC_SECRET_KEY")?.into(),
//!     usersig_lifetime: Duration::from_hours(24),
//!     timeout: Duration::from_secs(10),
//! })?;
//! let user = SetUser { account: "xiaojun012", attrs: vec![("city", "Shenzhen")] };
//! match client.set_attr(&[user]).await {
//!     Ok(accepted) => assert!(accepted.failed.is_empty()),
//!     Err(error) => println!("{error}. {}", error.code.advice()),
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::{Region, Service};

mod answer;
mod client;
mod code;
mod code_table;
mod redact;
mod refusal;
mod region;
mod usersig;
mod wire;

pub use client::Client;
pub use code::Code;
pub use code_table::{CodeClass, CodeScope};
pub use refusal::vendor_refusal;

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    pub endpoint: ApiBase,
    pub service: Service,
    pub sdk_app_id: u32,
    pub identifier: String,
    pub secret_key: SecretString,
    pub usersig_lifetime: Duration,
    /// For one call, from connecting to the last byte of the answer, the backup host and the one repeat with a fresh
    /// UserSig included.
    pub timeout: Duration,
}

#[derive(Clone)]
pub enum ApiBase {
    /// The region's host and its backup. The environment's `HTTPS_PROXY` is honoured.
    Region(Region),
    /// A proxy or the simulator; there is no backup, and no proxy of the environment is used.
    BaseUrl(url::Url),
}

impl fmt::Debug for ApiBase {
    /// Without the path and the password that a URL may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => f.debug_tuple("Region").field(region).finish(),
            Self::BaseUrl(url) => f.debug_tuple("BaseUrl").field(&url.host_str().unwrap_or_default()).finish(),
        }
    }
}

/// The vendor's five commands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ApiCommand {
    SetAttr,
    GetAttr,
    RemoveAttr,
    SetAttrName,
    GetAttrName,
}

impl ApiCommand {
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
    pub command: ApiCommand,
    pub code: Code,
    /// The vendor's `ErrorInfo`, or our words for a fault below it.
    pub info: String,
    pub request_id: Option<String>,
    /// From a `Retry-After` header.
    pub retry_after: Option<Duration>,
    /// False only when the request certainly did not reach IM, or IM refused it as a whole.
    pub maybe_applied: bool,
}
