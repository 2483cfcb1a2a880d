//! Maps the texts of a row to the attributes that IM should hold, or to the reason why they cannot be sent. Pure.
//!
//! Owns: `values`, `unlisted`, `too_long`, `null`, the limits of 50 bytes for a value and 32 bytes for an account.
//! Must not know: PostgreSQL, IM, what was sent before.
//!
//! `row` maps a whole row, `attribute` the text of one column, `fingerprint` tells whether two mappings are the same, and
//! `sample` counts what would be rejected of a sample of rows.

mod attribute;
mod fingerprint;
mod row;
mod sample;
#[cfg(test)]
mod tests;

pub use fingerprint::MAPPING_VERSION;
pub use row::{AccountContent, MappedRow, Mapping, OutlinedAccount};
pub use sample::{AccountProblem, Affected, SampleSummary, ValueProblem, similar_texts};
