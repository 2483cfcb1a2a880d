//! What source and state have in common as PostgreSQL servers: URLs, connections, poolers, the identity of a server, and
//! whether a server that does not answer still runs a statement.
//!
//! Owns: how a URL becomes a connection, and the statements that ask a server about sessions and about itself. Must not
//! know: tables, what a caller does.
//!
//! Every connection of a sync comes from a [`Connector`], which reads the secret again for each new one.

mod connect;
mod connector;
mod functions;
mod login_failure;
mod network_failure;
mod refused_login;
mod sessions;
#[cfg(test)]
mod tests;
mod url;
mod url_file;

pub use connect::{CONNECT_TIMEOUT, close, lead_to_same_server};
pub use connector::Connector;
pub use functions::{DENIED_FUNCTIONS, DeniedFunction, ServerFunction};
pub use login_failure::LoginFailure;
pub use refused_login::login_failure_of;
pub use sessions::{CHECK_INTERVAL, ProbedSession, session_pid, while_running};
pub use url::{PgUrl, PgVariables};
pub use url_file::UrlFile;
