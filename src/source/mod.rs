//! The customer's PostgreSQL table: introspection, keyset pages, look-ups by account, the transaction list.
//!
//! This file lists the files of the module and re-exports what other modules use. The module owns every statement that runs
//! on the source database. It must not know IM, the state tables or the rules of the mapping.
//!
//! | File | Content |
//! |---|---|
//! | `reader` | [`Source`]: the connection with the description of the table; reads pages |
//! | `advice` | the questions that only serve warnings, and when they are asked |
//! | `connect` | connects and examines table, columns, privileges; returns all problems |
//! | `read_apart`, `whole_scan` | reads pages, and finds the rows that raise an error; when there are too many of them |
//! | `poll` | reads the first pages of a poll in one statement |
//! | `page` | [`Page`] and [`Cursor`]: rows in order, and where the next page begins |
//! | `server` | what the server allows: functions, and engines over which a watermark is refused |
//! | `session` | opens the connection and applies the session settings |
//! | `activity` | [`SourceActivity`]: the statement that runs at this moment |
//! | `table` | finds the relation, its columns and indexes in the system catalogs |
//! | `row_security` | whether row-level security hides rows, also through views |
//! | `listed_texts` | compares `values` with the texts that a column can have |
//! | `introspect` | [`Introspection`]: describes tables for `imsync init`, before there is a configuration |
//! | `sample` | a sample of rows for `check` |
//! | `similar_names` | suggestions for a table or column that was not found |
//! | `plan` | judges the plans of the passes |
//! | `prove` | lets the server plan every statement |
//! | `requirements` | what imsync requires of the table, its columns, the role and the filter |
//! | `warnings` | what works, but not as well as it could |
//! | `stamp_remedy` | the trigger that moves the watermark column |
//! | `hidden_changes`, `unusual_stamps`, `stamp_triggers`, `clock_words` | what hides changes from incremental passes |
//! | `column_type` | the types that an account column and a watermark column may have |
//! | `unmap_account` | an IM account as the texts of the account column |
//! | `statements` | the SQL over the customer's table |
//! | `list_transactions` | reads the clock and the open transactions |
//! | [`watermark`] | from which point on a row may not have been read yet |
//! | `fingerprint`, `fingerprint_mark` | what the stored watermark and values depend on; a text that shows it unchanged |
//! | `error` | [`SourceError`] |

mod activity;
mod advice;
mod clock_words;
mod column_text;
mod column_type;
mod connect;
mod error;
mod filter_check;
mod fingerprint;
mod fingerprint_mark;
mod hidden_changes;
mod introspect;
mod list_transactions;
mod listed_texts;
mod notifications;
mod page;
mod plan;
mod poll;
mod prove;
mod random_accounts;
mod read_apart;
mod reader;
mod requirements;
mod row_security;
mod sample;
mod server;
mod session;
mod similar_names;
mod stamp_remedy;
mod stamp_triggers;
mod statements;
mod table;
#[cfg(test)]
mod tests;
mod unmap_account;
mod unusual_stamps;
mod warnings;
pub mod watermark;
mod whole_scan;

pub use activity::SourceActivity;
pub use advice::SourceAdvice;
pub use connect::SourceConnection;
pub use error::SourceError;
pub use fingerprint::{SourceChanges, SourceFingerprint};
pub use introspect::{
    ColumnKind, ColumnSample, ColumnStatistics, IntrospectedColumn, IntrospectedTable, Introspection, RelationFacts,
    WatermarkDetails,
};
pub use notifications::Notifications;
pub use page::{AccountRows, Cursor, Page, UnreadableRow};
pub use random_accounts::AccountSample;
pub use reader::{OutlyingRows, Source, WhyGone};
pub use sample::{RowSample, SampleMethod};
pub use stamp_triggers::FoundTrigger;
pub use watermark::{TransactionList, WatermarkKind, WatermarkPoint};
