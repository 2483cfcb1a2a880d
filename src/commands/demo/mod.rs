//! `imsync demo`: imsync at work on one machine, without any configuration.
//!
//! Owns: the demonstration from the private PostgreSQL to the final comparison. Must not know: how imsync works inside;
//! the demo starts imsync as a child process, as a user would.
//!
//! - `scenario` runs the phases one after another: set up, backfill, daemon, comparison.
//! - `environment` sets up PostgreSQL, the simulator and the configuration file; `users` generates the rows.
//! - `child` runs imsync as a child process that cannot outlive the demo.
//! - `daemon_phase` runs the daemon beside the `workload`, which changes rows; `narrator` prints what arrives in IM.
//! - `compare` compares the table with IM.

mod child;
mod compare;
mod daemon_phase;
mod environment;
mod narrator;
mod scenario;
mod users;
mod workload;

#[cfg(test)]
mod tests;

pub use scenario::run;
