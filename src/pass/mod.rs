//! One pass: source → mapping → diff → push → state. The only module that uses all five stages.
//!
//! Owns: the order of the steps of a pass, what a pass begins and ends with, and dry runs. Must not know: when passes run,
//! signals, how a report is displayed.
//!
//! - The pass: [`Engine`], prepared by `assemble`. `incremental`, `full` with `full_steps`, and `selected` are the three
//!   kinds of passes; `begin` and `finish` are common to them, and so are `in_doubt`, `removals` and `rejection_retry`.
//! - What is read: `pages` has the scans of each kind of pass, for real passes and for dry runs.
//! - What differs: `compare` makes account diffs of a page, `enqueue` hands them to the queue.
//! - What is sent: `queue` holds the deliveries in flight; `delivery` is one of them, and `record_outcome` turns its
//!   outcomes into a record.
//! - What is remembered between passes: `read_position`, `full_pass_schedule`, `guard`, `backoff`, `save_times`.

mod account_diff;
mod assemble;
mod backoff;
mod begin;
mod compare;
mod context;
mod delivery;
pub mod dry_run;
mod duplicates;
mod engine;
mod enqueue;
mod error;
mod finish;
mod full;
mod full_pass_schedule;
mod full_steps;
pub mod guard;
mod in_doubt;
mod incremental;
mod pages;
mod pending_removals;
mod progress;
mod queue;
mod read_position;
mod record_outcome;
mod recorded_pages;
mod rejection_retry;
mod removals;
mod report;
mod save_times;
mod selected;

pub use account_diff::AccountDiff;
pub use assemble::{EngineParts, binding};
pub use compare::PageComparer;
pub use engine::Engine;
pub use error::PassError;
pub use full::{FullPass, FullPassStep};
pub use full_pass_schedule::FullOptions;
pub use progress::{PassPhase, PassProgress};
pub use report::{PassKind, PassOutcome, PassReport};
