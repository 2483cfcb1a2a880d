//! One pass: source → mapping → diff → push → state. The only module that uses all five stages.
//!
//! This file lists the files of the module and re-exports what other modules use. The module owns the order of the steps of
//! a pass, what a pass begins and ends with, and dry runs. It must not know when passes run, signals, or how a report is
//! displayed.
//!
//! | files | content |
//! |---|---|
//! | `prepare_sync`, `engine`, `error` | [`Engine`], prepared when the lease is taken, and why a pass fails |
//! | `incremental`, `full`, `full_steps`, `selected` | the three kinds of passes |
//! | `begin`, `settle`, `slow_calls`, `finish`, `current_passes`, `delivery_context`, `progress`, `report` | what all passes have in common |
//! | `long_read` | shows that a pass waits for one long statement of the source |
//! | `pages`, `ambiguous_accounts` | what is read, for real passes and for dry runs |
//! | `compare`, `page_diff`, `compare_and_enqueue` | what differs, and its way to the queue |
//! | `delivery_queue`, `accounts_in_flight`, `defer`, `deferrals` | the deliveries in flight; accounts that wait for one of them |
//! | `deliver_and_record`, `delivery_progress`, `shared_accounts`, `build_record` | one delivery; other syncs of the app; its record |
//! | `probe` | the accounts of probes |
//! | `source_change` | what follows when the source is another one than before |
//! | `in_doubt`, `owed_removals`, `removals`, `rejection_retry` | what a pass does after its new changes |
//! | `read_position`, `full_pass_schedule`, `recorded_pages`, `guard`, `account_backoff`, `save_times`, `history_trim` | what lasts |
//! | `met_accounts`, `gone_search` | the stored accounts that a full pass has met, and the search for those that are gone |
//! | `repairs`, `count_repairs` | changes that only a full pass has seen |
//! | `dry_run`, `predicted_removals` | what a pass would do |
//! | `explain`, `forget` | what is known of one account; removing all of it |

mod account_backoff;
mod accounts_in_flight;
mod ambiguous_accounts;
mod begin;
mod binding;
mod build_record;
mod compare;
mod compare_and_enqueue;
mod count_repairs;
mod current_passes;
mod defer;
mod deferrals;
mod deliver_and_record;
mod delivery_context;
mod delivery_progress;
mod delivery_queue;
pub mod dry_run;
mod engine;
mod error;
pub mod explain;
mod finish;
mod forget;
mod full;
mod full_pass_schedule;
mod full_steps;
mod gone_search;
pub mod guard;
mod history_trim;
mod in_doubt;
mod incremental;
mod long_read;
mod met_accounts;
mod owed_removals;
mod page_diff;
mod pages;
mod predicted_removals;
mod prepare_sync;
mod probe;
mod progress;
mod read_position;
mod recorded_pages;
mod rejection_retry;
mod removals;
mod repairs;
mod report;
mod save_times;
mod selected;
mod settle;
mod shared_accounts;
mod slow_calls;
mod source_change;
pub mod verify;

pub use binding::binding;
pub use compare::PageComparer;
pub use engine::Engine;
pub use error::PassError;
pub use forget::Forgotten;
pub use full::{FullPass, FullPassStep};
pub use full_pass_schedule::FullOptions;
pub use long_read::LongReadWatch;
pub use page_diff::AccountDiff;
pub use prepare_sync::EngineParts;
pub use progress::{PassPhase, PassProgress};
pub use repairs::{FoundRepairs, repairs_finding};
pub use report::{PassKind, PassOutcome, PassReport};
pub use slow_calls::SlowCalls;
