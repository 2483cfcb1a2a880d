//! When passes run, and what the process shows of itself while it lives.
//!
//! Owns: the daemon, signals, readiness, the HTTP server. Must not know: what a pass does.

pub mod connect;
pub mod daemon;
pub mod http;
pub mod readiness;
pub mod signals;
pub mod systemd;
