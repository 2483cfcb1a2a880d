//! The daemon and what it shows while it runs.
//!
//! Owns: when a pass runs, the lease's life cycle, signals, readiness, HTTP, systemd. Must not know: what a pass does.
//!
//! | file | owns |
//! |---|---|
//! | `daemon` | the process: connect, stand by, lead, retry, stop |
//! | `standby` | waiting for the lease |
//! | `leader` | the loop over passes while the lease is held |
//! | `context` | what daemon, standby and leader share |
//! | `connect` | opening source, state and IM client in order |
//! | `reload`, `proof` | SIGHUP, and what a new configuration has to prove before it is in force |
//! | `lag`, `pass_watch` | keeping the lag gauge and readiness up to date |
//! | `readiness`, `http`, `http_connections` | what `/readyz` answers, and the server that answers it |
//! | `status_source` | what `/status` answers |
//! | `alerts` | what the webhook is told |
//! | `signals`, `systemd` | the process's supervisor |

mod alerts;
pub mod connect;
mod context;
pub mod daemon;
pub mod http;
mod http_connections;
mod lag;
mod leader;
mod pass_watch;
mod proof;
pub mod readiness;
pub mod reload;
pub mod signals;
mod standby;
pub mod status_source;
pub mod systemd;
mod verification;
mod watchdog;
