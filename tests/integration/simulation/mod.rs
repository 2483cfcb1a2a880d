//! The whole, simulated: generated histories of an application, its database, the vendor and imsync, each with its faults.
//!
//! Owns: systems made from a seed, what must hold after every step and after every quiescence, the histories that once failed.
//! Must not know: how imsync keeps its promises; the state tables are read here by themselves, the mapping is written a
//! second time.
//!
//! A failure prints its seed and its last steps. `IMSYNC_SEED=n cargo test --test integration simulation::replay -- --ignored
//! --nocapture` runs that system again, `IMSYNC_SHRINK=1` beside it looks for a shorter history that fails as well.

mod faults;
mod fixed_cases;
mod operation;
mod operation_counts;
mod plan;
mod process;
mod quiescence;
mod rng;
mod scenarios;
mod soak;
mod state_claims;
mod system;
mod table;
mod writers;
