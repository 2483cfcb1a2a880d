//! Verification: what IM holds is read back and compared with the table.
//!
//! This file lists the files of the folder and re-exports what other modules use. It must not know lease, commands or output.
//!
//! | file | owns |
//! |---|---|
//! | `compare` | what IM should hold of one account, and why something differs. Pure |
//! | `report` | the counts, the examples, what the state keeps of them |
//! | `settled` | reading table, state and IM again until nothing moves, so that a change under way is no drift |
//! | `verifier` | which accounts are read, and the calls |
//! | `repair` | sending what the table says to accounts that differ |

mod compare;
mod repair;
mod report;
mod settled;
mod verifier;

pub use report::{DriftedValue, StoredVerification, VerifyProgress, VerifyReport};
pub use verifier::{PassesRun, Verifier, VerifyScope};
