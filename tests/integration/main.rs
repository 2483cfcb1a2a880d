//! The integration tests: imsync runs as a process against a real PostgreSQL server and the simulated vendor.
//!
//! Owns: the list of the test modules, which form one test binary. Must not know: what they test.

mod alerts;
mod bad_input;
mod bench;
mod bench_state;
mod commands;
mod concurrent_full_pass;
mod crash_points;
mod demo;
mod late_commits;
mod layering;
mod main_job;
mod packaging;
mod postgres_versions;
mod promises;
mod rotation;
mod silent_account;
mod simulation;
mod support;
