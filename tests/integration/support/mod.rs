//! What several integration tests need: a PostgreSQL for the whole run and a fresh database for each test.
//!
//! Owns: the shared server and its databases' names. Must not know: what a test does with them.
//!
//! `IMSYNC_TEST_PG_URL` names a server of one's own (a role that may create databases); without it the run starts a
//! private one, which ends with this process.

mod environment;
mod postgres;
mod tests;

pub(crate) use environment::{
    ATTRIBUTES, CommandOutput, SOURCE, Setup, TestEnvironment, USERS, binary, ended, run, signal,
};
pub(crate) use postgres::Database;
