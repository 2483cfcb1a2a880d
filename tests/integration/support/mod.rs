//! What all integration tests share: one PostgreSQL server for the test run, and an environment for each test.
//!
//! Owns: the server, the databases and the environments. Must not know: what a test does with them.
//!
//! `IMSYNC_TEST_PG_URL` names an existing server and a role that may create databases. Without this variable the test
//! run starts a private server, which stops when this process ends.

mod alert_receiver;
mod environment;
mod fake_server;
pub(crate) mod latencies;
mod postgres;
mod tcp_proxy;
mod tests;
mod tls_server;
mod transaction_pooler;

pub(crate) use alert_receiver::{AlertReceiver, Reception};
pub(crate) use environment::{
    ATTRIBUTES, CommandOutput, SOURCE, Setup, TestEnvironment, USERS, binary, ended, run, signal,
};
pub(crate) use fake_server::FakeServer;
pub(crate) use postgres::Database;
pub(crate) use tcp_proxy::TcpProxy;
pub(crate) use tls_server::TlsServer;
pub(crate) use transaction_pooler::TransactionPooler;
