//! One pass: source → mapping → diff → push → state. The only module that uses all five stages.
//!
//! This file lists the files of the module and re-exports what other modules use. The module owns the order of the steps of
//! a pass, what a pass begins and ends with, and dry runs. It must not know when passes run, signals, or how a report is
//! displayed.
//!
//! - The pass: [`Engine`], prepared by `prepare_sync`. `incremental`, `full` with `full_steps`, and `selected` are the three
//!   kinds of passes; `begin` and `finish` are common to them, and so are `in_doubt`, `removals` and `rejection_retry`.
//! - What is read: `pages` has the scans of each kind of pass, for real passes and for dry runs.
//! - What differs: `compare` makes the account diffs of a page (`page_diff`), `compare_and_enqueue` hands them to the queue.
//! - What is sent: `delivery_queue` holds the deliveries in flight; `deliver_and_record` is one of them, and `record_outcome` turns its
//!   outcomes into a record.
//! - What is remembered between passes: `read_position`, `full_pass_schedule`, `guard`, `account_backoff`, `save_times`.

mod account_backoff;
mod begin;
mod compare;
mod compare_and_enqueue;
mod context;
mod deliver_and_record;
mod delivery_queue;
pub mod dry_run;
mod engine;
mod error;
mod finish;
mod full;
mod full_pass_schedule;
mod full_steps;
pub mod guard;
mod in_doubt;
mod incremental;
mod one_row_per_account;
mod page_diff;
mod pages;
mod pending_removals;
mod prepare_sync;
mod progress;
mod read_position;
mod record_outcome;
mod recorded_pages;
mod rejection_retry;
mod removals;
mod report;
mod save_times;
mod selected;

pub use compare::PageComparer;
pub use engine::Engine;
pub use error::PassError;
pub use full::{FullPass, FullPassStep};
pub use full_pass_schedule::FullOptions;
pub use page_diff::AccountDiff;
pub use prepare_sync::{EngineParts, binding};
pub use progress::{PassPhase, PassProgress};
pub use report::{PassKind, PassOutcome, PassReport};
