//! The state tables: acknowledged values, intents, rejections, removals, passes, the read position and the lease.
//!
//! This file lists the files of the module and re-exports what other modules use. The module owns every statement on the
//! state schema. It must not know IM or the customer's table.
//!
//! | file | owns |
//! |---|---|
//! | `database`, `pool` | connections, session settings, statements without an answer |
//! | `error` | [`StateError`] |
//! | `migrate` | creates and upgrades the tables |
//! | `sync_row`, `sync_update` | reading and updating the row of a sync in the table `sync` |
//! | `binding`, `generation`, `attribute_names` | the columns of `sync` that decide which stored values are valid |
//! | `server`, `read_only` | which server it is, and whether it can be written |
//! | `prove` | what a configuration needs of the database |
//! | `lease`, `writer` | the lease, and the [`StateWriter`] that only its holder has |
//! | `call_budget`, `call_slots` | the call rate that the leaders of one app share |
//! | `account`, `account_range`, `range_scans`, `account_write`, `acknowledged_json`, `in_doubt` | the table `account` |
//! | `account_count` | the numbers of accounts, kept instead of counted |
//! | `intent`, `rejection`, `owed_removal`, `recent_removals`, `deferred_account`, `passes` | one table each |
//! | `due_work` | what is to be done when a pass begins, in one statement |
//! | `rejection_steps` | statements over all rejections, in bounded steps |
//! | `other_syncs`, `shared_account`, `shared_intent`, `overwritten_value` | other syncs of the app with the same attributes |
//! | `history`, `history_listing` | the table `history`: what was sent, and its listing |
//! | `copy_format` | the binary format of COPY |
//! | `outcome_record` | the transaction that records the outcomes of a delivery |

pub mod account;
pub mod account_count;
mod account_range;
mod account_write;
pub mod acknowledged_json;
pub mod attribute_names;
pub mod binding;
pub mod call_budget;
mod call_slots;
mod copy_format;
mod database;
mod dead_rows;
pub mod deferred_account;
pub mod due_work;
mod error;
mod forget;
pub mod generation;
pub mod history;
pub mod history_listing;
pub mod in_doubt;
pub mod intent;
pub mod lease;
pub mod migrate;
pub mod other_syncs;
pub mod outcome_record;
mod overwritten_value;
pub mod owed_removal;
pub mod passes;
mod pool;
mod prove;
mod range_scans;
mod read_only;
pub mod recent_removals;
pub mod rejection;
pub mod rejection_steps;
pub mod server;
pub mod shared_account;
pub mod shared_intent;
pub mod sync_row;
pub mod sync_update;
pub mod verification;
mod writer;

pub use database::{Access, PoolerProbe, State};
pub use error::StateError;
pub use lease::Lease;
pub use shared_account::IntendedChange;
pub use writer::StateWriter;
