//! The integration tests: one binary, real PostgreSQL, the vendor through the simulator, imsync as a process.

mod bad_input;
mod bench;
mod commands;
mod concurrent_full_pass;
mod crash_points;
mod demo;
mod late_commits;
mod layering;
mod main_job;
mod promises;
mod simulation;
mod support;
