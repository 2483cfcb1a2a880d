//! imsync keeps the user attributes of a Tencent Cloud Chat (IM) app equal to columns of a Postgres table.
//!
//! # One row's way through the code
//!
//! Somebody moves to Quito: an application updates a row of `users` and commits. What follows, module by module, in the
//! order in which they may import each other.
//!
//! - [`model`], [`clock`], [`crash`], [`metrics`], [`logging`] are the words and leaves: [`model::Row`], [`model::DesiredAccount`],
//!   [`model::Change`] and [`model::AccountOutcome`] are what the stages hand each other; every look at a clock goes through
//!   [`clock`].
//! - [`cluster`] and [`simulator`] stand apart: a private PostgreSQL and the vendor's side, for the demo and the tests.
//!   The simulator imports nothing of ours, so that client and fake cannot be wrong together.
//! - [`config`] has read `imsync.toml` and the environment, and told every mistake at once. It is data; it builds nothing.
//! - [`im`] is the vendor's REST API and nothing else: one call out, one answer back, its code and what the code means.
//! - [`source`] reads. It takes a fence (the database clock, the running and the prepared transactions), lets
//!   [`source::watermark`] say from where on a row may not have been read yet, and fetches pages in the order
//!   (watermark, account) from there. Our row is on one of them, as a [`model::Row`]: texts, as psql shows them.
//! - [`mapping`] turns the texts into a [`model::DesiredAccount`]: for each attribute a value, nothing, "keep", or a refusal
//!   with its reason (a value over 50 bytes). Pure.
//! - [`diff`] compares that with what IM acknowledged, and rejections that stand. What is left is a [`model::Change`]:
//!   set `city`. Most rows leave nothing. Pure.
//! - [`push`] gathers changes into calls of up to 100 users, keeps the pace, repeats what failed, takes a refused batch
//!   apart until the culprit stands alone, and tells the outcome of every attribute in a [`model::AccountOutcome`]. It knows no SQL.
//! - [`state`] is our own tables. Before the call it stored an intent (this account, this attribute); with the outcome it
//!   records what IM now holds and deletes the intent, in one transaction that first reads the lease's epoch. Between
//!   the two a killed process leaves a doubt, never a lie.
//! - [`pass`] is the conductor, and the only module that names all five stages. [`pass::queue`] is the one queue in which
//!   changes of all passes are delivered: an account is looked at only when its earlier change is recorded. When all that
//!   a pass read is recorded, the watermark rises.
//! - [`status`] is what `imsync status` and `/status` show. [`service`] decides when a pass runs: the daemon's loop, the
//!   lease, standing by, readiness, HTTP, signals, systemd.
//! - [`commands`] is one file a command, and [`cli`] the way from arguments to a command and its exit code.
//!
//! `tests/integration/layering.rs` reads this folder and fails on an import against that order.
//! `docs/architecture.md` has the same walk with its reasons, `docs/correctness.md` the promises and their proofs.

pub mod cli;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod crash;
pub mod diff;
pub mod im;
pub mod logging;
pub mod mapping;
pub mod metrics;
pub mod model;
pub mod pass;
pub mod push;
mod quote;
pub mod service;
pub mod simulator;
pub mod source;
pub mod state;
pub mod status;
