//! The integration tests: one binary, real PostgreSQL, the vendor through the simulator, imsync as a process.

mod demo;
mod layering;
mod main_job;
mod support;
