//! The commands, one in each file: arguments in, exit code out.
//!
//! Owns: what a command prints, and its exit code. Must not know: clap, SQL, HTTP bodies.
//!
//! Shared files: `exit` (exit codes and failures), `options` (global options), `output` (printing and formatting),
//! `one_shot` (a single pass with the lease), `progress` (the progress of a pass on stderr), `attribute_slots` (the attribute
//! names of the app).

mod attribute_slots;
pub mod attributes;
pub mod backfill;
pub mod check;
pub mod demo;
pub mod exit;
pub mod explain;
pub mod forget;
pub mod history;
pub mod init;
pub mod migrate;
mod one_shot;
mod open_dry_run;
pub mod options;
mod output;
pub mod preview;
mod progress;
pub mod rejected;
pub mod run;
pub mod simulate;
pub mod status;
pub mod verify;
