//! A client of the vendor's REST API: hosts, UserSigs, requests, answers, codes and their classes.
//!
//! Owns: one exchange with IM and what its answer means. Must not know: PostgreSQL, batches, rates, retries, the state.
//! The module can be used as a client without the rest of the crate:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use imsync::im::{ApiBase, Client, ClientSettings, SetUser};
//! use imsync::model::{Region, Service};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(ClientSettings {
//!     api_base: ApiBase::Region(Region::Singapore),
//!     service: Service::AllMemberPush,
//!     sdk_app_id: 1_400_000_000,
//!     identifier: "administrator".to_owned(),
//!     secret_key: std::env::var("IMSYNC_SECRET_KEY")?.into(),
//!     secret_key_file: None,
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

mod answer;
mod call;
mod client;
mod code;
mod code_table;
mod hosts;
mod redact;
mod refusal;
mod request;
mod settings;
mod signing_key;
mod transport;
mod usersig;
mod wire;

pub use call::{
    Accepted, AccountStatus, ApiCommand, CallError, FailedAccount, RemoveUser, SetUser, UserAttrs, UsersRead,
};
pub use client::Client;
pub use code::Code;
pub use code_table::{CodeClass, CodeScope};
pub use refusal::vendor_refusal;
pub use settings::{ApiBase, ClientSettings};
