//! The integration tests: one binary, real PostgreSQL, the vendor through the simulator, imsync as a process.

mod bench;
mod beside;
mod commands;
mod crash_points;
mod demo;
mod garbage;
mod late;
mod layering;
mod main_job;
mod promises;
mod support;
mod whole;
