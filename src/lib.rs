//! imsync keeps the user attributes of a Tencent Cloud Chat (IM) app equal to columns of a PostgreSQL table.
//!
//! # The path of one row through the code
//!
//! A user moves to Quito: an application updates a row of `users` and commits. This list follows that row through the
//! modules, in the order in which they may import each other.
//!
//! - [`model`], [`clock`], [`crash`], [`http_client`], [`metrics`] and [`logging`] are shared types and small modules without dependencies.
//!   [`model::Row`], [`model::DesiredAccount`], [`model::Change`] and [`model::AccountOutcome`] are passed from stage to
//!   stage. Every read of a clock goes through [`clock`].
//! - [`postgres`] asks a server about its sessions, for source and state alike.
//! - [`cluster`] and [`simulator`] are for the demo and the tests: a private PostgreSQL, and the vendor's side. The
//!   simulator shares no code with the client. Otherwise both could share a bug.
//! - [`config`] reads `imsync.toml` and the environment and reports all mistakes at once. Its result is plain data.
//! - [`im`] is the client for the vendor's REST API: it sends one call, and returns the answer with the meaning of its
//!   code.
//! - [`source`] reads the table. It takes the transaction list (the database clock, the running and the prepared
//!   transactions), [`source::watermark`] derives from which point on a row may not have been read yet, and the reader
//!   fetches pages in the order (watermark, account) from there. Our row is on one of them, as a [`model::Row`]: texts, as
//!   psql shows them.
//! - [`mapping`] maps the texts to a [`model::DesiredAccount`]: for each attribute a value, no value, "keep", or a refusal
//!   with its reason, such as a value over 50 bytes. Pure.
//! - [`diff`] compares that with what IM acknowledged and with the recorded rejections. The result is a [`model::Change`]:
//!   set `city`. For most rows there is nothing to send. Pure.
//! - [`push`] collects changes into calls of up to 100 users, limits the rate, retries failed calls, bisects a refused
//!   batch until the faulty account is alone, and returns the outcome of every attribute in a [`model::AccountOutcome`].
//!   It knows no SQL.
//! - [`state`] is the tables that imsync owns. Before the call it stores an intent (this account, this attribute). With the
//!   outcome, it records what IM now holds and deletes the intent, in one transaction that first reads the epoch of the
//!   lease. If the process is killed between the two, the attribute is in doubt and is sent again.
//! - [`pass`] runs the stages in their order, and is the only module that names all five. Changes of all passes go through
//!   one queue, `pass::delivery_queue`: an account is compared only after its previous change has been recorded. When everything
//!   that a pass read is recorded, the watermark rises.
//! - [`status`] is what `imsync status` and `/status` show. [`service`] decides when a pass runs: the loop of the daemon,
//!   the lease, standby, readiness, HTTP, signals, systemd.
//! - [`commands`] has one file for each command. [`cli`] parses the arguments, calls the command, and returns its exit
//!   code.
//!
//! `tests/integration/layering.rs` reads this directory and fails on an import against that order.
//! `docs/architecture.md` has the same description with its reasons, `docs/correctness.md` the guarantees and their proofs.

pub mod call_share;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod crash;
pub mod diff;
pub mod finding;
pub mod http_client;
pub mod im;
pub mod logging;
pub mod mapping;
pub mod metrics;
pub mod model;
pub mod pass;
pub mod postgres;
pub mod push;
mod quote;
pub mod secret_file;
pub mod service;
pub mod simulator;
pub mod source;
mod sqlstate;
pub mod state;
pub mod status;
