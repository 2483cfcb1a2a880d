//! The complete system under simulation: generated histories of an application, its database, the vendor and imsync,
//! each with its faults.
//!
//! Owns: systems generated from a seed, the conditions that must hold after every step and after every quiescence, the
//! histories that failed once. Must not know: how imsync keeps its promises. The state tables are read here
//! independently of `src/state`, and the mapping is implemented a second time.
//!
//! A failure prints its seed and its last steps. `IMSYNC_SEED=n cargo test --test integration simulation::soak::replay
//! -- --ignored --nocapture` runs that system again. With `IMSYNC_SHRINK=1` it also searches for a shorter history that
//! fails. `IMSYNC_LENGTH` sets the number of operations.

mod alterations;
mod faults;
mod fixed_cases;
mod guard_claims;
mod interleavings;
mod operation;
mod operation_counts;
mod plan;
mod process;
mod quiescence;
mod rng;
mod scenarios;
mod settings;
mod soak;
mod state_claims;
mod system;
mod table;
mod writers;
