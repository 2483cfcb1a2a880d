//! The watermark: from which point on a row may not have been read yet. Pure arithmetic over transaction lists.
//!
//! Owns: the decision where a pass starts to read, and what holds the watermark back. Must not know: SQL, connections.
//!
//! A row is stamped when its transaction begins (`now()`) and becomes visible when the transaction commits. The newest
//! stamp that was read therefore does not tell which rows are still to come. The list of open transactions does: a
//! transaction that is missing from a list began after that list was read, so its rows carry no stamp older than the
//! list's clock. That clock is the transaction's `started_after`. When the transaction has ended, everything from its
//! `started_after` on is read once more. `CREATE INDEX CONCURRENTLY` waits for the same set of transactions.
//!
//! | File | Content |
//! |---|---|
//! | `point` | points in the order of the watermark column |
//! | `transaction_list` | the input: one reading of the database clock and the open transactions |
//! | `remembered_transaction` | an open transaction as it is remembered, and what holds the watermark back |
//! | `newest_rows` | the rows with the largest values of a counter |
//! | `saved` | the form that is stored between two passes |
//! | `matching` | which remembered transactions are still open, which have ended, which are new |
//! | `clock_step` | whether the database clock was set back between two lists |
//! | `tracker` | the watermark itself |

mod clock_step;
mod matching;
mod newest_rows;
mod point;
mod remembered_transaction;
mod saved;
#[cfg(test)]
mod tests;
mod tracker;
mod transaction_list;

pub use newest_rows::{NEWEST_ROWS, NewestRows};
pub use point::{WatermarkKind, WatermarkPoint};
pub use remembered_transaction::HeldBackBy;
pub use saved::SavedWatermark;
pub use tracker::WatermarkTracker;
pub use transaction_list::{PreparedTransaction, RunningTransaction, TransactionList};
