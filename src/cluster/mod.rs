//! A private, temporary PostgreSQL server for the demo and the tests.
//!
//! Owns: a server in a temporary directory, from `initdb` to the removal of its last file. Must not know: what is
//! stored in it, imsync's tables, IM.
//!
//! The server listens on 127.0.0.1, with a password, and on a Unix socket in its own directory. `server` is the
//! interface, `supervisor` the process behind it, `binaries` finds the installed programs, and `options` writes the
//! settings.

mod binaries;
mod database;
mod error;
mod options;
mod server;
mod supervisor;
#[cfg(test)]
mod tests;

pub use binaries::check_installed;
pub use database::create_database;
pub use error::ClusterError;
pub use options::ClusterOptions;
pub use server::Cluster;
