//! When passes run, and what the process shows of itself while it lives.
//!
//! Owns: readiness, the HTTP server. Must not know: SQL, what a pass does.

pub mod http;
pub mod readiness;
