//! The checked configuration: plain data that builds nothing and connects to nothing.
//!
//! Owns: every key of `imsync.toml`, every environment variable, their defaults, ranges and error messages.
//! Must not know: databases, HTTP, or what a command does with a value.
//!
//! [`load()`] finds and reads the file, and `document` parses it and keeps the line of every key. `sections`,
//! `attributes` and `secrets` read the keys; `keys` holds their rules and `checks` applies them. The document collects
//! all problems, so that one run reports them all.

mod attributes;
mod checks;
mod document;
pub mod durations;
pub mod environment;
mod keys;
mod load;
mod model;
mod problems;
mod restrictions;
mod secrets;
mod sections;
mod source_url;
mod suggestion;
mod syntax;
mod table_name;
#[cfg(test)]
mod tests;
mod unknown_keys;
mod uuid_text;
mod value_type;

pub use crate::model::{LogFormat, LogLevel};
pub use crate::postgres::{PgUrl, PgVariables};
pub use environment::Environment;
pub use load::{LoadRequest, LoadedConfig, file_to_write, load, parse};
pub use model::{
    AccountFormat, AlertsConfig, AttributeConfig, Config, HistoryConfig, HttpConfig, ImAddress, ImConfig, KeepOrRemove,
    LogConfig, Null, RemovalConfig, ScheduleConfig, SourceConfig, StateConfig, TooLong, Unlisted,
};
pub use problems::{Problem, Problems};
pub use restrictions::changed_fixed_keys;
pub use source_url::{SourceUrl, UrlOrigin, source_url};
pub use table_name::{TableName, parse_table_name};
